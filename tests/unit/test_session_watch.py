"""Open connections learn that their session has ended."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection, Set
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime

import pytest

from chatcore import Session, SessionId, SessionWatch, SignedIn
from chatcore.errors import Unauthenticated, Unavailable
from chatcore.ports import UnitOfWork, UnitOfWorkFactory
from unit.world import World, step

DAY = 86_400
ROUND = 50
"""Turns of the event loop in which a watch that never pauses has asked several times."""


class Asked(UnitOfWorkFactory):
    """Counts the questions, and may refuse to answer."""

    def __init__(self, inner: UnitOfWorkFactory) -> None:
        self.questions: list[int] = []
        self.refusal: Exception | None = None
        self._inner = inner

    @asynccontextmanager
    async def __call__(self, *, read_only: bool = False, urgent: bool = False) -> AsyncGenerator[UnitOfWork, None]:
        assert read_only
        async with self._inner(read_only=True) as work:
            alive = work.tokens.alive

            async def noting(session_ids: Collection[SessionId], *, now: datetime) -> Set[SessionId]:
                self.questions.append(len(session_ids))
                if self.refusal is not None:
                    raise self.refusal
                return await alive(session_ids, now=now)

            work.tokens.alive = noting  # type: ignore[method-assign]
            yield work


class Line:
    """An open connection, as far as the watch knows it."""

    def __init__(self) -> None:
        self.ends = 0
        self._ended = asyncio.Event()

    def end(self) -> None:
        self.ends += 1
        self._ended.set()

    async def ended(self) -> None:
        await self._ended.wait()


@pytest.fixture
def asked(world: World) -> Asked:
    return Asked(world.storage)


@pytest.fixture
async def watch(world: World, asked: Asked) -> AsyncGenerator[SessionWatch, None]:
    async with SessionWatch(unit_of_work=asked, clock=world.clock, every=0) as watch:
        yield watch


@pytest.fixture
async def ada(world: World) -> SignedIn:
    return await world.signed_in("ada")


async def revoke(world: World, session: Session) -> None:
    async with world.storage() as work:
        await work.tokens.revoke(session.user_id, session.id, now=world.clock.now())
        await work.commit()


async def expire(world: World, session: Session) -> None:
    world.clock.advance(31 * DAY)


async def disable(world: World, session: Session) -> None:
    users = world.database._store.committed.users  # pyright: ignore[reportPrivateUsage] - no port disables users yet
    users[session.user_id] = replace(users[session.user_id], is_active=False)


async def delete(world: World, session: Session) -> None:
    async with world.storage() as work:
        await work.owners.delete(session.user_id)
        await work.commit()


@pytest.mark.parametrize("how", [revoke, expire, disable, delete])
async def test_each_connection_of_a_session_that_ends_is_told_once(
    world: World, watch: SessionWatch, ada: SignedIn, how: object
) -> None:
    first, second = Line(), Line()
    with watch.watching(ada.session.id, first.end), watch.watching(ada.session.id, second.end):
        await step(ROUND)
        assert (first.ends, second.ends) == (0, 0)
        await how(world, ada.session)  # type: ignore[operator]
        await first.ended()
        await second.ended()
        await step(ROUND)
    assert (first.ends, second.ends) == (1, 1)


async def test_the_other_sessions_go_on(world: World, watch: SessionWatch, ada: SignedIn) -> None:
    others = [await world.sign_in(name="ada", password="correct horse"), await world.signed_in("bob")]
    line, going_on = Line(), [Line(), Line()]
    with ExitStack() as stack:
        stack.enter_context(watch.watching(ada.session.id, line.end))
        for other, their_line in zip(others, going_on, strict=True):
            stack.enter_context(watch.watching(other.session.id, their_line.end))
        await revoke(world, ada.session)
        await line.ended()
        await step(ROUND)
        assert [each.ends for each in going_on] == [0, 0]


async def test_a_session_that_had_ended_before_is_noticed(world: World, watch: SessionWatch, ada: SignedIn) -> None:
    await revoke(world, ada.session)
    line = Line()
    with watch.watching(ada.session.id, line.end):
        await line.ended()
    again = Line()
    with watch.watching(ada.session.id, again.end):
        await again.ended()


async def test_a_connection_that_has_closed_is_not_told(world: World, watch: SessionWatch, ada: SignedIn) -> None:
    closed, open_line = Line(), Line()
    with watch.watching(ada.session.id, open_line.end):
        with watch.watching(ada.session.id, closed.end):
            pass
        await revoke(world, ada.session)
        await open_line.ended()
    assert closed.ends == 0


async def test_a_connection_that_closes_because_it_was_told_is_let_go(
    world: World, watch: SessionWatch, asked: Asked, ada: SignedIn
) -> None:
    with pytest.raises(asyncio.CancelledError), watch.watching(ada.session.id, Line().end):
        raise asyncio.CancelledError
    line = Line()
    with watch.watching(ada.session.id, line.end):
        await revoke(world, ada.session)
        await line.ended()
    asked.questions.clear()
    await step(ROUND)
    assert asked.questions == []


async def test_nothing_is_asked_while_nobody_is_connected(watch: SessionWatch, asked: Asked, ada: SignedIn) -> None:
    await step(ROUND)
    assert asked.questions == []
    with watch.watching(ada.session.id, Line().end):
        await step(ROUND)
        assert len(asked.questions) > 1
    asked.questions.clear()
    await step(ROUND)
    assert asked.questions == []


async def test_many_sessions_are_one_question_or_a_few(watch: SessionWatch, asked: Asked, ada: SignedIn) -> None:
    """Some databases take no more than 32,766 values in a statement."""
    lines = [Line() for _ in range(2500)]
    with ExitStack() as stack:
        stack.enter_context(watch.watching(ada.session.id, Line().end))
        for number, line in enumerate(lines):
            stack.enter_context(watch.watching(SessionId(f"gone-{number}"), line.end))
        for line in lines:
            await line.ended()
    assert asked.questions[:3] == [1000, 1000, 501]
    assert {line.ends for line in lines} == {1}


@pytest.mark.parametrize("refusal", [Unavailable(), RuntimeError("a bug")])
async def test_while_there_is_no_answer_nobody_is_told(
    world: World,
    watch: SessionWatch,
    asked: Asked,
    ada: SignedIn,
    refusal: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked.refusal = refusal
    line = Line()
    with watch.watching(ada.session.id, line.end):
        await revoke(world, ada.session)
        while len(asked.questions) < 3:
            await step(1)
        assert line.ends == 0
        asked.refusal = None
        await line.ended()
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert bool(logged) is isinstance(refusal, RuntimeError)


async def test_leaving_leaves_nothing_behind(world: World, asked: Asked, ada: SignedIn) -> None:
    before = asyncio.all_tasks()
    async with AsyncExitStack() as stack:
        watch = await stack.enter_async_context(SessionWatch(unit_of_work=asked, clock=world.clock, every=0))
        stack.enter_context(watch.watching(ada.session.id, Line().end))
        await step(ROUND)
        assert len(asyncio.all_tasks()) == len(before) + 1
    assert asyncio.all_tasks() == before


# ---- what waits, and what is asked on an open connection -------------------------------------------------


@pytest.mark.parametrize("how", [revoke, expire, disable, delete])
async def test_who_waits_is_told_that_the_session_has_ended(
    world: World, watch: SessionWatch, ada: SignedIn, how: object
) -> None:
    async def waits() -> None:
        async with watch.while_alive(ada.session.id):
            await step(ROUND)
            await how(world, ada.session)  # type: ignore[operator]
            await asyncio.Event().wait()

    with pytest.raises(Unauthenticated):
        await waits()


async def test_what_else_goes_wrong_while_a_session_lives_is_itself(watch: SessionWatch, ada: SignedIn) -> None:
    async with watch.while_alive(ada.session.id):
        await step(ROUND)
    for error in (TimeoutError, asyncio.CancelledError, ValueError):
        with pytest.raises(error):
            async with watch.while_alive(ada.session.id):
                raise error


@pytest.mark.parametrize("how", [revoke, expire, disable, delete])
async def test_a_check_knows_at_once(world: World, watch: SessionWatch, ada: SignedIn, how: object) -> None:
    await watch.check(ada.session.id)
    await how(world, ada.session)  # type: ignore[operator]
    with pytest.raises(Unauthenticated):
        await watch.check(ada.session.id)
