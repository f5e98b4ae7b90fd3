"""Events and errors as wire data, for any server: the JSON that chatcore's own HTTP API sends (`docs/wire.md`)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from http import HTTPStatus
from json import JSONEncoder
from json.encoder import encode_basestring
from typing import Any, TypeAlias

from chatcore.entities import INTERNAL, Conversation, Message, MessageId, Status
from chatcore.errors import (
    ChatcoreError,
    FieldError,
    ModelError,
    ModelTimeout,
    RateLimited,
    Unavailable,
    ValidationFailed,
)
from chatcore.events import ConversationTitled, ReplyDelta, ReplyEnded, ReplyEvent, ReplyStarted, Silence
from chatcore.live_reply import MAX_PIECE
from chatcore.ports import TextKind

Json: TypeAlias = dict[str, Any]

STILL_THERE = b": still there\n\n"
SHUTTING_DOWN = b": this server shuts down; read on elsewhere\n\n"
_TEXT = {TextKind.REASONING: "reply.reasoning", TextKind.ANSWER: "reply.delta"}
_ENDED = {
    Status.COMPLETE: "reply.completed",
    Status.STOPPED: "reply.stopped",
    Status.INTERRUPTED: "reply.interrupted",
    Status.FAILED: "reply.failed",
}
_written = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encoded(data: Json) -> bytes:
    """Write JSON in UTF-8."""
    return _written(data).encode()


def sse(event: ReplyEvent) -> bytes:
    """Write a Server-Sent Event, whose `id` is the reader's cursor; a comment for a `Silence`."""
    if type(event) is ReplyDelta:  # many times a second
        type_, reply_id, offset = _TEXT[event.kind], event.reply_id, event.offset
        data = f'{{"type":"{type_}","reply_id":{reply_id},"offset":{offset},"text":{encode_basestring(event.text)}}}'
        return f"event: {type_}\nid: {reply_id}:{offset}\ndata: {data}\n\n".encode()
    if isinstance(event, Silence):
        return STILL_THERE
    shown = event_data(event)
    return f"event: {shown['type']}\nid: {event.reply_id}:{event.offset}\ndata: {_written(shown)}\n\n".encode()


def ndjson(event: ReplyEvent) -> bytes:
    """Write one line of JSON; an empty line for a `Silence`."""
    return b"\n" if isinstance(event, Silence) else encoded(event_data(event)) + b"\n"


def event_data(event: ReplyEvent) -> Json:
    """Return the event's JSON object. For the end of a reply with more than 10,000 code points, `content` and
    `reasoning` are null: its reader has the text."""
    data: Json = {"type": _type_of(event), "reply_id": event.reply_id, "offset": event.offset}
    match event:
        case ReplyDelta():
            data["text"] = event.text
        case ReplyStarted():
            data |= {"conversation_id": event.conversation_id, "message_id": event.message_id, "model": event.model}
        case ConversationTitled():
            data["title"] = event.title
        case ReplyEnded(message=message):
            data["message"] = message_data(message)
            if message.length > MAX_PIECE:
                data["message"] |= {"content": None, "reasoning": None}
            if message.error is not None:
                data |= asdict(message.error)
        case Silence():
            pass
    return data


def _type_of(event: ReplyEvent) -> str:
    match event:
        case ReplyDelta():
            return _TEXT[event.kind]
        case ReplyStarted():
            return "reply.started"
        case ConversationTitled():
            return "conversation.titled"
        case ReplyEnded():
            return _ENDED[event.message.status]
        case Silence():
            return "silence"


def message_data(message: Message) -> Json:
    """Return the JSON object of a message."""
    return {
        "id": message.id,
        "conversation_id": message.conversation_id,
        "parent_id": message.parent_id,
        "siblings": list(message.siblings),
        "role": message.role,
        "status": message.status,
        "model": message.model,
        "usage": message.usage and asdict(message.usage),
        "finish_reason": message.finish_reason,
        "error": message.error and asdict(message.error),
        "metadata": dict(message.metadata),
        "images": message.images,
        "created_at": moment(message.created_at),
        "content": message.content,
        "reasoning": message.reasoning,
    }


HIDDEN = frozenset({"user_id", "titled_by_user", "writing_reply_id"})
"""What clients do not see of a conversation."""


def conversation_data(conversation: Conversation) -> Json:
    """Return the JSON object of a conversation."""
    named = {each.name: getattr(conversation, each.name) for each in fields(conversation) if each.name not in HIDDEN}
    return {name: moment(value) if isinstance(value, datetime) else value for name, value in named.items()} | {
        "metadata": dict(conversation.metadata)
    }


def moment(time: datetime) -> str:
    """Write a time as RFC 3339 does, in UTC."""
    return time.isoformat().replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as RFC 9457 has it. `code` is stable; `errors` names the fields that break a rule; `retry_after` is in
    seconds; `allow`: the methods of a route that has not this one."""

    status: int
    code: str
    detail: str
    errors: tuple[FieldError, ...] = ()
    retry_after: int | None = None
    allow: tuple[str, ...] = ()
    reply_id: MessageId | None = None

    media_type = "application/problem+json"

    @property
    def title(self) -> str:
        return HTTPStatus(self.status).phrase

    @property
    def headers(self) -> Mapping[str, str]:
        """Return `Retry-After`, `Allow` and `WWW-Authenticate`, where they belong."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.allow:
            headers["Allow"] = ", ".join(self.allow)
        return headers | {"WWW-Authenticate": "Bearer"} if self.status == 401 else headers

    def data(self) -> Json:
        """Return its JSON object."""
        shown: Json = {"type": "about:blank", "title": self.title, "status": self.status}
        shown |= {"detail": self.detail, "code": self.code}
        if self.errors:
            shown["errors"] = [asdict(broken) for broken in self.errors]
        return shown if self.reply_id is None else shown | {"reply_id": self.reply_id}

    def json(self) -> bytes:
        return encoded(self.data())


def failure(reply: Message) -> Problem:
    """Return the problem for a client that waited for the end of a reply that failed."""
    error = reply.error or INTERNAL
    status = {ModelTimeout.code: 504, INTERNAL.code: 500}.get(error.code, ModelError.status)
    return Problem(status, error.code, error.detail, reply_id=reply.id)


def problem(error: BaseException) -> Problem:
    """Return the problem for a client. Other errors than chatcore's are `internal`, and their text is not shown."""
    if not isinstance(error, ChatcoreError):
        return Problem(500, INTERNAL.code, INTERNAL.detail)
    return Problem(
        error.status,
        error.code,
        error.detail,
        error.errors if isinstance(error, ValidationFailed) else (),
        error.retry_after if isinstance(error, RateLimited | Unavailable) else None,
    )
