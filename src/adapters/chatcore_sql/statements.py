"""How the repositories reach the database: statements run either one by one or in one transaction.

Every connection is in the driver's autocommit mode. A read costs one round trip, and giving a connection back costs
none; a transaction says its BEGIN and COMMIT itself. Statements are built once, at import, with named values:
SQLAlchemy then has nothing to compile or to compare when they run. Calls of its synchronous API run on the event loop,
in a greenlet.

Whatever has begun goes on to its end, whoever is cancelled meanwhile.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import Connection, Delete, Executable, Insert, Table, Update
from sqlalchemy.engine import Dialect as SQLAlchemyDialect
from sqlalchemy.exc import DBAPIError

from chatcore.errors import Contention, NotMigrated, Unavailable
from chatcore.shielding import shielded
from chatcore_sql._internals import LostError, greenlet_spawn
from chatcore_sql.dialects import DIALECTS, dialect_of
from chatcore_sql.dialects.base import Query as Query
from chatcore_sql.dialects.base import Row as Row
from chatcore_sql.failures import FAILURES, in_its_own_words, meaning
from chatcore_sql.pool import Pool
from chatcore_sql.queries import fetch

T = TypeVar("T")
Work = Callable[[Connection], T]

_log = logging.getLogger("chatcore.sql")

ANSWER_WITHIN = 30.0  # seconds; a database that takes longer is as good as gone
URGENT_WITHIN = 2.0  # the same for what shows others that this process is alive, which has to be tried again soon


async def answer(work: Awaitable[T], *, within: float | None = None, patiently: bool = False) -> T:
    """What `work` returns, `within` so many seconds if not in the usual time, unless `patiently`.

    Raises core errors in place of SQLAlchemy's, where they have a meaning.
    """
    try:
        async with asyncio.timeout(None if patiently else within or ANSWER_WITHIN):
            return await work
    except FAILURES as error:
        meant = meaning(error)
        if meant is error:
            raise
        said = not patiently and isinstance(error, DBAPIError) and error.statement is not None
        if isinstance(meant, Unavailable) and said:
            _log.log(logging.INFO if isinstance(meant, Contention) else logging.WARNING, "%s", in_its_own_words(error))
        raise meant from error


@lru_cache(maxsize=16)  # more than there are
def _upsert(table: Table, dialect: SQLAlchemyDialect) -> str:
    return DIALECTS[dialect.name].upsert(table).compile(dialect=dialect).string


class Statements(ABC):
    """What a repository may do."""

    @abstractmethod
    async def rows(self, query: Query, **values: object) -> Sequence[Row]: ...

    @abstractmethod
    async def _write(self, work: Work[T]) -> T: ...

    @abstractmethod
    async def commit(self) -> None: ...

    def then(self, call: Callable[[bool | None], None]) -> None:
        """As `chatcore.ports.Transaction`."""
        call(True)

    async def first(self, query: Query, **values: object) -> Row | None:
        rows = await self.rows(query, **values)
        return rows[0] if rows else None

    async def lock(self, query: Query, **values: object) -> Row | None:
        """As `first`, of a query that locks."""
        return await self._write(lambda connection: connection.execute(query, values).first())

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

    async def insert_or_replace_all(self, table: Table, rows: Sequence[tuple[object, ...]]) -> None:
        """As `insert_all`; a row takes the place of the one with its key. The rows have a value for each of the table's
        columns, in their order, as the driver takes it: SQLAlchemy, which would take as long as all else that is done
        with them, looks at none.
        """
        if rows:
            await self._write(
                lambda connection: connection.exec_driver_sql(_upsert(table, connection.dialect), rows).close()
            )

    async def execute(self, statement: Executable, params: Mapping[str, object]) -> Any:
        """What `HookWork.execute` promises."""

        def work(connection: Connection) -> Any:
            result = connection.execute(statement, params)
            return result.all() if result.returns_rows else result.rowcount

        try:
            return await self._write(work)
        except NotMigrated as error:  # what it lacks is a table of the program's
            raise error.__cause__ or error from None

    async def change(self, statement: Update | Delete, **values: object) -> int:
        """How many rows matched, whether or not they had these values already."""
        return await self._write(lambda connection: connection.execute(statement, values).rowcount)


class SingleReads(Statements):
    """Each read on a connection of its own, which is given back at once."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def rows(self, query: Query, **values: object) -> Sequence[Row]:
        return await shielded(answer(self._rows(query, values)))

    async def _write(self, work: Work[T]) -> T:
        raise RuntimeError("this unit of work is read-only")

    async def commit(self) -> None:
        raise RuntimeError("this unit of work is read-only")

    async def _rows(self, query: Query, values: Mapping[str, object]) -> Sequence[Row]:
        try:
            return await self._once(query, values)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        except LostError:
            pass
        return await self._once(query, values)  # the pool has been emptied of what had died in it

    async def _once(self, query: Query, values: Mapping[str, object]) -> Sequence[Row]:
        connection = await self._pool.take()
        try:
            rows = await fetch(connection, query, values)
        except BaseException:
            await self._leave(connection)
            raise
        self._pool.give(connection)
        return rows

    async def _leave(self, connection: Connection) -> None:
        """An answer may be under way still."""
        if dialect_of(connection).can_go_on(connection):
            self._pool.give(connection)
        else:
            await self._pool.discard(connection)


class Transaction(Statements):
    """All statements in one transaction, which begins with the first of them. It must be closed. Calls take turns.

    After any failure it is only good for closing: MySQL has rolled back and would commit what follows piece by piece.
    """

    def __init__(self, pool: Pool, begin: str, *, within: float | None = None) -> None:
        """`within`: seconds for each statement, if not the usual ones."""
        self._pool = pool
        self._begin = begin
        self._within = within
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()
        self._over = False

    async def rows(self, query: Query, **values: object) -> Sequence[Row]:
        return await self._write(lambda connection: connection.execute(query, values).all())

    async def _write(self, work: Work[T]) -> T:
        return await self._in_turn(lambda: self._work(work))

    async def commit(self) -> None:
        await self._in_turn(self._commit)

    async def close(self) -> None:
        """Roll back what was not committed."""
        self._over = True
        if self._connection is not None or self._turn.locked():
            with suppress(Unavailable):  # a connection that is lost has rolled back as well
                await self._in_turn(lambda: self._end("ROLLBACK"))

    async def _in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        async def turn() -> T:
            async with self._turn:
                return await work()

        return await shielded(answer(turn(), within=self._within))

    def _check(self) -> None:
        if self._over:
            raise RuntimeError("this unit of work is over: it was committed, was left, or has failed")

    async def _work(self, work: Work[T]) -> T:
        self._check()
        try:
            if self._connection is None:
                self._connection = await self._begun()
            return await greenlet_spawn(work, self._connection)
        except BaseException as error:
            self._over = True
            if not isinstance(error, Exception):  # its time is over, and the answer may still come
                await self._forget()
            raise

    async def _forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._pool.discard(connection)

    async def _commit(self) -> None:
        self._check()
        self._over = True
        await self._end("COMMIT")

    async def _begun(self) -> Connection:
        try:
            return await self._said(await self._pool.take(), self._begin)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        # That one had died in the pool, which has been emptied since.
        return await self._said(await self._pool.take(), self._begin)

    async def _end(self, statement: str) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if connection.invalidated:
            await self._pool.discard(connection)
        elif statement == "ROLLBACK" and dialect_of(connection).has_rolled_back(connection):
            self._pool.give(connection)
        else:
            self._pool.give(await self._said(connection, statement))

    async def _said(self, connection: Connection, statement: str) -> Connection:
        """The connection, which nobody shall get if it may be inside a transaction."""
        try:
            await greenlet_spawn(connection.exec_driver_sql, statement)
        except BaseException:
            await self._pool.discard(connection)
            raise
        return connection
