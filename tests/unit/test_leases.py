"""Several processes on one database: leases, takeover, and replies that one of them writes and others read or stop."""

import asyncio

import pytest

from chatcore import Status
from chatcore.errors import Unavailable
from chatcore.ports import Delta
from chatcore_memory import Stall
from unit.world import LEASE, Chat, Process, World, read, read_until


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renewing and looking around take turns of a hundredth of a second; leases go by the clock moved by hand."""
    monkeypatch.setattr("chatcore.worker._RENEWALS", 100 * LEASE)
    monkeypatch.setattr("chatcore.worker._RENEWALS_OF_THE_NEW", 100 * LEASE)
    monkeypatch.setattr("chatcore.replies._SWEEP_EVERY", 0.01)


async def pass_lease(world: World) -> None:
    """So much time that whoever does not renew meanwhile is dead, and whoever does may say so."""
    for _ in range(8):
        world.clock.advance(LEASE / 4)
        await asyncio.sleep(0.05)


async def left_writing(world: World, process: Process) -> Chat:
    """A process that has said "Hel", which others can see, and is then gone without a word."""
    chat = await process.chat()
    world.model.then(Delta(reasoning="Hm"), "Hel", Stall(), "lo")
    await chat.send()
    await logged(world, chat, "HmHel")
    for task in process.replies._keepers:
        task.cancel()
    return chat


async def logged(world: World, chat: Chat, text: str) -> None:
    reply = (await chat.messages())[-1]
    async with asyncio.timeout(2):
        while "".join(entry.text for entry in await world.log_of(reply)) != text:
            await asyncio.sleep(0.01)


async def test_what_a_dead_process_was_writing_is_ended_by_another(world: World) -> None:
    async with world.process() as other:
        chat = await left_writing(world, await world.process().__aenter__())
        events = chat.seen_from(other).follow()
        await read_until(events, "HmHel")
        assert len(await world.unfinished()) == 1
        await pass_lease(world)
        async with asyncio.timeout(2):
            seen = await read(events)
        assert (seen.message.reasoning, seen.message.content) == ("Hm", "Hel")
        assert seen.message.status is Status.INTERRUPTED
        assert await world.log_of(seen.message) == []
        assert (await chat.seen_from(other).ask()).status is Status.COMPLETE


async def test_the_living_are_left_alone(world: World) -> None:
    async with world.process() as other, world.process() as process:
        chat = await process.chat()
        stall = Stall()
        world.model.then("Hel", stall, "lo")
        await chat.send()
        await pass_lease(world)
        assert len(await world.unfinished()) == 1
        stall.release()
        assert (await chat.seen_from(other).end()).content == "Hello"


async def test_a_process_that_is_new_waits_for_a_whole_lease(world: World) -> None:
    chat = await left_writing(world, await world.process().__aenter__())
    world.clock.advance(10 * LEASE)
    async with world.process():
        await asyncio.sleep(0.1)
        assert len(await world.unfinished()) == 1
        await pass_lease(world)
        async with asyncio.timeout(2):
            assert (await chat.messages())[-1].status is Status.INTERRUPTED


async def test_after_an_outage_nobody_is_taken_for_dead_at_once(world: World) -> None:
    async with world.process(), world.process() as process:
        chat = await process.chat()
        stall = Stall()
        world.model.then("Hel", stall, "lo")
        await chat.send()
        await pass_lease(world)
        await _deaf(process)
        with world.database.outage():
            world.clock.advance(10 * LEASE)
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.1)  # the other one is back, and has looked around
        assert len(await world.unfinished()) == 1
        _hearing(process)
        await pass_lease(world)
        stall.release()
        assert (await chat.end()).content == "Hello"


async def _deaf(process: Process) -> None:
    """Its heart stops beating."""
    keeper = process.replies._keepers[0]
    keeper.cancel()
    await asyncio.gather(keeper, return_exceptions=True)


def _hearing(process: Process) -> None:
    process.replies._keepers[0] = asyncio.create_task(process.replies._beat_forever())


async def test_a_process_that_was_only_paused_writes_nothing_more(world: World) -> None:
    async with world.process() as other, world.process() as process:
        chat = await process.chat()
        stall = Stall()
        world.model.then("Hel", stall, "lo")
        await chat.send()
        await logged(world, chat, "Hel")
        before = await process.replies.claimant()
        events = chat.follow()
        await read_until(events, "Hel")
        await _deaf(process)
        await pass_lease(world)
        reply = (await chat.messages())[-1]
        assert (reply.content, reply.status) == ("Hel", Status.INTERRUPTED)
        _hearing(process)
        async with asyncio.timeout(2):
            seen = await read(events)
        stall.release()
        assert (seen.text, seen.message) == ("", reply)
        assert await process.replies.claimant() != before
        assert (await chat.messages())[-1] == reply
        assert await world.log_of(reply) == []
        assert (await chat.ask()).content == "Hello world"
        assert (await chat.seen_from(other).ask()).content == "Hello world"


async def test_after_a_pause_nothing_is_shown_before_it_is_known_whose_the_reply_is(world: World) -> None:
    async with world.process(), world.process() as process:
        chat = await process.chat()
        stall = Stall()
        world.model.then("Hel", stall, "lo")
        await chat.send()
        await logged(world, chat, "Hel")
        events = chat.follow()
        await read_until(events, "Hel")
        await _deaf(process)
        await pass_lease(world)
        process.replies._worker.doubtful_at = 0.0  # what it finds when it wakes up
        stall.release()
        async with asyncio.timeout(2):
            seen = await read(events)
        assert (seen.text, seen.message.status) == ("", Status.INTERRUPTED)


async def test_a_renewal_that_was_asked_for_before_the_pause_says_nothing_of_after_it(world: World) -> None:
    async with world.process() as process:
        worker = process.replies._worker
        async with world.database.unit_of_work() as work:
            pulse = await worker.renew(work)
            await work.commit()
        assert pulse is not None
        worker._asked_at -= LEASE
        worker.doubtful_at -= LEASE
        worker.renewed(pulse)
        assert worker.in_doubt
        worker._tick()
        assert worker.in_doubt
        async with asyncio.timeout(2):
            await process.replies._make_sure()
        assert not worker.in_doubt


async def test_a_stop_reaches_the_process_that_writes(world: World) -> None:
    async with world.process() as other, world.process() as process:
        chat = await process.chat()
        world.model.then("Hel", Stall(), "lo")
        await chat.send()
        await logged(world, chat, "Hel")
        async with asyncio.timeout(2):
            stopped = await chat.seen_from(other).stop()
        assert (stopped.content, stopped.status) == ("Hel", Status.STOPPED)
        assert await chat.stop() == await chat.seen_from(other).stop() == stopped
        assert (await chat.messages())[-1] == stopped
        assert process.replies.writing_now == 0


async def test_a_stop_that_nobody_hears_is_not_waited_for_for_ever(world: World) -> None:
    async with world.process() as other:
        chat = await left_writing(world, await world.process().__aenter__())
        reply = (await chat.messages())[-1]
        assert await other.replies.stop(reply, within=0.05) is None


async def test_many_readers_elsewhere_share_one_look_at_the_log(world: World) -> None:
    async with world.process() as other, world.process() as process:
        chats = [await process.chat(f"user{number}") for number in range(5)]
        stalls = [Stall() for _ in chats]
        for chat, stall in zip(chats, stalls, strict=True):
            world.model.then("Hel", stall, "lo", "!")
            await chat.send()
        readers = [
            asyncio.create_task(read(chat.seen_from(other).follow(after))) for chat in chats for after in (0, 1, 4)
        ]
        await asyncio.sleep(0.05)
        assert len([task for task in asyncio.all_tasks() if task.get_name() == "chatcore mirrors"]) == 1
        for stall in stalls:
            stall.release()
        async with asyncio.timeout(2):
            seen = await asyncio.gather(*readers)
        assert [each.text for each in seen] == ["Hello!", "ello!", "o!"] * len(chats)
        await asyncio.sleep(0.05)
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "chatcore mirrors"]


async def test_readers_elsewhere_wait_for_the_database(world: World) -> None:
    async with world.process() as other, world.process() as process:
        chat = await process.chat()
        first, second = Stall(), Stall()
        world.model.then("Hel", first, "lo", second, "!")
        await chat.send()
        events = chat.seen_from(other).follow()
        await read_until(events, "Hel")
        with world.database.outage():
            first.release()
            await second.reached()
            await asyncio.sleep(0.05)
        second.release()
        async with asyncio.timeout(2):
            assert (await read(events)).text == "lo!"


async def test_text_that_was_logged_twice_is_read_once(world: World) -> None:
    """A batch was committed, but the answer was lost, and more has been said when it is written again."""
    async with world.process() as other, world.process() as process:
        chat = await process.chat()
        first, second, third = Stall(), Stall(), Stall()
        world.model.then("Hel", first, "lo", second, " you", third)
        await chat.send()
        await first.reached()
        events = chat.seen_from(other).follow()
        world.storage.fail_once(after=True)
        await read_until(events, "Hel")
        first.release()
        await logged(world, chat, "Hello")
        second.release()
        await third.reached()
        await read_until(events, "lo you")
        third.release()
        assert (await read(events)).message.content == "Hello you"


async def test_a_process_without_a_database_does_not_start(world: World) -> None:
    with world.database.outage(), pytest.raises(Unavailable):
        async with world.process():
            pass
