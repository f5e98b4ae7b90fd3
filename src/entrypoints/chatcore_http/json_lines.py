"""An export as JSON Lines: each line a JSON object with a `kind`, and the way from and to the entities."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

import msgspec
from msgspec import Meta

from chatcore import OwnConversation, OwnThing, entities
from chatcore.errors import FieldError, Unavailable, ValidationFailed
from chatcore.histories import Histories
from chatcore.ports import Clock
from chatcore.use_cases.own_data import EndOfExport, Line, Unreadable
from chatcore_http import schemas
from chatcore_http.long_lines import AT_ONCE, TooMuchBesideTexts, restored, without_long_texts
from chatcore_http.shapes import Shape

FORMAT, VERSION = "chatcore export", 1
LONGEST_LINE = 16 * 1024 * 1024
"""Bytes: the longest message, of which each character may be escaped."""

LINES_AT_ONCE = 100
_BYTES_AT_ONCE = 64 * 1024

_Moment = Annotated[datetime, Meta(tz=True)]


class ExportHeader(msgspec.Struct, frozen=True, tag_field="kind", tag="export"):
    """The first line."""

    format: str
    version: int
    exported_at: datetime | None = None


class ExportedUser(schemas.User, frozen=True, tag_field="kind", tag="user"):
    pass


class ExportedSession(schemas.Session, frozen=True, tag_field="kind", tag="session"):
    pass


class ExportedModelConfig(schemas.ModelConfig, frozen=True, tag_field="kind", tag="model_config"):
    pass


class ExportedConversation(msgspec.Struct, frozen=True, tag_field="kind", tag="conversation"):
    """`current_message_id`: the last message of the branch that is shown."""

    id: schemas.Id
    title: str
    created_at: _Moment
    updated_at: _Moment
    titled_by_user: bool = False
    config_id: int | None = None
    current_message_id: int | None = None

    @classmethod
    def of(cls, own: OwnConversation) -> Self:
        it = own.conversation
        return cls(it.id, it.title, it.created_at, it.updated_at, it.titled_by_user, it.config_id, own.current)

    def entity(self) -> OwnConversation:
        conversation = entities.Conversation(
            id=entities.ConversationId(self.id),
            user_id=_NOBODY,
            title=self.title,
            titled_by_user=self.titled_by_user,
            created_at=self.created_at,
            updated_at=self.updated_at,
        )
        return OwnConversation(conversation, _message_id(self.current_message_id))


class ExportedMessage(Shape, frozen=True, tag_field="kind", tag="message"):
    """Stands after its conversation, and after the message that it follows."""

    id: schemas.Id
    conversation_id: schemas.Id
    role: Literal["system", "user", "assistant"]
    content: str
    created_at: _Moment
    parent_id: int | None = None
    reasoning: str | None = None
    status: Literal["complete", "writing", "stopped", "failed", "interrupted"] = "complete"
    model: str | None = None
    usage: schemas.Usage | None = None
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls", "error"] | None = None
    error: schemas.Failure | None = None

    def entity(self) -> entities.Message:
        return entities.Message(
            id=entities.MessageId(self.id),
            user_id=_NOBODY,
            conversation_id=entities.ConversationId(self.conversation_id),
            parent_id=_message_id(self.parent_id),
            role=entities.Role(self.role),
            content=self.content,
            reasoning=self.reasoning,
            status=entities.Status(self.status),
            model=self.model,
            usage=None if self.usage is None else entities.Usage(**msgspec.structs.asdict(self.usage)),
            finish_reason=None if self.finish_reason is None else entities.FinishReason(self.finish_reason),
            error=None if self.error is None else entities.Failure(**msgspec.structs.asdict(self.error)),
            created_at=self.created_at,
        )


class ExportEnd(msgspec.Struct, frozen=True, tag_field="kind", tag="end"):
    """The last line, without which the export is not complete. How many lines of each kind there are."""

    conversations: int = 0
    messages: int = 0


class _Kind(msgspec.Struct, frozen=True):
    kind: str


_NOBODY = entities.UserId(0)
_encode = msgspec.json.Encoder().encode
_kind = msgspec.json.Decoder(_Kind).decode
_read = {
    "conversation": msgspec.json.Decoder(ExportedConversation).decode,
    "message": msgspec.json.Decoder(ExportedMessage).decode,
    "end": msgspec.json.Decoder(ExportEnd).decode,
}


# ---- out -------------------------------------------------------------------------------------------------


async def exported(
    things: AsyncGenerator[OwnThing, None], *, session: entities.SessionId
) -> AsyncGenerator[bytes, None]:
    """The lines. If the database goes meanwhile they end, without the last one."""
    conversations = messages = 0
    yield _line(ExportHeader(FORMAT, VERSION, datetime.now(UTC)))
    try:
        async with aclosing(things):
            async for thing in things:
                conversations += isinstance(thing, OwnConversation)
                messages += isinstance(thing, entities.Message)
                yield _line(_shown(thing, session))
    except Unavailable:
        return
    yield _line(ExportEnd(conversations, messages))


def _shown(thing: OwnThing, session: entities.SessionId) -> msgspec.Struct:
    match thing:
        case entities.User():
            return ExportedUser.of(thing)
        case entities.Session():
            return ExportedSession.seen_from(session, thing)
        case entities.ModelConfig():
            return ExportedModelConfig.of(thing)
        case OwnConversation():
            return ExportedConversation.of(thing)
        case entities.Message():
            return ExportedMessage.of(thing)


def _line(shown: msgspec.Struct) -> bytes:
    return _encode(shown) + b"\n"


# ---- in --------------------------------------------------------------------------------------------------


def histories(clock: Clock, *, longest: int | None = None) -> Histories:
    """Reads histories of all formats; `longest`: bytes that are unpacked of one archive."""
    return Histories(own=imported, now=clock.now, longest=longest)


async def imported(body: AsyncGenerator[bytes, None]) -> AsyncGenerator[Line, None]:
    """What of an export can be imported, and what cannot be read. Raises `ValidationFailed` if it is no export."""
    headed = False
    async with aclosing(numbered(body, longest=LONGEST_LINE)) as lines:
        async for number, line in lines:
            if not headed:
                _check_header(line)
                headed = True
            elif line is None:
                yield Line(number, Unreadable(f"is longer than {LONGEST_LINE} bytes"))
            elif line and not line.isspace() and (thing := await _thing(line)) is not None:
                yield Line(number, thing)
    if not headed:
        _check_header(None)


async def numbered(
    body: AsyncGenerator[bytes, None], *, longest: int
) -> AsyncGenerator[tuple[int, bytes | None], None]:
    """Each line with its number, from 1; None in the place of one that is too long, which is not kept. Others have
    their turn after at most so many lines, and bytes, even if all of the body is there already."""
    number, left, too_long = 1, bytearray(), False
    async with aclosing(_pieces(body)) as pieces:
        async for piece in pieces:
            *whole, rest = piece.split(b"\n")
            for part in whole:
                fits = not too_long and len(left) + len(part) <= longest
                yield number, bytes(left + part) if fits else None
                number, too_long = number + 1, False
                left.clear()
                if number % LINES_AT_ONCE == 0:
                    await asyncio.sleep(0)
            too_long = too_long or len(left) + len(rest) > longest
            if too_long:
                left.clear()
            else:
                left += rest
    if left or too_long:
        yield number, None if too_long else bytes(left)


async def _pieces(body: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(body):
        async for chunk in body:
            for start in range(0, len(chunk), _BYTES_AT_ONCE):
                yield chunk[start : start + _BYTES_AT_ONCE]
                await asyncio.sleep(0)


def _check_header(line: bytes | None) -> None:
    try:
        header = msgspec.json.decode(line or b"", type=ExportHeader)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        header = None
    if header is None or (header.format, header.version) != (FORMAT, VERSION):
        expected = _line(ExportHeader(FORMAT, VERSION)).decode().strip()
        raise ValidationFailed([FieldError("body", f"must be JSON Lines whose first line is like {expected}")])


async def _thing(line: bytes) -> OwnConversation | entities.Message | EndOfExport | Unreadable | None:
    """None: a kind that is not taken over."""
    texts: Sequence[str] = ()
    try:
        if len(line) > AT_ONCE:
            line, texts = await without_long_texts(line)
        read = _read.get(_kind(line).kind)
        shown = None if read is None else read(line)
    except TooMuchBesideTexts:
        return Unreadable(f"has more than {AT_ONCE} bytes beside its texts")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Unreadable(_sentence(error))
    match shown:
        case ExportedMessage():
            reasoning = shown.reasoning and restored(shown.reasoning, texts)
            return replace(shown.entity(), content=restored(shown.content, texts), reasoning=reasoning)
        case ExportedConversation():
            return shown.entity()
        case ExportEnd():
            return EndOfExport()
        case _:
            return None


def _sentence(error: Exception) -> str:
    """msgspec says where it is wrong and what type it has, never the value."""
    if isinstance(error, msgspec.ValidationError):
        what, _, where = str(error).partition(" - at `$.")
        return f"{where.rstrip('`')}: {what}" if where else what
    if isinstance(error, msgspec.MsgspecError):
        return "is no JSON"
    return "is no UTF-8" if isinstance(error, UnicodeDecodeError) else "is nested too deeply"


def _message_id(number: int | None) -> entities.MessageId | None:
    return None if number is None else entities.MessageId(number)
