"""PostgreSQL's connections, to the server itself or to a pooler before it.

A pooler in transaction mode (PgBouncer, Supavisor, RDS Proxy and others) has each transaction run on whichever of the
server's connections is free. A setting of the session, or a named prepared statement, does not reach the client's next
transaction, but perhaps another client's. Behind a pooler each transaction says for itself what it needs, together
with its BEGIN, and statements have no name: each goes out with its text and its values at once, as many round trips as
without a pooler, and is planned anew.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Dialect, Engine, event
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_connection, AsyncAdapt_asyncpg_cursor
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.util import await_only

_STATEMENTS = 256  # more than there are
_LOST_NAMES = ("26000", "42P05")  # SQLSTATEs: no prepared statement of this name, one already


def set_up(engine: Engine, *, session: Mapping[str, str], transaction: Mapping[str, str]) -> None:
    """`session`: settings of each connection, for which there is no need behind a pooler. `transaction`: settings that
    hold in every transaction."""
    connector = _Connector(session, transaction)
    event.listen(engine, "do_connect", connector)
    event.listen(engine, "handle_error", connector.notice)


class _Cursor(AsyncAdapt_asyncpg_cursor):
    __slots__ = ()

    async def _prepare_and_execute(self, operation: Any, parameters: Any) -> None:
        adapted: Any = super()
        if operation == "BEGIN":
            await self._by_connection(lambda connection: connection.begin())
        else:
            await adapted._prepare_and_execute(operation, parameters)

    async def _executemany(self, operation: Any, seq_of_parameters: Any) -> None:
        await self._by_connection(lambda connection: connection.execute_many(operation, seq_of_parameters))

    async def _by_connection(self, work: Callable[[Any], Awaitable[None]]) -> None:
        connection: Any = self._adapt_connection
        try:
            await work(connection)
        except Exception as error:
            connection._handle_exception(error)


class PostgresConnection(AsyncAdapt_asyncpg_connection):
    __slots__ = ("_local",)
    _cursor_cls = _Cursor

    def __init__(self, dbapi: Any, connection: Any, *, local: str = "") -> None:
        """`local`: behind a pooler, what a transaction says first."""
        adapted: Any = super()
        adapted.__init__(dbapi, connection, prepared_statement_cache_size=_STATEMENTS)
        self._local = local

    async def begin(self) -> None:
        """In one round trip."""
        driver: Any = self._connection
        await driver.execute(f"BEGIN ISOLATION LEVEL READ COMMITTED{self._local}")

    async def fetch(self, text: str, values: Sequence[object]) -> Sequence[Any]:
        """The rows. Raises asyncpg's errors."""
        if self._local:  # asyncpg would ask for the types again each time
            rows: Sequence[Any] = await (await self._described(text)).fetch(*values)
        else:
            driver: Any = self._connection
            rows = await driver.fetch(text, *values)
        return rows

    async def execute_many(self, text: str, rows: Sequence[Sequence[object]]) -> None:
        """Once for each row. Raises asyncpg's errors."""
        await (await self._described(text)).executemany(rows)

    async def _described(self, text: str) -> Any:
        adapted: Any = super()
        prepared, _ = await adapted._prepare(text, 0)
        return prepared


class _BehindPoolerError(Exception):
    """The server that answers is not the one that greeted."""


class _Connector:
    """Opens connections. Once it has met a pooler it goes on taking what is there for one."""

    def __init__(self, session: Mapping[str, str], transaction: Mapping[str, str]) -> None:
        self._session = "; ".join(f"SET {name} = '{value}'" for name, value in {**session, **transaction}.items())
        self._local = "".join(f"; SET LOCAL {name} = '{value}'" for name, value in transaction.items())
        self._pooled = False

    def __call__(self, dialect: Dialect, _record: object, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        return await_only(self._open(dialect.loaded_dbapi, options))

    def notice(self, context: ExceptionContext) -> None:
        """A pooler may greet as the server does; but it loses names, or has them from others."""
        if getattr(context.original_exception, "sqlstate", None) in _LOST_NAMES:
            self._pooled = True

    async def _open(self, dbapi: Any, options: Mapping[str, Any]) -> PostgresConnection:
        if not self._pooled:
            try:
                return await PostgresConnection.create(dbapi, self._directly(dbapi, options))
            except _BehindPoolerError:
                self._pooled = True
        pooled = dbapi.asyncpg.connect(**options, statement_cache_size=0)  # which means: no names
        return await PostgresConnection.create(dbapi, pooled, local=self._local)

    async def _directly(self, dbapi: Any, options: Mapping[str, Any]) -> Any:
        connection = await dbapi.asyncpg.connect(**options)
        try:
            await self._prepare_session(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _prepare_session(self, connection: Any) -> None:
        """Raises `_BehindPoolerError`.

        The greeting has the number of a process, by which a statement can be cancelled. A pooler has numbers of its
        own, since the server's change. Neither question is a prepared statement, which a pooler would keep.
        """
        number = connection.get_server_pid()
        if await connection.execute(f"SELECT 1 WHERE pg_backend_pid() = {number}") != "SELECT 1":
            raise _BehindPoolerError
        await connection.execute(self._session)
