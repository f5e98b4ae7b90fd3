"""Tables with a prefix or in a schema, beside those of a host with the names of ours."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, inspect

from chatcore_sql import Database, DatabaseUnreachable, migration_script
from chatcore_sql.naming import MAX_PREFIX
from chatcore_sql.tables import metadata
from integration.databases import KINDS, execute, new_database
from integration.plans import keys
from integration.test_sql_migrations import fill, looked_at, scheme_of

HOSTS = ("users", "roles", "sessions", "messages")
ROWS = [("theirs",)]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with new_database(request.param, tmp_path_factory.mktemp("databases")) as url:
        yield url


def names_for(url: str) -> dict[str, Any]:
    return {"prefix": "Chat_", "schema": "Talk"} if url.startswith("postgresql") else {"prefix": "chat_"}


async def tables_in(url: str, schema: str | None = None) -> set[str]:
    found: set[str] = await looked_at(url, lambda connection: set(inspect(connection).get_table_names(schema)))
    return found


async def with_hosts_tables(url: str) -> None:
    for table in HOSTS:
        await execute(url, f"CREATE TABLE {table} (note VARCHAR(20))", f"INSERT INTO {table} VALUES ('{ROWS[0][0]}')")


async def rows_of_host(url: str) -> list[Sequence[Any]]:
    return [await execute(url, f"SELECT * FROM {table}") for table in HOSTS]


async def test_a_host_with_tables_of_the_same_names_keeps_them(url: str) -> None:
    await with_hosts_tables(url)
    names = names_for(url)
    ours = {f"{names['prefix']}{name}" for name in (*metadata.tables, "chatcore_version")}
    async with Database(url, **names) as database:
        assert not await database.is_migrated()
        for _ in range(2):
            await database.migrate()
            assert await database.is_migrated()
            await fill(database)
            async with database.unit_of_work(read_only=True) as work:
                assert await work.users.find("ada") is not None
            assert await tables_in(url, names.get("schema")) >= ours
            await database.downgrade("chatcore_0001")
            await database.migrate()
            await database.downgrade()
    assert await tables_in(url) - {f"{names['prefix']}chatcore_version"} == set(HOSTS)
    assert await rows_of_host(url) == [ROWS] * len(HOSTS)


async def test_without_a_prefix_a_host_with_such_tables_is_named(url: str) -> None:
    await with_hosts_tables(url)
    async with Database(url) as database:
        with pytest.raises(DatabaseUnreachable, match=r"messages, roles, sessions, users\..*DATABASE_TABLE_PREFIX"):
            await database.migrate()
        assert not await database.is_migrated()
    assert await tables_in(url) - set(HOSTS) <= {"chatcore_version"}
    assert await rows_of_host(url) == [ROWS] * len(HOSTS)


async def test_several_are_in_one_database(url: str) -> None:
    prefixes = ("", "a_", "b" * MAX_PREFIX)
    for prefix in prefixes:
        async with Database(url, prefix=prefix) as database:
            await database.migrate()
            await fill(database)
    async with Database(url, prefix="a_") as database:
        await database.downgrade()
    for prefix in (prefixes[0], prefixes[2]):
        async with Database(url, prefix=prefix) as database, database.unit_of_work(read_only=True) as work:
            assert await database.is_migrated()
            assert await work.users.find("ada") is not None


async def test_the_script_makes_the_same(url: str) -> None:
    def shape(connection: Connection) -> Any:
        it, schema = inspect(connection), names.get("schema")
        return {
            table: (
                {(column["name"], str(column["type"])) for column in it.get_columns(table, schema)},
                {(index["name"], *index["column_names"]) for index in it.get_indexes(table, schema)},
                {(key["name"], key["referred_table"]) for key in it.get_foreign_keys(table, schema)},
            )
            for table in it.get_table_names(schema)
        }

    names = names_for(url)
    async with Database(url, **names) as database:
        await database.migrate()
        made = await looked_at(url, shape)
        await database.downgrade()
    place = f'"{names["schema"]}".' if "schema" in names else ""
    quote = '"' if place else ""
    await execute(url, f"DROP TABLE {place}{quote}{names['prefix']}chatcore_version{quote}")
    script = migration_script(await scheme_of(url), **names)
    await execute(url, *(statement for statement in script.split(";\n") if statement.strip()))
    assert await looked_at(url, shape) == made
    async with Database(url, **names) as database:
        assert await database.is_migrated()
        await fill(database)


async def test_a_database_with_a_prefix_is_not_left_to_an_earlier_version(url: str) -> None:
    async with Database(url, prefix="a_") as database:
        await database.migrate()
        with pytest.raises(DatabaseUnreachable, match="prefix"):
            await database.downgrade("0005")
        assert await database.is_migrated()


async def test_a_schema_that_is_there_need_not_be_made(url: str) -> None:
    if not url.startswith("postgresql"):
        pytest.skip("schemas are PostgreSQL's")
    role = f"r{url.rpartition('_')[2]}"
    await execute(url, f"CREATE ROLE {role} LOGIN", f"CREATE SCHEMA talk AUTHORIZATION {role}")
    try:
        async with Database(url.replace("postgres@", f"{role}@"), schema="talk") as database:
            await database.migrate()
            await fill(database)
        assert await tables_in(url) == set()
    finally:
        await execute(url, f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


def test_every_name_leaves_room_for_the_prefix() -> None:
    named = [name for table in metadata.tables for name in (table, *keys(table))]
    foreign = [str(each.name) for table in metadata.tables.values() for each in table.foreign_key_constraints]
    assert max(map(len, [*named, *foreign])) + MAX_PREFIX <= 63


@pytest.mark.parametrize("prefix", ["1a", "a-", "a b", 'a"', "ä", "a" * (MAX_PREFIX + 1), "a\n"])
def test_a_prefix_that_is_none_is_refused(prefix: str) -> None:
    for refuse in (lambda: Database("sqlite://", prefix=prefix), lambda: migration_script("sqlite://", prefix=prefix)):
        with pytest.raises(ValueError, match="at most 12 letters, digits"):
            refuse()


@pytest.mark.parametrize("schema", ["", "1a", 'a"; --', "a.b", "a" * 64])
def test_a_schema_that_is_none_is_refused(schema: str) -> None:
    with pytest.raises(ValueError, match="at most 63 letters, digits"):
        Database("postgresql://h/x", schema=schema)


@pytest.mark.parametrize("url", ["sqlite://", "mysql://h/x", "mariadb://h/x"])
def test_a_schema_is_postgresqls(url: str) -> None:
    with pytest.raises(ValueError, match="schemas are PostgreSQL's"):
        Database(url, schema="talk")
