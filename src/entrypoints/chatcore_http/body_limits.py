"""What is not read of a request. The framework itself counts what it reads of a body and answers 413."""

import asyncio
from contextlib import suppress
from typing import Any

from litestar import Request, Response
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from chatcore_http.errors import problem_response

_LINGER_SECONDS = 5.0
_LINGER_BYTES = 32 * 1024 * 1024


async def refuse_compressed(request: Request[Any, Any, Any]) -> Response[bytes] | None:
    """Before a handler, after its guard: a compressed body is too large, for it could become so when it is read."""
    codings = ",".join(request.headers.getall("content-encoding", ()))
    if all(coding.strip().lower() in ("", "identity") for coding in codings.split(",")):
        return None
    detail = "Compressed bodies are not accepted, whatever their size. Send it without Content-Encoding."
    return problem_response(413, "payload_too_large", detail, headers={"Accept-Encoding": "identity"})


class UnreadBodies:
    """Around the whole application. An answer may be complete before the request's body is: what is left of a body
    that keeps the limit is thrown away by the server; with any other the connection is closed.

    The client has a moment to read the answer before that: who closes while data still arrives makes the client's
    system throw the answer away (RFC 9112 §9.6).
    """

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and _may_exceed(scope, self.limit):
            await self._closing(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _closing(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        read = closing = False

        async def noting_receive() -> Any:
            nonlocal read
            message = await receive()
            read = not message.get("more_body", False)
            return message

        async def closing_send(message: Message) -> None:
            nonlocal closing
            if message["type"] == "http.response.start" and not read:
                closing = True
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            elif message["type"] == "http.response.body" and closing and not message.get("more_body", False):
                await send({**message, "more_body": True})
                await _linger(noting_receive)
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        await self.app(scope, noting_receive, closing_send)


def _may_exceed(scope: HTTPScope, limit: int) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or int(headers.get(b"content-length", 0)) > limit


async def _linger(receive: Receive) -> None:
    """Until the client has sent everything or closes, but not for long and not for much."""
    left = _LINGER_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            while left > 0:
                message: Any = await receive()
                if not message.get("more_body", False):
                    return
                left -= len(message["body"])
