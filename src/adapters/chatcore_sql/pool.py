"""The connections of one database, each of which one unit of work has at a time."""

import asyncio
import time
from collections.abc import Sequence

from sqlalchemy import Connection, Engine

from chatcore.shielding import shielded
from chatcore_sql._internals import CUT_OFF, greenlet_spawn
from chatcore_sql.failures import is_full

FULL_FOR = 2.0
"""Seconds for which a server that gives no more connections is not asked for more, while there are some to wait for."""


class Pool:
    """At most `size` connections, opened when they are needed; the one that was used last is taken first.

    SQLAlchemy's own pool makes several objects and a greenlet for each statement that takes a connection, which costs
    as much as a short statement does. Times are in seconds.
    """

    def __init__(
        self, engine: Engine, size: int, *, timeout: float, connect_within: float, recycle_after: float
    ) -> None:
        """`timeout`: how long to wait for a free connection. `connect_within`: how long to wait for a new one, of a
        server that may accept it and then say nothing. `recycle_after`: how old one may get."""
        self.engine = engine
        self.size = size
        self.in_use: int = 0
        self._timeout = timeout
        self._connect_within = connect_within
        self._recycle_after = recycle_after
        self._opened: dict[Connection, float] = {}
        self._free: list[Connection] = []
        self._places = asyncio.Semaphore(size)

    async def take(self) -> Connection:
        """Take a connection, to be given back or discarded. Raise `TimeoutError`, or what connecting raises."""
        while True:
            await self._take_place()
            connection = self._free.pop() if self._free else None
            if connection is not None and not self._is_old(connection):
                return connection
            await shielded(self._open_instead(connection), apart=True)

    def give(self, connection: Connection) -> None:
        self._free.append(connection)
        self._give_place()

    async def discard(self, connection: Connection) -> None:
        """Close one that nobody shall get again. If it has turned out to be dead, those that were idle may be too."""
        dead = [connection, *self._idle()] if connection.invalidated else [connection]
        await shielded(self._drop(dead), apart=True)

    async def close(self) -> None:
        """Close those that are free."""
        for connection in self._idle():
            await self._close(connection)

    def _idle(self) -> list[Connection]:
        """Those that are open and free, which are taken out."""
        free, self._free = self._free, []
        return free

    async def _take_place(self) -> None:
        async with asyncio.timeout(self._timeout if self._places.locked() else None):
            await self._places.acquire()
        self.in_use += 1

    def _give_place(self) -> None:
        self.in_use -= 1
        self._places.release()

    def _is_old(self, connection: Connection) -> bool:
        return time.monotonic() - self._opened[connection] > self._recycle_after

    async def _open_instead(self, old: Connection | None) -> None:
        """A free one. If the server gives none, and others are in use, the place is left out for a while."""
        try:
            if old is not None:
                await self._close(old)
            async with asyncio.timeout(self._connect_within):
                connection = await greenlet_spawn(_connect, self.engine)
        except BaseException as error:
            if not self._opened or not is_full(error):
                self._give_place()
                raise
            self.in_use -= 1
            asyncio.get_running_loop().call_later(FULL_FOR, self._places.release)
        else:
            self._opened[connection] = time.monotonic()
            self.give(connection)

    async def _close(self, connection: Connection) -> None:
        del self._opened[connection]
        await greenlet_spawn(connection.close)

    async def _drop(self, connections: Sequence[Connection]) -> None:
        try:
            for connection in connections:
                await greenlet_spawn(_drop, connection)
        finally:
            for connection in connections:
                del self._opened[connection]
            self._give_place()


def _connect(engine: Engine) -> Connection:
    try:
        return engine.connect()
    except CUT_OFF as error:
        raise ConnectionError("the server went away while it was greeted") from error


def _drop(connection: Connection) -> None:
    if not connection.invalidated:
        connection.invalidate()
    connection.close()
