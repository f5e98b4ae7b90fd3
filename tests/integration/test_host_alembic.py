"""chatcore's tables in the database of a program that has an Alembic, and tables with such names, of its own."""

from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from alembic import command, op
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Column, Connection, Integer, MetaData, Table, inspect

from chatcore.errors import NotMigrated
from chatcore_sql import Database
from chatcore_sql.alembic import VERSIONS, downgrade_op, include_object, metadata, upgrade_op
from chatcore_sql.tables import metadata as ours
from integration.databases import KINDS, bare_engine, execute, new_database
from integration.test_sql_migrations import scheme_of
from integration.test_sql_naming import names_for

THEIRS = MetaData()
for _name in ("users", "sessions"):
    Table(_name, THEIRS, Column("id", Integer, primary_key=True), Column("theirs", Integer))

ENV = """\
from alembic import context
context.configure(connection=context.config.attributes["connection"], prefix="chat_")
context.run_migrations()
"""


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with new_database(request.param, tmp_path) as url:
        yield url


@pytest.fixture
async def host(url: str) -> str:
    """A program at a revision of its own that chatcore once had, too."""
    await inside(url, THEIRS.create_all)
    await execute(url, "CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
    await execute(url, "INSERT INTO alembic_version VALUES ('0003')")
    return url


async def inside(url: str, work: Callable[[Connection], Any]) -> Any:
    """In one transaction."""
    engine = bare_engine(url)
    async with engine.begin() as connection:
        done = await connection.run_sync(work)
    await engine.dispose()
    return done


async def migrating(url: str, work: Callable[[], None]) -> None:
    """In a migration of the program's, which goes on after it."""

    def migrate(connection: Connection) -> None:
        with Operations.context(MigrationContext.configure(connection)):
            try:
                work()
            finally:
                op.execute("UPDATE users SET theirs = 1")

    await inside(url, migrate)


async def unchanged(url: str) -> None:
    assert [tuple(row) for row in await execute(url, "SELECT version_num FROM alembic_version")] == [("0003",)]

    def columns(connection: Connection) -> dict[str, set[str]]:
        return {name: {column["name"] for column in inspect(connection).get_columns(name)} for name in THEIRS.tables}

    assert await inside(url, columns) == {name: {"id", "theirs"} for name in THEIRS.tables}


async def tables_in(url: str, schema: str | None = None) -> set[str]:
    found: set[str] = await inside(url, lambda connection: set(inspect(connection).get_table_names(schema)))
    return found


async def test_without_a_prefix_nothing_is_changed(host: str) -> None:
    async with Database(host) as database:
        with pytest.raises(NotMigrated, match=r"sessions, users\..*prefix"):
            await database.migrate()
    with pytest.raises(NotMigrated, match=r"sessions, users\..*prefix"):
        await migrating(host, upgrade_op)
    await unchanged(host)
    assert await tables_in(host) - {"chatcore_version"} == {"users", "sessions", "alembic_version"}


async def test_with_a_prefix_both_have_their_own_revision(host: str) -> None:
    names = names_for(host)
    async with Database(host, **names) as database:
        await database.migrate()
        assert await database.is_migrated()
    await unchanged(host)


async def test_the_script_of_a_migration_takes_chatcores_along(host: str) -> None:
    """Within the program's own script, which `alembic upgrade --sql` writes in two parts."""
    names, dialect = names_for(host), await scheme_of(host)

    def script(start: str, revision: str) -> str:
        written = StringIO()
        said: Any = {"is_mariadb": True} if dialect.startswith("mariadb") else {}
        context = MigrationContext.configure(
            dialect_name=host.partition(":")[0],
            dialect_opts=said,
            opts={"as_sql": True, "output_buffer": written},
        )
        with Operations.context(context):
            upgrade_op(revision, start=start, **names)
            op.execute("UPDATE users SET theirs = 1")
            with pytest.raises(CommandError):
                downgrade_op(**names)
        return written.getvalue()

    for part in (script("base", "chatcore_0012"), script("chatcore_0012", "head")):
        assert "UPDATE users SET theirs = 1" in part
        assert "BEGIN" not in part
        assert "COMMIT" not in part
        await execute(host, *(statement for statement in part.split(";\n") if statement.strip()))
    async with Database(host, **names) as database:
        assert await database.is_migrated()
    await unchanged(host)


async def test_a_migration_of_the_programs_takes_chatcores_along(host: str) -> None:
    names = names_for(host)
    await migrating(host, lambda: upgrade_op("chatcore_0012", **names))
    async with Database(host, **names) as database:
        assert not await database.is_migrated()
    await migrating(host, lambda: upgrade_op(**names))
    await migrating(host, lambda: upgrade_op(**names))
    async with Database(host, **names) as database:
        assert await database.is_migrated()
    await unchanged(host)
    await migrating(host, lambda: downgrade_op(**names))
    left = {f"{names['prefix']}chatcore_version"}
    assert await tables_in(host) | await tables_in(host, names.get("schema")) == left | {
        *THEIRS.tables,
        "alembic_version",
    }
    await unchanged(host)


async def test_its_autogenerate_proposes_nothing(host: str) -> None:
    names = names_for(host)
    schema = names.get("schema")
    async with Database(host, **names) as database:
        await database.migrate()

    def proposed(connection: Connection, **options: Any) -> list[Any]:
        options |= {"include_schemas": schema is not None}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), THEIRS))

    assert await inside(host, lambda it: proposed(it, include_object=include_object(**names))) == []
    assert len(await inside(host, proposed)) > len(ours.tables)


async def test_the_metadata_has_the_tables_as_they_are(host: str) -> None:
    names = names_for(host)
    schema = names.get("schema")
    async with Database(host, **names) as database:
        await database.migrate()

    def differences(connection: Connection) -> list[Any]:
        opts = {
            "include_schemas": schema is not None,
            "include_name": lambda name, kind, parents: kind != "schema" or name == schema,
            "include_object": lambda thing, name, kind, *_: kind in ("table", "column") and name != "alembic_version",
        }
        return list(compare_metadata(MigrationContext.configure(connection, opts=opts), metadata(**names)))

    found = await inside(host, differences)
    tables = {each[1].name for each in found if each[0] in ("add_table", "remove_table")}
    assert tables <= {*THEIRS.tables, f"{names['prefix']}chatcore_version"}
    assert [each for each in found if each[0] not in ("add_table", "remove_table")] == []
    messages = metadata(**names).tables[".".join(filter(None, (schema, f"{names['prefix']}messages")))]
    assert {key.column.table.name for key in messages.foreign_keys} == {f"{names['prefix']}conversations"}


async def test_chatcores_revisions_among_the_programs(url: str, tmp_path: Path) -> None:
    (tmp_path / "env.py").write_text(ENV)
    config = Config()
    config.set_main_option("script_location", str(tmp_path))
    config.set_main_option("version_locations", VERSIONS)
    config.set_main_option("path_separator", "newline")

    def upgrade(connection: Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, "heads")

    await inside(url, upgrade)
    async with Database(url, prefix="chat_") as database:
        assert await database.is_migrated()
        await database.migrate()
    assert await tables_in(url) == {"alembic_version", *(f"chat_{name}" for name in ours.tables)}
