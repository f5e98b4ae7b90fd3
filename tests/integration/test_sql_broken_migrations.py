"""Migrations whose process is killed. MySQL and MariaDB keep what it had changed by then; the next process goes on."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from chatcore_sql import Database, DatabaseUnreachable
from integration.databases import KINDS, execute, new_database
from integration.test_sql_migrations import check_same, fill, looked_at, rows_of, schema_of

CHANGES = ("CREATE", "ALTER", "DROP", "INSERT", "UPDATE", "DELETE")
PROGRESS = "chatcore_progress"


@pytest.fixture(params=[kind for kind in KINDS if kind == "mysql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with new_database(request.param, tmp_path_factory.mktemp("databases")) as url:
        yield url


@contextmanager
def killed_after(database: Database, changes: int) -> Iterator[None]:
    """What happens with the database ends once so many changes of our tables are made in it."""
    left = changes

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        nonlocal left
        left -= statement.lstrip().startswith(CHANGES) and PROGRESS not in statement
        if left == 0:
            raise RuntimeError("killed")

    engine = database._writing.engine
    event.listen(engine, "after_cursor_execute", count)
    try:
        yield
    finally:
        event.remove(engine, "after_cursor_execute", count)


async def gets_there(database: Database, change: Any) -> int:
    """How often it is killed: each time after the second change, of which the first may be that of the time before."""
    for times in range(150):
        try:
            with killed_after(database, 2):
                await change()
        except RuntimeError:
            continue
        return times
    raise AssertionError("it gets nowhere")


async def unnumbered(url: str) -> list[list[str]]:
    """The tables, without the numbers of their next rows."""
    return [[re.sub(r" AUTO_INCREMENT=\d+", "", line) for line in table] for table in await schema_of(url)]


async def test_a_migration_and_a_way_back_that_are_killed_after_each_change_get_there(url: str) -> None:
    async with Database(url) as database:
        assert await gets_there(database, database.migrate) > 30
        assert await database.is_migrated()
        await fill(database)
        await execute(url, 'UPDATE users SET profile = \'{"job": "poet"}\'')
        made = await unnumbered(url)
        await database.downgrade("chatcore_0001")
        older = await looked_at(url, rows_of)
        await database.migrate()
        assert await unnumbered(url) == made
        assert await gets_there(database, lambda: database.downgrade("chatcore_0001")) > 30
        assert await looked_at(url, rows_of) == older
        assert await gets_there(database, database.migrate) > 30
        assert await database.is_migrated()
        assert await unnumbered(url) == made
        check_same(older, await looked_at(url, rows_of))


async def test_what_is_half_way_goes_on_the_same_way(url: str) -> None:
    async with Database(url) as database:
        await database.migrate()
        with pytest.raises(RuntimeError), killed_after(database, 6):
            await database.downgrade("chatcore_0012")
        assert not await database.is_migrated()
        with pytest.raises(DatabaseUnreachable, match="half-way down from chatcore_00"):
            await database.migrate()
        await database.downgrade("chatcore_0012")
        with pytest.raises(RuntimeError), killed_after(database, 4):
            await database.migrate()
        with pytest.raises(DatabaseUnreachable, match="half-way up from chatcore_0012"):
            await database.downgrade()
        await database.migrate()
        assert await database.is_migrated()


async def test_a_table_of_another_program_is_not_taken_for_a_change_that_was_made(url: str) -> None:
    async with Database(url) as database:
        await database.migrate()
        await database.downgrade("chatcore_0012")
        await execute(url, "CREATE TABLE owners (id INTEGER)")
        for _ in range(2):
            with pytest.raises(DatabaseUnreachable, match="owners"):
                await database.migrate()
        await execute(url, "DROP TABLE owners")
        await database.migrate()
        assert await database.is_migrated()
