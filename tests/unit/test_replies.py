"""The life of a reply: acknowledged, stopped, ended."""

import asyncio

import pytest

from chatcore import Status
from chatcore.entities import INTERNAL, Failure, FinishReason
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
from unit.world import LAST_STEP, Chat, Process, World, at_every_step, everything_has_ended, read, read_until, step

# ---- acknowledged ----------------------------------------------------------------------------------------


@at_every_step
@pytest.mark.parametrize("times", [1, 2])
async def test_who_is_cancelled_while_sending_has_sent_or_has_not(chat: Chat, steps: int, times: int) -> None:
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
    await everything_has_ended(chat)


@pytest.mark.parametrize("senders", [2, 10])
async def test_of_many_who_send_at_once_one_is_answered(world: World, chat: Chat, senders: int) -> None:
    results = await asyncio.gather(*(chat.send(str(number)) for number in range(senders)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, ConversationBusy)]
    assert len(refused) == senders - 1
    await chat.end()
    assert len(await chat.messages()) == 2
    assert len(world.model.calls) == 1
    await everything_has_ended(chat)


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


# ---- stopped ---------------------------------------------------------------------------------------------


async def test_who_stops_a_reply_that_has_ended_stops_no_other(world: World, process: Process, chat: Chat) -> None:
    first = await chat.ask()
    stall = Stall()
    world.model.then("Hel", stall, "lo")
    await chat.send("And?")
    await stall.reached()
    assert await process.stop_reply(by=chat.by, conversation_id=chat.id, reply_id=first.id) == first
    stall.release()
    assert (await chat.end()).status is Status.COMPLETE


async def test_a_stop_keeps_what_was_written_and_closes_the_models_stream(world: World, chat: Chat) -> None:
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
    await everything_has_ended(chat)
    assert (await chat.ask()).status is Status.COMPLETE


async def test_a_stop_takes_no_other_cancellation_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop is being torn down in the same moment."""
    monkeypatch.setattr("chatcore.replies._END_TIMEOUT", 0)
    world.model.then("Hel", Stall())
    async with world.process(grace=0) as process:
        chat = await process.chat()
        sent = await chat.send()
        await read_until(chat.follow(), "Hel")
        (writer,) = (task for task in asyncio.all_tasks() if "Replies._write" in repr(task.get_coro()))
        stopping = asyncio.create_task(process.replies.stop(sent.reply))
        await step(1)
        assert writer.cancelling() == 1
        writer.cancel()
        await asyncio.wait((writer,))
        assert writer.cancelled()
        stopping.cancel()


async def test_a_late_stop_changes_nothing(chat: Chat) -> None:
    reply = await chat.ask()
    assert await chat.stop() == reply
    assert await chat.stop() == reply
    assert (await chat.messages())[-1] == reply


async def test_a_stop_while_the_end_is_being_stored_is_late(world: World, chat: Chat) -> None:
    await chat.send()
    commit = Stall()
    world.storage.before_commit = commit.hold
    await commit.reached()
    stopping = asyncio.create_task(chat.stop())
    await step(LAST_STEP)
    commit.release()
    assert (await stopping).status is Status.COMPLETE


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
async def test_a_reply_may_be_stopped_at_any_moment(world: World, chat: Chat, steps: int) -> None:
    world.model.then("Hel", Stall(), "lo")
    sending = asyncio.create_task(chat.send())
    await step(steps)
    try:
        stopped = await chat.stop()
    except NotFound:
        stopped = None
    await sending
    if stopped is None:
        stopped = await chat.stop()
    assert stopped.status is Status.STOPPED
    assert stopped.content in ("", "Hel")
    assert (await chat.messages())[-1] == stopped
    await everything_has_ended(chat)


# ---- ended -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ModelProtocolError(), ModelRateLimited("Slow down."), ModelTimeout(), ModelUnavailable()]
)
@pytest.mark.parametrize("said", ["Hel", ""])
async def test_a_model_that_fails_keeps_what_it_said(world: World, chat: Chat, error: ModelTimeout, said: str) -> None:
    world.model.then(*said, error)
    reply = await chat.ask()
    assert (reply.content, reply.status) == (said, Status.FAILED)
    assert reply.error == Failure(code=error.code, detail=error.detail)
    await everything_has_ended(chat)


async def test_a_bug_in_the_gateway_tells_nothing_of_itself(
    world: World, chat: Chat, caplog: pytest.LogCaptureFixture
) -> None:
    world.model.then("Hel", RuntimeError("secret"))
    reply = await chat.ask()
    assert (reply.content, reply.status) == ("Hel", Status.FAILED)
    assert reply.error == INTERNAL
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "not the model's" in caplog.text
    await everything_has_ended(chat)


@pytest.mark.parametrize("said", ["", " \n", Delta(reasoning="Hm")])
@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (None, "model_empty"),
        (FinishReason.STOP, "model_empty"),
        (FinishReason.LENGTH, "model_empty"),
        (FinishReason.TOOL_CALLS, "model_empty"),
        (FinishReason.CONTENT_FILTER, "model_refused"),
    ],
)
async def test_an_empty_answer_is_no_success(
    world: World, chat: Chat, said: str | Delta, reason: FinishReason | None, code: str
) -> None:
    world.model.then(said, Delta(finish_reason=reason))
    await chat.send()
    ended = (await read(chat.follow())).message
    assert (ended.status, ended.finish_reason) == (Status.FAILED, reason)
    assert ended.error is not None
    assert ended.error.code == code
    assert (await chat.messages())[-1] == ended
    await everything_has_ended(chat)


@pytest.mark.parametrize("reason", [None, *FinishReason])
async def test_why_an_answer_ended_is_stored_and_told(world: World, chat: Chat, reason: FinishReason | None) -> None:
    world.model.then("Hello", Delta(finish_reason=reason))
    await chat.send()
    ended = (await read(chat.follow())).message
    assert (ended.content, ended.status, ended.finish_reason) == ("Hello", Status.COMPLETE, reason)
    assert (await chat.messages())[-1] == ended


async def test_a_model_that_broke_down_said_so(world: World, chat: Chat) -> None:
    world.model.then("Hel", Delta(finish_reason=FinishReason.ERROR), ModelUnavailable())
    await chat.send()
    ended = (await read(chat.follow())).message
    assert (ended.content, ended.status, ended.finish_reason) == ("Hel", Status.FAILED, FinishReason.ERROR)


async def test_what_turns_out_to_be_reasoning_keeps_its_place(world: World) -> None:
    """Text sent before and text sent after are the text stored, for readers in any process, and in any order."""
    async with world.process() as elsewhere, world.process() as process:
        chat = await process.chat()
        first, second = Stall(), Stall()
        world.model.then("H", "m", first, Delta(reasoning="m.", reasoned=True), "Hel", second, "lo")
        await chat.send()
        events = [chat.follow(), chat.seen_from(elsewhere).follow()]
        for reader in events:
            await read_until(reader, "Hm")
        first.release()
        for reader in events:
            await read_until(reader, "m.Hel")
        late = (chat.follow(), chat.seen_from(elsewhere).follow())
        for reader in late:
            await read_until(reader, "Hmm.Hel")
        second.release()
        for reader in events:
            seen = await read(reader)
            assert (seen.text, seen.message.reasoning, seen.message.content) == ("lo", "Hmm.", "Hello")


async def test_a_conversation_is_deleted_in_the_middle_of_a_reply(world: World, process: Process, chat: Chat) -> None:
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


async def test_a_conversation_deleted_by_another_process_ends_for_its_readers(world: World) -> None:
    async with world.process() as elsewhere, world.process() as process:
        chat = await process.chat()
        stall = Stall()
        world.model.then("Hel", stall, "lo")
        await chat.send()
        here, there = chat.follow(), chat.seen_from(elsewhere).follow()
        await read_until(here, "Hel")
        await read_until(there, "Hel")
        await chat.seen_from(elsewhere).delete()
        assert (await read(there)).message.status is Status.STOPPED
        assert (await read(here)).message.status is Status.STOPPED
        assert (process.replies.writing_now, await world.unfinished()) == (0, [])


@at_every_step
async def test_a_conversation_may_be_deleted_at_any_moment(
    world: World, process: Process, chat: Chat, steps: int
) -> None:
    stall = Stall()
    world.model.then("Hel", stall)
    sending = asyncio.create_task(chat.send())
    await step(steps)
    await chat.delete()
    await asyncio.gather(sending, return_exceptions=True)
    assert (process.replies.writing_now, await world.unfinished()) == (0, [])
    with pytest.raises(NotFound):
        await chat.messages()
