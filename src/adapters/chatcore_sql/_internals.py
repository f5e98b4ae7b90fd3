"""What is private in SQLAlchemy and the drivers, or public without a promise, and used here all the same.

`pyproject.toml` has upper bounds for these packages: a newer one is taken once the tests have run with it.
"""

import struct
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import closing, contextmanager
from copy import copy
from typing import Any, NoReturn

from alembic import context, op
from sqlalchemy import Connection, Dialect, Engine, ForeignKeyConstraint, MetaData, Table, event
from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_connection
from sqlalchemy.dialects.postgresql.asyncpg import (
    AsyncAdapt_asyncpg_connection,
    AsyncAdapt_asyncpg_cursor,
    AsyncAdapt_asyncpg_dbapi,
)
from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_connection, AsyncAdapt_aiosqlite_cursor
from sqlalchemy.util import EMPTY_DICT
from sqlalchemy.util import await_only as await_only
from sqlalchemy.util import greenlet_spawn as greenlet_spawn

STALE = AsyncAdapt_asyncpg_dbapi.InvalidCachedStatementError
"""The schema has changed under a prepared statement."""

CUT_OFF = (RuntimeError, IndexError, struct.error)
"""Raised by asyncmy if a connection ends unexpectedly, when it looks at a socket or bytes that are gone."""

_STATEMENTS = 256  # more than there are


class LostError(ConnectionError):
    """A connection ended, and its driver has no error of its own for how."""


def raise_as_sqlalchemy(connection: Connection, statement: str, error: Exception) -> NoReturn:
    """Raise what SQLAlchemy would, had it sent the statement that a driver refuses, or `LostError`. A lost connection
    is closed. In a greenlet, as all that waits for a driver.
    """
    inner: Any = connection
    adapted: Any = connection.connection.dbapi_connection
    try:
        adapted._handle_exception(error)
    except (OSError, *CUT_OFF) as lost:
        connection.invalidate()
        raise LostError from lost
    except Exception as translated:
        inner._handle_dbapi_exception(translated, statement, None, None, None)
    raise error  # neither returns


def renamed(engine: Engine, table: Callable[[Any], str], schema: Callable[[Any], str | None]) -> None:
    """Have the engine's statements written with other names: `table` is given each name, `schema` each table.

    A dialect may make its preparer when it first meets the server, so that it is there only then.
    """

    event.listen(engine, "connect", lambda *_: _rename(engine.dialect, table, schema), once=True)


def _rename(dialect: Dialect, table: Callable[[Any], str], schema: Callable[[Any], str | None]) -> None:
    preparer: Any = dialect.identifier_preparer
    quote, schema_of = preparer.quote, preparer.schema_for_object

    def quote_renamed(name: str) -> str:
        return str(quote(table(name)))

    def schema_renamed(part: object) -> str | None:
        found: str | None = schema(part) or schema_of(part)
        return found

    preparer.quote, preparer.schema_for_object = quote_renamed, schema_renamed


# ---- a transaction of the embedding program's ----


def beside(theirs: Engine, backend: str, table: Callable[[Any], str], schema: Callable[[Any], str | None]) -> Engine:
    """Return an engine for statements of ours on connections of theirs, which has met its server. Theirs is not
    changed. `backend`: the dialect's name here, of which MariaDB may have another."""
    dialect: Any = copy(theirs.dialect)
    dialect.__dict__.pop("_type_memos", None)  # which go by the name
    dialect.name = backend
    dialect.identifier_preparer = copy(dialect.identifier_preparer)
    dialect.identifier_preparer.dialect = dialect
    _rename(dialect, table, schema)
    return Engine(theirs.pool, dialect, theirs.url, hide_parameters=True)


class JoinedConnection(Connection):
    """What another connection has of the driver's, for statements of `engine`. It begins and ends nothing."""

    def __init__(self, engine: Engine, theirs: Connection) -> None:
        inner: Any = super()
        inner.__init__(engine, theirs.connection, _has_events=False, _allow_revalidate=False, _allow_autobegin=False)

    def _rollback_impl(self) -> None:
        """Leave to a savepoint what a statement's error undoes."""


def commits_by_itself(connection: Connection) -> bool:
    inner: Any = connection
    return bool(inner._is_autocommit_isolation())


def when_over(connection: Connection, call: Callable[[bool], None]) -> None:
    """Call once the connection's transaction is over. False: rolled back. True: committed, or perhaps, if that fails.

    SQLAlchemy's own events are before a commit, or of a session that may not be what commits.
    """
    inner: Any = connection

    def watch(name: str, committed: bool) -> None:
        method = getattr(inner, name)

        def over(*arguments: Any) -> None:
            try:
                method(*arguments)
            finally:
                for each in _ENDS:
                    inner.__dict__.pop(each, None)
                call(committed)

        setattr(inner, name, over)

    for name, committed in _ENDS.items():
        watch(name, committed)


_ENDS = {
    "_commit_impl": True,
    "_commit_twophase_impl": True,
    "_rollback_impl": False,
    "_rollback_twophase_impl": False,
}


def copied(table: Table, into: MetaData, named: Callable[[str], str], schema: str | None) -> Table:
    """Copy columns and references of a table, which `to_metadata` would refer to tables by their former names."""
    columns: Any = table.columns
    parts: list[Any] = [column._copy() for column in columns]
    place = f"{schema}." if schema else ""
    for key in table.foreign_key_constraints:
        targets = [f"{place}{named(each.column.table.name)}.{each.column.name}" for each in key.elements]
        parts.append(ForeignKeyConstraint(key.column_keys, targets, ondelete=key.ondelete))
    return Table(named(table.name), into, *parts, schema=schema)


@contextmanager
def migrating_inside() -> Generator[None, None, None]:
    """Keep what `alembic.op` and `alembic.context` stand for, while a migration runs others."""
    places: Sequence[Any] = (op, context)
    kept = [proxy for place in places if (proxy := getattr(place, "_proxy", None)) is not None]
    try:
        yield
    finally:
        for proxy in kept:
            proxy._install_proxy()


# ---- SQLite ----


def open_sqlite(dialect: Dialect, _record: object, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
    """For SQLAlchemy's event `do_connect`."""
    adapted: Any = dialect.connect(*arguments, **options)
    return _SqliteConnection(dialect.loaded_dbapi, adapted.driver_connection)


class _SqliteCursor(AsyncAdapt_aiosqlite_cursor):
    """Goes to the connection's thread once for a statement, where aiosqlite goes for each of its steps: to make a
    cursor, to execute, to fetch, to close."""

    __slots__ = ()
    _cursor: Any

    def __init__(self, adapt_connection: AsyncAdapt_dbapi_connection) -> None:
        self._adapt_connection = adapt_connection
        self._connection: Any = adapt_connection.driver_connection
        self._rows = deque()
        self._soft_closed_memoized = EMPTY_DICT

    async def _execute_async(self, operation: Any, parameters: Any) -> None:
        await self._at_once(lambda cursor: cursor.execute(operation, parameters or ()))

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> None:
        await self._at_once(lambda cursor: cursor.executemany(operation, seq_of_parameters))

    async def _at_once(self, work: Callable[[Any], object]) -> None:
        def there() -> tuple[Any, deque[Any]]:
            with closing(self._connection._conn.cursor()) as cursor:
                work(cursor)
                return cursor, deque(cursor.fetchall() if cursor.description else ())

        self._cursor, self._rows = await self._connection._execute(there)

    async def _async_soft_close(self) -> None:
        """It is closed already; what it knows of its statement remains."""

    def close(self) -> None:
        self._rows.clear()


class _SqliteConnection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ()
    _cursor_cls = _SqliteCursor


# ---- PostgreSQL ----


class _PostgresCursor(AsyncAdapt_asyncpg_cursor):
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
    _cursor_cls = _PostgresCursor

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
