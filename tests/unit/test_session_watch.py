"""Open connections learn that their session has ended."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import pytest

from chatcore import SessionId, SessionWatch, SignedIn
from unit.world import PASSWORD, Process, World


@pytest.fixture
async def watch(world: World) -> AsyncIterator[SessionWatch]:
    async with SessionWatch(unit_of_work=world.storage, clock=world.clock, every=0.001) as watch:
        yield watch


@pytest.fixture
async def ada(world: World) -> SignedIn:
    return await world.signed_in("ada")


async def polled(watch: SessionWatch) -> None:
    """All who were watching before have been asked about: a session that never was is told of in its first poll, and
    the second one has begun after this was called."""
    for _ in range(2):
        told = asyncio.Event()
        with watch.watching(SessionId("never was"), told.set):
            await told.wait()


# ---- how a session may end -------------------------------------------------------------------------------

End: TypeAlias = Callable[[World, Process, SignedIn], Awaitable[None]]


async def revoke(world: World, process: Process, ada: SignedIn) -> None:
    await world.revoke_session(caller=await world.caller(ada), session_id=ada.session.id)


async def sign_out(world: World, process: Process, ada: SignedIn) -> None:
    await world.sign_out(caller=await world.caller(ada))


async def change_password(world: World, process: Process, ada: SignedIn) -> None:
    other = await world.sign_in(name="ada", password=PASSWORD)
    await world.change_password(caller=await world.caller(other), password="battery staple")


async def delete(world: World, process: Process, ada: SignedIn) -> None:
    await process.delete_account(caller=await world.caller(ada))


async def expire(world: World, process: Process, ada: SignedIn) -> None:
    world.clock.advance((ada.session.expires_at - world.clock.now()).total_seconds())


async def disable(world: World, process: Process, ada: SignedIn) -> None:
    state = world.database._store.committed  # pyright: ignore[reportPrivateUsage] - no port disables users yet
    state.users[ada.user.id] = replace(ada.user, is_active=False)


ENDS: list[End] = [revoke, sign_out, change_password, delete, expire, disable]


@pytest.mark.parametrize("end", ENDS)
async def test_all_who_watch_a_session_are_told_once_that_it_has_ended(
    world: World, process: Process, watch: SessionWatch, ada: SignedIn, end: End
) -> None:
    world.clock.advance(60)
    bob = await world.signed_in("bob")
    calls: list[str] = []
    with (
        watch.watching(ada.session.id, lambda: calls.append("one")),
        watch.watching(ada.session.id, lambda: calls.append("two")),
        watch.watching(bob.session.id, lambda: calls.append("bob")),
    ):
        await polled(watch)
        assert calls == []
        await end(world, process, ada)
        for _ in range(2):
            await polled(watch)
            assert calls == ["one", "two"]


async def test_who_has_left_is_not_told(world: World, process: Process, watch: SessionWatch, ada: SignedIn) -> None:
    calls: list[str] = []
    with watch.watching(ada.session.id, lambda: calls.append("stayed")):
        with watch.watching(ada.session.id, lambda: calls.append("left")):
            await polled(watch)
        await revoke(world, process, ada)
        await polled(watch)
    assert calls == ["stayed"]


async def test_who_comes_after_the_end_is_told_too(
    world: World, process: Process, watch: SessionWatch, ada: SignedIn
) -> None:
    await revoke(world, process, ada)
    told = asyncio.Event()
    with watch.watching(ada.session.id, told.set):
        await told.wait()


async def test_while_the_database_is_gone_nobody_is_told(
    world: World, process: Process, watch: SessionWatch, ada: SignedIn
) -> None:
    told = asyncio.Event()
    with watch.watching(ada.session.id, told.set):
        with world.database.outage():
            await expire(world, process, ada)
            await world.storage.refused.wait()
            assert not told.is_set()
        await told.wait()


async def test_where_one_query_does_not_ask_for_all_several_do(
    world: World, watch: SessionWatch, ada: SignedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatcore.session_watch._AT_ONCE", 2)
    others = [await world.sign_in(name="ada", password=PASSWORD) for _ in range(5)]
    calls: list[SessionId] = []
    with ExitStack() as stack:
        for signed_in in (ada, *others):
            stack.enter_context(watch.watching(signed_in.session.id, partial(calls.append, signed_in.session.id)))
        await polled(watch)
        assert calls == []
        await world.revoke_other_sessions(caller=await world.caller(ada))
        await polled(watch)
    assert sorted(calls) == sorted(signed_in.session.id for signed_in in others)
