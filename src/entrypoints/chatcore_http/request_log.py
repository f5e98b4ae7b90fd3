"""One log line per request, and the id that ties it to the answer; one per WebSocket, when it has closed.

A line has method, path, status or close code, duration and the client's address: no query, header, body or frame, since
any of them can have a secret.
"""

import re
import time
import uuid
from collections.abc import Awaitable
from typing import Any, cast

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send, WebSocketScope

from chatcore_http.streams import SERVER_SEND

_log = structlog.stdlib.get_logger("chatcore.request")
_ABNORMAL = 1006  # RFC 6455 §7.4.1: nobody said why
_GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestLog:
    """Wraps the whole application, unknown routes included. A client's own X-Request-ID is kept if it is short and
    plain."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            await self._request(scope, receive, send)
        elif scope["type"] == ScopeType.WEBSOCKET:
            await self._socket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _request(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        request_id = _request_id(scope)
        started = time.perf_counter()
        status = 500

        def send_with_id(message: Message) -> Awaitable[None]:  # not async, which would cost each delta a coroutine
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            return send(message)

        cast("dict[str, Any]", scope)[SERVER_SEND] = send
        with structlog.contextvars.bound_contextvars(request_id=request_id, address=_address(scope)):
            try:
                await self.app(scope, receive, send_with_id)
            finally:
                _log.info("request", method=scope["method"], status=status, **_common(scope, started))
                del cast("dict[str, Any]", scope)[SERVER_SEND]  # which refers to the scope: a cycle

    async def _socket(self, scope: WebSocketScope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        code = _ABNORMAL

        async def noting_receive() -> Any:
            nonlocal code
            message = await receive()
            if message["type"] == "websocket.disconnect":
                code = message["code"]
            return message

        async def noting_send(message: Message) -> None:
            nonlocal code
            if message["type"] == "websocket.close":
                code = message["code"]
            await send(message)

        with structlog.contextvars.bound_contextvars(address=_address(scope)):
            try:
                await self.app(scope, noting_receive, noting_send)
            finally:
                _log.info("socket", code=code, **_common(scope, started))


def _common(scope: HTTPScope | WebSocketScope, started: float) -> dict[str, Any]:
    return {
        "path": scope["path"],
        "ms": round((time.perf_counter() - started) * 1000, 1),
        "address": _address(scope),
    }


def _address(scope: HTTPScope | WebSocketScope) -> str | None:
    client = scope["client"]
    return client[0] if client else None


def _request_id(scope: HTTPScope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _GIVEN_ID.fullmatch(value):
            return value.decode()
    return uuid.uuid4().hex
