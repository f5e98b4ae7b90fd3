"""WebSockets at the socket: limits on the received frames, and on the bytes that a client leaves unread.

Received bytes are parsed piece by piece, only while the application takes the messages and the client reads the
answers. A connection is closed with 1008 if it floods or does not finish a message, with 1009 if it sends too much
before signing in, and with 1013 if there is no room for its message.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import uvicorn
from websockets.frames import Frame

from chatcore.errors import Unavailable
from chatcore.rate_limits import network_of
from chatcore_app import Settings
from chatcore_http._internals import ServerState, WebSocketsSansIOProtocol
from chatcore_http.body_limits import SLOWEST
from chatcore_http.held_bytes import HeldBytes
from chatcore_http.http_protocol import LINGER_BYTES, LINGER_SECONDS
from chatcore_http.open_sockets import TRY_AGAIN_LATER

MAX_BYTES_BEFORE_SIGNING_IN = 4608
"""Bytes of one frame with a token."""

FRAMES_AT_ONCE = 640
FRAMES_PER_SECOND = 64
"""Frames of any kind, on average; `FRAMES_AT_ONCE` may arrive together."""

MAX_FRAGMENTS = 512
"""Frames of one message."""

POLICY_VIOLATION, TOO_LARGE = 1008, 1009  # RFC 6455 §7.4.1

_EXTENSION = "chatcore.signed_in"
_BEARER = "bearer."
_PIECE = 1024  # bytes that are parsed before the bounds are looked at once more
_TURN = 64  # frames after which others have their turn


def lift_bounds(scope: Mapping[str, Any]) -> None:
    """Lift the bounds that hold until the client has signed in."""
    if signed_in := scope["extensions"].get(_EXTENSION):
        signed_in()


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's protocol with bounds."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        settings: Settings,
        held: HeldBytes,
    ) -> None:
        """`held`: the bytes of all connections of this process."""
        super().__init__(config, server_state, app_state, _loop)
        self._timeout = settings.body_timeout
        self._all_held = held
        self._network = ""
        self._held = 0  # bytes, of which there are:
        self._partial = 0  # the whole frames of a message that goes on,
        self._queued = 0  # a message that the application has not taken,
        self._taken = 0  # and the one that it works on
        self._slow: asyncio.TimerHandle | None = None
        self._unparsed = bytearray()
        self._going_on: asyncio.Handle | None = None
        self._signed_in = False
        self._heard = False
        self._before_signing_in = MAX_BYTES_BEFORE_SIGNING_IN
        self._frames_left = float(FRAMES_AT_ONCE)
        self._counted_at = self.loop.time()
        self._fragments = 0
        self._this_turn = 0
        self._ended = False
        self._discard = LINGER_BYTES

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget()
        if hasattr(self, "scope"):
            cast("dict[str, Any]", self.scope)["extensions"].pop(_EXTENSION, None)  # it refers to this

    # ---- what arrives ----------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._ended:
            self._drop(len(data))
        elif self.handshake_initiated:
            self._unparsed += data
            self._parse()
        else:  # the head of the request, which the HTTP protocol has bounded
            super().data_received(data)
            if hasattr(self, "scope"):
                cast("dict[str, Any]", self.scope)["extensions"][_EXTENSION] = self._sign_in

    def _parse(self) -> None:
        """Parse the received bytes as far as allowed, and leave the rest unread."""
        if self._going_on is not None:
            return
        self._this_turn = 0
        while self._unparsed and self._this_turn < _TURN and not self._waits:
            self._parse_piece(self._room)
        if self._unparsed and not self._waits:
            self._going_on = self.loop.call_soon(self._go_on)
        if not self.transport.is_closing() and not self.read_paused:
            (self.transport.pause_reading if self._unparsed or self._waits else self.transport.resume_reading)()
        self._hold()

    def _go_on(self) -> None:
        self._going_on = None
        if not self.disconnected:
            self._parse()

    def _parse_piece(self, size: int) -> None:
        if not size:
            self._end(TOO_LARGE, "Sign in first: the frame is too large.")
            return
        piece = bytes(self._unparsed[:size])
        del self._unparsed[:size]
        if not self._is_known:
            self._before_signing_in -= size
        super().data_received(piece)

    @property
    def _is_known(self) -> bool:
        return self._signed_in or self.close_sent

    @property
    def _room(self) -> int:
        return _PIECE if self._is_known else min(_PIECE, self._before_signing_in)

    @property
    def _waits(self) -> bool:
        """Wait for the application, which has not taken the last message or checks a token, or for the client."""
        looking = not self._is_known and (self._heard or self._offers_token)
        return self.read_paused or looking or not self.writable.is_set()

    @property
    def _offers_token(self) -> bool:
        return any(name.startswith(_BEARER) for name in self.scope["subprotocols"])

    def _sign_in(self) -> None:
        self._signed_in = True
        self._parse()

    async def receive(self) -> Any:
        self._taken = 0
        self._hold()
        await asyncio.sleep(0)  # for an application that does not wait for anything else between two messages
        message = await super().receive()
        self._taken, self._queued = self._queued, 0
        self._heard = self._heard or message["type"] == "websocket.receive"
        if not self._ended and not self.disconnected:
            self._parse()
        return message

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.close_sent and not self._ended and not self.disconnected:
            self._parse()  # up to the client's own close

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.handshake_initiated and not self._ended:
            self._parse()

    # ---- what is held ----------------------------------------------------------------------------------------

    @property
    def _unfinished(self) -> int:
        """Count the bytes of an unfinished message."""
        return self._partial + len(self.conn.reader.buffer)

    def _hold(self) -> None:
        try:
            self._count(self._unfinished + len(self._unparsed) + self._queued + self._taken)
        except Unavailable as error:
            self._end(TRY_AGAIN_LATER, error.detail)
        else:
            self._expect(self._unfinished)

    def _count(self, held: int) -> None:
        """Raise `Unavailable`."""
        if held > self._held:
            if not self._held:
                self._network = network_of(self.scope["client"][0] if self.scope["client"] else "")
            self._all_held.hold(self._network, held - self._held)
        elif held < self._held:
            self._all_held.release(self._network, self._held - held)
        self._held = held

    def _expect(self, unfinished: int) -> None:
        """Start the timer for the rest of a message, or a part of it."""
        if not unfinished:
            self._expect_nothing()
        elif self._slow is None:
            self._slow = self.loop.call_later(self._timeout, self._look, unfinished)

    def _expect_nothing(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None

    def _look(self, before: int) -> None:
        self._slow = None
        if self._unfinished - before < SLOWEST * self._timeout and not self._waits:
            self._end(POLICY_VIOLATION, "The message did not arrive in time.")
        else:
            self._expect(self._unfinished)

    def _forget(self) -> None:
        """Drop bytes that will not be read."""
        self._unparsed.clear()
        self.frames.clear()
        self.conn.reader.buffer.clear()
        self._partial = 0
        self._hold()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self._queued = self._taken = 0
        self._hold()

    # ---- frames ----------------------------------------------------------------------------------------------

    def handle_text(self, event: Frame) -> None:
        if self._counts(first=True):
            self._partial = len(event.data)
            super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        if self._counts(first=True):
            self._partial = len(event.data)
            super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        self._fragments += 1
        if self._fragments > MAX_FRAGMENTS:
            self._end(POLICY_VIOLATION, f"A message may have at most {MAX_FRAGMENTS} frames.")
        elif self._counts():
            self._partial += len(event.data)
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        size, self._partial = self._partial, 0
        if not self.close_sent:  # else it is thrown away
            self._queued = size
        self._expect_nothing()
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        if self._counts():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        if self._counts():
            super().handle_pong(event)

    def _counts(self, *, first: bool = False) -> bool:
        """Count a frame. Return False if the connection has ended because it is one too many."""
        now = self.loop.time()
        left = self._frames_left + (now - self._counted_at) * FRAMES_PER_SECOND
        self._frames_left, self._counted_at = min(left, FRAMES_AT_ONCE) - 1, now
        self._fragments = 1 if first else self._fragments
        self._this_turn += 1
        if self._frames_left < 0:
            self._end(POLICY_VIOLATION, f"Too many frames: at most {FRAMES_PER_SECOND} per second.")
        return not self._ended

    # ---- the end ---------------------------------------------------------------------------------------------

    def handle_parser_exception(self) -> None:
        """Refuse an invalid or oversized frame."""
        if self.conn.close_sent is None:  # there is no WebSocket yet
            self.transport.close()
        else:
            self._linger(self.conn.close_sent.code, self.conn.close_sent.reason)

    def _end(self, code: int, reason: str) -> None:
        if not self._ended:
            self.conn.fail(code, reason)
            self._linger(code, reason)

    def _linger(self, code: int, reason: str) -> None:
        """Send the close code, and read on for a while: a client that is cut off while it sends does not receive it."""
        self._ended = True
        self._forget()
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.close_sent = True
        if not self.transport.is_closing():
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.resume_reading()
            self.close_timer: asyncio.TimerHandle | None = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _drop(self, size: int) -> None:
        self._discard -= size
        if self._discard < 0:
            self.transport.abort()
