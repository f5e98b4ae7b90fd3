"""Several processes on one database: leases, takeover, and replies that one of them writes and others read or stop."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Self

import pytest

from chatcore import MessageId, ReplyDelta, ReplyEnded, ReplyEvent, Silence, Status
from chatcore.errors import Unavailable
from chatcore.ports import Delta
from chatcore.shielding import ended
from chatcore_memory import Stall
from unit.world import LEASE, Chat, Process, Storage, World, keepers_of, nothing, read, read_until


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renewing and looking around take turns of a hundredth of a second; leases go by the clock moved by hand."""
    monkeypatch.setattr("chatcore.lease._RENEWALS", 100 * LEASE)
    monkeypatch.setattr("chatcore.lease._RENEWALS_OF_THE_NEW", 100 * LEASE)
    monkeypatch.setattr("chatcore.lease._SWEEP_EVERY", 0.01)


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
    for task in keepers_of(process):
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
    for task in keepers_of(process):
        await ended(task)


def _hearing(process: Process) -> None:
    process.replies._keep()


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
        process.replies._lease.doubtful_at = 0.0  # what it finds when it wakes up
        stall.release()
        async with asyncio.timeout(2):
            seen = await read(events)
        assert (seen.text, seen.message.status) == ("", Status.INTERRUPTED)


async def test_a_renewal_that_was_asked_for_before_the_pause_says_nothing_of_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.process() as process:
        lease = process.replies._lease
        await _deaf(process)
        paused, monotonic = Stall(), time.monotonic
        world.storage.after_commit = paused.hold
        renewing = asyncio.create_task(lease._renew())
        await paused.reached()
        monkeypatch.setattr("chatcore.lease.time.monotonic", lambda: monotonic() + LEASE)
        paused.release()
        await renewing
        assert lease.in_doubt
        await lease._renew()
        assert not lease.in_doubt


# ---- one that has lost the database, while others have not -----------------------------------------------


class CutOff:
    """Two processes, one of which writes a reply, and has a way of its own to the database."""

    def __init__(self, world: World) -> None:
        self.storage = Storage(world.database.unit_of_work)
        self.other = world.process()
        self.process = world.process(storage=self.storage)
        self.stalls = [Stall() for _ in range(3)]
        self.world = world

    async def __aenter__(self) -> Self:
        await self.other.__aenter__()
        await self.process.__aenter__()
        self.chat = await self.process.chat()
        self.world.model.then("Hel", self.stalls[0], "lo", self.stalls[1], "!", self.stalls[2])
        await self.chat.send()
        await logged(self.world, self.chat, "Hel")
        self.events = self.chat.follow()
        await read_until(self.events, "Hel")
        return self

    async def __aexit__(self, *error: object) -> None:
        self.storage.cut = False
        await self.process.__aexit__(None, None, None)
        await self.other.__aexit__(None, None, None)

    async def says_more(self) -> "asyncio.Task[ReplyEvent]":
        """What a reader gets next, when the model has gone on and said more."""
        following = asyncio.ensure_future(anext(self.events))
        self.stalls.pop(0).release()
        await self.stalls[0].reached()
        await asyncio.sleep(0.05)
        return following

    async def doubts(self) -> None:
        async with asyncio.timeout(2):
            while not self.process.replies._lease.in_doubt:
                await asyncio.sleep(0.01)


@pytest.fixture
async def cut_off(world: World) -> AsyncIterator[CutOff]:
    async with CutOff(world) as cut_off:
        yield cut_off


async def test_without_its_database_a_process_shows_nothing_that_others_could_withdraw(
    world: World, cut_off: CutOff
) -> None:
    cut_off.storage.cut = True
    await cut_off.doubts()
    following = await cut_off.says_more()
    assert not following.done()
    assert [event.offset for event in [await anext(cut_off.chat.follow(reply_id=_reply_of(cut_off)))]] == [0]
    await pass_lease(world)
    reply = (await cut_off.chat.messages())[-1]
    assert (reply.content, reply.status) == ("Hel", Status.INTERRUPTED)
    cut_off.storage.cut = False
    async with asyncio.timeout(2):
        end = await following
    assert isinstance(end, ReplyEnded)
    assert (end.offset, end.message) == (3, reply)
    assert (await cut_off.chat.messages())[-1] == reply


def _reply_of(cut_off: CutOff) -> MessageId:
    return next(iter(cut_off.process.replies._live))


async def test_what_was_held_back_is_shown_when_the_database_is_back_in_time(cut_off: CutOff) -> None:
    cut_off.storage.cut = True
    await cut_off.doubts()
    following = await cut_off.says_more()
    assert not following.done()
    cut_off.storage.cut = False
    async with asyncio.timeout(2):
        shown = await following
    assert isinstance(shown, ReplyDelta)
    assert shown.text == "lo"
    for stall in cut_off.stalls:
        stall.release()
    assert (await read(cut_off.events)).message.content == "Hello!"


async def test_a_database_that_does_not_answer_is_doubted_before_it_fails(
    cut_off: CutOff, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatcore.lease.SURE_WITHIN", 0.02)
    silence = Stall()
    cut_off.storage.before_unit = silence.hold
    await silence.reached()
    await cut_off.doubts()
    following = await cut_off.says_more()
    assert not following.done()
    silence.release()
    async with asyncio.timeout(2):
        assert (await following).offset == 5


async def test_text_that_does_not_get_to_the_log_is_not_shown_although_the_lease_is_renewed(
    world: World, cut_off: CutOff
) -> None:
    """One word is: while it is on its way there. After it none."""

    async def fail(_: object) -> None:
        raise Unavailable

    cut_off.storage.before_append = fail
    word = await cut_off.says_more()
    assert word.done()
    await cut_off.storage.refused.wait()
    following = await cut_off.says_more()
    assert not following.done()
    await pass_lease(world)
    assert not cut_off.process.replies._lease.in_doubt
    assert (await cut_off.chat.messages())[-1].status is Status.WRITING
    cut_off.storage.before_append = lambda _: nothing()
    async with asyncio.timeout(2):
        assert (await following).offset == 6


async def test_to_wait_for_the_database_is_silence_too(world: World) -> None:
    storage = Storage(world.database.unit_of_work)
    async with world.process(), world.process(storage=storage, silence=0.05) as process:
        chat = await process.chat()
        stall = Stall()
        world.model.then("Hel", stall, *"lo" * 100)
        await chat.send()
        await logged(world, chat, "Hel")
        events = chat.follow()
        await read_until(events, "Hel")
        storage.cut = True
        async with asyncio.timeout(2):
            while not process.replies._lease.in_doubt:
                await asyncio.sleep(0.01)
            stall.release()
            assert isinstance(await anext(events), Silence)
        storage.cut = False


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
        world.storage.fail_once(after=True, urgent=True)
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
