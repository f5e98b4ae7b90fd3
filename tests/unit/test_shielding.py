"""What has begun goes on to its end."""

import asyncio
import gc
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

from chatcore.mirrors import Mirrors
from chatcore.periodic import Periodic
from chatcore.ports import Rate
from chatcore.shielding import ended, shielded
from chatcore_security import CountingLimiter
from unit.world import World, step


class Failed(Exception):
    pass


class Work:
    """Goes through its door once that is open."""

    def __init__(self) -> None:
        self.door = asyncio.Event()
        self.begun = asyncio.Event()
        self.done = False

    async def __call__(self) -> str:
        self.begun.set()
        await self.door.wait()
        self.done = True
        return "result"


async def leaves_when_it_is_done(caller: "asyncio.Task[str]", work: Work, times: int = 1) -> None:
    """However often it is cancelled."""
    for _ in range(times):
        caller.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not caller.done()
    work.door.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert work.done


async def test_the_result_is_the_works() -> None:
    work = Work()
    work.door.set()
    assert await shielded(work()) == "result"


async def test_the_failure_is_the_works() -> None:
    async def fail() -> None:
        raise Failed

    with pytest.raises(Failed):
        await shielded(fail())


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_a_cancelled_caller_leaves_when_the_work_is_done(times: int) -> None:
    work = Work()
    caller = asyncio.create_task(shielded(work()))
    await work.begun.wait()
    await leaves_when_it_is_done(caller, work, times)


async def test_a_caller_cancelled_in_the_moment_of_the_result_is_cancelled() -> None:
    work = Work()
    caller = asyncio.create_task(shielded(work()))
    await work.begun.wait()
    work.door.set()
    while not work.done:
        await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


def test_the_failure_of_work_whose_caller_was_cancelled_is_nobodys_any_more() -> None:
    told: list[object] = []

    async def fail(door: asyncio.Event) -> None:
        await door.wait()
        raise Failed

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        door = asyncio.Event()
        caller = asyncio.create_task(shielded(fail(door)))
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.sleep(0)
        door.set()
        with pytest.raises(asyncio.CancelledError):
            await caller

    asyncio.run(main())
    gc.collect()
    assert told == []


async def test_work_that_is_part_of_such_work_runs_in_its_task() -> None:
    async def inner() -> "asyncio.Task[object] | None":
        return asyncio.current_task()

    async def outer() -> bool:
        return await shielded(inner()) is asyncio.current_task()

    assert await shielded(outer())


async def test_a_task_that_such_work_has_begun_may_be_cancelled_and_its_own_is_settled() -> None:
    work = Work()

    async def begin() -> "asyncio.Task[str]":
        return asyncio.create_task(shielded(work()))

    caller = await shielded(begin())
    await work.begun.wait()
    await leaves_when_it_is_done(caller, work)


async def test_work_that_is_done_leaves_nothing_to_the_garbage_collector() -> None:
    async def inner() -> None:
        tasks.append(weakref.ref(asyncio.current_task()))

    tasks: list[weakref.ref[object]] = []
    gc.disable()
    try:
        await shielded(inner())
        await asyncio.sleep(0)
        assert tasks[0]() is None
    finally:
        gc.enable()


async def test_a_time_limit_within_such_work_does_not_reach_what_is_told_to_be_apart() -> None:
    work, limit = Work(), asyncio.timeout(0.01)

    async def limited() -> str:
        async with limit:
            return await shielded(work(), apart=True)

    caller = asyncio.create_task(shielded(limited()))
    while not limit.expired():
        await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    assert not caller.done()
    work.door.set()
    with pytest.raises(TimeoutError):
        await caller
    assert work.done


# ---- whoever ends a task may be cancelled itself ---------------------------------------------------------


class Rounds(Periodic):
    async def _round(self) -> None:
        raise AssertionError("it never comes to that")


async def is_cancelled_while_closing(closing: Coroutine[Any, Any, object]) -> None:
    """In the moment in which it waits for a task that it has cancelled."""
    caller = asyncio.create_task(closing)
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_what_a_task_that_is_ended_raises_is_its_own() -> None:
    async def fail() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise Failed

    for work in (asyncio.Event().wait(), fail()):
        task: asyncio.Task[Any] = asyncio.create_task(work)
        await asyncio.sleep(0)
        await ended(task)
        assert task.done()
        if not task.cancelled():
            assert isinstance(task.exception(), Failed)


async def test_who_ends_a_task_is_cancelled_all_the_same() -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    await is_cancelled_while_closing(ended(task))
    assert task.cancelled()


async def test_who_ends_what_is_done_now_and_then_is_cancelled_all_the_same() -> None:
    rounds = await Rounds(every=60).__aenter__()
    await asyncio.sleep(0)
    await is_cancelled_while_closing(rounds.__aexit__(None, None, None))


async def test_who_closes_the_mirrors_is_cancelled_all_the_same(world: World) -> None:
    async with world.process() as process:
        reply = (await (await process.chat()).send()).reply
    mirrors = Mirrors(world.storage, every=60)
    async with mirrors.of(reply):
        await step(5)
        await is_cancelled_while_closing(mirrors.close())


async def test_who_closes_the_limits_is_cancelled_all_the_same() -> None:
    limiter = CountingLimiter()
    await limiter.hit(Rate(1, 60), "ada")
    await is_cancelled_while_closing(limiter.__aexit__(None, None, None))


async def test_who_closes_the_replies_is_cancelled_all_the_same(world: World) -> None:
    process = await world.process().__aenter__()
    await step(5)
    await is_cancelled_while_closing(process.__aexit__())
    await process.__aexit__()
