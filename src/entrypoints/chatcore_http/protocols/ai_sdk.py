"""The UI message stream of the AI SDK, versions 5 to 7: chunks of a reply, its whole message, and what a client asks.

A client fails at a chunk of a type, and version 5 at a field, that it does not know: there are none here but those that
all three have.
"""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from chatcore import Message, ReplyDelta, ReplyEnded, ReplyEvent, ReplyStarted, Silence, Status, TextKind
from chatcore.data_urls import add_image
from chatcore.entities import FinishReason, Image, Role
from chatcore.errors import FieldError, ValidationFailed
from chatcore.wire import Json, Problem
from chatcore_http.protocols.endings import failure_of
from chatcore_http.protocols.frames import DONE, HEARTBEAT, frame, quoted, written
from chatcore_http.protocols.questions import Question
from chatcore_http.protocols.spans import Closed, Opened, Part, Spans
from chatcore_http.protocols.told import Told
from chatcore_http.schemas import Id

HEADERS = {"X-Vercel-AI-UI-Message-Stream": "v1"}
"""Of a stream."""

_NAMES = {TextKind.REASONING: "reasoning", TextKind.ANSWER: "text"}
_FINISHED = {
    None: "other",
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.CONTENT_FILTER: "content-filter",
    FinishReason.TOOL_CALLS: "tool-calls",
    FinishReason.ERROR: "error",
}

# ---- a reply ---------------------------------------------------------------------------------------------


class Chunks:
    """Encodes the events of one reply, read with `numbered=True` from the beginning. The id of a part is its type."""

    def __init__(self) -> None:
        self._spans = Spans()

    def of(self, event: ReplyEvent) -> Iterator[str]:
        """Yield the next event's chunks, each as JSON."""
        for part in self._spans.of(event):
            yield from _chunks(part)

    def encode(self, event: ReplyEvent) -> bytes:
        """Return the next event's frames of a Server-Sent Events stream."""
        if isinstance(event, Silence):
            return HEARTBEAT
        frames = b"".join(map(frame, self.of(event)))
        return frames + DONE if isinstance(event, ReplyEnded) else frames

    def broken(self, problem: Problem) -> bytes:
        """Return the frames that end a stream whose reply goes on."""
        return frame(written({"type": "error", "errorText": problem.detail})) + DONE


def _chunks(part: Part) -> Iterator[str]:
    match part:
        case ReplyDelta():
            name = _NAMES[part.kind]
            yield f'{{"type":"{name}-delta","id":"{name}","delta":{quoted(part.text)}}}'
        case ReplyStarted():
            yield written({"type": "start", "messageId": message_id(part.reply_id)})
            yield written({"type": "start-step"})
        case Opened():
            yield written({"type": f"{_NAMES[part.kind]}-start", "id": _NAMES[part.kind]})
        case Closed():
            yield written({"type": f"{_NAMES[part.kind]}-end", "id": _NAMES[part.kind]})
        case ReplyEnded():
            yield from map(written, _ending(part.message))
        case Silence():
            pass


def _ending(reply: Message) -> Iterator[Json]:
    yield {"type": "finish-step"}
    if reply.status is Status.COMPLETE:
        reason = _FINISHED[reply.finish_reason]
        yield {"type": "finish", "finishReason": reason, "messageMetadata": metadata_of(reply)}
        return
    yield {"type": "message-metadata", "messageMetadata": metadata_of(reply)}
    failure = failure_of(reply)
    yield {"type": "abort"} if failure is None else {"type": "error", "errorText": failure.detail}


def ui_message(message: Message) -> Json:
    """Return the whole message, as a client has it after the stream."""
    parts: list[Json] = [{"type": "step-start"}] if message.role is Role.ASSISTANT else []
    if message.reasoning:
        parts.append({"type": "reasoning", "text": message.reasoning, "state": "done"})
    if message.content:
        state = {"state": "done"} if message.role is Role.ASSISTANT else {}
        parts.append({"type": "text", "text": message.content, **state})
    metadata = {"metadata": metadata_of(message)} if message.role is Role.ASSISTANT else {}
    return {"id": message_id(message.id), "role": message.role, "parts": parts, **metadata}


def metadata_of(reply: Message) -> Json:
    """Return the `messageMetadata` of a reply; `usage` as the AI SDK names it."""
    usage = reply.usage and {
        "inputTokens": reply.usage.prompt_tokens,
        "outputTokens": reply.usage.completion_tokens,
        "totalTokens": reply.usage.total_tokens,
    }
    return {"status": reply.status, "model": reply.model, "finishReason": reply.finish_reason, "usage": usage}


def message_id(reply_id: int) -> str:
    return f"msg_{reply_id}"


def reply_of(name: str) -> int | None:
    """Return the id of the message that `message_id` named so, or None for any other text."""
    digits = name.removeprefix("msg_")
    return int(digits) if digits != name and digits.isascii() and digits.isdigit() and len(digits) <= 18 else None


# ---- a request -------------------------------------------------------------------------------------------


class UIMessage(msgspec.Struct, frozen=True):
    """Of all that a client's message has."""

    id: str
    role: str
    parts: list[dict[str, Any]] = []


class Chat(msgspec.Struct, frozen=True, rename="camel"):
    """What `DefaultChatTransport` sends. `id`: the client's name for the conversation. `config_id`: one of the user's
    configurations; the client's option `body` adds it."""

    id: str
    messages: list[UIMessage] = []
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: str | None = None
    config_id: Id | None = None


async def question_of(chat: Chat) -> Question:
    """Return the last message, which must be the user's: nothing else that the client says of the past is believed.

    Raise `ValidationFailed`. The message's id is the key under which it is sent once.
    """
    last = chat.messages[-1] if chat.messages else None
    if last is None or last.role != "user":
        raise ValidationFailed([FieldError("messages", "must end with a message of the user")])
    texts, images = list[str](), list[Image]()
    for number, part in enumerate(last.parts):
        name = f"messages[{len(chat.messages) - 1}].parts[{number}]"
        match part:
            case {"type": "text", "text": str(text)}:
                texts.append(text)
            case {"type": "file", "url": str(url)}:
                await add_image(images, url, name=f"{name}.url")
            case {"type": str(kind)} if kind.startswith("data-"):
                pass
            case _:
                raise ValidationFailed([FieldError(name, "must be text, or a file as a data URL")])
    return Question(last.id, "\n".join(texts), images)


def told(problem: Problem) -> Told:
    """Return an error as a sentence, which the client shows as it is."""
    return Told(problem.status, problem.detail.encode(), "text/plain; charset=utf-8")
