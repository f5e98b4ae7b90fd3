"""HTTP/1.1 at the socket: limits on the size and the time of a request before the application sees it.

A request over a limit is answered with a problem (RFC 9457), and its connection is closed. The application limits the
time of a body (`body_limits`): only it knows when it waits for the client.
"""

import asyncio
from types import SimpleNamespace
from typing import Any

import httptools
import uvicorn

from chatcore_app import Settings
from chatcore_http._internals import (
    FlowControl,
    HttpToolsProtocol,
    RequestResponseCycle,
    ServerState,
    without_chunks,
)
from chatcore_http.http_refusals import MALFORMED, MAX_REQUEST_LINE, ONE_HOST, TOO_LARGE, TOO_LONG, TOO_SLOW, Refusal

MAX_HEADERS = 100
"""Fields of a head, and of a chunked body's trailers."""

LINGER_SECONDS = 5.0
LINGER_BYTES = 32 * 1024 * 1024
"""How long, and for how many bytes of the request, the connection stays open after an early answer: closing while data
still arrives makes the client's system discard the answer (RFC 9112 §9.6)."""

_NOTHING = memoryview(b"")  # the empty rest of what was read would keep all of that
_PIECE = 4 * 1024  # bytes that are parsed before the limits are looked at once more
_TURN = 256  # findings of the parser (a header, a chunk) after which others have their turn


class _Refused(Exception):
    """Ends the parser's work from within its callbacks."""


class _Flow(FlowControl):
    """Reading resumes only when all that has arrived is parsed."""

    held = False

    def hold(self, held: bool) -> None:
        if held:
            self.held = True
            self.pause_reading()
        elif self.held:
            self.held = False
            self.resume_reading()

    def resume_reading(self) -> None:
        if not self.held:
            super().resume_reading()


class BoundedHTTP(HttpToolsProtocol):
    """uvicorn's protocol with limits. One request is parsed at a time; pipelined ones wait, unparsed."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        settings: Settings,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._settings = settings
        self.url: bytes = b""
        self._timer: asyncio.TimerHandle | None = None
        self._refusal: Refusal | None = None
        self._answered: RequestResponseCycle | None = None  # the request whose handler was started last
        self._unread = _NOTHING
        self._lingers = False
        self._discard = LINGER_BYTES
        self._in_head = self._in_message = False
        self._findings = self._silent = 0
        self._target_bytes = self._header_bytes = self._headers = self._hosts = 0

    # ---- the connection ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._flow = _Flow(transport)
        self.flow: FlowControl = self._flow
        self._expect_within(self._settings.header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._unread = _NOTHING
        if self._answered is not None:
            self._disconnect(self._answered)
        super().connection_lost(exc)
        self._forget()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._lingers:
            self._throw_away(len(data))
            return
        if self._idle:
            self._expect_within(self._settings.header_timeout)
        self._unread = memoryview(bytes(self._unread) + data if self._unread else data)
        self._parse()

    def _parse(self) -> None:
        """Parse the received bytes, in bounded time, up to the end of a request."""
        self._findings = 0
        while self._unread and not self._must_wait():
            piece, self._unread = self._unread[:_PIECE], self._unread[_PIECE:]
            self._parse_piece(piece)
        self._unread = self._unread or _NOTHING
        if not self.transport.is_closing():
            self._flow.hold(bool(self._unread))
            if self._in_message and not self._in_head and not self._idle:
                self.flow.pause_reading()  # until the application takes what there is of the body

    def _must_wait(self) -> bool:
        if self.transport.is_closing():
            self._unread = _NOTHING
        elif self._findings > _TURN:
            self.loop.call_soon(self._parse)
        else:
            return self._answered is not None and not (self._idle or self._answered.more_body)
        return True

    def _parse_piece(self, piece: memoryview) -> None:
        found = self._findings
        try:
            self.parser.feed_data(piece)  # pyright: ignore[reportOptionalMemberAccess]
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            else:
                self._ignore_upgrade(piece[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._refusal or MALFORMED)
        self._silent = 0 if self._findings > found else self._silent + len(piece)
        if self._silent > self._settings.max_header_bytes and not self._lingers:
            self._refuse(TOO_LARGE)

    def _ignore_upgrade(self, rest: memoryview) -> None:
        """Parse the head again without the upgrade: the parser reads no body after one, and an unread body would be the
        next request."""
        method: bytes = self.parser.get_method()  # pyright: ignore[reportOptionalMemberAccess]
        version = self.parser.get_http_version().encode()  # pyright: ignore[reportOptionalMemberAccess]
        kept = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(kept))
        self.parser: httptools.HttpRequestParser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._unread = memoryview(head + bytes(rest) + bytes(self._unread))

    def handle_websocket_upgrade(self) -> None:
        self._unread = _NOTHING  # nobody speaks before the handshake is answered
        self._flow.hold(False)
        if not self._idle:
            self.transport.close()
            return
        self._unset_keepalive_if_required()
        super().handle_websocket_upgrade()
        del self.parser  # it refers to this

    # ---- what the parser finds ---------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._findings += 1
        self._in_head = self._in_message = True
        self._target_bytes = self._header_bytes = self._headers = self._hosts = 0
        self._unset_keepalive_if_required()
        if self._idle:
            self._expect_within(self._settings.header_timeout)
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._findings += 1
        self._target_bytes += len(url)
        super().on_url(url)
        self._demand(self._target_bytes <= MAX_REQUEST_LINE, TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Ignore trailers, for which this is called too."""
        self._findings += 1
        self._headers += 1
        self._header_bytes += len(name) + len(value) + len(": \r\n")
        fits = self._headers <= MAX_HEADERS and self._header_bytes <= self._settings.max_header_bytes
        self._demand(fits, TOO_LARGE)
        if self._in_head:
            super().on_header(name, value)
            self._hosts += self.headers[-1][0] == b"host"

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._upgrade_ignored:
            self._demand(self.parser.get_method() != b"CONNECT", MALFORMED)  # pyright: ignore[reportOptionalMemberAccess]
            return
        self._disarm()
        version = self.parser.get_http_version()  # pyright: ignore[reportOptionalMemberAccess]
        self._demand(self._hosts == 1 or (self._hosts == 0 and version == "1.0"), ONE_HOST)
        self._demand(not (self._upgrades and self._has_body), MALFORMED)  # nobody would answer it
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._findings += 1
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._upgrade_ignored:
            return
        self._in_message = False
        super().on_message_complete()
        if self._idle:  # the rest of a body that was answered before
            self._disarm()
            self._keep_alive()

    @property
    def _upgrades(self) -> bool:
        return self.parser.should_upgrade() and self._should_upgrade()  # pyright: ignore[reportOptionalMemberAccess]

    @property
    def _upgrade_ignored(self) -> bool:
        return self.parser.should_upgrade() and not self._should_upgrade()  # pyright: ignore[reportOptionalMemberAccess]

    @property
    def _has_body(self) -> bool:
        headers = dict(self.headers)
        return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"

    def _demand(self, kept: bool, refusal: Refusal) -> None:
        if not kept:
            self._refusal = refusal
            raise _Refused

    # ---- requests and their answers ----------------------------------------------------------------------

    @property
    def _idle(self) -> bool:
        return self._answered is None or self._answered.response_complete

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        cycle.transport = self._until_answered()
        super()._start_asgi_task(cycle, without_chunks(app, cycle) if cycle.scope["http_version"] == "1.0" else app)

    def _until_answered(self) -> Any:
        """The transport as a request has it: what is closed by its last answer lingers if there is more to come."""
        transport = self.transport
        return SimpleNamespace(write=transport.write, is_closing=transport.is_closing, close=self._hang_up)

    def _hang_up(self) -> None:
        if self._answered is None or not self._answered.more_body:
            self.transport.close()
        elif not self.transport.is_closing():
            self._disarm()
            self._linger()

    def on_response_complete(self) -> None:
        if self._lingers:
            self.server_state.total_requests += 1
            return
        super().on_response_complete()
        if self._idle and not self.transport.is_closing():
            if self._in_message:
                self._expect_within(self._settings.header_timeout if self._in_head else self._settings.body_timeout)
            else:
                self._forget()
            if self._unread:
                self.loop.call_soon(self._parse)

    def _forget(self) -> None:
        """What there was of the last request: a connection that waits for the next one, or a cycle of references."""
        self.cycle: Any = None
        self.scope: Any = None
        self.headers: list[tuple[bytes, bytes]] = []
        self.url = b""
        self._answered = None

    def _keep_alive(self) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task: asyncio.TimerHandle | None = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    # ---- time --------------------------------------------------------------------------------------------

    def _expect_within(self, seconds: float) -> None:
        """Start the timer until `_disarm`; a running timer keeps its time."""
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, self._time_is_over)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_is_over(self) -> None:
        self._timer = None
        if self._in_head:
            self._refuse(TOO_SLOW)
        else:
            self.transport.close()

    # ---- refusals ----------------------------------------------------------------------------------------

    def _refuse(self, refusal: Refusal) -> None:
        """Answer, unless an answer to an earlier request has begun, and close the connection."""
        self._refusal = refusal
        self._unread = _NOTHING
        self._disarm()
        if self.transport.is_closing():
            return
        if self._answered is not None and not self._idle:
            self._disconnect(self._answered)
            if self.pipeline or self._in_head or self._answered.response_started:
                self.transport.close()
                return
        address = self.client[0] if self.client else None
        self.transport.write(refusal.answer(self.server_state, self._settings, self.url, address))
        self._linger()

    def _linger(self) -> None:
        """Discard arriving bytes for a moment, so that the client can read the answer."""
        self._lingers = True
        self._unread = _NOTHING
        self._flow.held = False
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def shutdown(self) -> None:
        if self._lingers:
            self.transport.close()
        else:
            super().shutdown()

    def _throw_away(self, size: int) -> None:
        self._discard -= size
        if self._discard < 0:
            self.transport.close()

    @staticmethod
    def _disconnect(cycle: RequestResponseCycle) -> None:
        """As uvicorn tells the request that came last, when its connection is lost."""
        if not cycle.response_complete:
            cycle.disconnected = True
        cycle.message_event.set()
