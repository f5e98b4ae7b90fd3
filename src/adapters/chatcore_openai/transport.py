"""The HTTP underneath the OpenAI client: httpx2's transport interface on an aiohttp session.

aiohttp reads a stream with less than half the work that httpx2's own transport needs. What goes wrong leaves here as a
`ModelError`, which httpx2 and the OpenAI client let pass.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import httpx2
import yarl

from chatcore.errors import ModelError, ModelProtocolError, ModelTimeout, ModelUnavailable, ModelURLRefused
from chatcore_openai.failures import failure_of_status
from chatcore_openai.reply import CUT

# Nothing else of what the client would send goes out: it describes this machine, and takes more from the environment.
_SENT = ("Accept", "Authorization", "Content-Type")
_OURS = {"User-Agent": "chatcore", "Accept-Encoding": "identity"}
_TROUBLE = (aiohttp.ClientError, OSError, TimeoutError)


class AiohttpTransport(httpx2.AsyncBaseTransport):
    """Makes each request once. Knows no proxies, cookies or redirects, and reads no body but that of a success.

    Times are in seconds: `connect_timeout` until a connection stands, name look-up and TLS included, `idle_timeout`
    between two reads, `total_timeout` from the call to the last byte. Must be made within a running event loop.
    """

    def __init__(
        self, *, connect_timeout: float, idle_timeout: float, total_timeout: float, tls: ssl.SSLContext
    ) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=total_timeout, connect=connect_timeout, sock_read=idle_timeout),
            trust_env=False,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        headers = {name: request.headers[name] for name in _SENT if name in request.headers}
        try:
            response = await self._session.request(
                request.method,
                yarl.URL(str(request.url), encoded=True),
                headers=headers | _OURS,
                data=await request.aread(),
                allow_redirects=False,
            )
        except _TROUBLE as error:
            raise _failure_of(error) from None
        except ValueError:  # a URL that only looks like one
            raise ModelURLRefused from None
        if not 200 <= response.status < 300:
            response.close()
            raise failure_of_status(response.status)
        kind = response.headers.get("Content-Type", "")
        return httpx2.Response(response.status, headers={"Content-Type": kind}, stream=_Body(response))

    async def aclose(self) -> None:
        await self._session.close()


class _Body(httpx2.AsyncByteStream):
    """Everything that has arrived, each time something has. A connection that is closed half-read is not used again."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        content = self._response.content
        try:
            while data := await content.readany():
                yield data
        except _TROUBLE as error:
            if data := _unread(content):
                yield data
            raise _failure_of(error) from None

    async def aclose(self) -> None:
        self._response.close()


def _unread(content: aiohttp.StreamReader) -> bytes:
    """What arrived before the trouble: aiohttp tells of the trouble first, and then keeps the rest to itself."""
    content.set_exception(None)  # type: ignore[arg-type]
    with suppress(TimeoutError):
        return content.read_nowait()
    return b""


def _failure_of(error: Exception) -> ModelError:
    match error:
        case aiohttp.ConnectionTimeoutError():
            return ModelTimeout("The model endpoint did not accept the connection in time.")
        case TimeoutError():
            return ModelTimeout()
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return ModelURLRefused()
        case aiohttp.ClientConnectorError():
            return ModelUnavailable("The model endpoint cannot be reached.")
        case aiohttp.ClientResponseError():
            return ModelProtocolError()
        case _:
            return ModelUnavailable(CUT)
