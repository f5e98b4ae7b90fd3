"""The HTTP underneath the OpenAI client: httpx2's transport interface on an aiohttp session.

aiohttp reads a stream with less than half the work that httpx2's own transport needs. What goes wrong before there is
an answer leaves here as a `ModelError`, which httpx2 and the OpenAI client let pass; of an answer without success the
client makes its own error.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from io import BytesIO

import aiohttp
import httpx2
import yarl

from chatcore.errors import ModelError, ModelProtocolError, ModelTimeout, ModelUnavailable, ModelURLRefused
from chatcore_openai._internals import TooMuch, Turns, allow, meter
from chatcore_openai.egress import Egress
from chatcore_openai.guard import GuardedResolver, Refused, guarded_socket
from chatcore_openai.names import Names, NameTimeout
from chatcore_openai.reply import CUT

# Nothing else of what the client would send goes out: it describes this machine, and takes more from the environment.
_SENT = ("Accept", "Authorization", "Content-Type", "api-key")
_OURS = {"User-Agent": "chatcore", "Accept-Encoding": "identity"}
REQUEST_ID = "X-Request-ID"
BODY = "chatcore_body"
"""The name of the response's extension that holds its `Body`."""

calling_until: ContextVar[float] = ContextVar("calling_until")
"""The time of the event loop at which the call that is made has to be over."""

_MAX_REFUSAL = 16 * 1024  # bytes
_AT_ONCE = 512 * 1024  # bytes that are written in one go
_MAX_HEADER = 256  # characters
_REFUSED_WITHIN = 2.0  # seconds
_TROUBLE = (aiohttp.ClientError, OSError, TimeoutError)


class AiohttpTransport(httpx2.AsyncBaseTransport):
    """Makes each request once. Knows no proxies, cookies or redirects.

    Times are in seconds: `connect_timeout` until a connection stands, name look-up and TLS included, `idle_timeout`
    without a word (`Body.since`), `calling_until` to the last byte. `max_raw_bytes` bounds a body with
    its framing. Must be made within a running event loop.

    `egress`: where it may connect to, by addresses that `names` looks up; None is anywhere, by the system's own
    look-up. Connections are not shared between schemes, nor with another
    transport: what one may reach the other need not.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        idle_timeout: float,
        tls: ssl.SSLContext,
        egress: Egress | None,
        names: Names,
        max_raw_bytes: int,
    ) -> None:
        self._max_raw_bytes = max_raw_bytes
        self._idle_timeout = idle_timeout
        turns = Turns()
        timeout = aiohttp.ClientTimeout(total=None, connect=connect_timeout, sock_read=idle_timeout)
        self._sessions = {
            scheme: aiohttp.ClientSession(
                connector=_connector(scheme, tls, egress, names, turns),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=timeout,
                trust_env=False,
            )
            for scheme in ("http", "https")
        }

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        headers = {name: request.headers[name] for name in _SENT if name in request.headers}
        content = await request.aread()
        deadline = calling_until.get()
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._sessions[request.url.scheme].request(
                    request.method,
                    yarl.URL(str(request.url), encoded=True),
                    headers=headers | _OURS,
                    data=content if len(content) <= _AT_ONCE else BytesIO(content),
                    allow_redirects=False,
                )
        except _TROUBLE as error:
            raise _failure_of(error) from None
        except (KeyError, ValueError):  # a URL that only looks like one
            raise ModelURLRefused from None
        if not 200 <= response.status < 300:
            return await _without_success(response)
        if response.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity"):
            response.close()
            raise ModelProtocolError("The model endpoint compressed its answer, which it was asked not to do.")
        allow(response, self._max_raw_bytes)
        body = Body(response, idle_timeout=self._idle_timeout, deadline=deadline)
        return httpx2.Response(response.status, stream=body, extensions={BODY: body})

    async def aclose(self) -> None:
        for session in self._sessions.values():
            await session.close()


def _connector(
    scheme: str, tls: ssl.SSLContext, egress: Egress | None, names: Names, turns: Turns
) -> aiohttp.TCPConnector:
    if egress is None:
        connector = aiohttp.TCPConnector(limit=0, ssl=tls)
    else:
        permits = partial(egress.permits, scheme)
        connector = aiohttp.TCPConnector(
            limit=0,
            ssl=tls,
            use_dns_cache=False,  # with it a call waits for another user's turn, if that asked for the same name first
            resolver=GuardedResolver(permits, names),
            socket_factory=guarded_socket(permits),
        )
    meter(connector, turns)
    return connector


class Body(httpx2.AsyncByteStream):
    """An answer's body, as it arrives. A connection that is closed half-read is not used again.

    It keeps the times itself, with one timer that is looked after when it rings: aiohttp's own cost it a tenth of the
    work for a delta.
    """

    # The last is what aiohttp raises for a connection that it has closed itself.
    trouble: tuple[type[Exception], ...] = (*_TROUBLE, RuntimeError)
    """What `more` raises."""

    def __init__(self, response: aiohttp.ClientResponse, *, idle_timeout: float, deadline: float) -> None:
        """`deadline`, for the last byte, is a time of the running event loop."""
        self.content_type: str = _header(response, "Content-Type")
        self.request_id: str = _header(response, REQUEST_ID)
        self._response = response
        self._content = response.content
        self._idle_timeout = idle_timeout
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self.now: Callable[[], float] = self._loop.time
        if response.connection is not None and (protocol := response.connection.protocol) is not None:
            protocol.read_timeout = None
            protocol.start_timeout()  # which stops the one that runs
        self.since: float = self._loop.time()
        """When something was heard last; `inf` while nobody listens. Bytes that say nothing do not break a silence."""
        self._timer = self._loop.call_at(self._next_look(), self._look)

    def more(self) -> Awaitable[bytes]:
        """Everything that has arrived, once something has; nothing at the end. Raise `trouble`.

        Not a coroutine of its own: for what is read many times a second each layer between costs as much as the next.
        """
        return self._content.readany()

    def hurry(self, seconds: float) -> None:
        """Let the rest take so long at most."""
        self._deadline = min(self._deadline, self._loop.time() + seconds)
        self._timer.cancel()
        self._look()

    def cut(self, trouble: Exception) -> tuple[bytes, ModelError]:
        """What had arrived before the `trouble`, and what that means. aiohttp tells of the trouble first, and then
        keeps the rest to itself. Nothing more can be read then."""
        self._content.set_exception(None)  # type: ignore[arg-type]
        try:
            return self._content.read_nowait(), _failure_of(trouble)
        except TimeoutError:
            return b"", _failure_of(trouble)

    async def read(self) -> bytes:
        """As `more`, but raises a `ModelError`."""
        try:
            return await self.more()
        except self.trouble as error:
            raise _failure_of(error) from None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """For httpx2, which does not read it."""
        while data := await self.read():
            yield data

    async def aclose(self) -> None:
        self._timer.cancel()
        self._response.close()

    def _next_look(self) -> float:
        return min(self._deadline, min(self.since, self._loop.time()) + self._idle_timeout)

    def _look(self) -> None:
        if self._content.is_eof():
            return
        now = self._loop.time()
        if now >= self._deadline or now >= self.since + self._idle_timeout:
            self._content.set_exception(TimeoutError())
        else:
            self._timer = self._loop.call_at(self._next_look(), self._look)


async def _without_success(response: aiohttp.ClientResponse) -> httpx2.Response:
    """With the beginning of its body, as it came."""
    body = b""
    with suppress(*_TROUBLE):
        async with asyncio.timeout(_REFUSED_WITHIN):
            while len(body) < _MAX_REFUSAL and (data := await response.content.read(_MAX_REFUSAL)):
                body += data
    response.close()
    headers = {name: _header(response, name) for name in ("Retry-After", REQUEST_ID)}
    # No encoding: what is compressed stays so.
    return httpx2.Response(response.status, headers=headers, content=body[:_MAX_REFUSAL])


def _header(response: aiohttp.ClientResponse, name: str) -> str:
    """Return a header that can be sent on and logged, empty for one that cannot: aiohttp lets any byte pass but the
    ends of lines."""
    value = response.headers.get(name, "")
    return value if len(value) <= _MAX_HEADER and value.isascii() and value.isprintable() else ""


def _failure_of(error: Exception) -> ModelError:
    match error:
        case aiohttp.ConnectionTimeoutError():
            return ModelTimeout("The model endpoint did not accept the connection in time.")
        case TimeoutError():
            return ModelTimeout()
        case TooMuch():
            return ModelProtocolError("The model endpoint sent too much that is no text.")
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return ModelURLRefused()
        case aiohttp.ClientConnectorError() if isinstance(error.os_error, Refused):
            return ModelURLRefused()
        case aiohttp.ClientConnectorError() if isinstance(error.os_error, NameTimeout):
            return ModelTimeout("The address of the model endpoint could not be looked up in time.")
        case aiohttp.ClientConnectorError():
            return ModelUnavailable("The model endpoint cannot be reached.")
        case aiohttp.ClientResponseError():
            return ModelProtocolError()
        case _:
            return ModelUnavailable(CUT)
