"""A file that is sent, read piece by piece: in a form (multipart/form-data, RFC 7578), or as the whole body."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from multipart import (  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,  # pyright: ignore[reportUnknownVariableType]
)

from chatcore.errors import FieldError, ValidationFailed

FORM = "multipart/form-data"
FORM_ROOM = 64 * 1024
"""Bytes of a form besides its file's."""
_LONGEST_FIELD = 1000
_FIELDS = 10
_END = object()


@dataclass(frozen=True, slots=True)
class SentFile:
    """`fields`: those of the form before the file. `content`: the rest of the body; another field in it raises
    `ValidationFailed`."""

    name: str
    media_type: str
    fields: Mapping[str, str]
    content: AsyncGenerator[bytes, None]


async def sent_file(pieces: AsyncGenerator[bytes, None], content_type: str) -> SentFile:
    """Return the file that a form has in its field `file`, or that the body is. Raise `ValidationFailed`."""
    kind, options = cast("tuple[str, Mapping[str, str]]", parse_options_header(content_type))
    if kind != FORM:
        if not (first := await anext(pieces, b"")):
            raise ValidationFailed([FieldError("file", "is required")])
        return SentFile("", content_type, {}, _all(first, pieces))
    if not options.get("boundary"):
        raise ValidationFailed(detail=f"{FORM} needs a boundary: let your HTTP client write the Content-Type.")
    events = _events(pieces, options["boundary"])
    fields, name, value = dict[str, str](), "", bytearray()
    while (event := await anext(events, _END)) is not _END:
        if isinstance(event, MultipartSegment):
            name, value = event.name or "", bytearray()
            if name == "file":
                return SentFile(event.filename or "", event.content_type or "", fields, _rest(events))
        elif event is None:
            fields[name] = value.decode(errors="replace")
        else:
            value += cast("bytes", event)
            if len(value) > _LONGEST_FIELD:
                raise ValidationFailed([FieldError(name[:100], f"must be at most {_LONGEST_FIELD} bytes")])
    raise ValidationFailed([FieldError("file", "is required")])


async def _all(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


async def _events(pieces: AsyncGenerator[bytes, None], boundary: str) -> AsyncGenerator[Any, None]:
    """Yield the beginning of each field, its bytes, and None for its end."""
    try:
        with PushMultipartParser(boundary, max_segment_count=_FIELDS, strict=True) as parser:
            async with aclosing(pieces):
                async for piece in pieces:
                    for event in parser.parse(piece):
                        yield event
    except MultipartError as error:
        raise ValidationFailed(detail=f"The form cannot be read: {error}") from None


async def _rest(events: AsyncGenerator[Any, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        async for event in events:
            if isinstance(event, MultipartSegment):
                raise ValidationFailed([FieldError((event.name or "")[:100], "must come before the file")])
            if event is not None:
                yield bytes(event)
