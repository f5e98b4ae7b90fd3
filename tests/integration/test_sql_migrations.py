"""The migrations, up and down, against the metadata, and two at once."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import DBAPIError

import chatcore_sql
from chatcore.entities import Conversation, Image, MessageId, OwnerId, Profile, RefreshToken, Role, Session, SessionId
from chatcore.ports import Idempotency, LogEntry, TextKind
from chatcore_sql import Database, DatabaseUnreachable, migration_script
from chatcore_sql.migrations.revisions import VERSION_TABLE
from chatcore_sql.tables import metadata
from chatcore_testing.contracts.storage.base import (
    NOW,
    WORKER,
    add_message,
    add_reply,
    add_user,
    place_of,
    stored_conversation,
    stored_user,
)
from chatcore_testing.contracts.storage.branches import add
from chatcore_testing.contracts.storage.files import add_file
from chatcore_testing.contracts.storage.requests import a_request
from integration.databases import KINDS, bare_engine, execute, new_database

POSTGRESQLS_OWN = {
    "ix_conversations_user_id_id",
    "ix_files_user_id_id",
    "ix_messages_user_id_id",
    "ix_messages_user_id_parent_id_conversation_id_id",
    "ix_model_configs_user_id_id",
}
"""Indexes that it has in another order, and one that the others have under another name."""


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
        await work.requests.add(a_request(conversation, reply.id))
        worker_id, _ = await work.workers.join()
        await work.conversations.claim(user.id, conversation.id, reply.id, worker_id, now=NOW)
        await work.reply_log.append([LogEntry(user.id, reply.id, 0, TextKind.ANSWER, "text")])
        await work.commit()


async def add_file_too(database: Database) -> None:
    user = await stored_user(database.unit_of_work, "carol")
    async with database.unit_of_work() as work:
        await add_file(work, user)
        await work.commit()


async def add_image(database: Database) -> None:
    user = await stored_user(database.unit_of_work, "bob")
    conversation = await stored_conversation(database.unit_of_work, user)
    async with database.unit_of_work() as work:
        await work.messages.add(
            user.id,
            conversation.id,
            parent_id=None,
            role=Role.USER,
            content="",
            writing=False,
            model=None,
            now=NOW,
            images=[Image(media_type="image/png", data=b"png")],
        )
        await work.commit()


async def forget_requests(database: Database, url: str) -> None:
    """Which versions before 0015 do not have."""
    for user_id, reply_id in await execute(url, "SELECT user_id, reply_id FROM requests"):
        async with database.unit_of_work() as work:
            await work.requests.delete(OwnerId(user_id), MessageId(reply_id))
            await work.commit()


async def test_nobody_is_there_by_default(url: str) -> None:
    async with Database(url) as database:
        await database.migrate()
    assert (await execute(url, "SELECT COUNT(*) FROM users"))[0][0] == 0
    assert {row[0] for row in await execute(url, "SELECT name FROM roles")} == {"admin", "user"}


async def looked_at(url: str, look: Any) -> Any:
    engine = bare_engine(url)
    async with engine.connect() as connection:
        return await connection.run_sync(look)


async def test_the_migrations_make_what_the_statements_expect(url: str) -> None:
    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        found = compare_metadata(context, metadata)
        if connection.dialect.name != "postgresql":
            return list(found)
        indexes = ("remove_index", "add_index")
        return [each for each in found if each[0] not in indexes or each[1].name not in POSTGRESQLS_OWN]

    async with Database(url) as database:
        await database.migrate()
        assert await looked_at(url, differences) == []
        await execute(url, "ALTER TABLE roles DROP COLUMN description")
        assert len(await looked_at(url, differences)) == 1


async def schema_of(url: str) -> list[Any]:
    """Everything that the database itself says of its tables."""
    if url.startswith("sqlite"):
        stored = await execute(url, "SELECT sql FROM sqlite_master WHERE name <> 'sqlite_sequence' ORDER BY name")
        return [" ".join((row[0] or "").replace('"', "").split()) for row in stored]  # a renamed table has quotes
    if url.startswith("mysql"):
        tables = sorted([*metadata.tables, VERSION_TABLE])
        shown = [(await execute(url, f"SHOW CREATE TABLE {table}"))[0][1] for table in tables]
        return [sorted(line.rstrip(",") for line in table.splitlines()) for table in shown]  # indexes have no order
    columns = (
        "SELECT table_name, column_name, data_type, character_maximum_length, datetime_precision, collation_name, "
        "is_nullable, column_default FROM information_schema.columns WHERE table_schema = 'public' "
        "ORDER BY table_name, column_name"
    )
    indexes = "SELECT * FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname"
    rules = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint ORDER BY conname"
    return [await execute(url, look) for look in (columns, indexes, rules)]


async def scheme_of(url: str) -> str:
    """The URL with the name of the server that it leads to: both answer to mysql://."""
    if url.startswith("mysql") and "MariaDB" in (await execute(url, "SELECT VERSION()"))[0][0]:
        return "mariadb" + url.removeprefix("mysql")
    return url


@pytest.mark.parametrize("start", ["base", "chatcore_0001", "0001"])
async def test_the_script_makes_the_same_as_the_migrations(url: str, start: str) -> None:
    async with Database(url) as database:
        await database.migrate()
        made = await schema_of(url)
        await database.downgrade(start)
        if start == "base":
            await execute(url, f"DROP TABLE {VERSION_TABLE}")
        script = migration_script(await scheme_of(url), start)
        await execute(url, *(statement for statement in script.split(";\n") if statement.strip()))
        assert await schema_of(url) == made
        assert await database.is_migrated()
        assert {row[0] for row in await execute(url, "SELECT name FROM roles")} == {"admin", "user"}
        await fill(database)


async def test_up_and_down_and_up_again_with_data(url: str) -> None:
    def tables(connection: Connection) -> set[str]:
        return set(inspect(connection).get_table_names())

    async with Database(url) as database:
        for _ in range(2):
            assert not await database.is_migrated()
            await database.migrate()
            assert await database.is_migrated()
            assert await looked_at(url, tables) == {*metadata.tables, VERSION_TABLE}
            await fill(database)
            await add_image(database)
            await add_file_too(database)
            for table in metadata.tables:
                assert await execute(url, f"SELECT * FROM {table}"), f"nothing in {table}"
            await database.downgrade()
            assert await looked_at(url, tables) == {VERSION_TABLE}


def rows_of(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """All that there is, by table. That a message follows no other is said by 0, and was by NULL."""
    return {
        name: [
            {column: value or None if column == "parent_id" else value for column, value in row.items()}
            for row in connection.exec_driver_sql(f"SELECT * FROM {name}").mappings()
        ]
        for name in inspect(connection).get_table_names()
        if name not in (VERSION_TABLE, "alembic_version")
    }


def check_same(before: dict[str, list[dict[str, Any]]], after: dict[str, list[dict[str, Any]]]) -> None:
    """In every column that there was before and is after. What users store is counted anew: each version counts what it
    knows."""
    for table in before.keys() & after.keys() - {"user_storage"}:
        both = before[table][0].keys() & after[table][0].keys()
        kept, found = (
            sorted(({name: row[name] for name in both} for row in rows[table]), key=repr) for rows in (before, after)
        )
        assert found == kept, table


REVISIONS = [
    script.revision
    for script in ScriptDirectory(str(Path(chatcore_sql.__file__).with_name("migrations"))).walk_revisions()
]
"""The newest first."""


async def test_what_has_its_column_in_both_revisions_survives_the_way_down_and_up(url: str) -> None:
    async with Database(url) as database:
        await database.migrate()
        await fill(database)
        await add_image(database)
        await add_file_too(database)
        newest = newer = await looked_at(url, rows_of)
        for revision in REVISIONS[1:]:
            await database.downgrade(revision)
            older = await looked_at(url, rows_of)
            assert older.keys() <= newer.keys()
            assert [table for table, rows in older.items() if not rows] in ([], ["user_storage"]), revision
            check_same(newer, older)
            newer = older
        await database.migrate()
        again = await looked_at(url, rows_of)
    assert again.keys() == newest.keys()
    check_same(newer, again)


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


async def test_what_was_stored_before_it_was_counted_is_counted(url: str) -> None:
    """By the migration, and for an account that a process of an earlier version has made meanwhile."""
    async with Database(url) as database:
        await database.migrate()
        await fill(database)
        await forget_requests(database, url)
        await execute(url, "UPDATE messages SET error_detail = 'not counted yet'")
        await execute(url, "UPDATE user_storage SET stored_bytes = stored_bytes + 2 * 15")
        counted = await execute(url, "SELECT user_id, stored_bytes FROM user_storage ORDER BY user_id")
        assert max(size for _, size in counted) > 1024
        await database.downgrade("0005")
        await database.migrate()
        again = "SELECT user_id, stored_bytes FROM user_storage ORDER BY user_id"
        assert await execute(url, again) == counted
        await execute(url, "DELETE FROM user_storage")
        for user_id, size in counted:
            async with database.unit_of_work() as work:
                await work.conversations.add(OwnerId(user_id), title="", config_id=None, now=NOW)
                await work.commit()
            async with database.unit_of_work(read_only=True) as work:
                assert await work.owners.stored_bytes(OwnerId(user_id)) == size + 1024


async def test_of_a_conversation_with_branches_the_one_that_is_shown_survives_the_way_down(url: str) -> None:
    async with Database(url) as database:
        await database.migrate()
        user = await stored_user(database.unit_of_work, "ada")
        conversation = await stored_conversation(database.unit_of_work, user)
        async with database.unit_of_work() as work:
            first = await add(work, conversation, None)
            lost = await add_reply(work, conversation, first)
            await work.conversations.claim(user.id, conversation.id, lost.id, WORKER, now=NOW)
            await work.reply_log.append([LogEntry(user.id, lost.id, 0, TextKind.ANSWER, "text")])
            await work.messages.activate(user.id, conversation.id, after=await place_of(work, first), path=[])
            kept = await add(work, conversation, first)
            await work.commit()
        await database.downgrade("0002")
        assert await execute(url, "SELECT id, parent_id FROM messages ORDER BY id") == [
            (first.id, None),
            (kept.id, first.id),
        ]
        await database.migrate()
        async with database.unit_of_work(read_only=True) as work:
            found = await work.messages.history(user.id, conversation.id, limit=10)
            assert list(await work.unfinished.of(user.id)) == []
            assert list(await work.reply_log.read(user.id, lost.id)) == []
    assert found is not None
    assert found[0].writing_reply_id is None
    assert [(each.id, each.parent_id, each.siblings) for each in found[1]] == [
        (first.id, None, (first.id,)),
        (kept.id, first.id, (kept.id,)),
    ]


async def test_what_was_being_written_before_there_were_workers_is_a_dead_ones(url: str) -> None:
    async with Database(url) as database:
        await database.migrate()
        await fill(database)
        async with database.unit_of_work(read_only=True) as work:
            assert list(await work.unfinished.orphans(limit=10)) == []
        await database.downgrade("0002")
        await database.migrate()
        async with database.unit_of_work(read_only=True) as work:
            (orphan,) = await work.unfinished.orphans(limit=10)
            stored = await work.reply_log.read(orphan.user_id, orphan.id)
    assert [entry.text for entry in stored] == ["text"]


PROFILES = [
    Profile(),
    Profile(user_name=""),
    Profile(
        user_name="Ada 🦄 \U0010ffff",
        country=" 'UK' ",
        job='"\\"\\\\n\\u0041\\',
        phone="\t\n\r\x01\x1f/",
        init_cn_level="漢" * 200,
    ),
    Profile(user_name="null", country="{}", job="\\" * 200, phone="🦄" * 200, init_cn_level="\x02" * 200),
    Profile(country="%s :name {users} $.job", init_cn_level="e\u0301\u2028\ufffe"),
]


async def test_profiles_survive_the_way_down_and_up(url: str) -> None:
    names = ("user_name", "country", "job", "phone", "init_cn_level")
    async with Database(url) as database:
        await database.migrate()
        async with database.unit_of_work() as work:
            for number, profile in enumerate(PROFILES):
                name = f"user{number}"
                await work.users.add(
                    username=name, email=None, password_hash="", roles=frozenset(), profile=profile, now=NOW
                )
            await work.commit()
        await database.downgrade("chatcore_0012")
        columns = await execute(url, f"SELECT {', '.join(names)} FROM users ORDER BY id")
        assert [Profile(**dict(zip(names, row, strict=True))) for row in columns] == PROFILES
        await database.migrate()
        async with database.unit_of_work(read_only=True) as work:
            users = await work.administration.users(limit=10)
        assert [user.profile for user in reversed(users)] == PROFILES


async def test_a_closed_account_is_a_closed_owner_and_its_data_is_still_to_be_deleted(url: str) -> None:
    async with Database(url) as database:
        await database.migrate()
        await fill(database)
        kept = await stored_user(database.unit_of_work, "kept")
        await database.downgrade("0012")
        await execute(url, "UPDATE users SET closed_at = created_at WHERE username = 'ada'")
        await database.migrate()
        async with database.unit_of_work() as work:
            (closed,) = await work.owners.closed(limit=10)
            assert [user.id for user in await work.administration.users(limit=10)] == [kept.id]
            assert len(await work.conversations.list(closed, limit=10, offset=0)) == 1
            assert await work.owners.delete(closed)
            await work.commit()
        another = await stored_user(database.unit_of_work, "ada")
        assert another.id > kept.id > closed


async def test_what_is_still_to_be_deleted_goes_on_the_way_down(url: str) -> None:
    async with Database(url) as database:
        await database.migrate()
        await fill(database)
        kept = await stored_user(database.unit_of_work, "kept")
        async with database.unit_of_work() as work:
            user = await work.users.find("ada")
            assert user is not None
            assert await work.owners.close(user.id, now=NOW)
            await work.commit()
        await database.downgrade("0012")
        assert await execute(url, "SELECT id, closed_at FROM users") == [(kept.id, None)]
        for table in ("conversations", "messages", "reply_log", "model_configs"):
            assert await execute(url, f"SELECT COUNT(*) FROM {table}") == [(0,)]
        await database.migrate()
        assert (await stored_user(database.unit_of_work, "ada")).id > kept.id


async def test_there_is_no_way_back_for_owners_that_are_no_accounts(url: str) -> None:
    async with Database(url) as database:
        await database.migrate()
        await fill(database)
        await forget_requests(database, url)
        async with database.unit_of_work() as work:
            owner = await work.owners.add("acme", "ada", now=NOW)
            await work.conversations.add(owner, title="Mine", config_id=None, now=NOW)
            await work.commit()
        before = await looked_at(url, rows_of)
        with pytest.raises(DatabaseUnreachable, match="owners that are no accounts"):
            await database.downgrade("0012")
        await database.migrate()  # later revisions have gone where each is a transaction of its own
        assert await database.is_migrated()
        assert await looked_at(url, rows_of) == before
        async with database.unit_of_work() as work:
            assert await work.owners.close(owner, now=NOW)
            await work.commit()
        await database.downgrade("0012")
        assert await execute(url, "SELECT COUNT(*) FROM conversations") == [(1,)]


async def test_an_earlier_versions_process_cannot_take_an_owners_id_for_a_user(url: str) -> None:
    if url.startswith("sqlite"):
        pytest.skip("serves one process")
    async with Database(url) as database:
        await database.migrate()
        async with database.unit_of_work() as work:
            await work.owners.add("acme", "ada", now=NOW)
            await work.commit()
        with pytest.raises(DBAPIError):
            await execute(
                url,
                "INSERT INTO users (username, username_key, password_hash, is_active, created_at, updated_at) "
                "VALUES ('x', 'x', 'x', TRUE, '2026-01-01', '2026-01-01')",
            )
        assert await execute(url, "SELECT COUNT(*) FROM users") == [(0,)]


async def test_no_owner_gets_the_id_of_one_that_was_deleted(url: str) -> None:
    """On the way down and up again. On MySQL a column that begins to number rows goes on after the last row."""
    async with Database(url) as database:
        await database.migrate()
        await stored_user(database.unit_of_work, "ada")
        deleted = await stored_user(database.unit_of_work, "bob")
        async with database.unit_of_work() as work:
            assert await work.owners.delete(deleted.id)
            await work.commit()
        await database.downgrade("chatcore_0012")
        await database.migrate()
        added = await stored_user(database.unit_of_work, "eve")
        assert added.id > deleted.id


async def test_messages_from_before_depths_get_theirs(url: str) -> None:
    """Of a conversation deeper than databases recur by default, and of one with many siblings."""
    async with Database(url) as database:
        await database.migrate()
        user = await stored_user(database.unit_of_work, "ada")
        deep, wide = [await stored_conversation(database.unit_of_work, user) for _ in range(2)]
        await database.downgrade("chatcore_0012")
        await execute(url, *map(inserted, chain(line(1, deep, [0, *range(1499)]), line(9000, wide, [0] * 300))))
        await database.migrate()
        found = await execute(url, "SELECT id, depth FROM messages ORDER BY id")
        assert found == [
            *((1 + place, place) for place in range(1500)),
            (9000, 0),
            *((9000 + n, 1) for n in range(1, 300)),
        ]


def line(first: int, conversation: Conversation, follows: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Ids, owners, conversations and parents of messages; each but the first follows the one at its place in
    `follows`."""
    for place, before in enumerate(follows):
        yield first + place, conversation.user_id, conversation.id, first + before if place else 0


def inserted(message: tuple[int, ...]) -> str:
    """As a process of an earlier version adds it."""
    columns = "id, user_id, conversation_id, parent_id, role, content, status, created_at"
    values = ", ".join(map(str, message))
    return f"INSERT INTO messages ({columns}) VALUES ({values}, 'user', 'x', 'complete', '2026-01-01 00:00:00')"


async def test_what_an_earlier_version_adds_keeps_the_order_of_its_ids(url: str) -> None:
    async with Database(url) as database:
        await database.migrate()
        user = await stored_user(database.unit_of_work, "ada")
        conversation = await stored_conversation(database.unit_of_work, user)
        async with database.unit_of_work() as work:
            first = await add(work, conversation, None)
            await work.commit()
        old = [MessageId(first.id + 1), MessageId(first.id + 2)]
        for place, message_id in enumerate(old):
            await execute(url, inserted((message_id, user.id, conversation.id, first.id + place)))
        if url.startswith("postgresql"):
            await execute(url, f"SELECT setval(pg_get_serial_sequence('messages', 'id'), {old[-1]})")
        async with database.unit_of_work() as work:
            line = [first.id, *old]
            for _ in range(3):
                last = await work.messages.last(user.id, conversation.id)
                assert last == line[-1]
                line.append((await add_message(work, conversation, parent_id=last)).id)
            told = await work.messages.told(user.id, conversation.id, limit=9, max_bytes=99, through=old[1])
            assert [each.id for each in told] == line[:3]
            await work.commit()
        async with database.unit_of_work(read_only=True) as work:
            for end in range(1, len(line)):
                found = await work.messages.history(user.id, conversation.id, limit=9, before=line[end])
                assert found is not None
                assert [each.id for each in found[1]] == line[:end]


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
            assert await work.owners.delete(user.id) is True
            await work.commit()
        for table in set(metadata.tables) - {"roles", "workers"}:
            assert await execute(url, f"SELECT * FROM {table}") == []
