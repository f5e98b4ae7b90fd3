"""Responses with `store: false`: they pass through to the endpoint's own Responses API, and nothing is stored."""

import re
from asyncio import sleep
from collections.abc import Awaitable, Iterator
from typing import Any, TypeVar

import msgspec

from chatcore.bounds import check
from chatcore.errors import FieldError, ModelNotFound
from chatcore.json_values import check_values
from chatcore.wire import Problem, encoded
from chatcore_http.protocols.openai.asked import Asked
from chatcore_http.protocols.openai.errors import type_of
from chatcore_http.protocols.openai.ids import message_of_item, reply_of_reasoning
from chatcore_http.protocols.openai.relaying import Refusal, in_form
from chatcore_http.protocols.openai.response_events import response_error

T = TypeVar("T")
_NULL = b"null"
_OURS = re.compile(rb'"(msg|rs)_\d{1,18}_\d{1,18}"')
_SLICE, _LONGEST_ID = 128 * 1024, 64  # bytes
_NOWHERE = (404, 405, 501)
_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d{1,18})')
_LONGEST_NUMBER = 64  # bytes
_SEND_ALL = "needs what is stored: with store: false send all messages in input, or leave store out"
_SEND_ITEM = "names a stored item: with store: false send the item itself"
RESPONSES, COMPACT = "/responses", "/responses/compact"
_INSTEAD = {
    RESPONSES: " Without store: false its /chat/completions is used, and the response is stored.",
    COMPACT: " Send whole conversations, or leave store out and name the previous response.",
}
"""What to do where an endpoint has no such path."""
_SHOWN = 2000  # characters of another's words


class _Named(msgspec.Struct):
    """An item, of which only its name is read."""

    type: Any = None
    role: Any = None
    id: Any = None

    @property
    def is_alone(self) -> bool:
        return self.type == "item_reference" or (self.type is None and self.role is None)


def is_unstored(asked: Asked) -> bool:
    """Raise `ValidationFailed`."""
    return asked.value("store", bool | None, "must be true or false") is False


async def check_unstored(asked: Asked) -> None:
    """Raise `ValidationFailed` for what refers to something that is stored here."""
    items = bytes(asked.fields.get("input", b""))
    mentions_ours = await _mentions_ours(items)
    if mentions_ours:
        await check_values(items)
    check(
        *(FieldError(name, _SEND_ALL) for name in ("previous_response_id", "conversation") if _given(asked, name)),
        FieldError("background", "needs store: true, as the answer is fetched later")
        if asked.value("background", bool | None, "must be true or false")
        else None,
        *(_references(items) if mentions_ours else ()),
    )


async def _mentions_ours(items: bytes) -> bool:
    """Other requests have their turn between the slices, which overlap by the longest id."""
    for start in range(0, len(items), _SLICE):
        if _OURS.search(items, start, start + _SLICE + _LONGEST_ID):
            return True
        await sleep(0)
    return False


def _given(asked: Asked, name: str) -> bool:
    return bytes(asked.fields.get(name, _NULL)).strip() != _NULL


def _references(written: bytes) -> Iterator[FieldError]:
    """Yield an error for each item that is but the name of a stored one. What is no list of items has none."""
    try:
        items = msgspec.json.decode(written, type=list[_Named])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    for number, item in enumerate(items):
        if item.is_alone and _is_ours(str(item.id)):
            yield FieldError(f"input[{number}].id", _SEND_ITEM)


def _is_ours(name: str) -> bool:
    return bool(message_of_item(name) or reply_of_reasoning(name))


def check_compacted(asked: Asked) -> None:
    """Raise `ValidationFailed` where no model is named: only the one that compacts can read what it has made."""
    check(None if asked.model else FieldError("model", "is required"))


async def passed(answer: Awaitable[T], path: str) -> T:
    """Await an answer. Raise what an endpoint without Responses means, also where it may not say it itself."""
    try:
        return await answer
    except ModelNotFound:
        raise ModelNotFound(_missing(path)) from None


def _missing(path: str) -> str:
    return f"The endpoint of this model has no {path}, or not this model.{_INSTEAD[path]}"


class ResponsesForm:
    """The words of one answer. Its own last event has the number after those that passed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._last = -1
        self._before = b""

    def passing(self, piece: bytes) -> bytes:
        seen = self._before + piece
        if (at := seen.rfind(b'"sequence_number"')) >= 0 and (found := _NUMBER.match(seen, at)):
            self._last = int(found[1])
        self._before = seen[-_LONGEST_NUMBER:]
        return piece

    def refusal(self, status: int, words: bytes) -> bytes:
        """An endpoint without Responses has no good words for that."""
        said = in_form(status, words)
        error = msgspec.json.decode(said, type=Refusal).error
        if status not in _NOWHERE or isinstance(error.code, str) or error.param:
            return said
        message = f"{_missing(self._path)} It said: {error.message[:_SHOWN]}"
        param = "store" if self._path == RESPONSES else None
        return encoded({"error": {"message": message, "type": type_of(status), "param": param, "code": None}})

    def broken(self, problem: Problem) -> bytes:
        return response_error(problem, self._last + 1)
