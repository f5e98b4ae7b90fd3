"""A message that begins its conversation: both are there, or neither."""

from collections.abc import Sequence

import pytest

from chatcore import (
    ChatDefaults,
    ChatOptions,
    Conversation,
    ModelConfigId,
    Rate,
    RateLimits,
    Sent,
    Status,
    UserId,
    Vouched,
)
from chatcore.errors import (
    Contention,
    ConversationBusy,
    ModelNotConfigured,
    ModelUnauthorized,
    NotFound,
    RateLimited,
    Unavailable,
    ValidationFailed,
)
from chatcore.shielding import TRIES
from chatcore_memory import MemoryLimiter, Stall
from unit.world import NO_OPTIONS, Chat, Process, World, everything_has_ended


async def begin(
    process: Process, owner: UserId, content: str = "Hello?", options: ChatOptions = NO_OPTIONS, key: str | None = None
) -> Sent:
    return await process.send_message(
        by=Vouched(owner), conversation_id=None, content=content, options=options, idempotency_key=key
    )


async def conversations(world: World, owner: UserId) -> Sequence[Conversation]:
    return (await world.list_conversations(owner=owner)).items


@pytest.fixture
async def owner(world: World) -> UserId:
    return await world.owner()


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatcore.shielding._FIRST_PAUSE", 0.0)


async def test_it_holds_the_message_and_the_reply(world: World, process: Process, owner: UserId) -> None:
    sent = await begin(process, owner)
    chat = Chat(process, owner, sent.message.conversation_id)
    reply = await chat.end()
    assert (reply.id, reply.content, reply.status) == (sent.reply.id, "Hello world", Status.COMPLETE)
    assert await chat.messages() == [sent.message, reply]
    assert [found.id for found in await conversations(world, owner)] == [chat.id]


async def test_one_transaction_makes_all_of_it(world: World, process: Process, owner: UserId) -> None:
    stall = Stall()
    world.model.then(stall)
    before = world.storage.commits
    sent = await begin(process, owner)
    assert world.storage.commits == before + 1
    (begun,) = await conversations(world, owner)
    assert (begun.writing_reply_id, begun.config_id) == (sent.reply.id, None)
    assert begun.created_at == begun.updated_at == world.clock.now()
    stall.release()
    await Chat(process, owner, begun.id).end()


async def test_its_title_is_its_messages_beginning_for_good(world: World, process: Process, owner: UserId) -> None:
    sent = await begin(process, owner, "  Tell me\nabout " + "x" * 100)
    chat = Chat(process, owner, sent.message.conversation_id)
    stored = await chat.stored()
    assert (stored.title, stored.titled_by_user) == ("Tell me about " + "x" * 36, True)
    await chat.end()


async def test_it_goes_on_like_any_other(process: Process, owner: UserId) -> None:
    sent = await begin(process, owner)
    chat = Chat(process, owner, sent.message.conversation_id)
    first = await chat.end()
    again = await chat.send("And then?")
    assert again.message.parent_id == first.id
    await chat.end()
    await everything_has_ended(chat)


async def test_each_begins_one_of_its_own(world: World, process: Process, owner: UserId) -> None:
    begun = {(await begin(process, owner)).message.conversation_id for _ in range(3)}
    assert {found.id for found in await conversations(world, owner)} == begun
    assert len(begun) == 3


async def test_a_model_that_fails_leaves_the_conversation_to_go_on_in(
    world: World, process: Process, owner: UserId
) -> None:
    world.model.then("Hel", ModelUnauthorized())
    sent = await begin(process, owner)
    chat = Chat(process, owner, sent.message.conversation_id)
    reply = await chat.end()
    assert (reply.status, reply.content) == (Status.FAILED, "Hel")
    assert (await chat.ask()).content == "Hello world"


# ---- nothing at all --------------------------------------------------------------------------------------


async def test_without_a_model(world: World, owner: UserId) -> None:
    async with world.process(defaults=ChatDefaults()) as process:
        with pytest.raises(ModelNotConfigured):
            await begin(process, owner)
    assert list(await conversations(world, owner)) == []


@pytest.mark.parametrize("content", ["", " \n", "x" * 200_001, "\0"])
async def test_with_nothing_to_say(world: World, process: Process, owner: UserId, content: str) -> None:
    with pytest.raises(ValidationFailed, match=r"^content: "):
        await begin(process, owner, content)
    assert list(await conversations(world, owner)) == []


async def test_with_a_configuration_that_is_not_ones_own(world: World, process: Process, owner: UserId) -> None:
    bobs = await world.config(await world.owner("bob"))
    for config_id in (bobs.id, ModelConfigId(999)):
        with pytest.raises(NotFound):
            await begin(process, owner, options=ChatOptions(config_id=config_id))
    assert list(await conversations(world, owner)) == []


async def test_over_the_limit(world: World, owner: UserId) -> None:
    world.set_limits(RateLimits(limiter=MemoryLimiter(world.clock), send=Rate(1, 60)))
    async with world.process() as process:
        begun = await begin(process, owner)
        with pytest.raises(RateLimited):
            await begin(process, owner)
        await Chat(process, owner, begun.message.conversation_id).end()
    assert len(await conversations(world, owner)) == 1


@pytest.mark.parametrize("after", range(9))
async def test_with_a_database_that_gives_way_to_others_for_ever(
    world: World, process: Process, owner: UserId, after: int
) -> None:
    world.database.contend(TRIES, after=after)
    try:
        sent = await begin(process, owner)
    except Contention:
        world.database.contend(0)
        assert list(await conversations(world, owner)) == []
        assert process.replies.writing_now == 0
    else:  # that late it has been said
        world.database.contend(0)
        assert [found.id for found in await conversations(world, owner)] == [sent.message.conversation_id]


@pytest.mark.parametrize("after", range(9))
async def test_once_with_one_that_does_so_for_a_while(
    world: World, process: Process, owner: UserId, after: int
) -> None:
    world.database.contend(TRIES - 1, after=after)
    sent = await begin(process, owner)
    world.database.contend(0)
    chat = Chat(process, owner, sent.message.conversation_id)
    assert (await chat.end()).content == "Hello world"
    assert [found.id for found in await conversations(world, owner)] == [chat.id]
    assert len(await chat.messages()) == 2


async def test_with_a_commit_that_fails(world: World, process: Process, owner: UserId) -> None:
    world.storage.fail_once(after=False)
    with pytest.raises(Unavailable):
        await begin(process, owner)
    assert list(await conversations(world, owner)) == []
    assert process.replies.writing_now == 0


async def test_in_a_process_that_shuts_down(world: World, owner: UserId) -> None:
    async with world.process() as process:
        pass
    with pytest.raises(Unavailable):
        await begin(process, owner)
    assert list(await conversations(world, owner)) == []


async def test_beside_a_conversation_that_is_busy(world: World, process: Process, owner: UserId) -> None:
    stall = Stall()
    world.model.then(stall)
    sent = await begin(process, owner)
    chat = Chat(process, owner, sent.message.conversation_id)
    with pytest.raises(ConversationBusy):
        await chat.send()
    assert [found.id for found in await conversations(world, owner)] == [chat.id]
    stall.release()
    await chat.end()


async def test_under_a_key_which_only_a_conversation_makes_unique(
    world: World, process: Process, owner: UserId
) -> None:
    with pytest.raises(ValidationFailed, match=r"^idempotency_key: needs a conversation"):
        await begin(process, owner, key="key")
    assert list(await conversations(world, owner)) == []
