"""An embedding program's users: they appear on first sight, and are forgotten with all that they have."""

import asyncio

import pytest

from chatcore import ExpirySweep, ForgetOwner, OpenOwner, OwnerId, Status, UserId, Vouched
from chatcore.errors import Unauthenticated, ValidationFailed
from chatcore_memory import Stall
from unit.world import Chat, Process, World, at_every_step, read, read_until, step


async def seen(world: World, user: str = "ada", tenant: str = "") -> Vouched:
    return await OpenOwner(unit_of_work=world.storage, clock=world.clock)(user=user, tenant=tenant)


async def forget(process: Process, user: str = "ada", tenant: str = "") -> bool:
    world = process.world
    forgetting = ForgetOwner(unit_of_work=world.storage, replies=process.replies, clock=world.clock)
    return await forgetting(user=user, tenant=tenant)


async def a_chat(process: Process, ada: Vouched) -> Chat:
    return Chat(process, UserId(ada.owner), (await process.world.create_conversation(by=ada)).id)


def left_of(world: World, owner: OwnerId) -> list[object]:
    state = world.database._store.committed  # pyright: ignore[reportPrivateUsage] - no port shows all of it
    tables = (state.model_configs, state.conversations, state.closing, state.messages, state.reply_log)
    owned: list[object] = [thing for table in tables for thing in table.values() if thing.user_id == owner]
    return [*owned, *(each for each in (*state.owners, *state.closed) if each == owner)]


async def test_a_user_is_the_same_owner_on_every_sight(world: World) -> None:
    ada = await seen(world)
    assert await seen(world) == ada
    others = [await seen(world, "Ada"), await seen(world, "ada", "acme"), await seen(world, "ada ")]
    assert len({ada, *others}) == 4
    assert ada.owner != (await world.signed_in("ada")).user.id


async def test_of_many_at_once_all_get_the_same(world: World) -> None:
    world.database.contend(2, after=1)
    assert len(set(await asyncio.gather(*(seen(world) for _ in range(5))))) == 1


async def test_an_owner_has_conversations_of_its_own(world: World, process: Process) -> None:
    ada, bob = await seen(world), await seen(world, "bob")
    chat = await a_chat(process, ada)
    await chat.send()
    await chat.end()
    assert [message.status for message in await chat.messages()] == [Status.COMPLETE] * 2
    assert (await world.list_conversations(owner=bob.owner)).items == []


@pytest.mark.parametrize(
    ("user", "tenant"), [("", ""), ("x" * 256, ""), ("ada", "x" * 256), ("a\0", ""), ("\ud800", "")]
)
async def test_what_cannot_be_an_id_is_refused(world: World, process: Process, user: str, tenant: str) -> None:
    for refused in (seen(world, user, tenant), forget(process, user, tenant)):
        with pytest.raises(ValidationFailed):
            await refused


async def test_all_that_one_has_is_forgotten(world: World, process: Process) -> None:
    ada, kept = await seen(world), await seen(world, "ada", "acme")
    await world.config(UserId(ada.owner))
    chat, other = await a_chat(process, ada), await a_chat(process, kept)
    for each in (chat, other):
        await each.send()
        await each.end()
    assert left_of(world, ada.owner)
    assert await forget(process)
    assert left_of(world, ada.owner) == []
    assert not await forget(process)
    assert len(await other.messages()) == 2
    with pytest.raises(Unauthenticated):
        await world.create_conversation(by=ada)
    assert (await seen(world)).owner > ada.owner


async def test_a_reply_that_another_process_writes_is_stopped_first(world: World) -> None:
    async with world.process() as elsewhere, world.process() as process:
        chat = await a_chat(process, await seen(world))
        world.model.then("Hel", Stall(), "lo")
        sent = await chat.send()
        events = chat.follow()
        await read_until(events, "Hel")
        assert await forget(elsewhere)
        reply = (await read(events)).message
        assert (reply.content, reply.status) == ("Hel", Status.STOPPED)
        assert (process.replies.writing_now, await world.log_of(sent.reply)) == (0, [])
    assert left_of(world, chat.owner) == []


@at_every_step
@pytest.mark.parametrize("goes_first", ["sending", "forgetting"])
async def test_one_may_be_sending_at_that_moment(world: World, process: Process, steps: int, goes_first: str) -> None:
    chat = await a_chat(process, await seen(world))
    world.model.then("Hel", Stall())
    if goes_first == "sending":
        sending = asyncio.create_task(chat.send())
        await step(steps)
        forgetting = asyncio.create_task(forget(process))
    else:
        forgetting = asyncio.create_task(forget(process))
        await step(steps)
        sending = asyncio.create_task(chat.send())
    (sent,) = await asyncio.gather(sending, return_exceptions=True)
    assert await forgetting
    assert not isinstance(sent, BaseException) or isinstance(sent, Unauthenticated)
    assert (process.replies.writing_now, await world.unfinished(), left_of(world, chat.owner)) == (0, [], [])


async def test_of_two_that_forget_at_once_one_did(world: World, process: Process) -> None:
    ada = await seen(world)
    assert sorted(await asyncio.gather(forget(process), forget(process))) == [False, True]
    assert left_of(world, ada.owner) == []


async def test_what_a_dead_process_left_is_swept_away(world: World, process: Process) -> None:
    ada = await seen(world)
    chat = await a_chat(process, ada)
    await chat.send()
    await chat.end()
    async with world.storage() as work:
        assert await work.owners.close(ada.owner, now=world.clock.now())
        await work.commit()
    again = await seen(world)
    sweep = ExpirySweep(unit_of_work=world.storage, clock=world.clock)
    await sweep._round()  # pyright: ignore[reportPrivateUsage]
    assert left_of(world, ada.owner) == []
    assert again != ada
    assert left_of(world, again.owner) == [again.owner]
