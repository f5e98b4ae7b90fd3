"""The openai package makes each request of an endpoint's URL, key and question, and an error of what is no success.

It retries nothing, follows no redirect and takes no proxy from the environment; the body of a success is read past it,
for speed. Importing this module takes about a second.
"""

import asyncio
import ssl
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import cast
from urllib.parse import parse_qsl

import httpx2
import msgspec
from openai import APIStatusError, AsyncOpenAI, AsyncStream, Omit, omit

from chatcore.errors import ModelUnauthorized, ModelURLRefused
from chatcore.ports import ModelEndpoint, Prompt
from chatcore_openai.egress import Egress
from chatcore_openai.failures import Refusal
from chatcore_openai.forms import Forms
from chatcore_openai.names import Names, asking_for
from chatcore_openai.transport import BODY, REQUEST_ID, AiohttpTransport, Body, calling_until

_YEAR = 366 * 24 * 3600.0  # seconds


def tls_context() -> ssl.SSLContext:
    """Trusts what this machine trusts; `SSL_CERT_FILE` and `SSL_CERT_DIR` name others. Reads files."""
    return httpx2.create_ssl_context()


class ChatClient:
    """Calls chat completions at any endpoint. A key is known to the call that it is for and to nothing else.

    Must be made within a running event loop.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        idle_timeout: float,
        total_timeout: float,
        tls: ssl.SSLContext,
        egress: Egress | None,
        names: Names,
        max_raw_bytes: int,
    ) -> None:
        """As `AiohttpTransport`; `total_timeout`, in seconds, is for a whole answer."""
        self._total_timeout = total_timeout
        self._time = asyncio.get_running_loop().time
        self._forms = Forms()
        self._http = httpx2.AsyncClient(
            transport=AiohttpTransport(
                connect_timeout=connect_timeout,
                idle_timeout=idle_timeout,
                tls=tls,
                egress=egress,
                names=names,
                max_raw_bytes=max_raw_bytes,
            ),
            follow_redirects=False,
            trust_env=False,
        )
        self._client_for = lru_cache(maxsize=64)(self._new_client)

    async def ask(self, endpoint: ModelEndpoint, prompt: Prompt) -> Body:
        """Return the answer to one question, its body yet to be read and then to be closed. Raise `Refusal`.

        A parameter that the endpoint does not take is left out or renamed, and that is remembered. An endpoint that is
        busy and says for how long is asked once more, if there is time for it.
        """
        deadline, form, waited = self._time() + self._total_timeout, self._forms.of(endpoint), False
        while True:
            asked = form.question(endpoint, prompt)
            try:
                body = await self._ask(endpoint, asked, deadline)
            except Refusal as refusal:
                if (other := form.without(refusal, asked, prompt)) is not None:
                    form = other
                elif not waited and (pause := refusal.pause) < deadline - self._time():
                    waited = True
                    await asyncio.sleep(pause)
                else:
                    raise
            else:
                self._forms.remember(endpoint, form)
                return body

    async def _ask(self, endpoint: ModelEndpoint, asked: Mapping[str, object], deadline: float) -> Body:
        calling_until.set(deadline)
        with asking_for(endpoint.owner), _refusals():
            # `chat.completions.create` first looks through it all: half a millisecond. And the package's own JSON takes
            # ten times as long, a tenth of a second for images.
            response = await self._client_for(endpoint.url).post(
                "/chat/completions",
                content=msgspec.json.encode(asked),
                options={"headers": _credentials(endpoint)},
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=AsyncStream[object],
            )
        return _body_of(cast("httpx2.Response", response))

    async def relay(self, endpoint: ModelEndpoint, path: str, body: bytes) -> tuple[int, Body]:
        """Return status and body of the answer to this JSON. Raise `Refusal`."""
        calling_until.set(self._time() + self._total_timeout)
        with asking_for(endpoint.owner), _refusals():
            response = await self._client_for(endpoint.url).post(
                path,
                content=body,
                options={"headers": _credentials(endpoint)},
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=AsyncStream[object],
            )
        answered = cast("httpx2.Response", response)
        return answered.status_code, _body_of(answered)

    async def list_models(self, endpoint: ModelEndpoint) -> Body:
        """Return the answer to the question which models there are. Raise `Refusal`."""
        calling_until.set(self._time() + self._total_timeout)
        with asking_for(endpoint.owner), _refusals():
            response = await self._client_for(endpoint.url).get(
                "/models",
                options={"headers": _credentials(endpoint)},
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=AsyncStream[object],
            )
        return _body_of(cast("httpx2.Response", response))

    async def aclose(self) -> None:
        await self._http.aclose()

    def _new_client(self, url: str) -> AsyncOpenAI:
        """The client for a URL, whose query goes with each path (Azure's `?api-version=`)."""
        base, _, query = url.partition("?")
        try:
            return AsyncOpenAI(
                api_key="in each call",
                base_url=base,
                default_query=dict(parse_qsl(query, keep_blank_values=True)),
                http_client=self._http,
                max_retries=0,
                timeout=None,
            )
        except httpx2.InvalidURL:
            raise ModelURLRefused from None


def _credentials(endpoint: ModelEndpoint) -> Mapping[str, str | Omit]:
    """The key as a bearer token, or as Azure, whose URLs have a query, wants it."""
    key = endpoint.api_key
    if not (key.isascii() and key.isprintable()):
        raise ModelUnauthorized("The API key has characters that cannot be sent.")
    if key and endpoint.url.partition("?")[2]:
        return {"Authorization": omit, "api-key": key}
    return {"Authorization": f"Bearer {key}" if key else omit}


@contextmanager
def _refusals() -> Generator[None, None, None]:
    try:
        yield
    except APIStatusError as error:
        refused = error.response
        raise Refusal(
            error.status_code,
            refused.content,
            _seconds(refused.headers.get("Retry-After", "")),
            refused.headers.get(REQUEST_ID, ""),
        ) from None


def _seconds(retry_after: str) -> float | None:
    """From a number or a date (RFC 9110 §10.2.3). None also for more than a year, which nobody waits for."""
    try:
        if retry_after.strip().replace(".", "", 1).isdecimal():
            seconds = float(retry_after)
        else:
            at = parsedate_to_datetime(retry_after)
            seconds = max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return None
    return seconds if seconds <= _YEAR else None


def _body_of(response: httpx2.Response) -> Body:
    """To be read past httpx2, whose layers cost more for a delta than all else that is done with it."""
    body: Body = response.extensions[BODY]
    return body
