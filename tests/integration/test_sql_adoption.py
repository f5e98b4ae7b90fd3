"""Databases of earlier versions, whose revision is in `alembic_version`, and of other programs that have one too."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import event, inspect

from chatcore_sql import Database, DatabaseUnreachable
from integration.databases import KINDS, execute, new_database
from integration.test_sql_migrations import check_same, fill, forget_requests, looked_at, rows_of

CREATE = (
    "CREATE TABLE alembic_version "
    "(version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)
FORMER = "SELECT version_num FROM alembic_version ORDER BY version_num"
OWN = "SELECT version_num FROM chatcore_version"


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with new_database(request.param, tmp_path_factory.mktemp("databases")) as url:
        yield url


async def left_by_an_earlier_version(url: str, revision: str = "0005") -> dict[str, list[dict[str, Any]]]:
    """The rows of the tables."""
    async with Database(url) as database:
        await database.migrate()
        await fill(database)
        await forget_requests(database, url)
        await database.downgrade(f"chatcore_{revision}")
    await execute(url, "DROP TABLE chatcore_version", *another_programs(revision))
    return await rows_in(url)


def another_programs(*revisions: str) -> Sequence[str]:
    return CREATE, *(f"INSERT INTO alembic_version VALUES ('{revision}')" for revision in revisions)


async def rows_in(url: str) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = await looked_at(url, rows_of)
    return rows


async def has(url: str, table: str) -> bool:
    found: bool = await looked_at(url, lambda connection: inspect(connection).has_table(table))
    return found


@pytest.mark.parametrize("revision", ["0001", "0005", "0012"])
async def test_a_database_of_an_earlier_version_is_adopted_with_its_rows(url: str, revision: str) -> None:
    before = await left_by_an_earlier_version(url, revision)
    async with Database(url) as database:
        assert not await database.is_migrated()
        await database.migrate()
        assert await database.is_migrated()
    check_same(before, await rows_in(url))
    assert not await has(url, "alembic_version")


async def test_another_program_can_have_its_own_after_an_adoption(url: str) -> None:
    await left_by_an_earlier_version(url)
    async with Database(url) as database:
        await database.migrate()
        await execute(url, *another_programs("0003"))
        await database.migrate()
        assert await database.is_migrated()
    assert await execute(url, FORMER) == [("0003",)]


async def test_of_two_that_adopt_at_once_one_waits(url: str) -> None:
    before = await left_by_an_earlier_version(url)
    async with Database(url, pool_size=2) as database:
        await asyncio.gather(database.migrate(), database.migrate())
        assert await database.is_migrated()
    check_same(before, await rows_in(url))


@pytest.mark.parametrize("last", ["ALTER TABLE", "UPDATE chatcore_version"])
async def test_an_adoption_that_broke_off_goes_on_from_there(url: str, last: str) -> None:
    def fail(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith(last):
            raise RuntimeError("killed")

    before = await left_by_an_earlier_version(url)
    async with Database(url) as database:
        event.listen(database._writing.engine, "before_cursor_execute", fail)
        with pytest.raises(RuntimeError):
            await database.migrate()
        event.remove(database._writing.engine, "before_cursor_execute", fail)
        assert not await database.is_migrated()
        await database.migrate()
        assert await database.is_migrated()
    check_same(before, await rows_in(url))
    assert not await has(url, "alembic_version")


@pytest.mark.parametrize("revisions", [("0003",), (), ("0003", "0005")])
async def test_another_programs_revision_is_left_alone(url: str, revisions: Sequence[str]) -> None:
    await execute(url, "CREATE TABLE notes (id INTEGER)", *another_programs(*revisions))
    async with Database(url) as database:
        for _ in range(2):
            await database.migrate()
            assert await database.is_migrated()
            assert await execute(url, FORMER) == [(revision,) for revision in revisions]
        await database.downgrade()
        assert not await database.is_migrated()
    assert await execute(url, FORMER) == [(revision,) for revision in revisions]
    assert await has(url, "notes")


@pytest.mark.parametrize("revisions", [("head_of_another",), ("0003", "0005")])
async def test_tables_like_ours_at_a_revision_that_is_not_ours_are_not_adopted(
    url: str, revisions: Sequence[str]
) -> None:
    await left_by_an_earlier_version(url)
    await execute(url, "DROP TABLE alembic_version", *another_programs(*revisions))
    before = await rows_in(url)
    async with Database(url) as database:
        with pytest.raises(DatabaseUnreachable, match="users"):
            await database.migrate()
    assert await rows_in(url) == before
    assert await execute(url, FORMER) == [(revision,) for revision in revisions]


async def test_an_earlier_version_can_go_on_after_the_way_back(url: str) -> None:
    before = await left_by_an_earlier_version(url)
    async with Database(url) as database:
        await database.migrate()
        await database.downgrade("0005")
        assert not await database.is_migrated()
        assert await execute(url, FORMER) == [("0005",)]
        assert not await has(url, "chatcore_version")
        assert await rows_in(url) == before
        await database.migrate()
        assert await database.is_migrated()
    check_same(before, await rows_in(url))


async def test_a_way_back_that_broke_off_goes_on_from_there(url: str) -> None:
    def fail(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE alembic_version"):
            raise RuntimeError("killed")

    before = await left_by_an_earlier_version(url)
    async with Database(url) as database:
        await database.migrate()
        event.listen(database._writing.engine, "before_cursor_execute", fail)
        with pytest.raises(RuntimeError):
            await database.downgrade("0005")
        event.remove(database._writing.engine, "before_cursor_execute", fail)
        await database.downgrade("0005")
    assert await execute(url, FORMER) == [("0005",)]
    assert await rows_in(url) == before


async def test_there_is_no_way_back_over_another_programs_revision(url: str) -> None:
    async with Database(url) as database:
        await database.migrate()
        await execute(url, *another_programs("0003"))
        with pytest.raises(DatabaseUnreachable, match="another program's alembic_version"):
            await database.downgrade("0005")
        assert await database.is_migrated()
    assert await execute(url, FORMER) == [("0003",)]


async def test_in_a_schema_the_one_of_that_schema_is_adopted(url: str) -> None:
    if not url.startswith("postgresql"):
        pytest.skip("schemas are PostgreSQL's")
    await execute(url, *another_programs("0003"))
    async with Database(url, schema="talk") as database:
        await database.migrate()
        await fill(database)
        await database.downgrade("0005")
        assert await execute(url, "SELECT version_num FROM talk.alembic_version") == [("0005",)]
        await database.migrate()
        assert await database.is_migrated()
    assert await execute(url, FORMER) == [("0003",)]
    assert len(await execute(url, "SELECT id FROM talk.messages")) == 2
