"""Replies and the database: commits that fail, outages, and the log."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from chatcore import Status
from chatcore.entities import INTERNAL
from chatcore.errors import Unavailable
from chatcore.ports import Delta, LogCursor, LogEntry, TextKind
from chatcore.shielding import ended
from chatcore_memory import Stall
from chatcore_memory.messages import MemoryReplyLog
from unit.world import LAST_STEP, Chat, Process, World, at_every_step, keepers_of, nothing, read, read_until, step

# ---- a commit that fails ---------------------------------------------------------------------------------


async def test_nothing_is_sent_while_the_database_is_gone(world: World, process: Process, chat: Chat) -> None:
    with world.database.outage(), pytest.raises(Unavailable):
        await chat.send()
    assert await chat.messages() == []
    assert (process.replies.writing_now, world.model.calls) == (0, [])
    assert (await chat.ask()).content == "Hello world"


@at_every_step
async def test_an_outage_may_begin_at_any_moment_of_a_send(
    world: World, process: Process, chat: Chat, steps: int
) -> None:
    sending = asyncio.create_task(chat.send())
    await step(steps)
    with world.database.outage():
        (result,) = await asyncio.gather(sending, return_exceptions=True)
    if isinstance(result, Unavailable):
        assert await chat.messages() == []
        assert (await chat.ask()).status is Status.COMPLETE
    else:
        assert (await chat.end()).status is Status.COMPLETE
    assert (process.replies.writing_now, await world.unfinished()) == (0, [])


async def test_a_commit_that_failed_leaves_nothing(world: World, process: Process, chat: Chat) -> None:
    world.storage.fail_once(after=False)
    with pytest.raises(Unavailable):
        await chat.send()
    assert await chat.messages() == []
    assert (process.replies.writing_now, await world.unfinished(), world.model.calls) == (0, [], [])
    assert (await chat.ask()).content == "Hello world"


async def test_a_commit_whose_answer_was_lost_leaves_nothing_writing(
    world: World, process: Process, chat: Chat
) -> None:
    world.storage.fail_once(after=True)
    with pytest.raises(Unavailable):
        await chat.send()
    reply = await chat.end()
    assert (reply.content, reply.status) == ("", Status.INTERRUPTED)
    assert world.model.calls == []
    assert (process.replies.writing_now, await world.unfinished()) == (0, [])
    assert (await chat.ask()).status is Status.COMPLETE


async def test_an_end_whose_answer_was_lost_is_told_as_it_was_stored(world: World, chat: Chat) -> None:
    stall = Stall()
    world.model.then("Hel", stall, "lo")
    sent = await chat.send()
    await stall.reached()
    stopping = asyncio.create_task(chat.process.replies.stop(sent.reply))
    world.storage.fail_once(after=True)
    stopped = await stopping
    assert stopped is not None
    assert (stopped.content, stopped.status) == ("Hel", Status.STOPPED)
    assert (await chat.messages())[-1] == stopped
    assert await world.unfinished() == []


async def test_a_batch_of_the_log_whose_answer_was_lost_does_no_harm(world: World) -> None:
    async with world.process() as elsewhere, world.process() as process:
        chat = await process.chat()
        first, second = Stall(), Stall()
        world.model.then(first, Delta(reasoning="Hm"), "Hel", second, "lo")
        await chat.send()
        await first.reached()
        lost = Stall()

        async def lose() -> None:
            world.storage.after_commit = lost.hold
            await lost.hold()
            raise Unavailable

        async def lose_this(_: object) -> None:
            world.storage.after_commit = lose

        world.storage.before_append = lose_this
        reader = chat.seen_from(elsewhere).follow()
        first.release()
        await read_until(reader, "HmHel")
        world.storage.before_append = lambda _: nothing()
        second.release()
        lost.release()
        seen = await read(reader)
        assert (seen.text, seen.message.content, seen.message.reasoning) == ("lo", "Hello", "Hm")


# ---- an outage in the middle -----------------------------------------------------------------------------


async def test_text_goes_on_through_an_outage_and_its_end_is_stored_afterwards(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the only process: where there are several, one of them could end its reply with less (`test_leases`)."""
    async with world.process(lease=None) as process:
        chat = await process.chat()
        stall = Stall()
        world.model.then("Hel", stall, "lo")
        sent = await chat.send()
        events = chat.follow()
        await read_until(events, "Hel")
        with world.database.outage():
            stall.release()
            await read_until(events, "lo")
            await read_until(chat.follow(reply_id=sent.reply.id), "Hello")
            rest = asyncio.create_task(read(events))
            await world.storage.refused.wait()
            assert not rest.done()
        seen = await rest
    assert (seen.text, seen.message.content, seen.message.status) == ("", "Hello", Status.COMPLETE)
    assert (await chat.messages())[-1] == seen.message
    assert (await world.log_of(sent.reply), await world.unfinished()) == ([], [])
    assert process.replies.writing_now == 0
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


async def test_the_log_catches_up_after_an_outage(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with world.process() as elsewhere, world.process() as process:
        chat = await process.chat()
        first, second = Stall(), Stall()
        world.model.then("Hel", first, "lo", second)
        await chat.send()
        reader = chat.seen_from(elsewhere).follow()
        await read_until(reader, "Hel")
        # Held back meanwhile: who reads from the log needs the database.
        with world.database.outage():
            first.release()
            await second.reached()
            await world.storage.refused.wait()
        await read_until(reader, "lo")
        second.release()
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


async def test_a_stop_during_an_outage_holds(world: World, chat: Chat) -> None:
    stall = Stall()
    world.model.then("Hel", stall, "lo")
    sent = await chat.send()
    await stall.reached()
    with world.database.outage():
        stopping = asyncio.create_task(chat.process.replies.stop(sent.reply))
        await world.storage.refused.wait()
        assert not stopping.done()
    stopped = await stopping
    assert stopped is not None
    assert (stopped.content, stopped.status) == ("Hel", Status.STOPPED)
    assert (await chat.messages())[-1] == stopped


# ---- the log ---------------------------------------------------------------------------------------------


async def test_what_was_said_is_logged_with_its_kind(world: World) -> None:
    async with world.process() as elsewhere, world.process() as process:
        chat = await process.chat()
        stall = Stall()
        world.model.then(Delta(reasoning="Hm 🤔"), "Hel", stall, "lo")
        sent = await chat.send()
        reader = chat.seen_from(elsewhere).follow()
        await read_until(reader, "Hm 🤔Hel")
        entries = await world.log_of(sent.reply)
        assert (entries[0].kind, entries[0].text) == (TextKind.REASONING, "Hm 🤔")
        assert "".join(entry.text for entry in entries) == "Hm 🤔Hel"
        (_, shown) = await chat.messages()
        assert (shown.status, shown.reasoning, shown.content) == (Status.WRITING, "Hm 🤔", "Hel")
        stall.release()
        await read(reader)
        assert await world.log_of(sent.reply) == []


async def test_one_transaction_logs_all_replies(world: World) -> None:
    async with world.process(lease=None) as elsewhere, world.process(lease=None) as process:
        chats = [await process.chat(f"user-{number}") for number in range(6)]
        speak, end, commit = [Stall() for _ in chats], [Stall() for _ in chats], Stall()
        for number, chat in enumerate(chats):
            world.model.then(speak[number], f"text {number}", end[number])
            await chat.send()
            await speak[number].reached()
        readers = [chat.seen_from(elsewhere).follow() for chat in chats]
        commits, world.storage.before_commit = world.storage.commits, commit.hold
        speak[0].release()
        await commit.reached()
        for number in range(1, 6):
            speak[number].release()
            await end[number].reached()
        commit.release()
        for number, reader in enumerate(readers):
            await read_until(reader, f"text {number}")
        assert world.storage.commits == commits + 2
        for stall in end:
            stall.release()


async def test_what_is_said_while_a_batch_is_committed_goes_with_the_next(world: World) -> None:
    async with world.process() as elsewhere, world.process() as process:
        chat = await process.chat()
        first, second, commit = Stall(), Stall(), Stall()
        world.model.then("Hel", first, "lo", second)
        await chat.send()
        world.storage.before_commit = commit.hold
        await commit.reached()
        first.release()
        await second.reached()
        commit.release()
        await read_until(chat.seen_from(elsewhere).follow(), "Hello")
        second.release()


async def test_an_end_waits_for_the_batch_before_it(world: World, chat: Chat) -> None:
    model, flush = Stall(), Stall()
    world.model.then("Hel", model)
    sent = await chat.send()
    world.storage.hold_next_unit(flush)
    await flush.reached()
    model.release()
    await world.model.calls[-1].ended()
    reading = asyncio.create_task(read(chat.follow(reply_id=sent.reply.id)))
    await step(LAST_STEP)
    assert not reading.done()
    flush.release()
    assert (await reading).text == "Hel"
    assert await world.log_of(sent.reply) == []


async def test_nothing_is_committed_while_nothing_is_said(world: World) -> None:
    async with world.process(lease=None) as elsewhere, world.process(lease=None, silence=0.05) as process:
        chat = await process.chat()
        stall = Stall()
        world.model.then("Hel", stall)
        await chat.send()
        await read_until(chat.seen_from(elsewhere).follow(), "Hel")
        commits = world.storage.commits
        events = chat.follow()
        await read_until(events, "Hel")
        await anext(events)  # silence: the flusher has had its turns
        assert world.storage.commits == commits
        stall.release()


# ---- a text that the database refuses --------------------------------------------------------------------


def refuse(text: str) -> None:
    if "💩" in text:
        raise ValueError("no such thing in this database")


@pytest.mark.parametrize("said", [["💩"], ["Hel", Stall, "lo 💩"]], ids=["early", "late"])
async def test_a_text_that_is_refused_fails_its_reply_alone(
    world: World, process: Process, caplog: pytest.LogCaptureFixture, said: list[Any]
) -> None:
    ours, theirs = await process.chat(), await process.chat("bob")
    first, second, paused = Stall(), Stall(), [step() if step is Stall else step for step in said]
    world.storage.check_text = refuse
    world.model.then(*paused, second)
    world.model.then("Hel", first, "lo")
    for chat in (ours, theirs):
        await chat.send()
    for stall in paused:
        if isinstance(stall, Stall):
            await logged(world, ours, "Hel")
            stall.release()
    async with asyncio.timeout(5):
        failed = (await read(ours.follow())).message
    assert (failed.status, failed.error) == (Status.FAILED, INTERNAL)
    assert failed.content == ("Hel" if len(said) > 1 else "")
    assert (await ours.messages())[-1] == failed
    await logged(world, theirs, "Hel")
    first.release()
    assert (await theirs.end()).content == "Hello"
    assert "refuses" in caplog.text
    assert process.replies.writing_now == 0
    assert (await ours.ask()).status is Status.COMPLETE


@pytest.mark.parametrize("lost", [False, True])
async def test_an_end_that_is_refused_is_stored_with_less_text(world: World, lost: bool) -> None:
    async with world.process(lease=None) as process:
        chat = await process.chat()
        world.model.then("Hel", stall := Stall(), "lo")
        await chat.send()
        await logged(world, chat, "Hel")
        world.storage.check_text = refuse_all if lost else refuse_greeting
        stall.release()
        async with asyncio.timeout(10):
            failed = (await read(chat.follow())).message
    assert (failed.content, failed.status, failed.error) == ("" if lost else "Hel", Status.FAILED, INTERNAL)
    assert await world.log_of(failed) == []


def refuse_all(text: str) -> None:
    if text:
        raise ValueError


def refuse_greeting(text: str) -> None:
    if text == "Hello":
        raise ValueError


async def test_a_refused_text_of_a_dead_process_keeps_no_conversation_busy(world: World) -> None:
    dead = await world.process(lease=None).__aenter__()
    chats = [await dead.chat(name) for name in ("ada", "bob")]
    for chat in chats:
        world.model.then(f"by {chat.owner}", Stall())
        await chat.send()
        await logged(world, chat, f"by {chat.owner}")
    await drop(dead)
    world.storage.check_text = lambda text: refuse_all(text) if text == f"by {chats[0].owner}" else None
    async with world.process(lease=None):
        first, second = [(await chat.messages())[-1] for chat in chats]
    assert (first.status, first.content, first.error) == (Status.FAILED, "", INTERNAL)
    assert (second.status, second.content) == (Status.INTERRUPTED, f"by {chats[1].owner}")


async def drop(process: Process) -> None:
    """As if it were killed."""
    for task in (*keepers_of(process), *process.replies._tasks):
        await ended(task)


async def logged(world: World, chat: Chat, text: str) -> None:
    reply = (await chat.messages())[-1]
    async with asyncio.timeout(5):
        while "".join(entry.text for entry in await world.log_of(reply)) != text:
            await asyncio.sleep(0.005)


# ---- the log after an outage -----------------------------------------------------------------------------


async def test_the_log_catches_up_in_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The short texts first. None of the parts is larger than one transaction may be, and an entry more."""
    monkeypatch.setattr("chatcore.log_writer._AT_ONCE", 100)
    monkeypatch.setattr("chatcore.live_reply._ENTRY", 40)
    parts = list[list[int]]()

    async def note(entries: Sequence[LogEntry]) -> None:
        parts.append([len(entry.text) for entry in entries])

    async with world.process() as process:
        chats = [await process.chat(name) for name in ("ada", "bob", "eve")]
        texts, stalls = ["a" * 1000, "b" * 500, "c" * 5], [Stall() for _ in chats]
        begins = [Stall() for _ in chats]
        for chat, text, begin, stall in zip(chats, texts, begins, stalls, strict=True):
            world.model.then(begin, Delta(reasoning=text), text, stall)
            await chat.send()
            await begin.reached()
        with world.database.outage():
            for begin, stall in zip(begins, stalls, strict=True):
                begin.release()
                await stall.reached()
            world.storage.before_append = note
        for chat, text in zip(chats, texts, strict=True):
            await logged(world, chat, 2 * text)
        for stall in stalls:
            stall.release()
        for chat, text in zip(chats, texts, strict=True):
            reply = await chat.end()
            assert (reply.reasoning, reply.content) == (text, text)
    assert max(sum(part) for part in parts) <= 100 + 40
    assert max(max(part) for part in parts) == 40
    assert parts[0][:2] == [5, 5]


@pytest.mark.parametrize(("readers", "every"), [(1, 60), (3, 0.01)])
async def test_readers_elsewhere_catch_up_in_parts(
    world: World, monkeypatch: pytest.MonkeyPatch, readers: int, every: float
) -> None:
    """However long the texts are, no statement asks for more than so much, and all parts come in one beat."""
    monkeypatch.setattr("chatcore.mirrors._TEXT", 100)
    monkeypatch.setattr("chatcore.live_reply._ENTRY", 40)
    parts, since = list[tuple[int, int]](), MemoryReplyLog.since

    async def noting(log: MemoryReplyLog, cursors: Sequence[LogCursor], *, within: int) -> Sequence[LogEntry]:
        found = await since(log, cursors, within=within)
        parts.append((len(cursors), sum(len(entry.text) for entry in found)))
        return found

    monkeypatch.setattr(MemoryReplyLog, "since", noting)
    async with world.process() as process, world.process(flush_every=every) as elsewhere:
        chats = [await process.chat(f"user{number}") for number in range(readers)]
        for chat in chats:
            stall = Stall()
            world.model.then("a" * 1000, stall)
            await chat.send()
            await stall.reached()
            await logged(world, chat, "a" * 1000)
        async with asyncio.timeout(10):
            await asyncio.gather(*(read_until(chat.seen_from(elsewhere).follow(), "a" * 1000) for chat in chats))
        for chat in chats:
            await chat.stop()
    assert sum(size for _, size in parts) >= 1000 * readers
    assert all(size <= 100 + count * 40 for count, size in parts)


async def test_a_part_whose_answer_was_lost_is_written_over(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatcore.log_writer._AT_ONCE", 5)
    monkeypatch.setattr("chatcore.live_reply._ENTRY", 2)
    async with world.process(lease=None) as process:
        chat = await process.chat()
        begin, middle, end = Stall(), Stall(), Stall()
        world.model.then(begin, Delta(reasoning="Hmm"), "Hello w", middle, "orld", end)
        await chat.send()
        await begin.reached()
        world.storage.fail_once(after=True, urgent=True)
        begin.release()
        await middle.reached()
        await world.storage.refused.wait()
        middle.release()
        await logged(world, chat, "HmmHello world")
        end.release()
        assert (await chat.end()).content == "Hello world"
