"""One range of bytes of a file (RFC 9110 §14)."""

import re
from typing import NamedTuple

from litestar.exceptions import HTTPException

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class Span(NamedTuple):
    """From `start` to before `end`. `partial`: whether it was asked for."""

    start: int
    end: int
    partial: bool


def span_of(asked: str | None, size: int) -> Span:
    """Return the range that a client asks for; all bytes for none, and for several or what is no range. Raise an
    `HTTPException` of 416 for one beyond the end."""
    found = _RANGE.fullmatch(asked or "")
    if found is None or found.groups() == ("", ""):
        return Span(0, size, partial=False)
    first, last = found.groups()
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if start >= end:
        raise HTTPException(status_code=416, headers={"Content-Range": f"bytes */{size}"})
    return Span(start, end, partial=True)
