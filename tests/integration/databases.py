"""Databases for tests: each is made under a random name, migrated, and dropped afterwards.

The servers are those of compose.yaml, or named by `TEST_MYSQL_URL` and `TEST_POSTGRESQL_URL` (without a database).
Where one does not answer its tests are skipped; in CI they fail.
"""

import asyncio
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from chatcore_sql import Database
from chatcore_sql.tables import metadata
from chatcore_sql.url import engine_url

SERVERS = {
    "mysql": os.environ.get("TEST_MYSQL_URL", "mysql://root@127.0.0.1:3306"),
    "postgresql": os.environ.get("TEST_POSTGRESQL_URL", "postgresql://postgres@127.0.0.1:5432/postgres"),
}
KINDS = ("sqlite", *SERVERS)


@contextmanager
def new_database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of an empty database, not migrated. `folder`: for the SQLite file."""
    name = f"chatcore_test_{secrets.token_hex(6)}"
    if kind == "sqlite":
        yield f"sqlite:///{folder / name}.db"
        return
    server = SERVERS[kind]
    try:
        asyncio.run(execute(server, f"CREATE DATABASE {name}"))
    except (DBAPIError, OSError) as error:
        problem = f"no {kind} server at {make_url(server).host}: `docker compose up -d` gives one ({error})"
        if os.environ.get("CI"):
            pytest.fail(problem)
        pytest.skip(problem)
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        force = " WITH (FORCE)" if kind == "postgresql" else ""  # a test that failed may have left a connection
        asyncio.run(execute(server, f"DROP DATABASE {name}{force}"))


@contextmanager
def migrated_database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of a database without any users in it."""

    async def migrate() -> None:
        async with Database(url) as database:
            await database.migrate()

    with new_database(kind, folder) as url:
        asyncio.run(migrate())
        yield url


async def empty(url: str) -> None:
    """Deletes everything but the roles, which a migration made."""
    owned = [table.name for table in reversed(metadata.sorted_tables) if table.name != "roles"]
    await execute(url, *(f"DELETE FROM {name}" for name in owned))


async def execute(url: str, *statements: str) -> Sequence[Sequence[Any]]:
    """What the last statement returned; on a connection of its own, not the application's."""
    rows: Sequence[Sequence[Any]] = []
    engine = create_async_engine(engine_url(url), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        for statement in statements:
            result = await connection.exec_driver_sql(statement)
            rows = result.all() if result.returns_rows else []
    return rows
