"""Long lines of JSON in slices: what a decoder reads at once would take the event loop for as long as it is long."""

import asyncio
import re
from collections.abc import Sequence

import msgspec

AT_ONCE = 256 * 1024
"""Bytes of a line that are decoded at once, which takes some milliseconds whatever they are."""

_SLICE = 64 * 1024
_HEXES = rb"[0-9a-fA-F]{4}"
_WITHIN_STRING = re.compile(
    rb'(?:[^"\\]+|\\[^u]|\\u(?![dD][89a-bA-B])' + _HEXES + rb"|\\u[dD][89a-bA-B][0-9a-fA-F]{2}\\u" + _HEXES + rb")*"
)
"""As much of a JSON string (RFC 8259 §7) as is there whole; both halves of a surrogate pair are one part of it."""

_decode_text = msgspec.json.Decoder(str).decode


class TooMuchBesideTexts(ValueError):
    """More than `AT_ONCE` bytes of a line are not within long strings."""


async def without_long_texts(line: bytes) -> tuple[bytes, Sequence[str]]:
    """The line with a mark in the place of each long string, and these strings. `restored` puts them back.

    Raises `TooMuchBesideTexts`, and `msgspec.DecodeError` or `UnicodeDecodeError` if a string is none.
    """
    rest, texts, at = bytearray(), list[str](), 0
    while (quote := line.find(b'"', at)) >= 0 and len(rest) + quote - at <= AT_ONCE:
        rest += line[at:quote]
        text, at = await _string(line, quote + 1)
        if at - quote > _SLICE:
            rest += b'"%b"' % _mark(len(texts)).encode("ascii")
            texts.append(text)
        else:
            rest += line[quote:at]
    if len(rest) + len(line) - at > AT_ONCE:
        raise TooMuchBesideTexts
    return bytes(rest + line[at:]), texts


def restored(text: str, texts: Sequence[str]) -> str:
    """The string in whose place the decoded `text` stands, or that itself."""
    number = text.removeprefix("\0")
    if number == text or not number.isdecimal() or int(number) >= len(texts):
        return text
    return texts[int(number)]


def _mark(number: int) -> str:
    """No text that is stored holds NUL."""
    return rf"\u0000{number}"


async def _string(line: bytes, start: int) -> tuple[str, int]:
    """The string whose first character is at `start`, and where the line goes on after it."""
    parts, at = list[str](), start
    while True:
        end = _end_of_slice(line, at)
        parts.append(_decode_text(b'"%b"' % line[at:end]))
        if line[end : end + 1] == b'"':
            return "".join(parts), end + 1
        if end == at:
            raise msgspec.DecodeError("a string has no end, or half of a surrogate pair")
        at = end
        await asyncio.sleep(0)


def _end_of_slice(line: bytes, at: int) -> int:
    """At the string's end, or between two of its characters."""
    found = _WITHIN_STRING.match(line, at, at + _SLICE)
    end = at if found is None else found.end()
    while at < end < len(line) and line[end] & 0xC0 == 0x80:  # within a character of several bytes
        end -= 1
    return end
