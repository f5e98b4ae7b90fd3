"""The database: its engines and pools, its schema, its units of work."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from math import inf
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy import URL, NullPool, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from chatcore.errors import ReadOnly
from chatcore.ports import Store, UnitOfWork, UnitOfWorkFactory
from chatcore.shielding import shielded
from chatcore.storage import MAX_STORAGE_BYTES
from chatcore_sql import schema
from chatcore_sql._internals import greenlet_spawn
from chatcore_sql.dialects import DIALECTS
from chatcore_sql.dialects.base import CONNECT_TIMEOUT
from chatcore_sql.failures import discard_what_is_gone
from chatcore_sql.file_lock import FileLock
from chatcore_sql.joining import Engines, Joined, Session
from chatcore_sql.naming import Naming
from chatcore_sql.parameters import Asked, asked_by
from chatcore_sql.pool import Pool
from chatcore_sql.statements import URGENT_WITHIN, SingleReads, Transaction, Work, answer
from chatcore_sql.unit_of_work import SqlUnitOfWork
from chatcore_sql.unreachable import located
from chatcore_sql.url import engine_url, need_driver, sqlite_file

T = TypeVar("T")

POOL_TIMEOUT = 5  # seconds to wait for a free connection
WRITER_TIMEOUT = 25  # and for SQLite's only writer, which a burst of sends shares
URGENT = 2  # connections: one for the lease, and one for the text of replies, which may take its time
RECYCLE_AFTER = 1800  # seconds; sooner than servers and the firewalls before them drop what is idle


class Database(Store):
    """A SQLite file, or a MySQL, MariaDB or PostgreSQL database; an async context manager.

    A SQLite file is locked while it is open: entering raises `DatabaseInUse` if another process has it.
    """

    def __init__(
        self,
        source: str | URL | AsyncEngine,
        *,
        prefix: str = "",
        schema: str | None = None,
        connect: Mapping[str, Any] = MappingProxyType({}),
        pool_size: int = 10,
        max_storage: int = MAX_STORAGE_BYTES,
    ) -> None:
        """`source`: a URL (see `chatcore_sql.url` and `chatcore_sql.parameters`) as text or as SQLAlchemy's, or the
        program's engine, of which only the URL is used. The connections are chatcore's own in either case, in
        autocommit, with asyncmy, asyncpg or aiosqlite, whatever driver the URL names, and with time limits of its own.
        `within` joins the program's transaction. `connect`: more arguments of that driver, such as `ssl`; an engine's
        `connect_args` cannot be read from it.

        `prefix`: at most 12 letters, digits and `_`, which the names of all tables begin with. `schema`: of a
        PostgreSQL database; the first migration makes it. `pool_size`: most connections at once, besides two that are
        kept for what is urgent; with SQLite, readers. `max_storage`: bytes that a user may store.

        Raise `ValueError` for an invalid URL, prefix or schema, and for an engine whose database is in its memory;
        `ModuleNotFoundError` if the driver is not installed. Nothing is connected yet.
        """
        asked = asked_by(engine_url(_text_of(source)))
        need_driver(asked.url)
        self._dialect = DIALECTS[asked.url.get_backend_name()]
        self._naming = Naming(prefix, schema)
        self._naming.check(self._dialect)
        self._engines = Engines(self._naming, self._dialect)
        self._connect = connect
        self._place = asked.place
        self._max_storage = max_storage
        self._entered = 0
        file = sqlite_file(asked.url)
        if isinstance(source, AsyncEngine) and not (file or self._dialect.is_server):
            raise ValueError("a SQLite database in memory belongs to its engine alone: use a file, or a URL")
        self._lock = FileLock(file) if file else None
        if self._dialect.is_server:
            size, urgent = _shared_out(pool_size, asked.connections)
            self._reading = self._writing = self._pool(asked, size)
            self._urgent = self._pool(asked, urgent, connect_within=URGENT_WITHIN) if urgent else self._writing
        else:
            # One writer at a time is SQLite's rule; a pool of one queues them fairly, where SQLite lets them poll.
            # In memory, the one connection is the database, and readers queue too.
            self._writing = self._urgent = self._pool(asked, 1, timeout=WRITER_TIMEOUT)
            self._reading = self._pool(asked, pool_size) if file else self._writing

    def _pool(
        self, asked: Asked, size: int, *, timeout: float | None = None, connect_within: float | None = None
    ) -> Pool:
        engine = create_async_engine(
            asked.url,
            isolation_level="AUTOCOMMIT",
            skip_autocommit_rollback=True,
            poolclass=NullPool,  # connections are kept by `Pool`
            pool_reset_on_return=None,
            hide_parameters=True,
            connect_args={**self._dialect.arguments(), **asked.connect, **self._connect},
        ).sync_engine
        if self._dialect.is_server:
            event.listen(engine, "handle_error", discard_what_is_gone)
        self._dialect.set_up(engine)
        self._naming.apply(engine)
        return Pool(
            engine,
            size,
            timeout=POOL_TIMEOUT if timeout is None else timeout,
            connect_within=2 * (asked.timeout or CONNECT_TIMEOUT) if connect_within is None else connect_within,
            recycle_after=RECYCLE_AFTER if self._dialect.is_server else inf,
        )

    @property
    def is_shared(self) -> bool:
        return self._dialect.is_server

    async def __aenter__(self) -> Self:
        if self._lock and not self._entered:
            self._lock.acquire()
        self._entered += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered -= 1
        if not self._entered:
            await self.close()

    async def close(self) -> None:
        """Close every connection, and let go of a SQLite file."""
        await shielded(self._close())

    async def _close(self) -> None:
        for pool in self.pools:
            await pool.close()
        if self._lock:
            self._lock.release()

    @asynccontextmanager
    async def unit_of_work(self, *, read_only: bool = False, urgent: bool = False) -> AsyncGenerator[UnitOfWork, None]:
        """The `UnitOfWorkFactory`. A unit that only reads holds no connection between its reads."""
        if read_only:
            yield SqlUnitOfWork(SingleReads(self._reading), max_storage=self._max_storage)
            return
        if urgent and self._urgent is not self._writing:
            transaction = Transaction(self._urgent, self._dialect.begin, within=URGENT_WITHIN)
        else:
            transaction = Transaction(self._writing, self._dialect.begin)
        try:
            yield SqlUnitOfWork(transaction, max_storage=self._max_storage)
        finally:
            await transaction.close()

    def within(self, session: Session) -> UnitOfWorkFactory:
        """Return units of work that join a transaction of the program's, in the database that this one is:
        `me.within(database.within(session))`. What they store is stored by the program's commit, and undone by its
        rollback. A reply begins after that commit.

        `session`: on any engine of the same kind of database, with asyncmy, aiomysql, asyncpg, psycopg or aiosqlite.
        It is flushed first. A unit that fails leaves the rest of the transaction as it was, unless the database has
        rolled that back: then it cannot be committed. Keep the transaction short: other sends of the same user wait for
        it, and with SQLite all that others write.
        """
        engines = self._engines

        @asynccontextmanager
        async def unit_of_work(*, read_only: bool = False, urgent: bool = False) -> AsyncGenerator[UnitOfWork, None]:
            joined = Joined(session, engines, read_only=read_only)
            try:
                yield SqlUnitOfWork(joined, max_storage=self._max_storage)
            finally:
                await joined.close()

        return unit_of_work

    @property
    def connections_in_use(self) -> int:
        """How many of the pools' connections are working right now."""
        return sum(pool.in_use for pool in self.pools)

    @property
    def pools(self) -> set[Pool]:
        """All that connect to the database."""
        return {self._reading, self._writing, self._urgent}

    async def check(self) -> None:
        """Raise `Unavailable` unless the database answers, `ReadOnly` unless it takes changes."""
        row = await SingleReads(self._writing).first(self._dialect.takes_changes)
        if row is None or not row[0]:
            await shielded(self._writing.close())  # others may be to another server, or be told something else
            raise ReadOnly

    async def migrate(self) -> None:
        """Bring the schema to the newest revision. Of two at once, one waits and then finds nothing to do.

        Raise `DatabaseUnreachable`, as do the next two.
        """
        await self._alter(lambda it: schema.upgrade(it, self._naming))

    async def downgrade(self, revision: str = "base") -> None:
        """Take the schema, and the data with it, back to a revision; `base` is an empty database."""
        await self._alter(lambda it: schema.downgrade(it, self._naming, revision))

    async def is_migrated(self) -> bool:
        """Whether the schema is at the newest revision, which is the one that this code needs."""
        with located(self._place):
            return await shielded(answer(_with_one(self._reading, lambda it: schema.is_current(it, self._naming))))

    async def _alter(self, change: Work[None]) -> None:
        with located(self._place):
            await shielded(answer(_with_one(self._writing, change), patiently=True))


async def _with_one(pool: Pool, work: Work[T]) -> T:
    """What `work` returns, which may do anything with the connection."""
    connection = await pool.take()
    try:
        done = await greenlet_spawn(work, connection)
    except BaseException:
        await pool.discard(connection)
        raise
    pool.give(connection)
    return done


def _text_of(source: str | URL | AsyncEngine) -> str:
    url = source.url if isinstance(source, AsyncEngine) else source
    return url if isinstance(url, str) else url.render_as_string(hide_password=False)


def _shared_out(pool_size: int, connections: int | None) -> tuple[int, int]:
    """Connections for all work, and for what is urgent; of very few the two kinds share what there is."""
    if connections is None:
        return pool_size, URGENT
    urgent = min(URGENT, connections // 2)
    return min(pool_size, connections - urgent), urgent
