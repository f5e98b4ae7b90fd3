"""Deleting one's account: all of it goes, and nothing comes back."""

import asyncio

import pytest

from chatcore import SignedIn, Status, UserId, Vouched
from chatcore.errors import InvalidCredentials, NotFound, Unauthenticated, Unavailable
from chatcore_memory import Stall
from unit.world import LAST_STEP, PASSWORD, Process, World, at_every_step, nothing, read, read_until, refused, step


@pytest.fixture
async def ada(world: World) -> SignedIn:
    return await world.signed_in("ada")


def left_of(world: World, owner: UserId) -> list[object]:
    """Whatever is still stored of this user."""
    state = world.database._store.committed  # pyright: ignore[reportPrivateUsage] - no port shows all of it
    tables = (
        state.sessions,
        state.refresh_tokens,
        state.model_configs,
        state.conversations,
        state.messages,
        state.reply_log,
    )
    owned = [thing for table in tables for thing in table.values() if thing.user_id == owner]
    keys = [key for key in state.idempotency if key not in state.messages]
    return [*owned, *keys, *(user for user in state.users.values() if user.id == owner)]


async def delete(process: Process, signed_in: SignedIn) -> None:
    await process.delete_account(caller=await process.world.caller(signed_in))


async def test_all_that_one_owns_goes(world: World, process: Process, ada: SignedIn) -> None:
    other = await world.sign_in(name="ada", password=PASSWORD)
    await world.config(ada.user.id)
    chat = await process.chat_of(ada.user.id)
    await chat.send(key="key")
    await chat.end()
    await delete(process, ada)
    assert left_of(world, ada.user.id) == []
    await refused(world, ada, other)
    with pytest.raises(InvalidCredentials):
        await world.sign_in(name="ada", password=PASSWORD)
    with pytest.raises(NotFound):
        await chat.messages()


async def test_nobody_else_loses_anything(world: World, process: Process, ada: SignedIn) -> None:
    bob = await process.chat("bob")
    stall = Stall()
    world.model.then("Hel", stall, "lo")
    await bob.send(key="key")
    await stall.reached()
    await delete(process, ada)
    stall.release()
    reply = await bob.end()
    assert (reply.content, reply.status) == ("Hello", Status.COMPLETE)
    assert (await bob.send(key="key")).reply == reply


async def test_the_names_are_free_for_another_account(world: World, process: Process, ada: SignedIn) -> None:
    await delete(process, ada)
    again = await world.signed_in("ada")
    assert again.user.id != ada.user.id
    assert (await world.list_conversations(owner=again.user.id)).items == []


async def test_twice_is_by_nobody(world: World, process: Process, ada: SignedIn) -> None:
    caller = await world.caller(ada)
    await process.delete_account(caller=caller)
    with pytest.raises(Unauthenticated):
        await process.delete_account(caller=caller)


# ---- while replies are being written ---------------------------------------------------------------------


async def test_live_replies_stop_first(world: World, process: Process, ada: SignedIn) -> None:
    stalls = [Stall(), Stall()]
    chats = [await process.chat_of(ada.user.id) for _ in stalls]
    for chat, stall in zip(chats, stalls, strict=True):
        world.model.then("Hel", stall, "lo")
        await chat.send()
        await stall.reached()
    reading = [asyncio.create_task(read(chat.follow())) for chat in chats]
    await step(LAST_STEP)
    await delete(process, ada)
    for reader in reading:
        seen = await reader
        assert (seen.text, seen.message.status) == ("Hel", Status.STOPPED)
    assert [call.ending for call in world.model.calls] == ["closed", "closed"]
    assert (process.replies.writing_now, await world.unfinished(), left_of(world, ada.user.id)) == (0, [], [])


@at_every_step
@pytest.mark.parametrize("goes_first", ["sending", "deleting"])
async def test_one_may_be_sending_at_that_moment(
    world: World, process: Process, ada: SignedIn, steps: int, goes_first: str
) -> None:
    chat = await process.chat_of(ada.user.id)
    world.model.then("Hel", Stall())
    caller = await world.caller(ada)
    if goes_first == "sending":
        sending = asyncio.create_task(chat.send())
        await step(steps)
        deleting = asyncio.create_task(process.delete_account(caller=caller))
    else:
        deleting = asyncio.create_task(process.delete_account(caller=caller))
        await step(steps)
        sending = asyncio.create_task(chat.send())
    (sent,) = await asyncio.gather(sending, return_exceptions=True)
    await deleting
    assert not isinstance(sent, BaseException) or isinstance(sent, NotFound | Unauthenticated)
    assert (process.replies.writing_now, await world.unfinished(), left_of(world, ada.user.id)) == (0, [], [])


async def test_a_send_that_fails_at_that_moment_is_not_waited_for(
    world: World, process: Process, ada: SignedIn
) -> None:
    chat = await process.chat_of(ada.user.id)
    caller = await world.caller(ada)
    commit = Stall()

    async def fail() -> None:
        await commit.hold()
        world.storage.before_commit = nothing
        raise Unavailable

    world.storage.before_commit = fail
    sending = asyncio.create_task(chat.send())
    await commit.reached()
    deleting = asyncio.create_task(process.delete_account(caller=caller))
    await step(LAST_STEP)
    commit.release()
    with pytest.raises(Unavailable):
        await sending
    await deleting
    assert (process.replies.writing_now, await world.unfinished(), left_of(world, ada.user.id)) == (0, [], [])


@pytest.mark.parametrize("what", ["account", "conversation"])
async def test_a_reply_that_another_process_writes_is_stopped_first(world: World, ada: SignedIn, what: str) -> None:
    async with world.process() as elsewhere, world.process() as process:
        chat = await process.chat_of(ada.user.id)
        world.model.then("Hel", Stall(), "lo")
        sent = await chat.send()
        events = chat.follow()
        await read_until(events, "Hel")
        if what == "account":
            await delete(elsewhere, ada)
        else:
            await chat.seen_from(elsewhere).delete()
        reply = (await read(events)).message
        assert (reply.content, reply.status) == ("Hel", Status.STOPPED)
        assert (process.replies.writing_now, await world.log_of(sent.reply)) == (0, [])


async def test_text_that_a_process_goes_on_writing_does_not_stay(
    world: World, ada: SignedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has not heard in time that it should stop."""
    monkeypatch.setattr("chatcore.deletion.STOP_BEFORE_DELETION", 0)
    async with world.process() as elsewhere, world.process(flush_every=0.05) as process:
        chat = await process.chat_of(ada.user.id)
        first, second = Stall(), Stall()
        world.model.then("Hel", first, "lo", second)
        sent = await chat.send()
        await first.reached()
        await delete(elsewhere, ada)
        first.release()
        while not await world.log_of(sent.reply):  # until the next flush
            await asyncio.sleep(0.01)
        second.release()
        while process.replies.writing_now:
            await asyncio.sleep(0.01)
        assert await world.log_of(sent.reply) == []


# ---- at the same moment as anything else -----------------------------------------------------------------


@at_every_step
async def test_one_may_be_signing_in_at_that_moment(world: World, process: Process, ada: SignedIn, steps: int) -> None:
    caller = await world.caller(ada)
    signing_in = asyncio.create_task(world.sign_in(name="ada", password=PASSWORD))
    await step(steps)
    await process.delete_account(caller=caller)
    (signed_in,) = await asyncio.gather(signing_in, return_exceptions=True)
    assert isinstance(signed_in, SignedIn | InvalidCredentials)
    assert left_of(world, ada.user.id) == []


@at_every_step
async def test_one_may_be_refreshing_at_that_moment(world: World, process: Process, ada: SignedIn, steps: int) -> None:
    caller = await world.caller(ada)
    refreshing = asyncio.create_task(world.refreshed(ada))
    await step(steps)
    await process.delete_account(caller=caller)
    (refreshed,) = await asyncio.gather(refreshing, return_exceptions=True)
    assert isinstance(refreshed, SignedIn | Unauthenticated)
    assert left_of(world, ada.user.id) == []


@at_every_step
async def test_one_may_be_beginning_something_at_that_moment(
    world: World, process: Process, ada: SignedIn, steps: int
) -> None:
    caller, owner = await world.caller(ada), ada.user.id
    tasks = [
        asyncio.create_task(world.create_conversation(by=Vouched(owner))),
        asyncio.create_task(world.config(owner)),
    ]
    await step(steps)
    await process.delete_account(caller=caller)
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert not isinstance(result, BaseException) or isinstance(result, NotFound)
    assert left_of(world, owner) == []
