"""What the database in memory does for tests beyond its contract."""

import asyncio

import pytest

from chatcore.entities import Profile, User
from chatcore.errors import NotFound, Unavailable
from chatcore.ports import UnitOfWork
from chatcore_memory import HandClock, MemoryDatabase

NOW = HandClock().now()


@pytest.fixture
def database() -> MemoryDatabase:
    return MemoryDatabase()


async def add_user(work: UnitOfWork, username: str = "ada") -> User:
    return await work.users.add(
        username=username, email=None, password_hash="", roles=frozenset(), profile=Profile(), now=NOW
    )


async def stored_user(database: MemoryDatabase, username: str = "ada") -> User:
    async with database.unit_of_work() as work:
        user = await add_user(work, username)
        await work.commit()
    return user


async def found(database: MemoryDatabase, username: str) -> User | None:
    async with database.unit_of_work(read_only=True) as work:
        return await work.users.find(username)


async def test_an_outage_makes_every_call_fail_and_passes(database: MemoryDatabase) -> None:
    user = await stored_user(database)
    with database.outage():
        with pytest.raises(Unavailable):
            await stored_user(database, "grace")
        with pytest.raises(Unavailable):
            await found(database, "ada")
        with pytest.raises(Unavailable):
            async with database.unit_of_work():
                pass
    assert await found(database, "ada") == user
    assert (await stored_user(database, "grace")).username == "grace"


async def test_an_outage_rolls_back_the_unit_that_meets_it(database: MemoryDatabase) -> None:
    async with database.unit_of_work() as work:
        await add_user(work)
        with database.outage(), pytest.raises(Unavailable):
            await work.commit()
        with pytest.raises(RuntimeError):
            await work.commit()
    assert await found(database, "ada") is None


async def test_an_outage_reaches_a_read_only_unit_that_is_open(database: MemoryDatabase) -> None:
    async with database.unit_of_work(read_only=True) as work:
        assert await work.users.find("ada") is None
        with database.outage(), pytest.raises(Unavailable):
            await work.users.find("ada")


async def test_an_outage_that_is_over_is_not_met_by_who_waited_for_the_lock(database: MemoryDatabase) -> None:
    async with database.unit_of_work():
        waiting = asyncio.create_task(stored_user(database))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with database.outage():
            await asyncio.sleep(0)
            assert not waiting.done()
    assert await waiting == await found(database, "ada")


async def test_a_unit_inside_a_unit_is_refused_where_it_would_wait_for_itself(database: MemoryDatabase) -> None:
    async with database.unit_of_work() as work:
        with pytest.raises(RuntimeError, match="open already"):
            await stored_user(database)
        assert await found(database, "ada") is None
        await add_user(work)
        await work.commit()
    assert await found(database, "ada")


async def test_a_unit_is_over_after_its_commit(database: MemoryDatabase) -> None:
    async with database.unit_of_work() as work:
        await work.commit()
        with pytest.raises(RuntimeError):
            await add_user(work)
        with pytest.raises(RuntimeError):
            await work.users.find("ada")
    assert await found(database, "ada") is None


async def test_a_unit_is_over_when_it_was_left(database: MemoryDatabase) -> None:
    async with database.unit_of_work() as work:
        pass
    with pytest.raises(RuntimeError):
        await work.users.find("ada")


async def test_a_unit_is_over_after_an_error(database: MemoryDatabase) -> None:
    user = await stored_user(database)
    async with database.unit_of_work() as work:
        conversation = await work.conversations.add(user.id, title="", config_id=None, now=NOW)
        with pytest.raises(NotFound):
            await work.conversations.add(user.id, title="", config_id=conversation.id, now=NOW)  # type: ignore[arg-type]  # pyright: ignore
        with pytest.raises(RuntimeError):
            await work.commit()


async def test_every_call_lets_others_run(database: MemoryDatabase) -> None:
    """A check and the act that follows it are two calls: what others do between them shows."""
    seen: list[User | None] = []

    async def check_then_act(username: str) -> None:
        seen.append(await found(database, username))
        if seen[-1] is None:
            await stored_user(database, username)

    outcomes = await asyncio.gather(check_then_act("ada"), check_then_act("ada"), return_exceptions=True)
    assert seen == [None, None]
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType", "UsernameTaken"]


async def test_ids_are_unique_across_kinds_and_never_given_twice(database: MemoryDatabase) -> None:
    async with database.unit_of_work() as work:
        rolled_back = await add_user(work)
    user = await stored_user(database)
    async with database.unit_of_work() as work:
        conversation = await work.conversations.add(user.id, title="", config_id=None, now=NOW)
    assert len({int(rolled_back.id), int(user.id), int(conversation.id)}) == 3


async def test_two_databases_share_nothing(database: MemoryDatabase) -> None:
    await stored_user(database)
    assert await found(MemoryDatabase(), "ada") is None
