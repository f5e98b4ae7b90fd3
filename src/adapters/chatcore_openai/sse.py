"""Server-sent events, cut out of a stream of bytes (WHATWG HTML §9.2.6).

Only the data of the events is of interest here; names, ids and comments are skipped. The work is done on bytes, so
that a character cut in two by the network stays whole and that U+2028 or U+0085 in the data end no line.
"""

import json
import re

from chatcore.errors import ModelProtocolError

SLICE = 8 * 1024
"""So many bytes are read at once: whatever is in them, that takes a few milliseconds at most."""

_BOM = b"\xef\xbb\xbf"
_ERROR = re.compile(rb"^event: ?error *$", re.MULTILINE)
_ERROR_FIELD = re.compile(rb"^error: ?(.*)$", re.MULTILINE)  # llama.cpp's
_MAX_ERROR = 64 * 1024  # bytes
_DATA = re.compile(rb"^data(?:: ?(.*))?$", re.MULTILINE)
_CR = 0x0D  # a number is looked for at once; for bytes Python first tries whether they are one


def splitter_for(begin: bytes, max_bytes: int) -> "EventSplitter | WholeBody | None":
    """What reads an answer that begins so; its content type is often wrong. None: that cannot be said yet."""
    begin = begin.removeprefix(_BOM).lstrip()
    if not begin or (len(begin) < len(_BOM) and _BOM.startswith(begin)):
        return None
    return WholeBody(max_bytes) if begin[:1] in b"{[" else EventSplitter(max_bytes)


class EventSplitter:
    """Takes the stream in pieces of any size and gives the data of each event once it is complete.

    Lines end with LF, CR LF or CR. An event that is longer than `max_bytes` raises `ModelProtocolError`.
    """

    __slots__ = ("_after_cr", "_began", "_buffer", "_max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._began = False
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that end within `data`, in order; an event without any data is left out."""
        buffer = self._buffer
        if self._after_cr or _CR in data:
            data = self._with_lf(data)
        if not buffer and data.endswith(b"\n\n"):  # as a rule a read ends where an event does
            if data.startswith(b"data: ") and data.find(b"\n") == len(data) - 2:  # and has no other
                self._began = True
                return [data[6:-2]]
            return self._events_of(data[:-2])
        scanned = max(len(buffer) - 1, 0)
        buffer += data
        end = buffer.rfind(b"\n\n", scanned)
        if end < 0:
            if len(buffer) > self._max_bytes:
                raise ModelProtocolError("The model endpoint sent an event that is too long.")
            return []
        block = bytes(buffer[:end])
        del buffer[: end + 2]
        return self._events_of(block)

    def rest(self) -> list[bytes]:
        """The data of a last event that no blank line ended. The standard drops it; some servers rely on it."""
        block = bytes(self._buffer)
        self._buffer.clear()
        return self._events_of(block)

    def _with_lf(self, data: bytes) -> bytes:
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _events_of(self, block: bytes) -> list[bytes]:
        if not self._began and block:
            self._began = True
            block = block.removeprefix(_BOM)
        events: list[bytes] = []
        for event in block.split(b"\n\n"):
            if event.startswith(b"data: ") and b"\n" not in event:  # nearly all of them
                events.append(event[6:])
            elif data := _data_of(event):
                events.append(data)
        return events


def _data_of(event: bytes) -> bytes:
    if failed := _ERROR_FIELD.search(event):
        return _as_error(failed[1])
    data = b"\n".join(_DATA.findall(event))
    return _as_error(data) if _ERROR.search(event) else data


def _as_error(data: bytes) -> bytes:
    """What an event that is named an error says, in the form of those that have no name."""
    try:
        said = json.loads(data[:_MAX_ERROR])
    except (ValueError, RecursionError):
        said = data[:_MAX_ERROR].decode(errors="replace")
    if isinstance(said, dict) and said.get("error"):  # pyright: ignore[reportUnknownMemberType]
        return data
    return json.dumps({"error": said or "an error without words"}).encode()


class WholeBody:
    """The same for an answer that is one JSON document: it is the only event, and complete at the end."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        self._buffer += data
        if len(self._buffer) > self._max_bytes:
            raise ModelProtocolError("The model endpoint's answer is too long.")
        return []

    def rest(self) -> list[bytes]:
        return [bytes(self._buffer.removeprefix(_BOM))]


def parts_of(piece: bytes) -> list[bytes]:
    """It in slices."""
    return [piece[start : start + SLICE] for start in range(0, len(piece), SLICE)]
