"""What matters of chatcore_sql beyond the storage contracts: connections, failures, cancellation, the file lock."""

import asyncio
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError

from chatcore.entities import Conversation, ConversationId, MessageId, OwnerId, Status
from chatcore.errors import EmailTaken, NotFound, NotMigrated, Unavailable, UsernameTaken
from chatcore.ports import Idempotency, LogEntry, TextKind
from chatcore_sql import Database, DatabaseInUse, schema
from chatcore_sql import database as module
from chatcore_sql.naming import Naming
from chatcore_sql.statements import SingleReads
from chatcore_testing.contracts.storage.base import (
    NOW,
    add_message,
    add_user,
    stored_conversation,
    stored_reply,
    stored_user,
    the_conversation,
)
from integration.databases import SERVERS, empty, execute, idle, only_servers

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
only_mysql = pytest.mark.parametrize("database_url", ["mysql"], indirect=True)


async def cut_connections(database_url: str) -> None:
    """What a restart of the server does to those who are connected."""
    parsed = make_url(database_url)
    if parsed.get_backend_name() == "postgresql":
        end = f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{parsed.database}'"
        await execute(SERVERS["postgresql"], end)
    else:
        of_url = f"SELECT id FROM information_schema.processlist WHERE db = '{parsed.database}'"
        sessions = await execute(SERVERS["mysql"], of_url)
        await execute(SERVERS["mysql"], *(f"KILL {session[0]}" for session in sessions))


# ---- what is sent ----


@only_mysql
async def test_a_read_costs_one_round_trip_and_a_unit_begins_and_commits(database_url: str) -> None:
    async with Database(database_url, pool_size=1) as database:

        async def questions() -> int:
            row = await SingleReads(database._reading).first(text("SHOW SESSION STATUS LIKE 'Questions'"))
            assert row is not None
            return int(row[1])

        user = await stored_user(database.unit_of_work, "ada")
        before = await questions()
        for _ in range(10):
            async with database.unit_of_work(read_only=True) as work:
                await work.conversations.list(user.id, limit=20, offset=0)
        assert await questions() - before == 10 + 1
        before = await questions()
        async with database.unit_of_work() as work:
            await work.users.set_password_hash(user.id, "changed", now=NOW)
            await work.commit()
        async with database.unit_of_work() as work:
            await work.users.find("ada")
        async with database.unit_of_work() as work:
            await work.commit()
        assert await questions() - before == 3 + 3 + 0 + 1


async def test_a_read_goes_to_the_driver_and_not_through_sqlalchemy(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await stored_user(database.unit_of_work, "ada")
    conversation = await stored_conversation(database.unit_of_work, user)
    reply = await stored_reply(database.unit_of_work, conversation)
    monkeypatch.setattr(Connection, "execute", None)
    async with database.unit_of_work(read_only=True) as work:
        assert await work.conversations.get(user.id, conversation.id) is not None
        assert await work.messages.get(user.id, conversation.id, reply.id) == reply
        assert await work.messages.history(user.id, conversation.id, limit=10) is not None
        assert await work.users.find("ada") == user
        assert await work.workers.silent(longer_than=timedelta(seconds=5)) == []
        assert await work.unfinished.orphans(limit=10) == []
        assert await work.unfinished.of(user.id) == []


async def test_a_read_that_is_refused_is_sent_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = list[str]()
    monkeypatch.setattr(type(database._dialect), "fetch", counted(database._dialect.fetch, sent))
    for _ in range(2):
        with pytest.raises(DBAPIError, match="FROM FROM"):
            await SingleReads(database._reading).rows(text("SELECT 1 nowhere FROM FROM"))
    assert len(sent) == 2
    assert idle(database)


@only_servers
@pytest.mark.parametrize(
    "error", [RuntimeError("the handler is closed"), IndexError(), struct.error(), ConnectionResetError()]
)
async def test_a_read_is_sent_again_where_its_driver_loses_its_connection(
    database: Database, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = list[str]()
    await stored_user(database.unit_of_work, "ada")
    monkeypatch.setattr(type(database._dialect), "fetch", counted(database._dialect.fetch, sent, error))
    assert await the_user(database) is not None
    assert len(sent) == 2
    assert idle(database)
    monkeypatch.setattr(type(database._dialect), "fetch", counted(database._dialect.fetch, sent, error, error))
    with pytest.raises(Unavailable):
        await the_user(database)
    assert idle(database)


def counted(fetch: Callable[..., Awaitable[Any]], sent: list[str], *errors: Exception) -> Callable[..., Awaitable[Any]]:
    """The texts that are sent, the first of which meet the errors."""
    left = list(errors)

    async def fetch_and_tell(_: object, connection: Any, text: str, arguments: Any) -> Any:
        sent.append(text)
        if left:
            raise left.pop()
        return await fetch(connection, text, arguments)

    return fetch_and_tell


@only_servers
async def test_what_is_urgent_waits_for_no_connection_that_others_have(database_url: str) -> None:
    await empty(database_url)
    async with Database(database_url, pool_size=1) as database:
        async with database.unit_of_work() as busy:
            await busy.workers.silent(longer_than=timedelta())
            async with database.unit_of_work(urgent=True) as work:
                worker_id, _ = await work.workers.join()
                await work.commit()
            async with database.unit_of_work(urgent=True) as work:
                assert await work.workers.renew(worker_id) is not None
        assert idle(database)


@only_servers
async def test_a_connection_that_has_become_old_is_replaced(database_url: str) -> None:
    await empty(database_url)
    async with Database(database_url, pool_size=1) as database:
        first = await database._reading.take()
        database._reading.give(first)
        assert await database._reading.take() is first
        database._reading.give(first)
        database._reading._opened[first] -= module.RECYCLE_AFTER + 1
        await database.check()
        second = await database._reading.take()
        database._reading.give(second)
        assert second is not first
        assert first.closed
        assert idle(database)


@only_mysql
async def test_a_batch_of_the_log_is_one_statement(database_url: str) -> None:
    async with Database(database_url, pool_size=1) as database:

        async def inserts() -> int:
            row = await SingleReads(database._reading).first(text("SHOW SESSION STATUS LIKE 'Com_insert'"))
            assert row is not None
            return int(row[1])

        batch = [LogEntry(OwnerId(1), MessageId(reply), 0, TextKind.ANSWER, "text") for reply in range(500)]
        before = await inserts()
        for _ in range(2):
            async with database.unit_of_work() as work:
                await work.reply_log.append(batch)
                await work.commit()
        assert await inserts() - before == 2


@pytest.mark.parametrize(
    ("database_url", "settings"),
    [
        ("sqlite", {"PRAGMA journal_mode": "wal", "PRAGMA synchronous": 2, "PRAGMA foreign_keys": 1}),
        (
            "mysql",
            {
                "SELECT @@session.time_zone": "+00:00",
                "SELECT @@character_set_client": "utf8mb4",
                "SELECT @@session.innodb_lock_wait_timeout": 5,
            },
        ),
        (
            "postgresql",
            {
                "SHOW transaction_isolation": "read committed",
                "SHOW timezone": "UTC",
                "SHOW lock_timeout": "5s",
                "SHOW statement_timeout": "35s",
                "SHOW idle_in_transaction_session_timeout": "5s",
            },
        ),
    ],
    indirect=["database_url"],
)
async def test_sessions_are_set_up(database: Database, settings: dict[str, object]) -> None:
    for statement, expected in settings.items():
        row = await SingleReads(database._reading).first(text(statement))
        assert row is not None
        assert row[0] == expected


@only_servers
async def test_the_server_ends_a_statement_that_takes_too_long(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it is given up before that, and the server would go on with it; a change of the schema may take longer."""
    monkeypatch.setattr("chatcore_sql.dialects.base.STATEMENT_TIMEOUT", 1)
    sleep = "SELECT SLEEP" if database_url.startswith("mysql") else "SELECT pg_sleep"

    def change(connection: Connection) -> None:
        with schema._alone(connection, Naming()):
            connection.exec_driver_sql(f"{sleep}(2)")

    async with asyncio.timeout(20), Database(database_url) as impatient:
        for _ in range(2):
            with pytest.raises(Unavailable):
                await SingleReads(impatient._reading).rows(text(f"{sleep}(60)"))
            await impatient._alter(change)


@only_mysql
async def test_mysql_is_strict_and_reads_what_is_committed(database: Database) -> None:
    statements = SingleReads(database._reading)
    variables = await statements.rows(text("SHOW SESSION VARIABLES WHERE variable_name LIKE 't%_isolation'"))
    assert {row[1] for row in variables} == {"READ-COMMITTED"}
    mode = await statements.first(text("SELECT @@session.sql_mode"))
    assert mode is not None
    assert "STRICT_ALL_TABLES" in mode[0]


# ---- text, numbers, times ----


@only_mysql
async def test_every_text_is_compared_exactly(database_url: str) -> None:
    columns = await execute(
        database_url,
        "SELECT DISTINCT collation_name FROM information_schema.columns "
        "WHERE table_schema = DATABASE() AND collation_name IS NOT NULL AND table_name <> 'chatcore_version'",
    )
    assert {row[0] for row in columns} <= {"utf8mb4_nopad_bin", "utf8mb4_0900_bin"}
    assert len(columns) == 1


@pytest.mark.parametrize("other", ["🐴", "🦄 ", "🦄\u200b"])
async def test_a_title_and_a_key_are_compared_to_the_code_point(database: Database, other: str) -> None:
    """And a name without case, by the column that is for that."""
    user = await stored_user(database.unit_of_work, "Straße")
    conversation = await stored_conversation(database.unit_of_work, user, "🦄")
    async with database.unit_of_work() as work:
        for key in ("🦄", other):
            await add_message(work, conversation, key, idempotency=Idempotency(key, bytes(32)))
        await work.commit()
    counts = [
        await SingleReads(database._reading).first(text(f"SELECT count(*) FROM {column}"))
        for column in (
            f"conversations WHERE title = '{other}'",
            f"messages WHERE content = '{other}'",
            f"messages WHERE idempotency_key = '{other}'",
            "users WHERE username = 'STRASSE'",
            "users WHERE username_key = 'strasse'",
        )
    ]
    assert [count and count[0] for count in counts] == [0, 1, 1, 0, 1]


async def test_a_space_at_the_end_makes_another_name(database: Database) -> None:
    plain, padded = [await stored_user(database.unit_of_work, name) for name in ("x", "x ")]
    async with database.unit_of_work(read_only=True) as work:
        assert await work.users.find("x") == plain
        assert await work.users.find("x ") == padded
        assert await work.users.find("x  ") is None


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b", "\udc00@example.org"])
async def test_nobody_has_a_name_that_cannot_be_stored(database: Database, name: str) -> None:
    async with database.unit_of_work(read_only=True) as work:
        assert await work.users.find(name) is None


@pytest.mark.parametrize("number", [-1, 0, 2**63, 10**30])
async def test_nothing_has_a_number_out_of_range(database: Database, number: int) -> None:
    user = await stored_user(database.unit_of_work, "ada")
    conversation_id, message_id = ConversationId(number), MessageId(number)
    async with database.unit_of_work() as work:
        assert await work.conversations.get(user.id, conversation_id) is None
        assert await work.conversations.get(OwnerId(number), ConversationId(1)) is None
        assert await work.conversations.set_title(user.id, conversation_id, "x") is False
        assert await work.messages.get(user.id, conversation_id, message_id) is None
        assert await work.messages.history(user.id, conversation_id, limit=1) is None


async def test_a_number_is_never_given_again(database: Database) -> None:
    user = await stored_user(database.unit_of_work, "ada")
    first = await stored_conversation(database.unit_of_work, user)
    async with database.unit_of_work() as work:
        await work.conversations.delete(user.id, first.id, limit=10, now=NOW)
        await work.commit()
    second = await stored_conversation(database.unit_of_work, user)
    assert second.id > first.id


async def test_a_time_without_offset_is_refused_and_any_offset_is_kept(database: Database) -> None:
    user = await stored_user(database.unit_of_work, "ada")
    async with database.unit_of_work() as work:
        with pytest.raises(Exception, match="without its offset"):
            await work.conversations.add(user.id, title="", config_id=None, now=datetime(2026, 1, 1))  # noqa: DTZ001
    elsewhere = NOW.astimezone(timezone(timedelta(hours=9)))
    async with database.unit_of_work() as work:
        added = await work.conversations.add(user.id, title="", config_id=None, now=elsewhere)
        assert await work.conversations.get(user.id, added.id) == replace(added, created_at=NOW, updated_at=NOW)


async def test_a_reply_of_four_mebibytes_is_kept(database: Database) -> None:
    user = await stored_user(database.unit_of_work, "ada")
    conversation = await stored_conversation(database.unit_of_work, user)
    reply = await stored_reply(database.unit_of_work, conversation)
    long = replace(reply, content="🦄" * 2**20, reasoning="🐴" * 2**20, status=Status.COMPLETE)
    async with database.unit_of_work() as work:
        await work.messages.finish(long)
        await work.commit()
    async with database.unit_of_work(read_only=True) as work:
        assert await work.messages.get(user.id, conversation.id, reply.id) == long


# ---- whose is what ----


async def test_what_refers_to_nothing_or_to_a_strangers_is_not_found(database: Database) -> None:
    owner, stranger = [await stored_user(database.unit_of_work, name) for name in ("owner", "stranger")]
    conversation = await stored_conversation(database.unit_of_work, owner)
    for wrong in (replace(conversation, user_id=stranger.id), replace(conversation, id=ConversationId(999_999_999))):
        async with database.unit_of_work() as work:
            with pytest.raises(NotFound):
                await add_message(work, wrong)
    async with database.unit_of_work() as work:
        with pytest.raises(NotFound):
            await work.model_configs.add(OwnerId(999_999_999), model_url="http://x", model_name="m", now=NOW)


async def test_a_conflict_is_known_by_the_key_and_keeps_the_name_to_itself(database: Database) -> None:
    await stored_user(database.unit_of_work, "uq_users_email_key")
    async with database.unit_of_work() as work:
        with pytest.raises(UsernameTaken) as taken:
            await add_user(work, "uq_users_email_key")
    assert taken.value.__suppress_context__
    await stored_user(database.unit_of_work, "ada", "username_key@example.org")
    async with database.unit_of_work() as work:
        with pytest.raises(EmailTaken):
            await add_user(work, "grace", "username_key@example.org")


async def test_a_user_with_many_conversations_is_deleted(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatcore_sql.owners.AT_ONCE", 2)
    owner, stranger = [await stored_user(database.unit_of_work, name) for name in ("owner", "stranger")]
    conversations = [await stored_conversation(database.unit_of_work, owner) for _ in range(5)]
    kept = await stored_conversation(database.unit_of_work, stranger)
    async with database.unit_of_work() as work:
        assert await work.owners.delete(owner.id) is True
        await work.commit()
    assert [await the_conversation(database.unit_of_work, each) for each in [*conversations, kept]] == [None] * 5 + [
        kept
    ]


# ---- units of work ----


async def test_a_unit_that_has_failed_is_only_good_for_leaving(database: Database) -> None:
    await stored_user(database.unit_of_work, "ada")
    async with database.unit_of_work() as work:
        with pytest.raises(UsernameTaken):
            await add_user(work, "ada")
        with pytest.raises(RuntimeError):
            await add_user(work, "grace")
        with pytest.raises(RuntimeError):
            await work.commit()
    async with database.unit_of_work(read_only=True) as work:
        assert await work.users.find("grace") is None


async def test_a_unit_is_over_after_its_commit_and_after_its_end(database: Database) -> None:
    async with database.unit_of_work() as work:
        await add_user(work, "ada")
        await work.commit()
        assert idle(database)
        for _ in range(2):
            with pytest.raises(RuntimeError):
                await work.commit()
        with pytest.raises(RuntimeError):
            await add_user(work, "grace")
    with pytest.raises(RuntimeError):
        await work.users.find("ada")


async def test_calls_at_once_take_turns_in_the_one_transaction(database: Database) -> None:
    user = await stored_user(database.unit_of_work, "ada")
    async with database.unit_of_work() as work:
        await asyncio.gather(
            *(work.conversations.add(user.id, title="", config_id=None, now=NOW) for _ in range(10)), work.commit()
        )
    assert idle(database)
    async with database.unit_of_work(read_only=True) as work:
        assert len(await work.conversations.list(user.id, limit=100, offset=0)) == 10


async def test_leaving_waits_for_the_calls_under_way(database: Database) -> None:
    calls: list[asyncio.Task[object]] = []
    for pauses in range(12):
        async with database.unit_of_work() as work:
            calls += [asyncio.create_task(add_user(work, f"user{n}")) for n in range(3)]
            for _ in range(pauses):
                await asyncio.sleep(0)
        assert idle(database)
    await asyncio.gather(*calls, return_exceptions=True)
    assert idle(database)
    async with database.unit_of_work(read_only=True) as work:
        assert [await work.users.find(f"user{n}") for n in range(3)] == [None, None, None]


async def test_a_unit_that_only_reads_holds_no_connection(database: Database) -> None:
    async with database.unit_of_work(read_only=True) as work:
        await work.users.find("ada")
        assert idle(database)


async def test_a_conversation_in_a_locked_unit_cannot_be_read_only(database: Database) -> None:
    user = await stored_user(database.unit_of_work, "ada")
    conversation = await stored_conversation(database.unit_of_work, user)
    async with database.unit_of_work(read_only=True) as work:
        with pytest.raises(RuntimeError):
            await work.conversations.lock(user.id, conversation.id)


# ---- cancellation ----


async def test_after_many_cancelled_reads_everybody_reads_their_own(database: Database) -> None:
    user = await stored_user(database.unit_of_work, "ada")
    conversations = [await stored_conversation(database.unit_of_work, user, str(number)) for number in range(20)]

    async def read(conversation: Conversation) -> None:
        assert await the_conversation(database.unit_of_work, conversation) == conversation

    for pauses in range(10):
        reads = [asyncio.create_task(read(conversation)) for conversation in conversations]
        for _ in range(pauses):
            await asyncio.sleep(0)
        for task in reads:
            task.cancel()
        await asyncio.gather(*reads, return_exceptions=True)
        assert all(task.cancelled() for task in reads) or pauses > 0
        assert idle(database)
    await asyncio.gather(*(read(conversation) for conversation in conversations * 5))
    assert idle(database)


async def test_after_many_cancelled_units_nothing_is_half_done(database: Database) -> None:
    user = await stored_user(database.unit_of_work, "ada")

    async def converse() -> None:
        async with database.unit_of_work() as work:
            conversation = await work.conversations.add(user.id, title="", config_id=None, now=NOW)
            await add_message(work, conversation)
            await work.commit()

    for pauses in range(0, 60, 2):
        units = [asyncio.create_task(converse()) for _ in range(4)]
        for _ in range(pauses):
            await asyncio.sleep(0)
        for task in units:
            task.cancel()
        await asyncio.gather(*units, return_exceptions=True)
        assert idle(database)
    await converse()
    async with database.unit_of_work(read_only=True) as work:
        stored = await work.conversations.list(user.id, limit=1000, offset=0)
        pages = [await work.messages.history(user.id, each.id, limit=10) for each in stored]
    assert pages
    assert {len(page[1]) for page in pages if page is not None} == {1}


# ---- the database goes away ----


@only_servers
async def test_connections_that_died_in_the_pool_are_replaced_unnoticed(database: Database, database_url: str) -> None:
    user = await stored_user(database.unit_of_work, "ada")
    for write in (False, True, False, True):
        await asyncio.gather(*(the_user(database) for _ in range(8)))
        await cut_connections(database_url)
        if write:
            await stored_conversation(database.unit_of_work, user)
        assert await the_user(database) == user
    assert idle(database)


async def the_user(database: Database) -> object:
    async with database.unit_of_work(read_only=True) as work:
        return await work.users.find("ada")


@only_servers
async def test_a_unit_whose_connection_is_lost_has_not_happened(database: Database, database_url: str) -> None:
    async with database.unit_of_work() as work:
        await add_user(work, "ada")
        await cut_connections(database_url)
        with pytest.raises(Unavailable):
            await work.users.find("ada")
        with pytest.raises(RuntimeError):
            await work.commit()
    async with database.unit_of_work() as work:
        await add_user(work, "ada")
        await cut_connections(database_url)
        with pytest.raises(Unavailable):
            await work.commit()
    async with database.unit_of_work() as work:
        await add_user(work, "ada")
        await cut_connections(database_url)
    assert await the_user(database) is None
    assert idle(database)


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
async def test_a_connection_that_cannot_end_its_transaction_is_given_up(database_url: str, end: str) -> None:
    def fail(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement == end:
            raise OperationalError(statement, None, Exception("no"))

    await empty(database_url)
    async with Database(database_url, pool_size=1) as database:
        event.listen(database._writing.engine, "before_cursor_execute", fail)
        async with database.unit_of_work() as work:
            await add_user(work, "ada")
            if end == "COMMIT":
                with pytest.raises(Unavailable):
                    await work.commit()
        event.remove(database._writing.engine, "before_cursor_execute", fail)
        assert idle(database)
        await stored_user(database.unit_of_work, "grace")
        assert await the_user(database) is None


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@pytest.mark.parametrize("scheme", ["mysql", "postgresql"])
async def test_no_server_is_unavailable_and_says_nothing_of_its_password(scheme: str, closed_port: int) -> None:
    async with Database(f"{scheme}://root:s3cret@127.0.0.1:{closed_port}/x") as database:
        for outcome in await asyncio.gather(database.check(), database.is_migrated(), return_exceptions=True):
            assert isinstance(outcome, Unavailable)
            assert outcome.__cause__ is not None
            assert "s3cret" not in f"{outcome!r} {outcome.__cause__!r} {outcome.__cause__}"
        async with database.unit_of_work() as work:
            with pytest.raises(Unavailable):
                await add_user(work, "ada")


async def test_a_pool_that_is_used_up_is_unavailable(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POOL_TIMEOUT", 0.05)
    await empty(database_url)
    async with Database(database_url, pool_size=1) as database:
        async with database.unit_of_work() as work:
            await add_user(work, "ada")
            async with database.unit_of_work() as another:
                with pytest.raises(Unavailable):
                    await add_user(another, "grace")
            await work.commit()
        assert await the_user(database) is not None


@only_servers
async def test_a_database_that_does_not_answer_in_time_is_unavailable(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await stored_user(database.unit_of_work, "ada")
    conversation = await stored_conversation(database.unit_of_work, user)
    async with database.unit_of_work() as holder:
        await holder.conversations.lock(user.id, conversation.id)
        monkeypatch.setattr("chatcore_sql.statements.ANSWER_WITHIN", 0.05)
        async with database.unit_of_work() as waiting:
            with pytest.raises(Unavailable):
                await waiting.conversations.set_title(user.id, conversation.id, "late")
        monkeypatch.undo()
        await holder.commit()
    assert await the_conversation(database.unit_of_work, conversation) == conversation
    assert idle(database)


async def test_errors_do_not_tell_what_was_asked_for(database: Database, database_url: str) -> None:
    await execute(database_url, "ALTER TABLE reply_log RENAME TO elsewhere")
    try:
        async with database.unit_of_work(read_only=True) as work:
            with pytest.raises(NotMigrated) as failure:
                await work.reply_log.read(OwnerId(424242), MessageId(434343))
    finally:
        await execute(database_url, "ALTER TABLE elsewhere RENAME TO reply_log")
    assert "424242" not in f"{failure.value!r} {failure.value.__cause__!r} {failure.value}"


# ---- SQLite ----


async def test_what_was_committed_survives_a_restart(database_url: str) -> None:
    await empty(database_url)
    async with Database(database_url) as first:
        user = await stored_user(first.unit_of_work, "ada")
    async with Database(database_url) as second:
        assert await the_user(second) == user


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
async def test_a_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        async with Database(f"sqlite:///{tmp_path / 'chat.db'}") as database:
            await database.migrate()
            await stored_user(database.unit_of_work, "ada")
            modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("chat.db", "chat.db-shm", "chat.db-wal", "chat.db.lock"), 0o600)


@only_sqlite
async def test_a_file_serves_one_process(database: Database, database_url: str) -> None:
    script = """
import asyncio, sys
from chatcore_sql import Database, DatabaseInUse, schema
async def main():
    async with Database(sys.argv[1]): pass
try:
    asyncio.run(main())
except DatabaseInUse as error:
    sys.exit(error.detail)
"""
    file = database_url.removeprefix("sqlite:///")

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", script, database_url], capture_output=True, text=True, check=False)

    refused = await asyncio.to_thread(run)
    assert refused.returncode == 1
    assert file in refused.stderr
    assert "another process" in refused.stderr
    with pytest.raises(DatabaseInUse):
        await Database(database_url).__aenter__()
    await database.close()
    assert (await asyncio.to_thread(run)).returncode == 0


async def test_a_database_in_memory_lives_as_long_as_it_is_open() -> None:
    for _ in range(2):
        async with Database("sqlite://") as database:
            await database.migrate()
            users = await asyncio.gather(*(stored_user(database.unit_of_work, f"user{n}") for n in range(8)))
            async with database.unit_of_work(read_only=True) as work:
                found = await asyncio.gather(*(work.users.find(user.username) for user in users))
            assert found == users


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "mysql://user:password@host/name"),
        ("chatcore.db", "mysql://user:password@host/name"),
        ("oracle://u:s3cret@h/x", "not oracle://"),
        ("mysql+odbc://u:s3cret@h/x", "not mysql\\+odbc://"),
        ("mysql://u:s3cret@h:port/x", "mysql://user:password@host/name"),
    ],
)
def test_another_url_is_refused_without_its_password(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        Database(url)
    assert "s3cret" not in str(refused.value)


async def test_a_relative_path_stays_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with Database("sqlite:///here.db") as database:
        monkeypatch.chdir("/")
        await database.migrate()
    assert (tmp_path / "here.db").exists()


async def test_a_full_disk_is_told_as_unavailable_and_leaves_a_whole_database(tmp_path: Path) -> None:
    """SQLite rolls back by itself then, and refuses to do it once more."""

    async def pages(database: Database, number: int) -> None:
        async with database.unit_of_work() as work:
            statements = work._statements  # type: ignore[attr-defined]
            await statements._write(lambda it: it.exec_driver_sql(f"PRAGMA max_page_count={number}").close())

    async def fill_up(database: Database) -> None:
        async with database.unit_of_work() as work:
            for _ in range(100):
                await add_message(work, conversation, "x" * 100_000)

    async with Database(f"sqlite:///{tmp_path / 'full.db'}") as database:
        await database.migrate()
        user = await stored_user(database.unit_of_work, "ada")
        conversation = await stored_conversation(database.unit_of_work, user)
        await pages(database, 100)
        with pytest.raises(Unavailable):
            await fill_up(database)
        await pages(database, 100_000)
        async with database.unit_of_work() as work:
            assert await work.messages.tree(user.id, conversation.id) == []
            await add_message(work, conversation, "x" * 100_000)
            await work.commit()
