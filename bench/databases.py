"""The databases of the benches: made on a server under a random name, migrated, and dropped in the end."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from chatcore_sql import Database
from chatcore_sql.url import engine_url


@asynccontextmanager
async def new_database(server: str) -> AsyncGenerator[str, None]:
    """The URL of one there with empty tables."""
    name = f"chatcore_bench_{secrets.token_hex(6)}"
    await execute(server, f"CREATE DATABASE {name}")
    try:
        url = make_url(server).set(database=name).render_as_string(hide_password=False)
        async with Database(url) as database:
            await database.migrate()
        yield url
    finally:
        force = " WITH (FORCE)" if server.startswith("postgres") else ""  # a process that was killed may still be in it
        await execute(server, f"DROP DATABASE {name}{force}")


async def execute(url: str, *statements: str) -> None:
    engine = create_async_engine(engine_url(url), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        for statement in statements:
            await connection.exec_driver_sql(statement)
