"""The OpenAI client, told to do no more than is asked of it. Importing this module takes about a second."""

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import lru_cache
from urllib.parse import urlsplit

import httpx2
from openai import AsyncOpenAI, omit

from chatcore.errors import ModelUnauthorized, ModelURLRefused
from chatcore.ports import ModelEndpoint, Prompt
from chatcore_openai.transport import AiohttpTransport


def tls_context() -> ssl.SSLContext:
    """Trusts what this machine trusts; `SSL_CERT_FILE` and `SSL_CERT_DIR` name others. Reads files."""
    return httpx2.create_ssl_context()


class ChatClient:
    """Calls chat completions at any endpoint. A key is known to the call that it is for and to nothing else.

    Must be made within a running event loop.
    """

    def __init__(
        self, *, connect_timeout: float, idle_timeout: float, total_timeout: float, tls: ssl.SSLContext
    ) -> None:
        self._http = httpx2.AsyncClient(
            transport=AiohttpTransport(
                connect_timeout=connect_timeout, idle_timeout=idle_timeout, total_timeout=total_timeout, tls=tls
            ),
            follow_redirects=False,
            trust_env=False,
        )
        self._client_for = lru_cache(maxsize=64)(self._new_client)

    @asynccontextmanager
    async def streaming(self, endpoint: ModelEndpoint, prompt: Prompt) -> AsyncGenerator[httpx2.Response, None]:
        """The response to one request, its body yet to be read. Leaving closes it."""
        try:
            completions = self._client_for(endpoint.url).chat.completions.with_streaming_response
        except httpx2.InvalidURL:
            raise ModelURLRefused from None
        limit = omit if prompt.max_tokens is None else prompt.max_tokens
        openais_own = urlsplit(endpoint.url).hostname == "api.openai.com"
        async with completions.create(
            model=endpoint.model,
            # Messages that pass through the client's own parameter cost it 0.2 ms each.
            messages=[],
            extra_body={
                "messages": [{"role": message.role, "content": message.content} for message in prompt.messages]
            },
            stream=True,
            stream_options={"include_usage": True},
            temperature=omit if prompt.temperature is None else prompt.temperature,
            # OpenAI's newer models refuse the old name; most other servers know no other.
            max_tokens=omit if openais_own else limit,
            max_completion_tokens=limit if openais_own else omit,
            extra_headers={"Authorization": _bearer(endpoint.api_key) if endpoint.api_key else omit},
        ) as response:
            yield response.http_response

    @asynccontextmanager
    async def listing(self, endpoint: ModelEndpoint) -> AsyncGenerator[httpx2.Response, None]:
        """The response to the question which models there are."""
        models = self._client_for(endpoint.url).models.with_streaming_response
        async with models.list(extra_headers={"Authorization": _bearer(endpoint.api_key)}) as response:
            yield response.http_response

    async def aclose(self) -> None:
        await self._http.aclose()

    def _new_client(self, url: str) -> AsyncOpenAI:
        return AsyncOpenAI(api_key="in each call", base_url=url, http_client=self._http, max_retries=0, timeout=None)


def _bearer(api_key: str) -> str:
    if not (api_key.isascii() and api_key.isprintable()):
        raise ModelUnauthorized("The API key has characters that cannot be sent.")
    return f"Bearer {api_key}"
