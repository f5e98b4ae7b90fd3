"""Connections, as many as come, without one client's keeping everybody else's waiting.

The event loop itself accepts one a turn, in the order in which they came: behind 800 of one client everybody else would
wait. Here they are taken from the system many at once, which costs little, and opened, which costs more, a few a turn:
first one of each network, then the next of each.
"""

import asyncio
import logging
import socket
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial

from chatcore.rate_limits import network_of

BACKLOG = 2048
_ACCEPTED = 64  # a turn; with several workers, what one does not take is another's
_OPENED = 4  # a turn
_PAUSE = 1.0  # seconds, when the system has no more files

_log = logging.getLogger("chatcore.server")


class Accepting:
    """From one socket, until it is closed; to uvicorn it is a server of the event loop."""

    def __init__(self, listening: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        self.sockets: tuple[socket.socket] = (listening,)
        self._listening = listening
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._waiting = OrderedDict[str, deque[socket.socket]]()
        self._opening: set[asyncio.Task[None]] = set()
        self._turn: asyncio.Handle | None = None
        self._pause: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        listening.listen(BACKLOG)
        self._loop.add_reader(listening, self._accept)

    def close(self) -> None:
        """Connections that are open go on; those that wait are cut off, as the system does with its own queue."""
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening)
            self._listening.close()
        if self._pause is not None:
            self._pause.cancel()
        for line in self._waiting.values():
            for connection in line:
                connection.close()
        self._waiting.clear()

    async def wait_closed(self) -> None:
        pass

    def _accept(self) -> None:
        try:
            self._take()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            pass
        except OSError as error:
            self._rest(error)
        if self._turn is None:
            self._open()

    def _take(self) -> None:
        for _ in range(_ACCEPTED):
            connection, address = self._listening.accept()
            self._waiting.setdefault(network_of(address[0]), deque()).append(connection)

    def _rest(self, error: OSError) -> None:
        _log.error("cannot accept connections for a moment: %s", error.strerror)
        self._loop.remove_reader(self._listening)
        self._pause = self._loop.call_later(_PAUSE, self._loop.add_reader, self._listening, self._accept)

    def _open(self) -> None:
        """A few of those that wait, and more in the turns to come."""
        self._turn = None
        opened = 0
        while self._waiting and opened < _OPENED:
            network, line = self._waiting.popitem(last=False)
            connection = line.popleft()
            task = self._loop.create_task(self._connect(connection))
            self._opening.add(task)
            task.add_done_callback(partial(self._opened, connection))
            opened += 1
            if line:
                self._waiting[network] = line  # at the end
        if self._waiting:
            self._turn = self._loop.call_soon(self._open)

    async def _connect(self, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError:  # it is lost already
            connection.close()

    def _opened(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if task.cancelled():  # perhaps before it began
            connection.close()
