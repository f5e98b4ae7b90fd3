"""SQLite: a file, or a database in memory, which one process has."""

import re
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Insert, Table, event, literal_column, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from chatcore_sql._internals import open_sqlite
from chatcore_sql.dialects import base
from chatcore_sql.dialects.base import Dialect, Meaning, Row, message_of, on_conflict_replaced
from chatcore_sql.functions import Now, octet_length

_PRAGMAS = ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON")
_MEANINGS: Mapping[int, Meaning] = {  # of primary codes, of which there are extended ones
    sqlite3.SQLITE_BUSY: Meaning.LOST,
    sqlite3.SQLITE_LOCKED: Meaning.LOST,
    sqlite3.SQLITE_READONLY: Meaning.READ_ONLY,
    sqlite3.SQLITE_ERROR: Meaning.MISTAKE,
}
_MISSING = re.compile(r"no such (table|column): |table \S+ has no column named ")


class _SQLite(Dialect):
    name = "sqlite"
    driver = "sqlite+aiosqlite"
    schemes = ("sqlite", "sqlite3")
    other_drivers = "(aio|py)sqlite"
    is_server = False
    begin = "BEGIN IMMEDIATE"
    takes_changes = select(literal_column("1"))

    def arguments(self) -> dict[str, Any]:
        return {"timeout": base.LOCK_TIMEOUT}

    def set_up(self, engine: Engine) -> None:
        event.listen(engine, "do_connect", open_sqlite)
        event.listen(engine, "connect", _prepare)

    async def fetch(self, connection: Any, text: str, arguments: Sequence[object]) -> Sequence[Row]:
        rows: Sequence[Row] = await connection.driver_connection.execute_fetchall(text, arguments)
        return rows

    def upsert(self, table: Table) -> Insert:
        return on_conflict_replaced(sqlite.insert(table), table)

    def meaning(self, error: BaseException | None) -> Meaning | None:
        if _MISSING.match(message_of(error)):
            return Meaning.MISSING
        return _MEANINGS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)

    def dangles(self, error: BaseException | None) -> bool:
        return message_of(error) == "FOREIGN KEY constraint failed"

    def can_go_on(self, connection: Connection) -> bool:
        """It does one thing after the other."""
        return not connection.invalidated

    def enter(self, connection: Connection) -> None:
        """The driver begins with the first change, which a savepoint is not: its release would commit."""
        if self.has_rolled_back(connection):
            connection.exec_driver_sql(self.begin)

    def has_rolled_back(self, connection: Connection) -> bool:
        """SQLite does so by itself, where its disk is full or fails, and refuses to do it twice."""
        driver: Any = connection.connection.driver_connection
        return not driver.in_transaction


SQLITE: Dialect = _SQLite()


def _prepare(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


@compiles(Now, "sqlite")
def _now(*_: Any, **__: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)"


@compiles(octet_length, "sqlite")
def _octet_length(element: octet_length, compiler: SQLCompiler, **options: Any) -> str:
    return f"length(CAST({compiler.process(element.clauses, **options)} AS BLOB))"
