"""Answers, sent."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from chatcore import Problem, ReplyStream
from chatcore.shielding import ended
from chatcore_asgi.types import Receive, Send

T = TypeVar("T")

STREAM_HEADERS: Mapping[str, str] = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Those of an event stream: no cache keeps it, and nginx does not hold it back."""


async def send_body(
    send: Send, status: int, body: bytes, media_type: str, headers: Mapping[str, str] | None = None
) -> None:
    """Send a whole answer."""
    named = {"Content-Type": media_type, "Content-Length": str(len(body)), **(headers or {})}
    await _start(send, status, named)
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, problem: Problem) -> None:
    """Send an error, as RFC 9457 has it."""
    await send_body(send, problem.status, problem.json(), problem.media_type, problem.headers)


async def send_events(stream: ReplyStream | None, receive: Receive, send: Send) -> None:
    """Send Server-Sent Events until the reply ends or the client leaves, and close the stream. None: answer 204."""
    if stream is None:
        await _start(send, 204, {})
        await send({"type": "http.response.body", "body": b""})
        return
    async with aclosing(stream):
        await _start(send, 200, {"Content-Type": "text/event-stream; charset=utf-8", **STREAM_HEADERS})
        await unless_left(_send_all(stream.sse(), send), receive)


async def unless_left(work: Coroutine[Any, Any, T], receive: Receive) -> T | None:
    """Return what `work` returns. When the client leaves, cancel it and return None."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(_left(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        await ended(leaving)
        await ended(working)


async def _send_all(pieces: AsyncGenerator[bytes, None], send: Send) -> None:
    with suppress(OSError):  # ASGI 2.4: the client has left
        async with aclosing(pieces):
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
