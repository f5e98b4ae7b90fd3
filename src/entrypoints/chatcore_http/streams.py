"""Streamed answers."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, cast

from litestar import Litestar, Request, Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from chatcore.errors import ChatcoreError, Unauthenticated
from chatcore_http.leaving import left

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_TAKEN_WITHIN = 0.2  # seconds for the last chunk of a stream whose session has ended
SERVER_SEND = "chatcore_server_send"
"""The key of the scope with the server's own `send`. A stream's many pieces bypass the layers between; only its
beginning and its end pass all of them."""

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Things(AsyncIterable[T_co], Protocol[T_co]):
    """What a stream sends: an asynchronous generator, for example."""

    def aclose(self) -> Awaitable[None]: ...


Failed: TypeAlias = Callable[[ChatcoreError], bytes | None]
"""The last bytes of a stream that an error ends; None: its connection is closed in the middle."""


def cut_off(error: ChatcoreError) -> bytes | None:
    """A stream whose session ends is complete as it is."""
    return b"" if isinstance(error, Unauthenticated) else None


class Stream(Response[None], Generic[T]):
    """Streams until `things` end, the client leaves, or `alive`, which wraps them, raises `Unauthenticated`. The next
    thing is requested when the previous one has been sent."""

    def __init__(
        self,
        things: Things[T],
        alive: AbstractAsyncContextManager[None],
        encoded: Callable[[T], bytes],
        *,
        first: Sequence[T] = (),
        failed: Failed = cut_off,
        media_type: str,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`first`: things to send before them. `failed`: how a stream ends that an error of `things` or `alive`
        ends."""
        super().__init__(None, media_type=media_type, status_code=status_code, headers={**_HEADERS, **(headers or {})})
        self._first = first
        self._things = things
        self._alive = alive
        self._encoded = encoded
        self._failed = failed

    def to_asgi_response(self, app: Litestar | None, request: Request[Any, Any, Any], **options: Any) -> ASGIResponse:
        options.pop("type_encoders", None)
        headers: dict[str, str] = options.pop("headers", None) or {}
        own: dict[str, Any] = {
            "headers": headers | self.headers,
            "media_type": self.media_type,
            "status_code": self.status_code,
        }
        return _Telling(self._first, self._things, self._alive, self._encoded, self._failed, **options | own)


class _Telling(ASGIResponse):
    """Litestar's stream, with less work per event: there are many a second."""

    __slots__ = ("_alive", "_encoded", "_failed", "_first", "_send_piece", "_things")
    _should_set_content_length = False

    def __init__(
        self,
        first: Sequence[Any],
        things: Things[Any],
        alive: AbstractAsyncContextManager[None],
        encoded: Callable[[Any], bytes],
        failed: Failed,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._first = first
        self._things = things
        self._alive = alive
        self._encoded = encoded
        self._failed = failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send_piece = cast("dict[str, Any]", scope).get(SERVER_SEND, send)
        async with aclosing(self._things):
            await super().__call__(scope, receive, send)

    async def send_body(self, send: Send, receive: Receive) -> None:
        """Close the connection in the middle if the session ends while the client reads nothing."""
        async with asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(self._tell(send))
            leaving = tasks.create_task(left(receive))
            telling.add_done_callback(lambda _: leaving.cancel())
            leaving.add_done_callback(lambda _: telling.cancel())

    async def _tell(self, send: Send) -> None:
        patience, last, encoded, send_piece = None, b"", self._encoded, self._send_piece
        try:
            async with self._alive:
                for thing in self._first:
                    await send_piece({"type": "http.response.body", "body": encoded(thing), "more_body": True})
                async for thing in self._things:
                    await send_piece({"type": "http.response.body", "body": encoded(thing), "more_body": True})
        except ChatcoreError as error:
            told = self._failed(error)
            if told is None:
                return  # the server closes the connection of an answer without an end
            last, patience = told, _TAKEN_WITHIN if isinstance(error, Unauthenticated) else None
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await send({"type": "http.response.body", "body": last, "more_body": False})
