"""The open WebSockets: receiving and sending frames, and closing.

A connection ends in its own task, by an exception: `Closed` with a code, or `WebSocketDisconnect` when the client has
left. Other tasks end it (a session has ended, the server shuts down) by raising that exception there:
`Connection.interrupt`.
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
from chatcore.rate_limits import AtOnce

PROTOCOL = "chatcore.v1"

UNAUTHENTICATED, FORBIDDEN, NO_CONVERSATION = 4401, 4403, 4404
GOING_AWAY, INVALID_FRAME, TOO_LARGE = 1001, 1007, 1009  # RFC 6455 §7.4
INTERNAL_ERROR, TRY_AGAIN_LATER = 1011, 1013  # RFC 6455 §7.4, IANA's registry

TAKEN_WITHIN = 20.0
"""Seconds after which a client that reads nothing counts as gone."""

TOLD_WITHIN = 2.0
"""Seconds to tell all connections that the server shuts down."""

MOST_OF_USER = 100
"""Connections of one user to this process."""

_log = logging.getLogger("chatcore.http")
_encoder = msgspec.json.Encoder()


class Closed(Exception):
    """Close the connection with this code. The client gets the reason's first 123 bytes (RFC 6455 §5.5)."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(reason)


class Connection:
    """One WebSocket, for its own task."""

    def __init__(self, socket: WebSocket[Any, Any, Any], *, max_bytes: int) -> None:
        self.task: asyncio.Task[Any] = _current_task()
        self._socket = socket
        self._max_bytes = max_bytes
        self._beside: asyncio.Task[None] | None = None
        self._interruption: Exception | None = None
        self._ending = False

    async def receive(self) -> str | bytes:
        """Return the next frame. Raise `Closed` if it is too large, and `WebSocketDisconnect`."""
        message: Any = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(detail="The client has gone.", code=message["code"])
        text: str | None = message.get("text")
        frame: str | bytes = message["bytes"] if text is None else text
        if len(frame.encode() if isinstance(frame, str) else frame) > self._max_bytes:
            raise Closed(TOO_LARGE, f"A frame may have at most {self._max_bytes} bytes.")
        return frame

    async def tell(self, event: object) -> None:
        """Send one frame of JSON. Raise `WebSocketDisconnect`."""
        await self.send(_encoder.encode(event))

    async def send(self, frame: str | bytes) -> None:
        """Send one text frame. Raise `WebSocketDisconnect`."""
        await _taken(self._socket.send_text(frame))

    def run_beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Run this in a task of its own, instead of the previous one. An error there ends the connection."""
        self._cancel_beside()
        self._beside = asyncio.create_task(work, name="chatcore socket")
        self._beside.add_done_callback(self._pass_on)

    def interrupt(self, error: Exception) -> None:
        """Raise `error` in the connection's task, unless that is ending already."""
        if self._interruption is None and not self._ending:
            self._interruption = error
            self.task.cancel()

    def take_leave(self, error: Exception) -> None:
        """As `interrupt`, after what runs beside has ended."""
        if self._beside is None or self._beside.done():
            self.interrupt(error)
        else:
            self._beside.add_done_callback(lambda _: self.interrupt(error))

    async def end(self, error: BaseException) -> None:
        """Tell the client why. Raise a cancellation that is not ours."""
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
                await self._close(INTERNAL_ERROR, "Internal server error.")
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
        self.of_users: AtOnce = AtOnce("connections", MOST_OF_USER)
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
        """Accept the connection and do `work` with it. An error there ends the connection and is not raised."""
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
        """Close all connections, and later ones, with 1001. A reply that a connection follows may end first, `within`
        seconds."""
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
