"""The WebSockets that are open: how frames come in and go out, and how each of them ends.

A connection ends in its own task, by an exception that says how: `Closed` with a code, `WebSocketDisconnect` when the
client has gone. Whoever else wants it to end (a session is over, the server shuts down) has that exception raised
there: `Connection.interrupt`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextlib import suppress
from typing import Any

import msgspec
from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect

from chatcore.errors import RateLimited, Unavailable

PROTOCOL = "chatcore.v1"

UNAUTHENTICATED, FORBIDDEN, NO_CONVERSATION = 4401, 4403, 4404
GOING_AWAY, TOO_LARGE, INTERNAL_ERROR, TRY_AGAIN_LATER = 1001, 1009, 1011, 1013  # RFC 6455 §7.4, IANA's registry

TAKEN_WITHIN = 20.0
"""Seconds. A client that takes nothing for so long has gone, whatever its network says."""

TOLD_WITHIN = 2.0
"""Seconds for telling all connections at once that the server shuts down."""

_log = logging.getLogger("chatcore.http")
_encoder = msgspec.json.Encoder()


class Closed(Exception):
    """The connection is to be closed with this code. A client is told the reason's first 123 bytes (RFC 6455 §5.5)."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(reason)


class Connection:
    """One WebSocket, as its own task has it."""

    def __init__(self, socket: WebSocket[Any, Any, Any], *, max_bytes: int) -> None:
        self.task = _current_task()
        self._socket = socket
        self._max_bytes = max_bytes
        self._beside: asyncio.Task[None] | None = None
        self._interruption: Exception | None = None
        self._ending = False

    async def receive(self) -> str | bytes:
        """The next frame. Raises `Closed` if it is too large, and `WebSocketDisconnect`."""
        message: Any = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(detail="The client has gone.", code=message["code"])
        text: str | None = message.get("text")
        frame: str | bytes = message["bytes"] if text is None else text
        if len(frame.encode() if isinstance(frame, str) else frame) > self._max_bytes:
            raise Closed(TOO_LARGE, f"A frame may have {self._max_bytes} bytes.")
        return frame

    async def tell(self, event: object) -> None:
        """One frame of JSON. Raises `WebSocketDisconnect`."""
        await _taken(self._socket.send_text(_encoder.encode(event)))

    def run_beside(self, work: Coroutine[Any, Any, None]) -> None:
        """In a task of its own, in the place of the one before. What it raises ends the connection."""
        self._cancel_beside()
        self._beside = asyncio.create_task(work, name="chatcore socket")
        self._beside.add_done_callback(self._pass_on)

    def interrupt(self, error: Exception) -> None:
        """Has `error` raised in the connection's task, wherever that is, unless it is ending already."""
        if self._interruption is None and not self._ending:
            self._interruption = error
            self.task.cancel()

    def take_leave(self, error: Exception) -> None:
        """As `interrupt`, once what runs beside has come to its end."""
        if self._beside is None or self._beside.done():
            self.interrupt(error)
        else:
            self._beside.add_done_callback(lambda _: self.interrupt(error))

    async def end(self, error: BaseException) -> None:
        """Tells the client why. Raises a cancellation that is not ours."""
        self._ending = True
        self._cancel_beside()
        if isinstance(error, asyncio.CancelledError) and self._interruption and not self.task.uncancel():
            error = self._interruption
        match error:
            case Closed():
                await self._close(error.code, error.reason)
            case WebSocketDisconnect():
                pass
            case Unavailable() | RateLimited():
                await self._close(TRY_AGAIN_LATER, error.detail)
            case Exception():
                _log.error("%s failed", self._socket.scope["path"], exc_info=error)
                await self._close(INTERNAL_ERROR, "Something went wrong here. The log tells what.")
            case _:
                raise error

    async def _close(self, code: int, reason: str) -> None:
        with suppress(WebSocketDisconnect):
            await _taken(self._socket.close(code, reason.encode()[:123].decode(errors="ignore")))

    def _cancel_beside(self) -> None:
        if self._beside is not None:
            self._beside.cancel()

    def _pass_on(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self.interrupt(error)


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - in a coroutine there is one
    return task


async def _taken(sending: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(TAKEN_WITHIN):
            await sending
    except (OSError, RuntimeError) as error:  # uvicorn's, if the client or itself has closed the connection meanwhile
        raise WebSocketDisconnect(detail="The client has gone.", code=1006) from error


class OpenSockets:
    """All of one application's. `close` is for a server that shuts down, before it closes connections by itself."""

    def __init__(self) -> None:
        self._open: set[Connection] = set()
        self._closing = False

    async def serve(
        self,
        socket: WebSocket[Any, Any, Any],
        work: Callable[[Connection], Awaitable[None]],
        *,
        subprotocol: str | None,
        max_bytes: int,
    ) -> None:
        """Accepts it and does `work` with it. What is raised there ends the connection and goes no further."""
        connection = Connection(socket, max_bytes=max_bytes)
        self._open.add(connection)
        try:
            await _taken(socket.accept(subprotocols=subprotocol))
            self._check_open()
            await work(connection)
        except BaseException as error:
            await connection.end(error)
        finally:
            self._open.discard(connection)

    def _check_open(self) -> None:
        if self._closing:
            raise _going_away()

    async def close(self, *, within: float) -> None:
        """Ends them all with 1001, and whatever comes later. Who is being told something hears it out, if that takes
        no longer than `within` seconds."""
        self._closing = True
        going_away, tasks = _going_away(), [connection.task for connection in self._open]
        for connection in self._open:
            connection.take_leave(going_away)
        await _wait_for(tasks, within)
        for connection in self._open:
            connection.interrupt(going_away)
        await _wait_for(tasks, TOLD_WITHIN)


async def _wait_for(tasks: Collection[asyncio.Task[Any]], timeout: float) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=timeout)


def _going_away() -> Closed:
    return Closed(GOING_AWAY, "The server is shutting down.")
