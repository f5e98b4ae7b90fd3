"""Replies when their process dies or leaves."""

import asyncio

import pytest

from chatcore import Status
from chatcore.errors import ChatcoreError, Unavailable
from chatcore.ports import Delta
from chatcore_memory import Stall
from unit.world import LAST_STEP, Chat, World, at_every_step, read, read_until, step

# ---- a process that dies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "logged"),
    [
        (["Hel"], (None, "Hel")),
        ([Delta(reasoning="Hm"), "Hel"], ("Hm", "Hel")),
        (["Hm", Delta(reasoning="m", text="Hel", reasoned=True)], ("Hmm", "Hel")),
        ([], (None, "")),
    ],
)
def test_the_next_process_ends_what_a_dead_one_was_writing(
    world: World, said: list[str | Delta], logged: tuple[str | None, str]
) -> None:
    async def first_life() -> Chat:
        process = await world.process().__aenter__()  # and never left
        elsewhere = world.process()
        chat = await process.chat()
        stall = Stall()
        world.model.then(*said, stall, "lo")
        await chat.send()
        await stall.reached()
        if said:
            await read_until(chat.seen_from(elsewhere).follow(), (logged[0] or "") + logged[1])
        return chat

    async def second_life(chat: Chat) -> None:
        (orphan,) = await world.unfinished()
        async with world.process(lease=None) as process:
            chat = chat.seen_from(process)
            seen = await read(chat.follow())
            assert (seen.message.id, seen.message.status) == (orphan.id, Status.INTERRUPTED)
            assert (seen.message.reasoning, seen.message.content) == logged
            assert seen.text == (logged[0] or "") + logged[1]
            assert (await chat.messages())[-1] == seen.message
            assert (await world.unfinished(), await world.log_of(orphan)) == ([], [])
            assert (await chat.ask()).status is Status.COMPLETE
            prompt = world.model.calls[-1].prompt.messages
            said_before = ["Hello?", logged[1], "Hello?"] if logged[1] else ["Hello?\n\nHello?"]
            assert [message.content for message in prompt] == said_before

    chat = asyncio.run(first_life())
    asyncio.run(second_life(chat))


async def test_a_reply_that_another_process_ended_stays_as_that_stored_it(world: World) -> None:
    async with world.process() as elsewhere, world.process() as process:
        chat = await process.chat()
        stall = Stall()
        world.model.then("Hel", stall, "lo")
        await chat.send()
        await read_until(chat.seen_from(elsewhere).follow(), "Hel")
        events = chat.follow()
        await read_until(events, "Hel")
        async with world.process(lease=None):
            stall.release()
            reply = (await read(events)).message
    assert (reply.content, reply.status) == ("Hel", Status.INTERRUPTED)
    assert (await chat.messages())[-1] == reply


async def test_without_the_database_no_process_starts(world: World) -> None:
    with world.database.outage(), pytest.raises(Unavailable):
        async with world.process():
            pass


# ---- a process that is asked to leave --------------------------------------------------------------------


async def test_replies_in_flight_finish_before_a_process_leaves_and_none_is_begun(world: World) -> None:
    process = world.process()
    async with process:
        chat, other = await process.chat(), await process.chat("bob")
        stall = Stall()
        world.model.then("Hel", stall, "lo")
        await chat.send()
        await stall.reached()
        leaving = asyncio.create_task(process.__aexit__())
        await step(5)
        with pytest.raises(Unavailable, match="shutting down"):
            await other.send()
        assert await other.messages() == []
        reading = asyncio.create_task(read(chat.follow()))
        await step(5)
        assert not leaving.done()
        stall.release()
        await leaving
        assert (await reading).text == "Hello"
    assert [message.status for message in await chat.messages()] == [Status.COMPLETE] * 2
    assert await world.unfinished() == []


async def test_replies_that_outlast_the_grace_are_interrupted(world: World) -> None:
    async with world.process(grace=0.01) as process:
        chats = [await process.chat(name) for name in ("ada", "bob")]
        for chat in chats:
            stall = Stall()
            world.model.then(Delta(reasoning="Hm"), "Hel", stall, "lo")
            await chat.send()
            await stall.reached()
        reading = asyncio.create_task(read(chats[0].follow()))
        await step(5)
    seen = await reading
    assert (seen.text, seen.message.status) == ("HmHel", Status.INTERRUPTED)
    for chat in chats:
        reply = (await chat.messages())[-1]
        assert (reply.reasoning, reply.content, reply.status) == ("Hm", "Hel", Status.INTERRUPTED)
        assert await world.log_of(reply) == []
    assert [call.ending for call in world.model.calls] == ["closed"] * 2
    assert await world.unfinished() == []


async def test_a_process_leaves_without_its_database_too_and_the_next_one_ends_its_replies(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatcore.replies._END_TIMEOUT", 0.01)
    async with world.process() as elsewhere, world.process(grace=0) as process:
        chat = await process.chat()
        world.model.then("Hel", Stall())
        await chat.send()
        await read_until(chat.seen_from(elsewhere).follow(), "Hel")
        with world.database.outage():
            await process.__aexit__()
    assert len(await world.unfinished()) == 1
    async with world.process(lease=None) as process:
        reply = await chat.seen_from(process).end()
        assert (reply.content, reply.status) == ("Hel", Status.INTERRUPTED)


@at_every_step
@pytest.mark.parametrize("grace", [0, 1])
async def test_a_process_may_leave_at_any_moment(world: World, steps: int, grace: float) -> None:
    async with world.process(grace=grace) as process:
        chat = await process.chat()
        sending = asyncio.create_task(chat.send())
        await step(steps)
    assert (process.replies.writing_now, await world.unfinished()) == (0, [])
    (result,) = await asyncio.gather(sending, return_exceptions=True)
    assert (process.replies.writing_now, await world.unfinished()) == (0, [])
    messages = await chat.messages()
    if isinstance(result, ChatcoreError):
        assert isinstance(result, Unavailable)
        assert messages == []
    else:
        assert messages[1].status in (Status.INTERRUPTED, Status.COMPLETE)
        assert messages[1].status is Status.COMPLETE or not grace


async def test_a_process_waits_for_a_commit_under_way(world: World) -> None:
    commit = Stall()
    async with world.process(grace=20) as process:
        chat = await process.chat()
        world.storage.before_commit = commit.hold
        sending = asyncio.create_task(chat.send())
        await commit.reached()
        leaving = asyncio.create_task(process.__aexit__())
        await step(LAST_STEP)
        assert not leaving.done()
        commit.release()
        await leaving
        await sending
        assert await world.unfinished() == []
        assert (await chat.messages())[-1].status is Status.COMPLETE
