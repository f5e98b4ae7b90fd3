"""JSON that is read in pieces: of a text of any length one item at a time, and of an item only what is wanted.

`json.loads` needs the whole text at once, and holds the event loop for as long as it takes. Here each piece costs time
in proportion to its own length, and what is kept is bounded for each item. A value that lies within one piece is read
by `json`; one that reaches into the next is followed through its members.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from chatcore.histories.json_values import NotJson, Reader, Scalar, Skipped, String, end_of
from chatcore.histories.notes import is_list

LONGEST_TEXT = 4 * 1024 * 1024
"""Characters, escaped, of one text of an item."""
LONGEST_ITEM = 64 * 1024 * 1024
"""Characters that are read of an item and wanted; each value counts some more than its text."""

_LONGEST_KEY, _DEEPEST, _TRIES, _MOST_KEYS = 1024, 100, 4, 1000
_COST_OF_VALUE, _COST_OF_OBJECT = 64, 2048
_BLANK = re.compile(r"[ \t\r\n]*+")
_EASY_KEY = re.compile(r'"([^"\\]{0,100})"[ \t\r\n]*+:')
_decoded = json.JSONDecoder(strict=False).raw_decode


@dataclass(frozen=True)
class Text:
    """A string that may be longer than can be kept: then it is None."""

    longest: int

    def of(self, value: Any) -> Any:
        return value if isinstance(value, str) and len(value) <= self.longest else None


@dataclass(frozen=True)
class Plain(Text):
    """A string as `Text`, or a number, true or false; None in the place of a list or an object."""

    def of(self, value: Any) -> Any:
        return super().of(value) if isinstance(value, str | list | dict) else value


@dataclass(frozen=True)
class Anything:
    """Any value, as `json.loads` gives it."""

    def of(self, value: Any) -> Any:
        return value


@dataclass(frozen=True)
class Each:
    """A list or an object, all members of which are wanted."""

    wanted: "Wanted"

    def of(self, value: Any) -> Any:
        if is_list(value):
            return [self.wanted.of(member) for member in value]
        if isinstance(value, dict):
            return {key: self.wanted.of(member) for key, member in cast("dict[str, Any]", value).items()}
        return None


@dataclass(frozen=True)
class Fields:
    """An object with some of its members; `rest`: what is wanted of those that are not named. `make`: what becomes of
    them when all are there."""

    members: Mapping[str, "Wanted"]
    rest: "Wanted | None" = None
    make: Callable[[dict[str, Any]], Any] | None = None

    def of(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return None
        found = dict[str, Any]()
        for key, member in cast("dict[str, Any]", value).items():
            if (wanted := self.members.get(key, self.rest)) is not None:
                found[key] = wanted.of(member)
        return found if self.make is None else self.make(found)


Wanted: TypeAlias = Text | Anything | Each | Fields
ANYTHING = Anything()


@dataclass(slots=True)
class Item:
    """An item; `why`: it could not be kept, and `value` has no more than some of its own members."""

    value: Any
    why: str | None = None


@dataclass(slots=True)
class _Open:
    """A list or an object that reaches into another piece."""

    wanted: Wanted
    value: Any
    depth: int
    """Of a value of which anything is wanted: in how many lists and objects it is, of which that is true too."""
    key: str | None = None

    def wanted_here(self) -> Wanted | None:
        match self.wanted:
            case Each(wanted):
                return wanted
            case Fields(members, rest):
                return members.get(self.key or "", rest)
            case _:
                return self.wanted

    def add(self, value: Any) -> None:
        if is_list(self.value):
            self.value.append(value)
        else:
            self.value[self.key] = value


class JsonItems:
    """The members of the list that the text is, or the one object that it is, each as `wanted`."""

    def __init__(self, wanted: Wanted, *, longest: int = LONGEST_ITEM) -> None:
        self.keys: set[str] = set()
        """Of the items' own members, wanted or not: those of what is being read and of all before it."""
        self._wanted = wanted
        self._longest = longest
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._open = list[_Open]()
        self._top = 0  # how many lists an item is in
        self._next = self._root
        self._reading: Reader | None = None
        self._is_key = False
        self._tries = 0
        self._ready = list[Item]()
        self._kept = 0
        self._why: str | None = None

    def feed(self, piece: bytes) -> Iterator[Item]:
        """Raise `NotJson`."""
        try:
            data = self._decode(piece)
        except UnicodeDecodeError as error:
            raise NotJson from error
        at, self._tries = 0, _TRIES
        while at < len(data):
            if self._reading is not None:
                at = self._reading.read(data, at)
                if self._reading.done:
                    self._has_read(self._reading)
            elif (at := end_of(_BLANK, data, at)) < len(data):
                at = self._next(data, at)
            yield from self._ready
            self._ready.clear()

    def end(self) -> None:
        """Raise `NotJson` if the text is not complete."""
        if self._next != self._nothing:
            raise NotJson

    # ---- what may stand where ------------------------------------------------------------------------

    def _root(self, data: str, at: int) -> int:
        if data[at] == "[":
            self._top = 1
            self._open.append(_Open(Each(self._wanted), [], 0))
            self._next = self._value_or_close
            return at + 1
        if data[at] != "{":
            raise NotJson
        return self._value(data, at)

    def _value_or_close(self, data: str, at: int) -> int:
        return self._close(data, at) if data[at] == "]" else self._value(data, at)

    def _key_or_close(self, data: str, at: int) -> int:
        return self._close(data, at) if data[at] == "}" else self._key(data, at)

    def _key(self, data: str, at: int) -> int:
        if (easy := _EASY_KEY.match(data, at)) is not None:
            self._has_key(easy[1])
            self._next = self._value
            return easy.end()
        if data[at] != '"':
            raise NotJson
        self._reading, self._is_key = String(_LONGEST_KEY), True
        return at + 1

    def _colon(self, data: str, at: int) -> int:
        if data[at] != ":":
            raise NotJson
        self._next = self._value
        return at + 1

    def _comma_or_close(self, data: str, at: int) -> int:
        if data[at] != ",":
            return self._close(data, at)
        self._next = self._value if isinstance(self._open[-1].value, list) else self._key
        return at + 1

    def _nothing(self, data: str, at: int) -> int:
        raise NotJson

    def _value(self, data: str, at: int) -> int:
        wanted, first = self._wanted_here(), data[at]
        if first in "]},:":
            raise NotJson
        if first in '[{"':
            if wanted is None or (self._why is not None and not isinstance(wanted, Text)):
                self._reading = Skipped()
                return at
            return self._whole(wanted, data, at) or self._begin(wanted, first, at)
        self._reading = Scalar()
        return at

    def _whole(self, wanted: Wanted, data: str, at: int) -> int:
        """Where the value ends, if it lies within this piece; 0 if it does not."""
        if self._tries == 0:
            return 0
        try:
            value, end = _decoded(data, at)
            found = wanted.of(value)
        except (ValueError, RecursionError):
            self._tries -= 1
            return 0
        if len(self._open) == self._top and isinstance(value, dict) and len(self.keys) < _MOST_KEYS:
            self.keys.update(cast("dict[str, Any]", value))
        self._charge(end - at)
        self._is_value(found)
        return end

    def _begin(self, wanted: Wanted, first: str, at: int) -> int:
        if first == '"':
            return self._begin_string(wanted, at)
        if isinstance(wanted, Text) or (isinstance(wanted, Fields) and first == "["):
            self._reading = Skipped()
            return at
        depth = self._open[-1].depth + 1 if isinstance(wanted, Anything) and self._open else 0
        if depth > _DEEPEST:
            raise NotJson
        self._open.append(_Open(wanted, [] if first == "[" else {}, depth))
        self._next = self._value_or_close if first == "[" else self._key_or_close
        return at + 1

    def _begin_string(self, wanted: Wanted, at: int) -> int:
        match wanted:
            case Text(longest):
                self._reading = String(longest)
            case Anything():
                self._reading = String(LONGEST_TEXT)
            case _:
                self._reading = Skipped()
                return at
        return at + 1

    def _close(self, data: str, at: int) -> int:
        closed = self._open.pop()
        if data[at] != ("]" if isinstance(closed.value, list) else "}"):
            raise NotJson
        self._is_value(self._made(closed))
        return at + 1

    def _made(self, closed: _Open) -> Any:
        if not isinstance(closed.wanted, Fields) or closed.wanted.make is None:
            return closed.value
        return None if self._why is not None else closed.wanted.make(closed.value)

    # ---- what has been read --------------------------------------------------------------------------

    def _has_read(self, reader: Reader) -> None:
        self._reading = None
        value, is_key, self._is_key = reader.value(), self._is_key, False
        if isinstance(reader, String):
            self._charge(reader.length)
            if reader.too_long and (is_key or isinstance(self._wanted_here(), Anything)):
                self._fail(f"has a text of more than {LONGEST_TEXT} characters")
        if is_key:
            self._has_key(value)
            self._next = self._colon
        else:
            wanted = self._wanted_here()
            self._is_value(value if wanted is None else wanted.of(value))

    def _has_key(self, key: str) -> None:
        self._open[-1].key = key
        if len(self._open) == self._top + 1 and len(self.keys) < _MOST_KEYS:
            self.keys.add(key)

    def _wanted_here(self) -> Wanted | None:
        return self._open[-1].wanted_here() if self._open else self._wanted

    def _is_value(self, value: Any) -> None:
        """It is complete: a member of what is open, or an item."""
        self._next = self._comma_or_close if self._open else self._nothing
        if len(self._open) == self._top:
            self._ready.append(Item(value, self._why))
            self._kept, self._why = 0, None
        elif self._open and (wanted := self._wanted_here()) is not None:
            self._charge(_COST_OF_OBJECT if isinstance(wanted, Fields) else _COST_OF_VALUE)
            self._open[-1].add(value if self._why is None or isinstance(value, str) else None)

    def _charge(self, cost: int) -> None:
        self._kept += cost
        if self._kept > self._longest:
            self._fail(f"is larger than {self._longest} characters")

    def _fail(self, why: str) -> None:
        """Pass over the rest of the item, and forget what there is of it but for its own members."""
        self._why = self._why or why
        for each in self._open[self._top + 1 :]:
            each.value.clear()
