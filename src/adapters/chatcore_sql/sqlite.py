"""SQLite's connections: how one is opened and set up, and how it executes."""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from sqlalchemy import Dialect, Engine, event
from sqlalchemy.connectors.asyncio import AsyncAdapt_dbapi_connection
from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_connection, AsyncAdapt_aiosqlite_cursor
from sqlalchemy.util import EMPTY_DICT

_PRAGMAS = ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON")


def set_up(engine: Engine) -> None:
    event.listen(engine, "do_connect", _connected)
    event.listen(engine, "connect", _prepare)


def _connected(dialect: Dialect, _record: object, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
    adapted: Any = dialect.connect(*arguments, **options)
    return _Connection(dialect.loaded_dbapi, adapted.driver_connection)


def _prepare(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


class _Cursor(AsyncAdapt_aiosqlite_cursor):
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


class _Connection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ()
    _cursor_cls = _Cursor
