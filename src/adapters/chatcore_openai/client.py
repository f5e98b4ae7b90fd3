"""The OpenAI client, told to do no more than is asked of it. Importing this module takes about a second."""

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import cast
from urllib.parse import urlsplit

import httpx2
from openai import AsyncOpenAI, AsyncStream, omit

from chatcore.errors import ModelUnauthorized, ModelURLRefused
from chatcore.ports import ModelEndpoint, Prompt
from chatcore_openai.egress import Egress
from chatcore_openai.names import Names, asking_for
from chatcore_openai.transport import BODY, AiohttpTransport, Body

_OPENAI = "api.openai.com"


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
        """As `AiohttpTransport`."""
        self._http = httpx2.AsyncClient(
            transport=AiohttpTransport(
                connect_timeout=connect_timeout,
                idle_timeout=idle_timeout,
                total_timeout=total_timeout,
                tls=tls,
                egress=egress,
                names=names,
                max_raw_bytes=max_raw_bytes,
            ),
            follow_redirects=False,
            trust_env=False,
        )
        self._client_for = lru_cache(maxsize=64)(self._new_client)

    @asynccontextmanager
    async def streaming(self, endpoint: ModelEndpoint, prompt: Prompt) -> AsyncGenerator[Body, None]:
        """The answer to one request, its body yet to be read. Leaving closes it."""
        body = await self._asked(endpoint, prompt)  # and the libraries' view of question and answer may go: 10 KiB
        try:
            yield body
        finally:
            await body.aclose()

    async def _asked(self, endpoint: ModelEndpoint, prompt: Prompt) -> Body:
        try:
            client = self._client_for(endpoint.url)
        except httpx2.InvalidURL:
            raise ModelURLRefused from None
        with asking_for(endpoint.owner):
            response = await client.post(  # `chat.completions.create` first looks through it all: half a millisecond
                "/chat/completions",
                body=_question(endpoint, prompt),
                options={"headers": {"Authorization": _bearer(endpoint.api_key) if endpoint.api_key else omit}},
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=AsyncStream[object],
            )
        return _body_of(cast("httpx2.Response", response))

    @asynccontextmanager
    async def listing(self, endpoint: ModelEndpoint) -> AsyncGenerator[Body, None]:
        """The answer to the question which models there are."""
        models = self._client_for(endpoint.url).models.with_streaming_response
        bearer = {"Authorization": _bearer(endpoint.api_key)}
        with asking_for(endpoint.owner):
            async with models.list(extra_headers=bearer) as response:
                yield _body_of(response.http_response)

    async def aclose(self) -> None:
        await self._http.aclose()

    def _new_client(self, url: str) -> AsyncOpenAI:
        return AsyncOpenAI(api_key="in each call", base_url=url, http_client=self._http, max_retries=0, timeout=None)


def _question(endpoint: ModelEndpoint, prompt: Prompt) -> dict[str, object]:
    # OpenAI's newer models refuse the old name; most other servers know no other.
    limit = "max_completion_tokens" if urlsplit(endpoint.url).hostname == _OPENAI else "max_tokens"
    asked = {
        "model": endpoint.model,
        "messages": [{"role": message.role, "content": message.content} for message in prompt.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": prompt.temperature,
        limit: prompt.max_tokens,
    }
    return {name: value for name, value in asked.items() if value is not None}


def _body_of(response: httpx2.Response) -> Body:
    """To be read past httpx2, whose layers cost more for a delta than all else that is done with it."""
    body: Body = response.extensions[BODY]
    return body


def _bearer(api_key: str) -> str:
    if not (api_key.isascii() and api_key.isprintable()):
        raise ModelUnauthorized("The API key has characters that cannot be sent.")
    return f"Bearer {api_key}"
