"""Values of JSON that reach from one piece of the text into the next."""

import json
import re
from typing import Any, Protocol

_LONGEST_NUMBER = 64
_SCALAR = re.compile(r'[^][{}",:\s]*+')
_REST_OF_STRING = re.compile(r'(?:[^"\\]++|\\.)*+', re.DOTALL)
_NO_BRACKET = re.compile(r'(?:[^][{}"]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_WHOLE_CHARACTERS = re.compile(
    r"(?:[^\\]++|\\[^u]|\\u(?![dD][89abAB])....|\\u....(?:\\u[dD][c-fC-F]..|(?=[^\\]|\\[^u]|\\u(?![dD][c-fC-F])....)))*+",
    re.DOTALL,
)


class NotJson(Exception):
    """The text is no JSON, or ends too early."""


class Reader(Protocol):
    """Of a value that may reach into the next piece. `read` returns where it has come to; `done`: that is its end."""

    done: bool

    def read(self, data: str, at: int) -> int: ...

    def value(self) -> Any: ...


class String:
    """Behind the opening quote. Decoded as it comes, since a long one at once takes long."""

    def __init__(self, longest: int) -> None:
        self.done: bool = False
        self.too_long: bool = False
        self.length: int = 0
        self._longest = longest
        self._left = ""
        self._escaped: bool = False
        self._texts = list[str]()

    def read(self, data: str, at: int) -> int:
        start = at
        at = end_of(_REST_OF_STRING, data, at + self._escaped)
        self._escaped = at < len(data) and data[at] == "\\"  # and what it escapes is in the next piece
        at += self._escaped
        self.done = at < len(data)
        self._keep(data[start:at])
        return at + self.done

    def value(self) -> str | None:
        return None if self.too_long else "".join(self._texts)

    def _keep(self, part: str) -> None:
        self.length += len(part)
        if self.length > self._longest:
            self.too_long = True
            self._left = ""
            self._texts.clear()
            return
        text = self._left + part
        end = len(text) if self.done else end_of(_WHOLE_CHARACTERS, text, 0)
        whole, self._left = text[:end], text[end:]
        try:
            self._texts.append(json.loads(f'"{whole}"', strict=False) if "\\" in whole else whole)
        except ValueError as error:
            raise NotJson from error


class Scalar:
    """A number, true, false or null: it ends where anything else begins."""

    def __init__(self) -> None:
        self.done: bool = False
        self._text = ""

    def read(self, data: str, at: int) -> int:
        end = end_of(_SCALAR, data, at)
        self._text += data[at:end]
        if len(self._text) > _LONGEST_NUMBER:
            raise NotJson
        self.done = end < len(data)
        return end

    def value(self) -> Any:
        try:
            return json.loads(self._text)
        except ValueError as error:
            raise NotJson from error


class Skipped:
    """From the opening bracket or quote."""

    def __init__(self) -> None:
        self.done: bool = False
        self._depth = 0
        self._string = self._escaped = False

    def read(self, data: str, at: int) -> int:
        while at < len(data) and not self.done:
            at = self._in_string(data, at) if self._string else self._outside(data, at)
        return at

    def value(self) -> None:
        return None

    def _in_string(self, data: str, at: int) -> int:
        at = end_of(_REST_OF_STRING, data, at + self._escaped)
        self._escaped = at < len(data) and data[at] == "\\"
        if at < len(data) and not self._escaped:
            self._string = False
            self.done = self._depth == 0
        return at + 1

    def _outside(self, data: str, at: int) -> int:
        if self._depth:
            at = end_of(_NO_BRACKET, data, at)
        if at < len(data):
            self._string = data[at] == '"'
            self._depth += (data[at] in "[{") - (data[at] in "]}")
            self.done = not self._string and self._depth == 0
        return at + 1


def end_of(pattern: "re.Pattern[str]", data: str, at: int) -> int:
    """How far the pattern, which matches nothing too, goes from there."""
    found = pattern.match(data, at)
    assert found is not None  # noqa: S101
    return found.end()
