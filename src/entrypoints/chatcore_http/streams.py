"""Streamed answers."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from typing import Any, Generic, TypeVar, cast

from litestar import Litestar, Request, Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from chatcore.errors import Unauthenticated, Unavailable

T = TypeVar("T")

_TAKEN_WITHIN = 0.2  # seconds for the last chunk of a stream whose session has ended
SERVER_SEND = "chatcore_server_send"
"""The key of the scope with the server's own `send`. A stream's many pieces bypass the layers between; only its
beginning and its end pass all of them."""

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Stream(Response[None], Generic[T]):
    """Streams until `things` end, the client leaves, or `alive`, which wraps them, raises `Unauthenticated`. The next
    thing is requested when the previous one has been sent."""

    def __init__(
        self,
        things: AsyncGenerator[T, None],
        alive: AbstractAsyncContextManager[None],
        encoded: Callable[[T], bytes],
        *,
        first: Sequence[T] = (),
        unavailable: bytes | None = None,
        media_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`first`: things to send before them. `unavailable`: the end of a stream that becomes `Unavailable`; without
        it the connection is closed in the middle."""
        super().__init__(None, media_type=media_type, headers={**_HEADERS, **(headers or {})})
        self._first = first
        self._things = things
        self._alive = alive
        self._encoded = encoded
        self._unavailable = unavailable

    def to_asgi_response(self, app: Litestar | None, request: Request[Any, Any, Any], **options: Any) -> ASGIResponse:
        options.pop("type_encoders", None)
        headers: dict[str, str] = options.pop("headers", None) or {}
        own: dict[str, Any] = {"headers": headers | self.headers, "media_type": self.media_type, "status_code": 200}
        telling = _Telling(self._first, self._things, self._alive, self._encoded, **options | own)
        telling.unavailable = self._unavailable
        return telling


class _Telling(ASGIResponse):
    """Litestar's stream, with less work per event: there are many a second."""

    __slots__ = ("_alive", "_encoded", "_first", "_send_piece", "_things", "unavailable")
    _should_set_content_length = False

    def __init__(
        self,
        first: Sequence[Any],
        things: AsyncGenerator[Any, None],
        alive: AbstractAsyncContextManager[None],
        encoded: Callable[[Any], bytes],
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._first = first
        self._things = things
        self._alive = alive
        self._encoded = encoded
        self.unavailable: bytes | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send_piece = cast("dict[str, Any]", scope).get(SERVER_SEND, send)
        async with aclosing(self._things):
            await super().__call__(scope, receive, send)

    async def send_body(self, send: Send, receive: Receive) -> None:
        """Close the connection in the middle if the session ends while the client reads nothing."""
        async with asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(self._tell(send))
            leaving = tasks.create_task(_left(receive))
            telling.add_done_callback(lambda _: leaving.cancel())
            leaving.add_done_callback(lambda _: telling.cancel())

    async def _tell(self, send: Send) -> None:
        patience, encoded, send_piece = None, self._encoded, self._send_piece
        try:
            async with self._alive:
                for thing in self._first:
                    await send_piece({"type": "http.response.body", "body": encoded(thing), "more_body": True})
                async for thing in self._things:
                    await send_piece({"type": "http.response.body", "body": encoded(thing), "more_body": True})
        except Unauthenticated:
            patience = _TAKEN_WITHIN
        except Unavailable:
            if self.unavailable is None:
                raise
            await send_piece({"type": "http.response.body", "body": self.unavailable, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
