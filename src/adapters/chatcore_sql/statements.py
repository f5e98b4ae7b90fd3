"""How the repositories reach the database: statements run either one by one or in one transaction.

Every connection is in the driver's autocommit mode. A read costs one round trip, and giving a connection back costs
none; a transaction says its BEGIN and COMMIT itself. Statements are built once, at import, with named values:
SQLAlchemy then has nothing to compile or to compare when they run.

Whatever has begun goes on to its end, whoever is cancelled meanwhile.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import Any, TypeVar

from sqlalchemy import Connection, Delete, Engine, Executable, Insert, Update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util import greenlet_spawn

from chatcore.errors import Unavailable
from chatcore.shielding import settled
from chatcore_sql.failures import FAILURES, meaning

T = TypeVar("T")
Row = Sequence[Any]
Work = Callable[[Connection], T]

ANSWER_WITHIN = 30.0  # seconds; a database that takes longer is as good as gone


async def answer(work: Callable[[], T], *, turn: asyncio.Lock | None = None, patiently: bool = False) -> T:
    """What `work` returns; in it, calls of the synchronous SQLAlchemy API run on the event loop.

    `turn`: held meanwhile. `patiently`: however long it takes. Raises core errors in place of SQLAlchemy's, where
    they have a meaning.
    """

    async def in_time() -> T:
        async with asyncio.timeout(None if patiently else ANSWER_WITHIN), turn or nullcontext():
            return await greenlet_spawn(work)

    try:
        return await settled(in_time())
    except FAILURES as error:
        meant = meaning(error)
        if meant is error:
            raise
        raise meant from error


class Statements(ABC):
    """What a repository may do."""

    @abstractmethod
    async def _read(self, work: Work[T]) -> T: ...

    @abstractmethod
    async def _write(self, work: Work[T]) -> T: ...

    @abstractmethod
    async def commit(self) -> None: ...

    async def rows(self, statement: Executable, **values: object) -> Sequence[Row]:
        return await self._read(lambda connection: connection.execute(statement, values).all())

    async def first(self, statement: Executable, **values: object) -> Row | None:
        return await self._read(lambda connection: connection.execute(statement, values).first())

    async def lock(self, statement: Executable, **values: object) -> Row | None:
        """As `first`, of a statement that locks."""
        return await self._write(lambda connection: connection.execute(statement, values).first())

    async def insert(self, statement: Insert, **values: object) -> Any:
        """The new row's primary key, if that is one column."""

        def work(connection: Connection) -> Any:
            key = connection.execute(statement, values).inserted_primary_key
            return key[0] if key else None

        return await self._write(work)

    async def insert_all(self, statement: Insert, rows: Sequence[Mapping[str, object]]) -> None:
        """All rows with one statement, if there are any."""
        if rows:
            await self._write(lambda connection: connection.execute(statement, rows).close())

    async def change(self, statement: Update | Delete, **values: object) -> int:
        """How many rows matched, whether or not they had these values already."""
        return await self._write(lambda connection: connection.execute(statement, values).rowcount)


class SingleReads(Statements):
    """Each read on a connection of its own, which is given back at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def _read(self, work: Work[T]) -> T:
        return await answer(lambda: self._read_now(work))

    async def _write(self, work: Work[T]) -> T:
        raise RuntimeError("this unit of work is read-only")

    async def commit(self) -> None:
        raise RuntimeError("this unit of work is read-only")

    def _read_now(self, work: Work[T]) -> T:
        try:
            with self._engine.connect() as connection:
                return work(connection)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        with self._engine.connect() as connection:  # that one had died in the pool, which has been emptied since
            return work(connection)


class Transaction(Statements):
    """All statements in one transaction, which begins with the first of them. It must be closed. Calls take turns.

    After any failure it is only good for closing: MySQL has rolled back and would commit what follows piece by piece.
    """

    def __init__(self, engine: Engine, begin: str) -> None:
        self._engine = engine
        self._begin = begin
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()
        self._over = False

    async def _read(self, work: Work[T]) -> T:
        return await self._write(work)

    async def _write(self, work: Work[T]) -> T:
        return await answer(lambda: self._work_now(work), turn=self._turn)

    async def commit(self) -> None:
        await answer(self._commit_now, turn=self._turn)

    async def close(self) -> None:
        """Rolls back what was not committed."""
        self._over = True
        if self._connection is not None or self._turn.locked():
            with suppress(Unavailable):  # a connection that is lost has rolled back as well
                await answer(lambda: self._end("ROLLBACK"), turn=self._turn)

    def _check(self) -> None:
        if self._over:
            raise RuntimeError("this unit of work is over: it was committed, was left, or has failed")

    def _work_now(self, work: Work[T]) -> T:
        self._check()
        try:
            if self._connection is None:
                self._connection = self._opened()
            return work(self._connection)
        except BaseException:
            self._over = True
            raise

    def _commit_now(self) -> None:
        self._check()
        self._over = True
        self._end("COMMIT")

    def _opened(self) -> Connection:
        try:
            return self._begin_now()
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        return self._begin_now()  # that one had died in the pool, which has been emptied since

    def _begin_now(self) -> Connection:
        connection = self._engine.connect()
        try:
            connection.exec_driver_sql(self._begin)
        except BaseException:
            _discard(connection)
            raise
        return connection

    def _end(self, statement: str) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if not connection.invalidated:
            try:
                connection.exec_driver_sql(statement)
            except BaseException:
                _discard(connection)
                raise
        connection.close()


def _discard(connection: Connection) -> None:
    """Nobody shall get a connection that may be inside a transaction."""
    if not connection.invalidated:
        connection.invalidate()
    connection.close()
