"""The life of a reply: acknowledged, written, read from anywhere, stopped, ended."""

import asyncio

import pytest

from chatcore import Message, ReplyDelta, ReplyEnded, ReplyStarted, Silence, Status, TextKind
from chatcore.entities import Failure
from chatcore.errors import (
    ConversationBusy,
    ModelProtocolError,
    ModelRateLimited,
    ModelTimeout,
    ModelUnavailable,
    NotFound,
)
from chatcore.ports import Delta
from chatcore_memory import Stall
from unit.world import LAST_STEP, Chat, Process, World, at_every_step, read, read_until, step

REASONING, ANSWER = "Hm 🤔\n", "Grüße\r\n🦄!"
TEXT = REASONING + ANSWER


async def everything_has_ended(world: World, process: Process, chat: Chat) -> None:
    """Whatever was begun is over: in the database, in this process, and in the log."""
    assert await world.unfinished() == []
    assert process.replies.writing_now == 0
    for message in await chat.messages():
        assert message.status is not Status.WRITING
        assert await world.log_of(message) == []


# ---- acknowledged ----------------------------------------------------------------------------------------


@at_every_step
@pytest.mark.parametrize("times", [1, 2])
async def test_who_is_cancelled_while_sending_has_sent_or_has_not(
    world: World, process: Process, chat: Chat, steps: int, times: int
) -> None:
    sending = asyncio.create_task(chat.send())
    await step(steps)
    if steps == LAST_STEP:
        assert sending.done()
    for _ in range(times):
        sending.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([sending])
    messages = await chat.messages()
    if messages:
        reply = (await read(chat.follow())).message
        assert (reply.content, reply.status) == ("Hello world", Status.COMPLETE)
        assert await chat.messages() == [messages[0], reply]
    assert bool(messages) is (steps > 0)
    await everything_has_ended(world, process, chat)


@pytest.mark.parametrize("senders", [2, 10])
async def test_of_many_who_send_at_once_one_is_answered(
    world: World, process: Process, chat: Chat, senders: int
) -> None:
    results = await asyncio.gather(*(chat.send(str(number)) for number in range(senders)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, ConversationBusy)]
    assert len(refused) == senders - 1
    await chat.end()
    assert len(await chat.messages()) == 2
    assert len(world.model.calls) == 1
    await everything_has_ended(world, process, chat)


async def test_a_conversation_is_free_again_after_each_reply(world: World, chat: Chat) -> None:
    stall = Stall()
    world.model.then("one", stall)
    await chat.send()
    await stall.reached()
    with pytest.raises(ConversationBusy):
        await chat.send()
    stall.release()
    await chat.end()
    assert (await chat.ask()).content == "Hello world"


# ---- read ------------------------------------------------------------------------------------------------


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


async def test_what_arrives_together_comes_together(world: World, chat: Chat) -> None:
    stall = Stall()
    world.model.then(*"abc", stall)
    await chat.send()
    await stall.reached()
    events = chat.follow()
    await anext(events)
    assert (await anext(events)).offset == 3
    stall.release()


async def test_a_client_that_leaves_finds_the_whole_reply_later(world: World, process: Process, chat: Chat) -> None:
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
    await everything_has_ended(world, process, chat)


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
        assert seen.events[-1].offset == max(offset, len(TEXT))


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
async def test_a_reader_may_come_at_any_moment(world: World, process: Process, chat: Chat, steps: int) -> None:
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


# ---- stopped ---------------------------------------------------------------------------------------------


async def test_a_stop_keeps_what_was_written_and_closes_the_models_stream(
    world: World, process: Process, chat: Chat
) -> None:
    stall = Stall()
    world.model.then(Delta(reasoning="Hm"), "Hel", stall, "lo")
    await chat.send()
    await stall.reached()
    reading = asyncio.create_task(read(chat.follow()))
    stopped = await chat.stop()
    assert (stopped.content, stopped.reasoning, stopped.status) == ("Hel", "Hm", Status.STOPPED)
    assert world.model.calls[-1].ending == "closed"
    seen = await reading
    assert (seen.text, seen.message) == ("HmHel", stopped)
    assert (await chat.messages())[-1] == stopped
    await everything_has_ended(world, process, chat)
    assert (await chat.ask()).status is Status.COMPLETE


async def test_a_late_stop_changes_nothing(chat: Chat) -> None:
    reply = await chat.ask()
    assert await chat.stop() == reply
    assert await chat.stop() == reply
    assert (await chat.messages())[-1] == reply


async def test_all_who_stop_at_once_get_the_same_reply(world: World, chat: Chat) -> None:
    stall = Stall()
    world.model.then("Hel", stall)
    await chat.send()
    await stall.reached()
    replies = await asyncio.gather(*(chat.stop() for _ in range(5)))
    assert {reply.content for reply in replies} == {"Hel"}
    assert all(reply == replies[0] for reply in replies)
    assert replies[0].status is Status.STOPPED


@at_every_step
async def test_a_reply_may_be_stopped_at_any_moment(
    world: World, process: Process, chat: Chat, steps: int
) -> None:
    sending = asyncio.create_task(chat.send())
    await step(steps)
    try:
        stopped = await chat.stop()
    except NotFound:
        stopped = None
    await sending
    if stopped is None:
        stopped = await chat.stop()
    assert stopped.status in (Status.STOPPED, Status.COMPLETE)
    assert "Hello world".startswith(stopped.content)
    assert (await chat.messages())[-1] == stopped
    await everything_has_ended(world, process, chat)


# ---- ended -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ModelProtocolError(), ModelRateLimited("Slow down."), ModelTimeout(), ModelUnavailable()]
)
@pytest.mark.parametrize("said", ["Hel", ""])
async def test_a_model_that_fails_keeps_what_it_said(
    world: World, process: Process, chat: Chat, error: ModelTimeout, said: str
) -> None:
    world.model.then(*said, error)
    reply = await chat.ask()
    assert (reply.content, reply.status) == (said, Status.FAILED)
    assert reply.error == Failure(code=error.code, detail=error.detail)
    await everything_has_ended(world, process, chat)


async def test_a_bug_in_the_gateway_tells_nothing_of_itself(
    world: World, process: Process, chat: Chat, caplog: pytest.LogCaptureFixture
) -> None:
    world.model.then("Hel", RuntimeError("secret"))
    reply = await chat.ask()
    assert (reply.content, reply.status) == ("Hel", Status.FAILED)
    assert reply.error == Failure(code="model_unavailable", detail=ModelUnavailable.default_detail)
    assert "not the model's" in caplog.text
    await everything_has_ended(world, process, chat)


async def test_a_model_may_say_nothing(world: World, process: Process, chat: Chat) -> None:
    world.model.then(Delta())
    await chat.send()
    seen = await read(chat.follow())
    assert (seen.text, seen.message.content, seen.message.reasoning) == ("", "", None)
    assert seen.message.status is Status.COMPLETE
    await everything_has_ended(world, process, chat)


async def test_a_conversation_is_deleted_in_the_middle_of_a_reply(
    world: World, process: Process, chat: Chat
) -> None:
    stall = Stall()
    world.model.then("Hel", stall, "lo")
    sent = await chat.send()
    await stall.reached()
    reading = asyncio.create_task(read(chat.follow()))
    await step(5)
    await chat.delete()
    seen = await reading
    assert (seen.text, seen.message.status) == ("Hel", Status.STOPPED)
    assert world.model.calls[-1].ending == "closed"
    assert (process.replies.writing_now, await world.unfinished(), await world.log_of(sent.reply)) == (0, [], [])
    with pytest.raises(NotFound):
        await chat.messages()


@at_every_step
async def test_a_conversation_may_be_deleted_at_any_moment(
    world: World, process: Process, chat: Chat, steps: int
) -> None:
    stall = Stall()
    world.model.then("Hel", stall)
    sending = asyncio.create_task(chat.send())
    await step(steps)
    await chat.delete()
    await asyncio.wait([sending])
    assert (process.replies.writing_now, await world.unfinished()) == (0, [])
    with pytest.raises(NotFound):
        await chat.messages()
