"""chatcore's own export as JSON Lines: each line is a JSON object with a `kind` and the fields of an entity."""

import json
from asyncio import sleep
from binascii import b2a_base64
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from chatcore.bounds import MAX_IMAGE, METADATA
from chatcore.data_urls import decoded
from chatcore.entities import (
    Conversation,
    Failure,
    Image,
    Message,
    MessageId,
    ModelConfig,
    OwnerId,
    Session,
    SessionId,
    Usage,
    User,
)
from chatcore.errors import FieldError, Unavailable, ValidationFailed
from chatcore.histories.json_items import Fields, Item, JsonItems, Plain
from chatcore.histories.json_values import NotJson
from chatcore.histories.notes import members
from chatcore.use_cases.own_data import EndOfExport, Line, Unreadable
from chatcore.use_cases.own_export import OwnThing
from chatcore.use_cases.read_import import OwnConversation, OwnImage
from chatcore.wire import moment

FORMAT, VERSION = "chatcore export", 1
LONGEST_LINE = 16 * 1024 * 1024
"""Bytes: the longest message, each character escaped."""
LINES_AT_ONCE = 20
_PAUSE = 0.001  # seconds: a loop that never rests lets no thread have its turn, and SQLite's statements run in threads
BYTES_AT_ONCE = 64 * 1024
SLICE = 8 * 1024
IMAGE_SLICE = 768 * 1024  # a multiple of 3, whose base64 ends with no padding

USER = ("id", "username", "email", "roles", "is_active", "profile", "created_at", "updated_at")
SESSION = ("id", "login_time", "logout_time", "last_used_at", "user_agent", "address")
MODEL_CONFIG = ("id", "model_url", "model_name", "api_key_hint", "created_at", "updated_at")
_NOT_EXPORTED = ("user_id", "config_id", "writing_reply_id")
CONVERSATION = tuple(field.name for field in fields(Conversation) if field.name not in _NOT_EXPORTED)
MESSAGE = (
    *("id", "conversation_id", "role", "content", "created_at", "parent_id", "reasoning", "status", "model"),
    *("usage", "finish_reason", "error", "metadata", "images"),
)
IMAGE = ("message_id", "number", "media_type", "detail", "data")

_NOBODY = OwnerId(0)
_PLAIN = Plain(LONGEST_LINE)
_READ = ("kind", "format", "version", *CONVERSATION, "current_message_id", *MESSAGE, *IMAGE)
_PARTS: Mapping[str, Any] = {"usage": Usage, "error": Failure}
_WANTED = Fields(
    {
        **dict.fromkeys(_READ, _PLAIN),
        **{name: Fields({field.name: _PLAIN for field in fields(kind)}) for name, kind in _PARTS.items()},
        "metadata": Fields({}, rest=_PLAIN),
    }
)
_WORDS = {str: "a string", int: "an integer", bool: "true or false", datetime: "a time with its zone (RFC 3339)"}


# ---- out -------------------------------------------------------------------------------------------------


async def as_lines(things: AsyncGenerator[OwnThing, None], *, session: SessionId | None) -> AsyncGenerator[bytes, None]:
    """`session`: the current one, if any. If the database fails meanwhile, the lines end without the last one."""
    conversations = messages = images = 0
    yield _line("export", format=FORMAT, version=VERSION, exported_at=datetime.now(UTC))
    try:
        async with aclosing(things):
            async for thing in things:
                conversations += isinstance(thing, OwnConversation)
                messages += isinstance(thing, Message)
                if isinstance(thing, OwnImage):
                    images += 1
                    for piece in _image_line(thing):
                        yield piece
                        await sleep(0)
                else:
                    yield _shown(thing, session)
    except Unavailable:
        return
    yield _line("end", conversations=conversations, messages=messages, images=images)


def _image_line(own: OwnImage) -> Iterator[bytes]:
    """Yield it in pieces: what it takes to write it at once would hold the event loop."""
    image = own.image
    head = _line("image", message_id=own.message_id, number=own.number, media_type=image.media_type)
    yield head.removesuffix(b"}\n") + b',"detail":' + json.dumps(image.detail).encode() + b',"data":"'
    for start in range(0, len(image.data), IMAGE_SLICE):
        yield b2a_base64(image.data[start : start + IMAGE_SLICE], newline=False)
    yield b'"}\n'


def _shown(thing: User | Session | ModelConfig | OwnConversation | Message, session: SessionId | None) -> bytes:
    match thing:
        case User():
            return _line("user", **_named(USER, thing))
        case Session():
            return _line("session", **_named(SESSION, thing), current=thing.id == session)
        case ModelConfig():
            return _line("model_config", **_named(MODEL_CONFIG, thing))
        case OwnConversation(it, current):
            return _line("conversation", **_named(CONVERSATION, it), config_id=it.config_id, current_message_id=current)
        case Message():
            return _line("message", **_named(MESSAGE, thing))


def _named(names: Iterable[str], thing: object) -> dict[str, Any]:
    return {name: getattr(thing, name) for name in names}


def _line(kind: str, **more: object) -> bytes:
    line = json.dumps({"kind": kind, **more}, default=_plain, ensure_ascii=False, separators=(",", ":"))
    return line.encode() + b"\n"


def _plain(value: Any) -> object:
    match value:
        case datetime():
            return moment(value)
        case Mapping():
            return dict(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        case frozenset():
            return sorted(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        case _:
            return _named((field.name for field in fields(value)), value)


# ---- in --------------------------------------------------------------------------------------------------


class _Wrong(ValueError):
    """What a line must be, in words for its sender."""


async def read(body: AsyncGenerator[bytes, None]) -> AsyncGenerator[Line, None]:
    """Yield what can be imported, and what is unreadable. Raise `ValidationFailed` if this is no export."""
    headed = False
    async with aclosing(numbered(body, longest=LONGEST_LINE)) as lines:
        async for number, line in lines:
            if not headed:
                await _check_header(line or b"")
                headed = True
            elif line is None:
                yield Line(number, Unreadable(f"is longer than {LONGEST_LINE} bytes"))
            elif line and not line.isspace() and (thing := await _thing(line)) is not None:
                yield Line(number, thing)
    if not headed:
        await _check_header(b"")


async def numbered(
    body: AsyncGenerator[bytes, None], *, longest: int
) -> AsyncGenerator[tuple[int, bytes | None], None]:
    """Yield each line with its number, from 1; None instead of a line that is too long. Other tasks have their turn
    after a bounded number of lines and bytes, even if the whole body has arrived."""
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
                    await sleep(_PAUSE)
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
            for start in range(0, len(chunk), BYTES_AT_ONCE):
                yield chunk[start : start + BYTES_AT_ONCE]
                await sleep(0)


async def _check_header(line: bytes) -> None:
    header: Mapping[str, Any] = {}
    with suppress(_Wrong):
        header = await members_of(line)
    if [header.get(name) for name in ("kind", "format", "version")] != ["export", FORMAT, VERSION]:
        expected = _line("export", format=FORMAT, version=VERSION, exported_at=None).decode().strip()
        raise ValidationFailed([FieldError("body", f"must be JSON Lines whose first line is like {expected}")])


async def _thing(line: bytes) -> OwnConversation | Message | OwnImage | EndOfExport | Unreadable | None:
    """Return None for a kind that is not imported."""
    try:
        found = await members_of(line)
        match _member(str, found.get("kind"), "kind"):
            case "conversation":
                current = _member(MessageId | None, found.get("current_message_id"), "current_message_id")
                return OwnConversation(_made(Conversation, CONVERSATION, found), current)
            case "message":
                message: Message = _made(Message, MESSAGE, found)
                return message
            case "image":
                return await _image_in(found)
            case "end":
                return EndOfExport()
            case _:
                return None
    except _Wrong as error:
        return Unreadable(str(error))


async def members_of(line: bytes) -> Mapping[str, Any]:
    """Read the needed members of a line of any length, in slices, so that decoding does not hold the event loop. Raise
    `ValueError`."""
    items, found = JsonItems(_WANTED), list[Item]()
    try:
        for start in range(0, len(line), SLICE):
            found += items.feed(line[start : start + SLICE])
            if start:
                await sleep(0)
        items.end()
    except NotJson:
        raise _Wrong("is no JSON") from None
    if not line.lstrip().startswith(b"{"):
        raise _Wrong("is no JSON object")
    if found[0].why is not None:
        raise _Wrong(found[0].why)
    return members(found[0].value)


async def _image_in(found: Mapping[str, Any]) -> OwnImage:
    data = _member(str, found.get("data"), "data")
    if len(data) // 4 * 3 - 2 > MAX_IMAGE:
        raise _Wrong(f"data: must be at most {MAX_IMAGE} bytes")
    try:
        image = await decoded(data)
    except ValueError:
        raise _Wrong("data: must be base64") from None
    kind, detail = _member(str, found.get("media_type"), "media_type"), found.get("detail")
    shown = Image(kind, image, _member(str | None, detail, "detail"))
    return OwnImage(_member(MessageId, found.get("message_id"), "message_id"), 0, shown)


def _made(kind: Any, names: Iterable[str], found: Mapping[str, Any], place: str = "") -> Any:
    """Make a dataclass from the members of these names, or its defaults."""
    hints, has_default = _types(kind)
    if missing := next((name for name in names if name not in found and name not in has_default), None):
        raise _Wrong(f"{place}{missing}: is required")
    made = {name: _member(hints[name], found[name], place + name) for name in names if name in found}
    return kind(**made, **({"user_id": _NOBODY} if "user_id" in hints else {}))


@cache
def _types(kind: Any) -> tuple[Mapping[str, Any], frozenset[str]]:
    """Return the type of each field, and the names of those with a default."""
    default = (field.name for field in fields(kind) if (field.default, field.default_factory) != (MISSING, MISSING))
    return get_type_hints(kind), frozenset(default)


def _member(hint: Any, value: Any, place: str) -> Any:
    if get_origin(hint) is Mapping:
        pairs = members(value)
        if broken := METADATA.broken(pairs, place):
            raise _Wrong(f"{place}: {broken.message}")
        return pairs
    if alternatives := get_args(hint):  # something, or None
        return None if value is None else _member(alternatives[0], value, place)
    kind: Any = getattr(hint, "__supertype__", hint)
    if kind in _PARTS.values():
        return _made(kind, [field.name for field in fields(kind)], members(value), f"{place}.")
    if issubclass(kind, StrEnum):
        if value not in [*kind]:
            raise _Wrong(f"{place}: must be one of: {', '.join(kind)}")
        return kind(value)
    made = _time_in(value) if kind is datetime else value
    if type(made) is not kind:
        raise _Wrong(f"{place}: must be {_WORDS[kind]}")
    return made


def _time_in(value: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return None if time.tzinfo is None else time
