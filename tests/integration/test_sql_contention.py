"""Real deadlocks and real lock waits between use cases and others, over connections of their own: all get through."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError, NotSupportedError, OperationalError

from chatcore import (
    Caller,
    ChangePassword,
    ChatDefaults,
    PasswordPolicy,
    RenameConversation,
    Replies,
    SessionIssuer,
    SessionPolicy,
    Status,
    StepUp,
    UseCases,
    User,
    Vouched,
)
from chatcore.entities import Conversation, MessageId, OwnerId, SessionId
from chatcore.errors import Contention, NotMigrated, ReadOnly, Unavailable
from chatcore.ports import Cipher, Clock, LogEntry, TextKind, UnitOfWork, UnitOfWorkFactory
from chatcore.shielding import retry_on_contention
from chatcore_demo import DEMO_ENDPOINT
from chatcore_memory import HandClock, PlainCipher, PlainPasswords, PlainSigner, ScriptedModel
from chatcore_sql import Database
from chatcore_sql.failures import is_gone, meaning
from chatcore_testing.contracts.storage.base import NOW, stored_conversation, stored_user, the_conversation
from chatcore_testing.contracts.storage.workers import buried
from integration.databases import idle, nobody_in_a_transaction, only_servers, somebody_waits

NEW_PASSWORD = "another horse"


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatcore_sql.dialects.base.LOCK_TIMEOUT", 1)


only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Watched(UnitOfWorkFactory):
    """Counts the units of work that lost against another."""

    def __init__(self, database: Database) -> None:
        self.lost = asyncio.Semaphore(0)
        self.losses = 0
        self._inner = database.unit_of_work

    @asynccontextmanager
    async def __call__(self, *, read_only: bool = False, urgent: bool = False) -> AsyncGenerator[UnitOfWork, None]:
        try:
            async with self._inner(read_only=read_only, urgent=urgent) as work:
                yield work
        except Contention:
            self.losses += 1
            self.lost.release()
            raise


def change_password(unit_of_work: UnitOfWorkFactory) -> ChangePassword:
    passwords, policy = PlainPasswords(), PasswordPolicy()
    return ChangePassword(
        unit_of_work=unit_of_work,
        passwords=passwords,
        policy=policy,
        step_up=StepUp(passwords=passwords, policy=policy),
        sessions=issuer(),
        clock=HandClock(NOW),
    )


def issuer() -> SessionIssuer:
    return SessionIssuer(signer=PlainSigner(), policy=SessionPolicy(refresh_secret=b"secret"))


async def signed_in(database: Database, user: User, times: int) -> list[Caller]:
    async with database.unit_of_work() as work:
        opened = [await issuer().open(work, user, user_agent="", address="", now=NOW) for _ in range(times)]
        await work.commit()
    return [Caller(user, each.session) for each in opened]


class Refusal(Exception):
    """A driver's error, as far as it is looked at."""

    def __init__(self, number: int, sqlstate: str | None, text: str = "no") -> None:
        super().__init__(number, text)
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("number", "sqlstate", "kind", "gone"),
    [
        (1020, None, Contention, False),  # MariaDB: record has changed since last read
        (1205, None, Contention, False),
        (1213, None, Contention, False),
        (3101, "40000", Contention, False),  # a group of MySQL servers: another one's commit was first
        (0, "40001", Contention, False),
        (0, "40P01", Contention, False),
        (0, "55P03", Contention, False),
        (0, "40003", Unavailable, False),  # statement completion unknown
        (0, "25006", ReadOnly, True),
        (1290, "HY000", ReadOnly, True),
        (1792, "25006", ReadOnly, True),
        (1836, "HY000", ReadOnly, True),
        *((0, state, Unavailable, True) for state in ("08000", "08006", "08P01", "25P03", "26000", "42P05")),
        *((0, state, Unavailable, True) for state in ("57P01", "57P02", "57P03", "57P05", "58030", "XX000")),
        *((0, state, Unavailable, False) for state in ("53000", "53100", "53200", "53300", "55006", "57014")),
        *((number, "08S01", Unavailable, True) for number in (1047, 1053, 1184, 1927, 2006, 2013, 3168, 4031)),
        *((number, "42000", Unavailable, False) for number in (1040, 1203, 1226)),
        (1021, "HY000", Unavailable, False),  # disk full
        (0, "25P02", None, False),
        (0, "42P01", NotMigrated, False),
        (0, "22001", None, False),
        (1146, "42S02", NotMigrated, False),
        (1153, "08S01", None, False),  # packet too large
        (1366, "HY000", None, False),
    ],
)
def test_what_the_engines_say_and_what_it_means(
    number: int, sqlstate: str | None, kind: type[Exception] | None, gone: bool
) -> None:
    """None: a mistake of ours. Gone: no connection to that server is used again."""
    wrapper = OperationalError if number else DBAPIError  # as the drivers have it
    error = wrapper("UPDATE", None, Refusal(number, sqlstate))
    assert type(meaning(error)) is (kind or wrapper)
    assert is_gone(error) is gone


def test_a_statement_that_was_prepared_for_another_schema_is_sent_again() -> None:
    kind: Any = AsyncAdapt_asyncpg_dbapi.InvalidCachedStatementError
    stale = kind("cached plan must not change result type")
    assert isinstance(meaning(NotSupportedError("SELECT", None, stale)), Contention)


def test_a_commit_that_failed_is_contention_only_if_it_was_a_deadlock() -> None:
    lost = "Got error 149 - 'Lock deadlock; Retry transaction' during COMMIT"
    assert isinstance(meaning(OperationalError("COMMIT", None, Refusal(1180, "HY000", lost))), Contention)
    other = "Got error 28 - 'No space left on device' during COMMIT"
    assert type(meaning(OperationalError("COMMIT", None, Refusal(1180, "HY000", other)))) is Unavailable


@only_servers
async def test_the_log_has_the_engines_own_words(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    user = await stored_user(database.unit_of_work, "ada")
    conversation = await stored_conversation(database.unit_of_work, user)
    error = Exception(3101, "Plugin instructed the server to rollback the current transaction.")
    with failing_commits(database, error, times=1), caplog.at_level("INFO"):
        rename = RenameConversation(unit_of_work=database.unit_of_work, clock=HandClock())
        await rename(by=Vouched(user.id), conversation_id=conversation.id, title="Mine")
    assert "3101: Plugin instructed the server to rollback" in caplog.text
    assert "Mine" not in caplog.text


@only_servers
async def test_both_of_two_that_wait_for_each_other_get_through(database: Database, database_url: str) -> None:
    """A change of password takes the user, then the other sessions; somebody takes a session, then the user."""
    user = await stored_user(database.unit_of_work, "ada")
    caller, other = await signed_in(database, user, 2)
    watched, met = Watched(database), asyncio.Event()
    changing: list[asyncio.Task[object]] = []

    @retry_on_contention
    async def contrary(session: SessionId) -> None:
        async with watched() as work:
            await work.tokens.touch(user.id, session, now=NOW)
            if not met.is_set():
                changing.append(asyncio.create_task(change_password(watched)(caller=caller, password=NEW_PASSWORD)))
                await somebody_waits(database_url)
                met.set()
            await work.users.set_username(user.id, "lovelace", now=NOW)
            await work.commit()

    await contrary(other.session.id)
    await asyncio.gather(*changing)
    assert watched.losses >= 1 or database_url.startswith("postgresql")  # in whose queue both stand in order
    async with database.unit_of_work(read_only=True) as work:
        stored = await work.users.find("lovelace")
        found = await work.tokens.caller(user.id, other.session.id)
    assert stored is not None
    assert await PlainPasswords().verify(NEW_PASSWORD, stored.password_hash)
    assert found is not None
    assert found.session.logout_time == NOW
    assert idle(database)
    await nobody_in_a_transaction(database_url)


@asynccontextmanager
async def held(database: Database, conversation: Conversation) -> AsyncGenerator[None, None]:
    """Somebody else is at work on this conversation."""
    async with database.unit_of_work() as work:
        await work.conversations.lock(conversation.user_id, conversation.id)
        yield


@only_servers
async def test_nobody_is_taken_for_dead_whose_text_is_being_written(database: Database, database_url: str) -> None:
    """And until it has been written, the lease is renewed all the same."""
    async with database.unit_of_work() as work:
        worker_id, _ = await work.workers.join()
        await work.commit()
    async with database.unit_of_work(urgent=True) as writing:
        await writing.reply_log.append([LogEntry(OwnerId(1), MessageId(1), 0, TextKind.ANSWER, "x" * 1_000_000)])
        async with database.unit_of_work(urgent=True) as renewing:
            assert await renewing.workers.renew(worker_id) is not None
            await renewing.commit()
        assert await writing.workers.is_alive(worker_id)
        burying = asyncio.create_task(buried(database.unit_of_work, worker_id))
        await somebody_waits(database_url)
        assert not burying.done()
        await writing.commit()
    await burying
    async with database.unit_of_work(urgent=True) as work:
        assert not await work.workers.is_alive(worker_id)
    assert idle(database)
    await nobody_in_a_transaction(database_url)


@only_servers
async def test_who_waited_too_long_for_a_lock_asks_again(database: Database, database_url: str) -> None:
    user = await stored_user(database.unit_of_work, "ada")
    conversation = await stored_conversation(database.unit_of_work, user)
    watched = Watched(database)
    rename = RenameConversation(unit_of_work=watched, clock=HandClock())
    async with held(database, conversation):
        renaming = asyncio.create_task(rename(by=Vouched(user.id), conversation_id=conversation.id, title="Mine"))
        await watched.lost.acquire()
        assert not renaming.done()
    assert (await renaming).title == "Mine"
    stored = await the_conversation(database.unit_of_work, conversation)
    assert stored is not None
    assert stored.title == "Mine"
    assert idle(database)
    await nobody_in_a_transaction(database_url)


@only_servers
async def test_a_message_that_waited_too_long_is_sent_once(database: Database, database_url: str) -> None:
    user = await stored_user(database.unit_of_work, "ada")
    conversation = await stored_conversation(database.unit_of_work, user)
    watched, clock, model = Watched(database), HandClock(NOW), ScriptedModel("Hello")
    async with Replies(unit_of_work=watched, gateway=model, clock=clock) as replies:
        send = UseCases(
            {
                UnitOfWorkFactory: watched,
                Replies: replies,
                Cipher: PlainCipher(),
                Clock: clock,
                ChatDefaults: ChatDefaults(model=DEMO_ENDPOINT),
            }
        ).send_message
        async with held(database, conversation):
            sending = asyncio.create_task(send(by=Vouched(user.id), conversation_id=conversation.id, content="Hi"))
            await watched.lost.acquire()
        sent = await sending
    async with database.unit_of_work(read_only=True) as work:
        history = await work.messages.history(user.id, conversation.id, limit=10)
    assert history is not None
    said = [(message.id, message.content, message.status) for message in history[1]]
    assert said == [(sent.message.id, "Hi", Status.COMPLETE), (sent.reply.id, "Hello", Status.COMPLETE)]
    assert len(model.calls) == 1
    assert idle(database)
    await nobody_in_a_transaction(database_url)


@only_servers
async def test_a_lock_that_is_never_let_go_makes_it_unavailable(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatcore.shielding.TRIES", 2)
    user = await stored_user(database.unit_of_work, "ada")
    conversation = await stored_conversation(database.unit_of_work, user)
    watched = Watched(database)
    rename = RenameConversation(unit_of_work=watched, clock=HandClock())
    async with held(database, conversation):
        with pytest.raises(Contention):
            await rename(by=Vouched(user.id), conversation_id=conversation.id, title="Mine")
        assert watched.losses == 2
    assert await the_conversation(database.unit_of_work, conversation) == conversation
    assert idle(database)
    await nobody_in_a_transaction(database_url)


@only_sqlite
async def test_a_file_that_another_program_writes_is_asked_again(database: Database, database_url: str) -> None:
    user = await stored_user(database.unit_of_work, "ada")
    conversation = await stored_conversation(database.unit_of_work, user)
    watched = Watched(database)
    rename = RenameConversation(unit_of_work=watched, clock=HandClock())
    other = sqlite3.connect(database_url.removeprefix("sqlite:///"), isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        renaming = asyncio.create_task(rename(by=Vouched(user.id), conversation_id=conversation.id, title="Mine"))
        await watched.lost.acquire()
        other.execute("ROLLBACK")
        assert (await renaming).title == "Mine"
        other.execute("BEGIN IMMEDIATE")  # nobody else is in a transaction
    finally:
        other.close()
    assert idle(database)


@only_servers
@pytest.mark.parametrize("number", [1213, 3101])
async def test_a_commit_that_the_database_rolled_back_is_run_again(database: Database, number: int) -> None:
    """On one node of a cluster it is the commit that finds another node's change."""
    user = await stored_user(database.unit_of_work, "ada")
    conversation = await stored_conversation(database.unit_of_work, user)
    with failing_commits(database, Exception(number, "Deadlock found"), times=2) as failed:
        rename = RenameConversation(unit_of_work=database.unit_of_work, clock=HandClock())
        renamed = await rename(by=Vouched(user.id), conversation_id=conversation.id, title="Mine")
    assert (renamed.title, len(failed)) == ("Mine", 2)
    assert await the_conversation(database.unit_of_work, conversation) == renamed
    assert idle(database)


@only_servers
async def test_a_commit_that_nothing_is_known_of_is_not(database: Database) -> None:
    user = await stored_user(database.unit_of_work, "ada")
    conversation = await stored_conversation(database.unit_of_work, user)
    with failing_commits(database, Exception(2013, "Lost connection during query"), times=2) as failed:
        rename = RenameConversation(unit_of_work=database.unit_of_work, clock=HandClock())
        with pytest.raises(Unavailable) as failure:
            await rename(by=Vouched(user.id), conversation_id=conversation.id, title="Mine")
    assert not isinstance(failure.value, Contention)
    assert len(failed) == 1
    assert idle(database)


@contextmanager
def failing_commits(database: Database, error: Exception, *, times: int) -> Iterator[list[str]]:
    """So many commits fail with the driver's `error`, and nothing of them is stored. Those that did."""
    failed = list[str]()

    def fail(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement == "COMMIT" and len(failed) < times:
            failed.append(statement)
            raise OperationalError(statement, None, error)

    event.listen(database._writing.engine, "before_cursor_execute", fail)
    try:
        yield failed
    finally:
        event.remove(database._writing.engine, "before_cursor_execute", fail)
