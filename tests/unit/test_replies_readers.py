"""Reading a reply: from any offset, at any time, in any process."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from chatcore import Message, ReplyDelta, ReplyEnded, ReplyStarted, Silence, Status, TextKind, Vouched
from chatcore.errors import NotFound, RateLimited
from chatcore.ports import Delta
from chatcore_memory import Stall
from chatcore_memory.messages import MemoryMessages
from unit.world import LAST_STEP, Chat, Process, World, at_every_step, everything_has_ended, read, read_until, step

REASONING, ANSWER = "Hm 🤔\n", "Grüße\r\n🦄!"
TEXT = REASONING + ANSWER


async def test_a_reader_sees_the_start_the_text_and_the_end(world: World, chat: Chat) -> None:
    stall = Stall()
    world.model.then(Delta(reasoning="Hm"), Delta(reasoning=" 🤔", text="He"), stall, "l", "lo")
    sent = await chat.send()
    await stall.reached()
    reading = asyncio.create_task(read(chat.follow(reply_id=sent.reply.id)))
    await step(5)
    stall.release()
    events = (await reading).events
    id_ = sent.reply.id
    assert events[:3] == [
        ReplyStarted(id_, 0, chat.id, sent.message.id, "server-model"),
        ReplyDelta(id_, 4, TextKind.REASONING, "Hm 🤔"),
        ReplyDelta(id_, 6, TextKind.ANSWER, "He"),
    ]
    assert "".join(event.text for event in events[3:] if isinstance(event, ReplyDelta)) == "llo"
    assert events[-1] == ReplyEnded(id_, 9, (await chat.messages())[-1])


async def test_the_end_is_told_once_it_is_stored(world: World, chat: Chat) -> None:
    await chat.send()
    commit = Stall()
    world.storage.before_commit = commit.hold
    reading = asyncio.create_task(read(chat.follow()))
    await commit.reached()
    await step(LAST_STEP)
    assert not reading.done()
    commit.release()
    assert (await reading).message == (await chat.messages())[-1]


async def test_readers_of_what_has_ended_hold_so_much_and_no_more(
    world: World, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each holds the text until its client has taken it, which may be never."""
    monkeypatch.setattr("chatcore.readers._AT_ONCE", 100_000)
    world.model.then("a" * 40_000)
    async with world.process() as reader:
        await chat.send()
        await chat.end()
        mine = chat.seen_from(reader)
        readers = [mine.follow() for _ in range(2)]
        for events in readers:
            await anext(events)
        with pytest.raises(RateLimited):
            await anext(mine.follow())
        async with aclosing(readers[0]):
            assert (await read(readers[0])).text == "a" * 40_000
        await mine.end()
        async with aclosing(readers[1]):
            pass


async def test_of_many_readers_of_what_has_ended_one_at_a_time_asks_for_it(
    world: World, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it holds is counted before the next one asks: fifty at once would hold fifty texts, counted or not."""
    monkeypatch.setattr("chatcore.readers._AT_ONCE", 100_000)
    world.model.then("a" * 40_000)
    asking, most = 0, 0
    get = MemoryMessages.get

    async def counted(self: MemoryMessages, *which: Any) -> Message | None:
        nonlocal asking, most
        asking += 1
        most = max(most, asking)
        await step(3)
        asking -= 1
        return await get(self, *which)

    async with world.process() as reader:
        await chat.send()
        await chat.end()
        monkeypatch.setattr(MemoryMessages, "get", counted)
        mine = chat.seen_from(reader)
        readers = [mine.follow(reply_id=(await chat.messages())[-1].id) for _ in range(50)]
        first = await asyncio.gather(*(anext(events) for events in readers), return_exceptions=True)
        assert [type(one) for one in first] == [ReplyStarted] * 2 + [RateLimited] * 48
        assert most == 1
        for events in readers:
            await events.aclose()


async def test_what_arrives_together_comes_together(world: World, chat: Chat) -> None:
    stall = Stall()
    world.model.then(*"abc", stall)
    await chat.send()
    await stall.reached()
    events = chat.follow()
    await anext(events)
    assert (await anext(events)).offset == 3
    stall.release()


async def test_a_client_that_leaves_finds_the_whole_reply_later(world: World, chat: Chat) -> None:
    stall = Stall()
    world.model.then("Hel", stall, "lo")
    await chat.send()
    await stall.reached()
    reading = asyncio.create_task(read(chat.follow()))
    await step(5)
    reading.cancel()
    await asyncio.wait([reading])
    stall.release()
    await world.model.calls[-1].ended()
    assert (await read(chat.follow())).text == "Hello"
    assert world.model.calls[-1].ending == "finished"
    await everything_has_ended(chat)


async def test_a_slow_reader_does_not_slow_the_writer(world: World, chat: Chat) -> None:
    pieces = [f"{number} " for number in range(1000)]
    stall = Stall()
    world.model.then("first ", stall, *pieces)
    await chat.send()
    slow = chat.follow()
    await read_until(slow, "first ")
    stall.release()
    assert (await read(chat.follow())).text == "first " + "".join(pieces)
    assert (await chat.messages())[-1].status is Status.COMPLETE
    assert (await read(slow)).text == "".join(pieces)


async def test_nobody_reads_a_live_reply_of_anothers_or_of_another_conversation(
    world: World, process: Process, chat: Chat
) -> None:
    stall = Stall()
    world.model.then("secret", stall)
    sent = await chat.send()
    await stall.reached()
    other = await world.create_conversation(by=Vouched(chat.owner))
    bob = await process.chat("bob")
    for stranger in (Chat(process, bob.owner, chat.id), bob, Chat(process, chat.owner, other.id)):
        with pytest.raises(NotFound):
            await anext(stranger.follow(reply_id=sent.reply.id))
    with pytest.raises(NotFound):
        await Chat(process, bob.owner, chat.id).stop()
    stall.release()
    assert (await chat.end()).status is Status.COMPLETE


async def test_silence_is_told_and_costs_no_text(world: World) -> None:
    async with world.process(silence=0.001) as process:
        chat = await process.chat()
        stall = Stall()
        world.model.then("Hel", stall, "lo")
        sent = await chat.send()
        events = chat.follow()
        await read_until(events, "Hel")
        assert [await anext(events) for _ in range(3)] == [Silence(sent.reply.id, 3)] * 3
        stall.release()
        assert (await read(events)).text == "lo"


# ---- resumed ---------------------------------------------------------------------------------------------

OFFSETS = range(len(TEXT) + 3)


def chattering(world: World) -> Stall:
    """Lets the model say `TEXT` in pieces, with a pause in the middle of the answer."""
    stall = Stall()
    world.model.then(*(Delta(reasoning=char) for char in REASONING), *ANSWER[:4], stall, *ANSWER[4:])
    return stall


async def the_rest_from_every_offset(chat: Chat, pause: Stall | None = None, reply: Message | None = None) -> None:
    """Attaches readers at all offsets at once, before the pause ends if there is one, and reads to the end."""
    readers = [chat.follow(offset, reply.id if reply else None) for offset in OFFSETS]
    started = [await anext(reader) for reader in readers]
    assert [event.offset for event in started] == list(OFFSETS)
    reading = [asyncio.create_task(read(reader)) for reader in readers]
    if pause:
        await step(LAST_STEP)
        pause.release()
    for offset, seen in zip(OFFSETS, await asyncio.gather(*reading), strict=True):
        assert seen.text == TEXT[offset:]
        assert (seen.message.reasoning, seen.message.content) == (REASONING, ANSWER)
        assert seen.events[-1].offset == len(TEXT)


async def test_a_live_reply_is_resumed_at_every_offset(world: World, chat: Chat) -> None:
    pause = chattering(world)
    sent = await chat.send()
    await the_rest_from_every_offset(chat, pause, sent.reply)


async def test_the_last_reply_of_a_conversation_is_resumed_at_every_offset(world: World, chat: Chat) -> None:
    await chat.ask()
    pause = chattering(world)
    await chat.send()
    await pause.reached()
    await the_rest_from_every_offset(chat, pause)


async def test_a_reply_that_has_ended_is_resumed_at_every_offset(world: World, chat: Chat) -> None:
    chattering(world).release()
    reply = await chat.ask()
    await the_rest_from_every_offset(chat)
    await chat.ask()
    await the_rest_from_every_offset(chat, reply=reply)


async def test_a_reply_of_another_process_is_resumed_at_every_offset(world: World) -> None:
    async with world.process() as elsewhere, world.process() as process:
        chat = await process.chat()
        pause = chattering(world)
        sent = await chat.send()
        await pause.reached()
        seen_elsewhere = chat.seen_from(elsewhere)
        await read_until(seen_elsewhere.follow(), TEXT[: len(REASONING) + 4])
        await the_rest_from_every_offset(seen_elsewhere, pause, sent.reply)


async def test_a_reader_cut_off_after_every_event_loses_nothing(world: World) -> None:
    async with world.process() as elsewhere, world.process() as process:
        chat = await process.chat()
        stalls = [Stall() for _ in TEXT]
        world.model.then(*(part for char, stall in zip(TEXT, stalls, strict=True) for part in (char, stall)))
        await chat.send()
        got, offset = "", 0
        for number, stall in enumerate(stalls):
            events = chat.seen_from(elsewhere if number % 2 else process).follow(offset)
            await anext(events)
            event = await anext(events)
            assert isinstance(event, ReplyDelta)
            got, offset = got + event.text, event.offset
            stall.release()
        assert got == TEXT
        assert (await read(chat.follow(offset))).text == ""


@at_every_step
async def test_a_reader_may_come_at_any_moment(chat: Chat, steps: int) -> None:
    sent = await chat.send()
    await step(steps)
    readers = [chat.follow(), chat.follow(3), chat.follow(reply_id=sent.reply.id)]
    seen = await asyncio.gather(*map(read, readers))
    assert [reader.text for reader in seen] == ["Hello world", "lo world", "Hello world"]


async def test_the_history_never_takes_back_what_it_showed(world: World) -> None:
    async with world.process() as elsewhere, world.process() as process:
        chat = await process.chat()
        stall = Stall()
        world.model.then("Hel", stall, "lo")
        await chat.send()
        await read_until(chat.seen_from(elsewhere).follow(), "Hel")
        stall.release()
        looks = [asyncio.create_task(looked_at(chat, steps)) for steps in range(LAST_STEP)]
        seen = [(message.status, message.content) for message in await asyncio.gather(*looks)]
        assert set(seen) <= {(Status.WRITING, "Hel"), (Status.WRITING, "Hello"), (Status.COMPLETE, "Hello")}
        assert (Status.COMPLETE, "Hello") in seen


async def looked_at(chat: Chat, steps: int) -> Message:
    await step(steps)
    return (await chat.messages())[-1]
