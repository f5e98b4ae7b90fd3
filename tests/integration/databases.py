"""Databases for tests: each is made under a random name, migrated, and dropped afterwards.

The servers are those of tests/compose.yaml; where one does not answer its tests are skipped, and in CI they fail.
`DATABASE_URL` names another, and the tests run on that alone: what it has already is left alone, its user must be
allowed to make databases, and it must answer.
"""

import asyncio
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from chatcore_sql import Database
from chatcore_sql.tables import metadata
from chatcore_sql.url import engine_url
from integration.pgbouncer import pgbouncer

SERVERS = {
    "mysql": "mysql://root@127.0.0.1:3306",
    "postgresql": "postgresql://postgres@127.0.0.1:5432/postgres",
}
KINDS = ["sqlite", *SERVERS]
"""What the tests run on. MariaDB is a MySQL here."""

if GIVEN := os.environ.get("DATABASE_URL"):
    KINDS = [engine_url(GIVEN).get_backend_name()]
    SERVERS.update(dict.fromkeys(KINDS, GIVEN))

_MARKED = {kind: pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in ("sqlite", "mysql", "postgresql")}
on_each = [_MARKED[kind] for kind in KINDS]
on_one = pytest.mark.parametrize("database_url", on_each[:1], indirect=True)
"""For what is refused before any database is asked."""
POOLER = "pgbouncer"
behind_a_pooler = pytest.param(POOLER, marks=pytest.mark.postgresql)
"""PostgreSQL behind PgBouncer in transaction mode: for what shows that nothing depends on a session of the server's."""
only_servers = pytest.mark.parametrize("database_url", [_MARKED["mysql"], _MARKED["postgresql"]], indirect=True)
"""For what a SQLite file cannot have: more than one process."""
on_one_server = pytest.mark.parametrize("database_url", [_MARKED[kind] for kind in KINDS[1:2]], indirect=True)
"""For what such processes do among themselves, whatever their server."""


@contextmanager
def new_database(kind: str, folder: Path, options: str = "") -> Iterator[str]:
    """The URL of an empty database, not migrated. `folder`: for the SQLite file. `options`: of a server's."""
    if kind == POOLER:
        with new_database("postgresql", folder) as url, pgbouncer(url) as through:
            yield through
        return
    if kind not in KINDS:
        pytest.skip(f"not on {kind}: DATABASE_URL names another database")
    name = f"chatcore_test_{secrets.token_hex(6)}"
    if kind == "sqlite":
        yield f"sqlite:///{folder / name}.db"
        return
    server = SERVERS[kind]
    try:
        asyncio.run(execute(server, f"CREATE DATABASE {name} {options}"))
    except (DBAPIError, OSError) as error:
        problem = f"no {kind} server at {make_url(server).host} that makes databases ({error})"
        if GIVEN or os.environ.get("CI"):
            pytest.fail(problem)
        pytest.skip(f"{problem}: `docker compose -f tests/compose.yaml up -d` gives one")
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        force = " WITH (FORCE)" if kind == "postgresql" else ""  # a test that failed may have left a connection
        asyncio.run(execute(server, f"DROP DATABASE {name}{force}"))


@contextmanager
def migrated_database(kind: str, folder: Path, **names: Any) -> Iterator[str]:
    """The URL of a database without any users in it. `names`: `prefix` and `schema` of the tables."""

    async def migrate() -> None:
        async with Database(url, **names) as database:
            await database.migrate()

    with new_database(kind, folder) as url:
        asyncio.run(migrate())
        yield url


async def empty(url: str, *, prefix: str = "", schema: str = "") -> None:
    """Deletes everything but the roles, which a migration made."""
    owned = [table.name for table in reversed(metadata.sorted_tables) if table.name != "roles"]
    place = f"{schema}." if schema else ""
    await execute(url, *(f"DELETE FROM {place}{prefix}{name}" for name in owned))


async def rows_in(url: str, tables: Mapping[str, str]) -> dict[str, list[str]]:
    """The rows of each of these tables, in order, where what is said of it holds; on one connection."""
    async with _connected(url) as connection:
        rows = {
            name: (await connection.exec_driver_sql(f"SELECT * FROM {name} WHERE {where}")).all()
            for name, where in tables.items()
        }
    return {name: sorted(map(repr, found)) for name, found in rows.items()}


async def execute(url: str, *statements: str) -> Sequence[Sequence[Any]]:
    """What the last statement returned; on a connection of its own, not the application's."""
    rows: Sequence[Sequence[Any]] = []
    async with _connected(url) as connection:
        for statement in statements:
            result = await connection.exec_driver_sql(statement)
            rows = result.all() if result.returns_rows else []
    return rows


def _connected(url: str) -> AbstractAsyncContextManager[AsyncConnection]:
    return bare_engine(url, isolation_level="AUTOCOMMIT").connect()


def bare_engine(url: str, **options: Any) -> AsyncEngine:
    """Not the application's. It goes through a pooler, too."""
    parsed = engine_url(url)
    unnamed = {"statement_cache_size": 0} if parsed.get_backend_name() == "postgresql" else {}
    return create_async_engine(parsed, poolclass=NullPool, connect_args=unnamed, **options)


_OF_INNODB = (
    "SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p "
    "ON p.id = t.trx_mysql_thread_id WHERE p.db = '{name}'"
)
_OF_POSTGRESQL = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = '{name}'"


async def nobody_in_a_transaction(url: str) -> None:
    """Waits until no connection of the server has begun what it has not ended."""
    await _until(url, 0, _OF_INNODB, f"{_OF_POSTGRESQL} AND state LIKE 'idle in transaction%%'")


async def somebody_waits(url: str) -> None:
    """Waits until one connection of the server waits for a lock."""
    await _until(
        url, 1, f"{_OF_INNODB} AND t.trx_state = 'LOCK WAIT'", f"{_OF_POSTGRESQL} AND wait_event_type = 'Lock'"
    )


async def _until(url: str, count: int, innodb: str, postgresql: str) -> None:
    parsed = make_url(url)
    kind = parsed.get_backend_name()
    query = (postgresql if kind == "postgresql" else innodb).format(name=parsed.database)
    async with asyncio.timeout(20):
        while (await execute(SERVERS[kind], query))[0][0] != count:
            await asyncio.sleep(0.2)  # InnoDB looks again only when nobody has asked for a tenth of a second


def idle(database: Database) -> bool:
    """Whether every connection is back in its pool."""
    return database.connections_in_use == 0
