"""Long texts within bounds: how many bytes they have, how many of them fit, and where in them something stands."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from chatcore.entities import Message

T = TypeVar("T")

EXCERPT = 240
"""Characters of an excerpt."""
_BEFORE = 60  # characters of an excerpt that come before the place that it shows
_PIECE = 65_536  # characters to look at in one go: Python does nothing else meanwhile


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Part of a text. `start`: how many code points of the text precede it; `hit`: how many of it precede what was
    found."""

    text: str
    start: int
    hit: int


def utf8_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def bytes_of(message: Message) -> int:
    """Bytes of its texts."""
    return utf8_length(message.content) + utf8_length(message.reasoning or "")


def fitting(things: Iterable[T], max_bytes: int, size: Callable[[T], int]) -> Iterator[T]:
    """The first of them that have at most so many bytes together; at least one."""
    total = 0
    for number, thing in enumerate(things):
        total += size(thing)
        if number and total > max_bytes:
            return
        yield thing


class Needle:
    """A text that is looked for, in capitals or not (`str.casefold`).

    As a regular expression, which takes time in proportion to the text alone: `str.find` may take the product of both
    lengths.
    """

    def __init__(self, text: str) -> None:
        folded = text.casefold()
        self._pattern = re.compile(re.escape(folded))
        self._overlap = len(folded) - 1

    def place_in(self, text: str) -> int | None:
        """How many code points precede it."""
        for start in range(0, max(len(text), 1), _PIECE):
            piece = text[start : start + _PIECE + self._overlap]
            if found := self._pattern.search(piece.casefold()):
                return start + _unfolded(piece, found.start())
        return None


def _unfolded(text: str, place: int) -> int:
    """The place in a text of what stands there in its folded form, which may be longer."""
    length = 0
    for number, character in enumerate(text):
        length += len(character.casefold())
        if length > place:
            return number
    return 0


def excerpt_of(text: str, place: int) -> Excerpt:
    """The part of a text that shows this place."""
    start = max(0, min(place - _BEFORE, len(text) - EXCERPT))
    return Excerpt(text[start : start + EXCERPT], start, place - start)


def newest_that_fit(messages: Sequence[Message], max_bytes: int) -> Sequence[Message]:
    """The end of what is oldest first."""
    return [*fitting(reversed(messages), max_bytes, bytes_of)][::-1]
