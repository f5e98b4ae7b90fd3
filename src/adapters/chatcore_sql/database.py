"""The database: its engines and pools, its schema, its units of work."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from sqlalchemy import URL, AsyncAdaptedQueuePool, Connection, Engine, event, select
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

from chatcore.ports import UnitOfWork
from chatcore.shielding import settled
from chatcore_sql import schema
from chatcore_sql.file_lock import FileLock
from chatcore_sql.statements import SingleReads, Transaction, answer
from chatcore_sql.unit_of_work import SqlUnitOfWork
from chatcore_sql.url import engine_url, sqlite_file

POOL_TIMEOUT = 5  # seconds to wait for a free connection
WRITER_TIMEOUT = 25  # and for SQLite's only writer, which a burst of sends shares
CONNECT_TIMEOUT = 5  # seconds
RECYCLE_AFTER = 1800  # seconds; sooner than servers and the firewalls before them drop what is idle

# MySQL and MariaDB give the isolation level different names; each reads only the comment that is meant for it.
# TRADITIONAL refuses what does not fit, where a lax server would cut it.
_MYSQL_SESSION = (
    "SET /*!80000 transaction_isolation = */ /*M! tx_isolation = */ 'READ-COMMITTED', "
    "time_zone = '+00:00', sql_mode = 'TRADITIONAL'"
)
_CONNECT_ARGS: dict[str, dict[str, Any]] = {
    "sqlite": {"timeout": 5},
    "mysql": {"autocommit": True, "connect_timeout": CONNECT_TIMEOUT, "init_command": _MYSQL_SESSION},
    "postgresql": {
        "timeout": CONNECT_TIMEOUT,
        "server_settings": {"default_transaction_isolation": "read committed", "timezone": "UTC"},
    },
}


class Database:
    """A SQLite file, or a MySQL, MariaDB or PostgreSQL database; an async context manager.

    A SQLite file is locked while it is open: entering raises `DatabaseInUse` if another process has it.
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        """For the form of `url` see `chatcore_sql.url`. `pool_size`: most connections at once; with SQLite, readers.

        Raises `ValueError` for a URL that is none. Connects to nothing yet.
        """
        parsed = engine_url(url)
        file = sqlite_file(parsed)
        self._lock = FileLock(file) if file else None
        self._reading = self._writing = _engine(parsed, pool_size)
        self._begin = "BEGIN"
        if parsed.get_backend_name() == "sqlite":
            # One writer at a time is SQLite's rule; a pool of one queues them fairly, where SQLite lets them poll.
            # In memory, the one connection is the database, and readers queue too.
            self._writing = _engine(parsed, 1, pool_timeout=WRITER_TIMEOUT)
            self._reading = _engine(parsed, pool_size) if file else self._writing
            self._begin = "BEGIN IMMEDIATE"

    async def __aenter__(self) -> Self:
        if self._lock:
            self._lock.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes every connection, and lets go of a SQLite file."""
        await settled(greenlet_spawn(self._close_now))

    def _close_now(self) -> None:
        self._reading.dispose()
        self._writing.dispose()
        if self._lock:
            self._lock.release()

    @asynccontextmanager
    async def unit_of_work(self, *, read_only: bool = False) -> AsyncGenerator[UnitOfWork, None]:
        """The `UnitOfWorkFactory`. A unit that only reads holds no connection between its reads."""
        if read_only:
            yield SqlUnitOfWork(SingleReads(self._reading))
            return
        transaction = Transaction(self._writing, self._begin)
        try:
            yield SqlUnitOfWork(transaction)
        finally:
            await transaction.close()

    @property
    def connections_in_use(self) -> int:
        """How many of the pools' connections are working right now."""
        pools = {self._reading.pool, self._writing.pool}
        return sum(pool.checkedout() for pool in pools if isinstance(pool, AsyncAdaptedQueuePool))

    async def check(self) -> None:
        """Raises `Unavailable` unless the database answers."""
        await SingleReads(self._reading).rows(select(1))

    async def migrate(self) -> None:
        """Brings the schema to the newest revision. Of two at once, one waits and then finds nothing to do."""
        await self._alter(schema.upgrade)

    async def downgrade(self, revision: str = "base") -> None:
        """Takes the schema, and the data with it, back to a revision; `base` is an empty database."""
        await self._alter(lambda connection, begin: schema.downgrade(connection, begin, revision))

    async def is_migrated(self) -> bool:
        """Whether the schema is at the newest revision, which is the one that this code needs."""

        def look() -> bool:
            with self._reading.connect() as connection:
                return schema.is_current(connection)

        return await answer(look)

    async def _alter(self, change: Callable[[Connection, str], None]) -> None:
        def work() -> None:
            with self._writing.connect() as connection:
                change(connection, self._begin)

        await answer(work, patiently=True)


def _engine(url: URL, pool_size: int, *, pool_timeout: float = POOL_TIMEOUT) -> Engine:
    engine = create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=pool_timeout,
        pool_recycle=-1 if url.get_backend_name() == "sqlite" else RECYCLE_AFTER,
        pool_reset_on_return=None,
        hide_parameters=True,
        connect_args=_CONNECT_ARGS[url.get_backend_name()],
    ).sync_engine
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
