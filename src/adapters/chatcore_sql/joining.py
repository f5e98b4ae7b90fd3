"""Units of work inside a transaction of the embedding program's: its session or connection, and its commit.

Each writing unit is a savepoint, so that one that fails leaves the program's transaction as it was. Its statements run
on the program's connection by an engine of ours, which knows our tables' names; the program's engine is not changed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from chatcore.errors import Contention, Unavailable
from chatcore.shielding import shielded
from chatcore_sql._internals import JoinedConnection, commits_by_itself, greenlet_spawn, when_over
from chatcore_sql.dialects import Dialect
from chatcore_sql.naming import Naming
from chatcore_sql.statements import Query, Row, Statements, Work, answer

T = TypeVar("T")
Session: TypeAlias = AsyncSession | AsyncConnection


class Engines:
    """For each engine of the program's, ours."""

    def __init__(self, naming: Naming, dialect: Dialect) -> None:
        self.dialect = dialect
        self._naming = naming
        self._found = WeakKeyDictionary[Engine, Engine]()

    def beside(self, theirs: Connection) -> Engine:
        """Raise `ValueError` for another kind of database, and for an engine without transactions."""
        name = theirs.dialect.name.replace("mariadb", "mysql")
        if name != self.dialect.name:
            raise ValueError(f"the session's database is {name}, chatcore's is {self.dialect.name}")
        if commits_by_itself(theirs):
            raise ValueError("the session commits each statement by itself (AUTOCOMMIT): it has no transaction to join")
        engine = theirs.engine
        if engine not in self._found:
            self._found[engine] = self._naming.beside(engine, self.dialect)
        return self._found[engine]


class Joined(Statements):
    """All statements in the program's transaction. Calls take turns. It must be closed."""

    def __init__(self, session: Session, engines: Engines, *, read_only: bool) -> None:
        self._session = session
        self._engines = engines
        self._dialect = engines.dialect
        self._read_only = read_only
        self._theirs: Connection | None = None
        self._ours: JoinedConnection | None = None
        self._saved = False
        self._over = False
        self._turn = asyncio.Lock()

    async def rows(self, query: Query, **values: object) -> Sequence[Row]:
        if self._read_only:
            return await self._in_turn(lambda: self._run(lambda it: it.execute(query, values).all()))
        query = self._dialect.current(query)
        return await self._write(lambda it: it.execute(query, values).all())

    async def _write(self, work: Work[T]) -> T:
        self._check_writing()
        return await self._in_turn(lambda: self._saving(work))

    async def commit(self) -> None:
        """Leave the commit to the program."""
        self._check_writing()
        await self._in_turn(self._release)

    async def close(self) -> None:
        """Undo what was not committed."""
        self._over = True
        if self._saved:
            with suppress(Unavailable):
                await self._in_turn(self._undo)

    def then(self, call: Callable[[bool | None], None]) -> None:
        if self._theirs is None:
            call(None)
        else:
            when_over(self._theirs, lambda committed: call(None if committed else False))

    def _check_writing(self) -> None:
        if self._read_only:
            raise RuntimeError("this unit of work is read-only")
        if self._over:
            raise RuntimeError("this unit of work is over: it was committed, was left, or has failed")

    async def _in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        async def turn() -> T:
            async with self._turn:
                return await work()

        try:
            return await shielded(answer(turn()))
        except Contention as error:  # nothing runs again but the program's whole transaction
            raise Unavailable("The transaction lost against another one. Run it again from its beginning.") from error

    async def _saving(self, work: Work[T]) -> T:
        try:
            if not self._saved:
                await self._run(self._save)
                self._saved = True
            return await self._run(work)
        except BaseException:
            self._over = True
            raise

    def _save(self, connection: Connection) -> None:
        self._dialect.enter(connection)
        connection.exec_driver_sql("SAVEPOINT chatcore")

    async def _release(self) -> None:
        self._over = True
        if self._saved:
            await self._run(lambda it: it.exec_driver_sql("RELEASE SAVEPOINT chatcore").close())
            self._saved = False

    async def _undo(self) -> None:
        """A server that knows no savepoint any more has rolled back the program's rows, too: it is not to commit."""

        def undo(connection: Connection) -> None:
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT chatcore")
            connection.exec_driver_sql("RELEASE SAVEPOINT chatcore")

        try:
            await self._run(undo)
        except Exception:
            await self._give_up()

    async def _run(self, work: Work[T]) -> T:
        if self._ours is None:
            self._ours = await self._join()
        try:
            return await greenlet_spawn(work, self._ours)
        except BaseException as error:
            if self._ours.invalidated or not isinstance(error, Exception):  # the answer may still come
                await self._give_up()
            raise

    async def _join(self) -> JoinedConnection:
        if isinstance(self._session, AsyncSession):
            await self._session.flush()
            connection = await self._session.connection()
        else:
            connection = self._session
        self._theirs = theirs = connection.sync_connection
        if theirs is None:
            raise ValueError("the connection is not open")
        engine = self._engines.beside(theirs)
        if not theirs.in_transaction():
            await greenlet_spawn(theirs.begin)
        return JoinedConnection(engine, theirs)

    async def _give_up(self) -> None:
        """The program can only roll back now, whatever it does."""
        self._saved = False
        if self._theirs is not None:
            await shielded(greenlet_spawn(self._theirs.invalidate), apart=True)
