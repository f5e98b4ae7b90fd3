"""The migrations, up and down, against the metadata, and two at once."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from chatcore.entities import RefreshToken, Session, SessionId
from chatcore.ports import Idempotency, LogEntry, TextKind
from chatcore_sql import Database
from chatcore_sql.tables import metadata
from chatcore_sql.url import engine_url
from contracts.storage.base import NOW, add_message, add_reply, add_user
from integration.databases import KINDS, execute, new_database


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with new_database(request.param, tmp_path_factory.mktemp("databases")) as url:
        yield url


async def fill(database: Database) -> None:
    """A row or more in every table."""
    async with database.unit_of_work() as work:
        user = await add_user(work, "ada", "ada@example.org")
        session = Session(
            id=SessionId("s"), user_id=user.id, login_time=NOW, authenticated_at=NOW, last_used_at=NOW, expires_at=NOW
        )
        await work.tokens.add_session(session)
        await work.tokens.add_refresh_token(
            RefreshToken(digest=bytes(32), session_id=session.id, user_id=user.id, created_at=NOW, expires_at=NOW)
        )
        config = await work.model_configs.add(user.id, model_url="http://x", model_name="m", now=NOW)
        conversation = await work.conversations.add(user.id, title="🦄", config_id=config.id, now=NOW)
        await add_message(work, conversation, idempotency=Idempotency("🦄", bytes(32)))
        reply = await add_reply(work, conversation)
        await work.conversations.claim(user.id, conversation.id, reply.id, now=NOW)
        await work.reply_log.append([LogEntry(user.id, reply.id, 0, TextKind.ANSWER, "text")])
        await work.commit()


async def looked_at(url: str, look: Any) -> Any:
    engine = create_async_engine(engine_url(url), poolclass=NullPool)
    async with engine.connect() as connection:
        return await connection.run_sync(look)


async def test_the_migrations_make_what_the_statements_expect(url: str) -> None:
    def differences(connection: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with Database(url) as database:
        await database.migrate()
        assert await looked_at(url, differences) == []
        await execute(url, "ALTER TABLE roles DROP COLUMN description")
        assert len(await looked_at(url, differences)) == 1


async def test_up_and_down_and_up_again_with_data(url: str) -> None:
    def tables(connection: Connection) -> set[str]:
        return set(inspect(connection).get_table_names())

    async with Database(url) as database:
        for _ in range(2):
            assert not await database.is_migrated()
            await database.migrate()
            assert await database.is_migrated()
            assert await looked_at(url, tables) == {*metadata.tables, "alembic_version"}
            await fill(database)
            for table in metadata.tables:
                assert await execute(url, f"SELECT * FROM {table}"), f"nothing in {table}"
            await database.downgrade()
            assert await looked_at(url, tables) == {"alembic_version"}


async def test_a_title_from_before_own_titles_were_known_counts_as_the_users(url: str) -> None:
    async with Database(url) as database:
        await database.migrate()
        await fill(database)
        async with database.unit_of_work() as work:
            user = await work.users.find("ada")
            assert user is not None
            untitled = await work.conversations.add(user.id, title="", config_id=None, now=NOW)
            await work.commit()
        await database.downgrade("0001")
        await database.migrate()
        async with database.unit_of_work(read_only=True) as work:
            stored = await work.conversations.list(user.id, limit=10, offset=0)
            histories = [await work.messages.history(user.id, each.id, limit=10) for each in stored]
    assert {each.title: each.titled_by_user for each in stored} == {"🦄": True, "": False}
    assert untitled in stored
    assert sorted(len(page[1]) for page in histories if page) == [0, 2]


async def test_migrating_what_is_migrated_changes_nothing(url: str) -> None:
    async with Database(url) as database:
        await database.migrate()
        await fill(database)
        await database.migrate()
        async with database.unit_of_work(read_only=True) as work:
            assert await work.users.find("ada") is not None


async def test_of_two_at_once_one_waits(url: str) -> None:
    async with Database(url, pool_size=2) as database:
        await asyncio.gather(database.migrate(), database.migrate())
        assert await database.is_migrated()


async def test_a_migration_that_fails_leaves_the_lock_to_others(url: str) -> None:
    await execute(url, "CREATE TABLE users (id INTEGER)")
    async with Database(url) as database:
        with pytest.raises(Exception, match="users"):
            await database.migrate()
        assert not await database.is_migrated()
        await execute(url, "DROP TABLE users")
        await database.migrate()
        assert await database.is_migrated()


async def test_the_roles_are_there(url: str) -> None:
    async with Database(url) as database:
        await database.migrate()
    assert {row[0] for row in await execute(url, "SELECT name FROM roles")} == {"admin", "user"}


async def test_deleting_a_user_takes_all_that_they_own_along(url: str) -> None:
    async with Database(url) as database:
        await database.migrate()
        await fill(database)
        async with database.unit_of_work() as work:
            user = await work.users.find("ada")
            assert user is not None
            assert await work.users.delete(user.id) is True
            await work.commit()
        for table in set(metadata.tables) - {"roles"}:
            assert await execute(url, f"SELECT * FROM {table}") == []
