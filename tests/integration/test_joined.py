"""Messages in a transaction of the embedding program's."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import String, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from chatcore import Chat, Hooks, HookWork, Mine, Sent, Status
from chatcore.errors import ConversationBusy, NotFound, NotMigrated, Refused, Unavailable
from chatcore_memory import ScriptedModel, Stall
from chatcore_sql import Database
from chatcore_sql.url import engine_url
from chatcore_testing.contracts.storage.base import NOW
from integration.databases import execute, new_database, on_each
from integration.test_sql_naming import names_for
from unit.world import SERVER_MODEL


class Base(DeclarativeBase):
    pass


class Ticket(Base):
    __tablename__ = "messages"  # as one of ours without its prefix
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str] = mapped_column(String(20), default="")


class Noting(Hooks):
    """Notes each send in the same transaction; `refuse`: and undoes it."""

    refuse = False

    async def stored(self, work: HookWork, sent: Sent) -> None:
        await work.execute(text("UPDATE messages SET note = 'sent' WHERE id = :id"), {"id": 1})
        if self.refuse:
            raise Refused("Not now.")


class Program:
    """A program with tables, a session and a chat in one database."""

    def __init__(self, url: str, chat: Chat, database: Database, engine: AsyncEngine, model: ScriptedModel) -> None:
        self.url, self.chat, self.database, self.engine, self.model = url, chat, database, engine, model
        self.hooks = Noting()

    def session(self) -> AsyncSession:
        return AsyncSession(self.engine, expire_on_commit=False)

    def mine(self, me: Mine, session: AsyncSession | AsyncConnection) -> Mine:
        return me.within(self.database.within(session))

    async def tickets(self) -> list[Any]:
        return [tuple(row) for row in await execute(self.url, "SELECT id, note FROM messages ORDER BY id")]

    @property
    def begun(self) -> int:
        return len(self.model.calls)

    @property
    def live(self) -> int:
        return self.chat.use_cases.send_message.replies.writing_now


OTHERS = {"aiomysql": "mysql", "psycopg": "postgresql"}
"""Drivers that only the program has, and what they reach."""


@pytest.fixture(
    scope="module",
    params=[*on_each, *(pytest.param(driver, marks=getattr(pytest.mark, kind)) for driver, kind in OTHERS.items())],
)
def driver(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def url(driver: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with new_database(OTHERS.get(driver, driver), tmp_path_factory.mktemp("databases")) as url:
        yield url


@pytest.fixture
def names(url: str) -> dict[str, Any]:
    return names_for(url)


@pytest.fixture
async def program(url: str, driver: str, names: dict[str, Any]) -> AsyncIterator[Program]:
    address = engine_url(url)
    engine = create_async_engine(address.set(drivername=f"{OTHERS[driver]}+{driver}") if driver in OTHERS else address)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
    database, model, hooks = Database(url, pool_size=3, **names), ScriptedModel("Hel", "lo"), Noting()
    async with Chat(store=database, gateway=model, model=SERVER_MODEL, hooks=hooks, grace=0) as chat:
        program = Program(url, chat, database, engine, model)
        program.hooks = hooks
        yield program
        assert program.live == 0
    await engine.dispose()


@pytest.fixture
async def me(program: Program) -> Mine:
    return await program.chat.of(secrets.token_hex(6))


async def ended(me: Mine, conversation: int) -> str:
    return (await (await me.reply(conversation)).ended()).content


async def test_a_message_and_the_programs_rows_are_stored_by_one_commit(program: Program, me: Mine) -> None:
    async with program.session() as session:
        session.add(Ticket(id=1))
        sent = await program.mine(me, session).send("Hello?")
        await asyncio.sleep(0.05)
        assert (program.begun, program.live) == (0, 1)
        with pytest.raises(NotFound):
            await me.history(sent.conversation_id)
        seen = await program.mine(me, session).history(sent.conversation_id)
        assert [message.id for message in seen.messages] == [sent.message.id, sent.reply.id]
        await session.commit()
        assert await ended(me, sent.conversation_id) == "Hello"
    assert await program.tickets() == [(1, "sent")]  # the session was flushed before the hook
    assert program.begun == 1


@pytest.mark.parametrize("how", ["rollback", "close", "error"])
async def test_what_the_program_undoes_is_gone_and_nothing_begins(program: Program, me: Mine, how: str) -> None:
    session = program.session()
    session.add(Ticket(id=1))
    sent = await program.mine(me, session).send("Hello?")
    if how == "rollback":
        await session.rollback()
    elif how == "error":
        with pytest.raises(ZeroDivisionError):
            async with session:
                raise ZeroDivisionError
    await session.close()
    assert program.live == 0
    await asyncio.sleep(0.05)
    assert program.begun == 0
    assert await program.tickets() == []
    with pytest.raises(NotFound):
        await me.history(sent.conversation_id)
    assert (await me.conversations()).items == []
    again = await me.send("Hello?")  # perhaps with the same ids
    assert await ended(me, again.conversation_id) == "Hello"


async def test_several_in_one_transaction(program: Program, me: Mine) -> None:
    bob = await program.chat.of("bob")
    async with program.session() as session:
        inside = program.mine(me, session)
        first, second = await inside.send("One?"), await inside.send("Two?")
        third = await program.mine(bob, session).send("Three?")
        with pytest.raises(ConversationBusy):
            await inside.send("Again?", to=first.conversation_id)
        session.add(Ticket(id=1))
        await session.commit()
    for who, sent in ((me, first), (me, second), (bob, third)):
        assert await ended(who, sent.conversation_id) == "Hello"
    assert program.begun == 3
    assert await program.tickets() == [(1, "")]


async def test_what_fails_leaves_the_rest_of_the_transaction(program: Program, me: Mine) -> None:
    async with program.session() as session:
        session.add(Ticket(id=1))
        program.hooks.refuse = True
        with pytest.raises(Refused):
            await program.mine(me, session).send("Hello?")
        with pytest.raises(NotFound):
            await program.mine(me, session).send("Hello?", to=4711)
        await session.commit()
    assert await program.tickets() == [(1, "")]
    assert (await me.conversations()).items == []
    assert (program.begun, program.live) == (0, 0)


async def test_a_savepoint_of_the_programs_undoes_a_message(program: Program, me: Mine) -> None:
    async with program.session() as session:
        kept = await program.mine(me, session).send("Kept")
        savepoint = await session.begin_nested()
        await program.mine(me, session).send("Undone")
        await savepoint.rollback()
        await session.commit()
    assert await ended(me, kept.conversation_id) == "Hello"
    async with asyncio.timeout(5):
        while program.live:
            await asyncio.sleep(0.01)
    assert program.begun == 1
    assert len((await me.conversations()).items) == 1


async def test_a_connection_instead_of_a_session(program: Program, me: Mine) -> None:
    async with program.engine.connect() as connection:
        sent = await program.mine(me, connection).send("Hello?")  # begins its transaction
        await connection.execute(text("INSERT INTO messages VALUES (1, '')"))
        await connection.commit()
        assert await ended(me, sent.conversation_id) == "Hello"
        await program.mine(me, connection).send("Undone", to=sent.conversation_id)
        await connection.rollback()
        assert program.live == 0
    async with program.engine.begin() as connection:
        again = await program.mine(me, connection).send("Again?", to=sent.conversation_id)
    assert await ended(me, again.conversation_id) == "Hello"
    assert len((await me.history(sent.conversation_id)).messages) == 4
    assert await program.tickets() == [(1, "sent")]


async def test_a_session_inside_a_transaction_of_a_connection(program: Program, me: Mine) -> None:
    """Its commit is none: the connection's is."""
    async with program.engine.connect() as connection:
        await connection.begin()
        async with AsyncSession(connection, join_transaction_mode="create_savepoint") as session:
            sent = await program.mine(me, session).send("Hello?")
            await session.commit()
        await asyncio.sleep(0.05)
        assert (program.begun, program.live) == (0, 1)
        await connection.commit()
    assert await ended(me, sent.conversation_id) == "Hello"


async def test_more_than_sending(program: Program, me: Mine) -> None:
    async with program.session() as session:
        inside = program.mine(me, session)
        conversation = await inside.create(title="Ours")
        sent = await inside.send("Hello?", to=conversation.id, key="once")
        await session.commit()
    assert await ended(me, conversation.id) == "Hello"
    async with program.session() as session:
        inside = program.mine(me, session)
        assert (await inside.send("Hello?", to=conversation.id, key="once")).reply.id == sent.reply.id
        assert (await inside.regenerate(conversation.id)).message == sent.message
        await session.commit()
    assert await ended(me, conversation.id) == "Hello"
    async with program.session() as session:
        await program.mine(me, session).delete(conversation.id)
        assert (await me.conversations()).items != []
        await session.commit()
    assert (await me.conversations()).items == []


async def test_a_transaction_that_ends_after_the_chat_begins_nothing(program: Program) -> None:
    session = program.session()
    async with Chat(store=program.database, gateway=program.model, model=SERVER_MODEL, grace=0) as chat:
        other = await chat.of("bob")
        sent = await program.mine(other, session).send("Hello?")
    await session.commit()
    await session.close()
    await asyncio.sleep(0.05)
    assert program.begun == 0
    bob = await program.chat.of("bob")
    stored = (await bob.history(sent.conversation_id)).messages[-1]
    assert stored.status is Status.WRITING  # as of any process that is gone: another one ends it


async def test_what_commits_by_itself_cannot_be_joined(program: Program, me: Mine) -> None:
    engine = program.engine.execution_options(isolation_level="AUTOCOMMIT")
    async with AsyncSession(engine) as session:
        with pytest.raises(ValueError, match="AUTOCOMMIT"):
            await program.mine(me, session).send("Hello?")
    assert (await me.conversations()).items == []


async def test_another_kind_of_database_is_refused(program: Program, me: Mine) -> None:
    if program.url.startswith("sqlite"):
        pytest.skip("the other kind is SQLite")
    engine = create_async_engine("sqlite+aiosqlite://")
    async with AsyncSession(engine) as session:
        with pytest.raises(ValueError, match="the session's database is sqlite"):
            await program.mine(me, session).send("Hello?")
    await engine.dispose()


@pytest.mark.parametrize("driver", ["mysql", "postgresql"], indirect=True)
@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
async def test_a_message_never_follows_what_is_not_the_last(program: Program, me: Mine, isolation: str) -> None:
    """Another one was sent, and answered, after the program's transaction had begun to read."""
    begun = await me.send("Hello?")
    await ended(me, begun.conversation_id)
    engine = program.engine.execution_options(isolation_level=isolation)
    async with AsyncSession(engine) as session:
        await session.execute(text("SELECT COUNT(*) FROM messages"))
        inside = program.mine(me, session)
        seen = await inside.history(begun.conversation_id)
        if isolation == "SERIALIZABLE" and program.url.startswith("mysql"):
            await session.rollback()  # what it has read is locked
        await me.send("Meanwhile", to=begun.conversation_id)
        await ended(me, begun.conversation_id)
        try:
            await inside.send("After", to=begun.conversation_id)
        except (ConversationBusy, Unavailable):
            await session.rollback()
        else:
            await session.commit()
            await ended(me, begun.conversation_id)
    messages = (await me.history(begun.conversation_id)).messages
    assert len(seen.messages) == 2
    assert len(messages) in (4, 6)
    assert len(messages) == 6 or isolation != "READ COMMITTED"
    assert [message.parent_id for message in messages] == [None, *(message.id for message in messages[:-1])]
    assert all(message.siblings == (message.id,) for message in messages)


@pytest.mark.parametrize("driver", ["mysql", "postgresql"], indirect=True)
async def test_a_transaction_that_lost_a_deadlock_cannot_be_committed(program: Program, me: Mine) -> None:
    one, two = await me.create(), await me.create()
    lost = 0

    async def both(first: int, second: int, ticket: int, met: asyncio.Barrier) -> None:
        nonlocal lost
        async with program.session() as session:
            session.add(Ticket(id=ticket))
            inside = program.mine(me, session)
            await inside.rename(first, "Mine")
            await met.wait()
            try:
                await inside.rename(second, "Mine, too")
            except Unavailable:
                lost += 1
                if program.url.startswith("mysql"):
                    with pytest.raises(Exception, match=r"(?i)rolled back|invalid"):
                        await session.commit()
                await session.rollback()
            else:
                await session.commit()

    met = asyncio.Barrier(2)
    await asyncio.gather(both(one.id, two.id, 1, met), both(two.id, one.id, 2, met))
    assert lost == 1
    assert len(await program.tickets()) == 1


async def test_a_stop_and_a_shutdown_reach_what_waits_for_the_commit(program: Program, me: Mine) -> None:
    program.model.then("Hel", Stall())
    async with program.session() as session:
        sent = await program.mine(me, session).send("Hello?")
        await session.commit()
        assert (await me.stop(sent.conversation_id)).status is Status.STOPPED


@pytest.mark.parametrize("driver", ["mysql", "postgresql"], indirect=True)
async def test_the_programs_engine_says_where_the_database_is(
    program: Program, me: Mine, names: dict[str, Any]
) -> None:
    sent = await me.send("Hello?")
    await ended(me, sent.conversation_id)
    for source in (program.engine, program.engine.url):
        async with Chat(store=Database(source, **names), gateway=program.model, model=SERVER_MODEL, grace=0) as chat:
            again = await chat.of(me.by.name[0])
            assert len((await again.history(sent.conversation_id)).messages) == 2


def test_a_database_in_an_engines_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="belongs to its engine alone"):
        Database(create_async_engine("sqlite+aiosqlite://"))


async def test_what_is_not_migrated_says_so(program: Program) -> None:
    """Not there, or older; on opening, and where it has become so since."""
    file = program.url.replace(".db", "-other.db")
    database = Database(file, prefix="other_")
    with pytest.raises(NotMigrated, match="chatcore migrate"):
        async with Chat(store=database, gateway=program.model, migrate=False):
            pass
    async with database:
        with pytest.raises(NotMigrated):
            async with database.unit_of_work(read_only=True) as work:
                await work.owners.find("", "alice")
        await database.migrate()
        await database.downgrade("chatcore_0012")
        with pytest.raises(NotMigrated):
            async with database.unit_of_work() as work:
                await work.owners.add("", "alice", now=NOW)
        async with database.unit_of_work() as work:
            with pytest.raises(DBAPIError, match="nothing_of_ours"):  # the program's own mistake
                await work.execute(text("DELETE FROM nothing_of_ours"))
        await database.downgrade()
