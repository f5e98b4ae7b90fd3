"""Limits on the size and the time of a request's body, and on the bytes of incomplete bodies.

The framework counts the bytes of a body and answers 413.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, cast

from litestar import Request, Response
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from chatcore.errors import Unavailable
from chatcore.rate_limits import network_of
from chatcore_app import Settings
from chatcore_http.errors import ClientLeft, problem_response
from chatcore_http.held_bytes import HeldBytes

SLOWEST = 1024
"""Bytes per second: a faster body has no time limit."""

_STREAMED = "chatcore_streamed_body"


async def refuse_compressed(request: Request[Any, Any, Any]) -> Response[bytes] | None:
    """Refuse a compressed body as too large, since it could be once unpacked. Runs after the guard."""
    codings = ",".join(request.headers.getall("content-encoding", ()))
    if all(coding.strip().lower() in ("", "identity") for coding in codings.split(",")):
        return None
    detail = "Compressed bodies are not accepted. Send the body without Content-Encoding."
    return problem_response(413, "payload_too_large", detail, headers={"Accept-Encoding": "identity"})


def streamed(request: Request[Any, Any, Any]) -> AsyncGenerator[bytes, None]:
    """Return the pieces of a body, for a handler that keeps none of them."""
    cast("dict[str, Any]", request.scope)[_STREAMED] = True
    return request.stream()


class RequestBodies:
    """Wraps the whole application. A body that stops arriving is answered 408, and one for which there is no room 503.

    An answer may be complete before the request's body: the server discards the rest of a body within the limit, and
    closes the connection for any other.
    """

    def __init__(self, app: ASGIApp, settings: Settings, held: HeldBytes) -> None:
        self.app = app
        self._limit = settings.max_body_bytes
        self._timeout = settings.body_timeout
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = announced(scope) if scope["type"] == ScopeType.HTTP else 0
        if not size:
            await self.app(scope, receive, send)
            return
        body = _Body(cast("HTTPScope", scope), receive, send, self._held, self._timeout)
        body.closing = size > self._limit
        try:
            await self.app(scope, body.receive, body.send)
        finally:
            body.release()


def announced(scope: Scope) -> float:
    headers = dict(scope["headers"])
    return float("inf") if b"transfer-encoding" in headers else int(headers.get(b"content-length", 0))


class _Body:
    """One request's body, and its answer. Pieces count as held until the answer begins.

    `closing`: whether the connection is closed if the answer comes before the body's end.
    """

    def __init__(self, scope: HTTPScope, receive: Receive, send: Send, held: HeldBytes, timeout: float) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._all_held = held
        self._timeout = self._patience = timeout
        self._network = network_of(scope["client"][0] if scope["client"] else "")
        self._held = 0
        self._complete = self._answered = False
        self.closing = False

    async def receive(self) -> Any:
        """Receive. Before the answer begins, raise `ClientLeft`, an `HTTPException` of 408, `Unavailable`."""
        if self._complete:
            return await self._receive()
        try:
            message = await self._in_time()
            self._keep(len(message["body"]))
        except (ClientLeft, HTTPException, Unavailable):
            if self._answered:
                return {"type": "http.disconnect"}
            self.closing = True
            raise
        return message

    async def _in_time(self) -> Any:
        """Return the next piece. Only the time spent waiting for the client counts."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._patience):
                message: Any = await self._receive()
        except TimeoutError:
            raise HTTPException(status_code=408) from None
        if message["type"] == "http.disconnect":
            raise ClientLeft
        self._complete = not message.get("more_body", False)
        earned = len(message["body"]) / SLOWEST
        self._patience = min(self._timeout, self._patience - (loop.time() - began) + earned)
        return message

    def _keep(self, size: int) -> None:
        if not self._complete and _STREAMED not in self._scope:
            self._all_held.hold(self._network, size)
            self._held += size

    def release(self) -> None:
        if self._held:
            self._all_held.release(self._network, self._held)
            self._held = 0

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self._answered = True
            self.release()
            self.closing = self.closing and not self._complete
            if self.closing:
                message["headers"] = [*message["headers"], (b"connection", b"close")]
        return self._send(message)
