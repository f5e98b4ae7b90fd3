"""The frames of the AI SDK's `WebSocketChatTransport` (version 7): several streams over one connection."""

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from chatcore import ReplyEnded, ReplyEvent
from chatcore.errors import FieldError, Unauthenticated, ValidationFailed
from chatcore_http.protocols.ai_sdk import Chat, Chunks
from chatcore_http.protocols.frames import quoted

RequestId = Annotated[str, msgspec.Meta(max_length=255)]
"""Each frame of the answer repeats it."""


class Send(Chat, frozen=True, rename="camel", tag="send", kw_only=True):
    """`headers`: a browser can send no others, so a token may be here."""

    request_id: RequestId
    headers: dict[str, str] = msgspec.field(default_factory=dict[str, str])


class Resume(msgspec.Struct, frozen=True, rename="camel", tag="resume", kw_only=True):
    """`last_sequence`: of the last chunk that the client has."""

    request_id: RequestId
    id: str
    last_sequence: int | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict[str, str])


class Abort(msgspec.Struct, frozen=True, rename="camel", tag="abort", kw_only=True):
    """The client reads no further. The reply goes on."""

    request_id: RequestId


Frame = Send | Resume | Abort
_decoder = msgspec.json.Decoder(Frame)


def decoded(text: str | bytes) -> Frame:
    """Read a client's frame. Raise `ValidationFailed`."""
    try:
        frame: Frame = _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValidationFailed([FieldError("frame", str(error)[:200])]) from None
    return frame


def token_in(frame: Frame) -> str:
    """Return the bearer token among the frame's headers. Raise `Unauthenticated`."""
    headers = {} if isinstance(frame, Abort) else {name.lower(): value for name, value in frame.headers.items()}
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated
    return token.strip()


class Channel:
    """What the server sends in answer to one request."""

    def __init__(self, request_id: str, *, after: int | None = None) -> None:
        """`after`: the sequence of the last chunk that the client has."""
        self._to = f'"requestId":{quoted(request_id)}'
        self._chunks = Chunks()
        self._sequence = 0
        self._after = -1 if after is None else after

    def start(self) -> str:
        return self._frame("start")

    def encode(self, event: ReplyEvent) -> Iterator[str]:
        """Yield the next event's frames that follow the client's last one."""
        for chunk in self._chunks.of(event):
            if self._sequence > self._after:
                yield f'{{"type":"chunk",{self._to},"sequence":{self._sequence},"chunk":{chunk}}}'
            self._sequence += 1
        if isinstance(event, ReplyEnded):
            yield self._frame("end")

    def nothing_to_resume(self) -> str:
        return self._frame("no-active")

    def error(self, text: str) -> str:
        return f'{{"type":"error",{self._to},"errorText":{quoted(text)}}}'

    def _frame(self, name: Literal["start", "end", "no-active"]) -> str:
        return f'{{"type":"{name}",{self._to}}}'
