"""Conversations on their way out: for other products, as ChatGPT would export them, and for people, in Markdown."""

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from chatcore.authority import Caller, Owner
from chatcore.entities import Message, MessageId, Role, Status
from chatcore.errors import Unavailable
from chatcore.histories.notes import note
from chatcore.histories.own import as_lines
from chatcore.use_cases.own_export import ExportOwnData, OwnThing
from chatcore.use_cases.read_import import OwnConversation

_ROOT = "root"
_NAMES = {Role.USER: "User", Role.ASSISTANT: "Assistant", Role.SYSTEM: "System"}
_STATUSES = {Status.COMPLETE: "finished_successfully", Status.WRITING: "in_progress", Status.INTERRUPTED: "in_progress"}


class ExportFormat(StrEnum):
    CHATCORE = "chatcore"
    OPENAI = "openai"
    MARKDOWN = "markdown"


def exported(export: ExportOwnData, caller: Owner, format_: ExportFormat) -> AsyncGenerator[bytes, None]:
    """Everything that the caller owns in our own format, or their conversations in another one."""
    match format_:
        case ExportFormat.CHATCORE:
            return as_lines(export(by=caller), session=caller.session.id if isinstance(caller, Caller) else None)
        case ExportFormat.OPENAI:
            return as_openai(export(by=caller, branches=True, images=False))
        case ExportFormat.MARKDOWN:
            return as_markdown(export(by=caller, branches=True, images=False))


async def as_openai(things: AsyncGenerator[OwnThing, None]) -> AsyncGenerator[bytes, None]:
    """A `conversations.json` with all branches, piece by piece. If the database goes meanwhile it is not closed, and so
    no JSON. `things` must come with branches."""
    written: _Mapping | None = None
    yield b"["
    try:
        async with aclosing(things):
            async for thing in things:
                if isinstance(thing, OwnConversation):
                    yield b"" if written is None else written.end() + b","
                    written = _Mapping(thing)
                    yield written.beginning()
                elif isinstance(thing, Message) and written is not None:
                    yield b"".join(b"," + _member(node["id"], node) for node in written.nodes(thing))
    except Unavailable:
        return
    yield (b"" if written is None else written.end()) + b"]"


class _Mapping:
    """A conversation, as far as it is written. A message with reasoning is two nodes, and what follows it follows the
    second."""

    def __init__(self, own: OwnConversation) -> None:
        self._own = own
        self._with_reasoning = set[MessageId]()

    def beginning(self) -> bytes:
        conversation = self._own.conversation
        head = {
            "title": conversation.title,
            "create_time": conversation.created_at.timestamp(),
            "update_time": conversation.updated_at.timestamp(),
        }
        root = {"id": _ROOT, "message": None, "parent": None, "children": self._children(None)}
        return _json(head)[:-1] + b',"mapping":{' + _member(_ROOT, root)

    def nodes(self, message: Message) -> Iterator[dict[str, Any]]:
        id_, parent = str(message.id), self._end_of(message.parent_id)
        if message.reasoning:
            self._with_reasoning.add(message.id)
            thoughts = {"content_type": "thoughts", "thoughts": [{"summary": "", "content": message.reasoning}]}
            answer = self._end_of(message.id)
            said = _said(id_, message, thoughts, ends=False)
            yield {"id": id_, "message": said, "parent": parent, "children": [answer]}
            id_, parent = answer, id_
        text = {"content_type": "text", "parts": [_text(message)]}
        said = _said(id_, message, text, ends=message.role is Role.ASSISTANT or None)
        yield {"id": id_, "message": said, "parent": parent, "children": self._children(message.id)}

    def end(self) -> bytes:
        """What stands behind the messages."""
        id_ = str(self._own.conversation.id)
        tail = {"current_node": self._end_of(self._own.current), "conversation_id": id_, "id": id_}
        return b"}," + _json(tail)[1:]

    def _children(self, parent: MessageId | None) -> list[str]:
        return [str(child) for child in self._own.children.get(parent, ())]

    def _end_of(self, message_id: MessageId | None) -> str:
        if message_id is None:
            return _ROOT
        return f"{message_id}-answer" if message_id in self._with_reasoning else str(message_id)


def _said(id_: str, message: Message, content: object, *, ends: bool | None) -> Any:
    return {
        "id": id_,
        "author": {"role": message.role.value, "name": None, "metadata": {}},
        "create_time": message.created_at.timestamp(),
        "content": content,
        "status": _STATUSES.get(message.status, "finished_partial_completion"),
        "end_turn": ends,
        "weight": 1.0,
        "metadata": {} if message.model is None else {"model_slug": message.model},
        "recipient": "all",
    }


def _text(message: Message) -> str:
    notes = [note("Image")] * message.images
    if message.error is not None:
        notes.append(note("Error", message.error.detail))
    return "\n\n".join(filter(None, (message.content, *notes)))


def _member(key: str, value: object) -> bytes:
    return _json(key) + b":" + _json(value)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


# ---- Markdown --------------------------------------------------------------------------------------------


async def as_markdown(things: AsyncGenerator[OwnThing, None]) -> AsyncGenerator[bytes, None]:
    """All conversations with all branches, one message below the other: what does not follow the one above it says
    which one it follows. `things` must come with branches."""
    yield f"# Conversations\n\nExported {_moment(datetime.now(UTC))}.\n".encode()
    written = _Written(None)
    try:
        async with aclosing(things):
            async for thing in things:
                if isinstance(thing, OwnConversation):
                    written = _Written(thing)
                    yield written.heading().encode()
                elif isinstance(thing, Message):
                    yield "\n\n".join(written.message(thing)).encode() + b"\n"
    except Unavailable:
        yield b"\n*The export was cut off here.*\n"


class _Written:
    """A conversation, as far as it is written."""

    def __init__(self, own: OwnConversation | None) -> None:
        self._own = own
        self._numbers = dict[MessageId | None, int]()
        self._last: MessageId | None = None

    def heading(self) -> str:
        assert self._own is not None  # noqa: S101
        conversation = self._own.conversation
        title = " ".join(conversation.title.split()) or "Untitled"
        return f"\n---\n\n# {title}\n\n*{_moment(conversation.created_at)}*\n"

    def message(self, message: Message) -> Iterator[str]:
        number = self._numbers[message.id] = len(self._numbers) + 1
        model = f" ({message.model})" if message.model else ""
        yield f"\n## {number}. {_NAMES[message.role]}{model}, {_moment(message.created_at)}"
        if message.parent_id != self._last:
            before = self._numbers.get(message.parent_id)
            yield f"*Follows message {before}.*" if before else "*Another beginning.*"
        self._last = message.id
        yield from _told(message)
        if self._own and self._own.current == message.id and any(len(ids) > 1 for ids in self._own.children.values()):
            yield "*The branch that is shown ends here.*"


def _told(message: Message) -> Iterator[str]:
    if message.reasoning:
        yield f"<details><summary>Reasoning</summary>\n\n{message.reasoning}\n\n</details>"
    if text := _text(message):
        yield text
    if message.status is not Status.COMPLETE:
        yield f"*This reply was {message.status.value}.*"


def _moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
