"""Messages that no model is asked about: where they stand, what they mean for what is asked later, what is refused."""

import asyncio

import pytest

from chatcore import ChatDefaults, ConversationId, Message, MessageId, Role, Status
from chatcore.errors import ConversationBusy, NotFound, RateLimited, Unavailable, ValidationFailed
from chatcore.events import ReplyStarted
from chatcore.ports import PromptMessage, Rate
from chatcore.rate_limits import RateLimits
from chatcore_memory import MemoryLimiter, Stall
from unit.world import SERVER_MODEL, Chat, Process, World, read

SYSTEM, USER, ASSISTANT = Role.SYSTEM, Role.USER, Role.ASSISTANT


async def added(chat: Chat, *messages: tuple[Role, str]) -> list[Message]:
    return [await chat.add(role, content) for role, content in messages]


async def shown(chat: Chat) -> list[tuple[Role, str]]:
    return [(message.role, message.content) for message in await chat.messages()]


def asked(world: World) -> list[PromptMessage]:
    return list(world.model.calls[-1].prompt.messages)


# ---- what is stored --------------------------------------------------------------------------------------


async def test_messages_follow_one_another_and_no_model_is_asked(world: World, chat: Chat) -> None:
    history = [(SYSTEM, "Be kind."), (USER, "one"), (ASSISTANT, "two 🦄"), (USER, "three")]
    messages = await added(chat, *history)
    assert await shown(chat) == history
    assert list(await chat.messages()) == messages
    parents = [message.parent_id for message in messages]
    assert parents == [None, *(message.id for message in messages[:-1])]
    for message in messages:
        assert message.siblings == (message.id,)
        assert (message.status, message.model, message.reasoning) == (Status.COMPLETE, None, None)
        assert (message.user_id, message.conversation_id) == (chat.owner, chat.id)
        assert message.created_at == world.clock.now()
    assert world.model.calls == []
    assert await world.unfinished() == []


async def test_a_conversation_is_used_when_a_message_is_added(world: World, chat: Chat) -> None:
    before = await chat.stored()
    world.clock.advance(3600)
    await chat.add(SYSTEM)
    after = await chat.stored()
    assert (after.created_at, after.updated_at) == (before.created_at, world.clock.now())
    assert after.writing_reply_id is None


async def test_the_first_user_message_is_the_title(chat: Chat) -> None:
    await added(chat, (SYSTEM, "Be kind."), (ASSISTANT, "Welcome."))
    assert (await chat.stored()).title == ""
    await added(chat, (USER, "Why is\nthe sky blue?"), (USER, "And the sea?"))
    stored = await chat.stored()
    assert (stored.title, stored.titled_by_user) == ("Why is the sky blue?", False)


async def test_a_title_of_ones_own_stays(chat: Chat) -> None:
    await chat.rename("Mine")
    await chat.add(USER)
    assert (await chat.stored()).title == "Mine"


async def test_it_goes_to_the_end_of_the_branch_that_is_shown(world: World, chat: Chat) -> None:
    for content in ("first", "second"):
        world.model.then(content)
    first = await chat.ask("one")
    await chat.regenerate()
    second = await chat.end()
    await chat.switch(first.id)
    message = await chat.add(USER, "two")
    assert message.parent_id == first.id
    assert await shown(chat) == [(USER, "one"), (ASSISTANT, "first"), (USER, "two")]
    await chat.switch(second.id)
    assert await shown(chat) == [(USER, "one"), (ASSISTANT, "second")]


async def test_many_at_once_stand_in_one_row(chat: Chat) -> None:
    await asyncio.gather(*(chat.add(USER, str(number)) for number in range(8)))
    messages = await chat.messages()
    assert sorted(message.content for message in messages) == [str(number) for number in range(8)]
    assert [message.parent_id for message in messages] == [None, *(message.id for message in messages[:-1])]


# ---- what it means for what is asked later ------------------------------------------------------------------


async def test_the_model_is_told_all_of_it_in_its_place(world: World, process: Process) -> None:
    defaults = ChatDefaults(model=SERVER_MODEL, system_prompt="The server's own.")
    async with world.process(defaults=defaults) as told:
        chat = await told.chat("bob")
        history = [(SYSTEM, "Be kind."), (USER, "one"), (ASSISTANT, "two"), (SYSTEM, "Be brief."), (USER, "three")]
        await added(chat, *history)
        await chat.ask("four")
    said = [(SYSTEM, "The server's own.\n\nBe kind."), *history[1:-1], (USER, "three\n\nfour")]
    assert asked(world) == [PromptMessage(role, content) for role, content in said]


async def test_an_assistants_message_is_followed_as_a_reply(chat: Chat) -> None:
    assert [event async for event in chat.follow()] == []
    question, answer = await added(chat, (USER, "one"), (ASSISTANT, "two"))
    heard = await read(chat.follow())
    started = heard.events[0]
    assert isinstance(started, ReplyStarted)
    assert (started.reply_id, started.message_id, started.model) == (answer.id, question.id, None)
    assert (heard.text, heard.message) == ("two", answer)
    assert (await read(chat.follow(after=1))).text == "wo"
    assert await chat.stop() == answer


async def test_where_no_assistant_has_spoken_there_is_no_reply(chat: Chat) -> None:
    await added(chat, (SYSTEM, "Be kind."), (USER, "one"))
    assert [event async for event in chat.follow()] == []
    for refused in (chat.stop(), chat.regenerate()):
        with pytest.raises(NotFound):
            await refused


async def test_an_assistants_message_is_written_again_where_it_answers_a_user(world: World, chat: Chat) -> None:
    _, question, answer = await added(chat, (SYSTEM, "Be kind."), (USER, "one"), (ASSISTANT, "two"))
    world.model.then("better")
    sent = await chat.regenerate()
    assert (sent.message.id, sent.reply.parent_id) == (question.id, question.id)
    assert sent.reply.siblings == (answer.id, sent.reply.id)
    assert (await chat.end()).content == "better"
    assert await shown(chat) == [(SYSTEM, "Be kind."), (USER, "one"), (ASSISTANT, "better")]


async def test_what_answers_no_user_is_not_written_again(world: World, chat: Chat) -> None:
    greeting, system, question, answer, more, after = await added(
        chat,
        (ASSISTANT, "Welcome."),
        (SYSTEM, "Be kind."),
        (USER, "one"),
        (ASSISTANT, "two"),
        (ASSISTANT, "three"),
        (SYSTEM, "Be brief."),
    )
    for message_id in (greeting.id, system.id, more.id, after.id, None):
        with pytest.raises(NotFound, match="no reply to be written again"):
            await chat.regenerate(message_id)
    for message_id in (greeting.id, system.id, answer.id, after.id):
        with pytest.raises(NotFound, match="no such message of a user"):
            await chat.edit(message_id)
    assert len(await chat.messages()) == 6
    assert world.model.calls == []
    assert question.id < answer.id


async def test_a_system_message_after_a_users_is_no_reply_to_it(world: World, chat: Chat) -> None:
    _, system = await added(chat, (USER, "one"), (SYSTEM, "Be kind."))
    with pytest.raises(NotFound):
        await chat.regenerate(system.id)


async def test_a_users_message_gets_its_first_reply_beside_what_follows_it(world: World, chat: Chat) -> None:
    one, two = await added(chat, (USER, "one"), (USER, "two"))
    sent = await chat.regenerate(one.id)
    await chat.end()
    assert (sent.reply.parent_id, sent.reply.siblings) == (one.id, (two.id, sent.reply.id))
    assert (await chat.messages())[-1].siblings == sent.reply.siblings
    assert [message.id for message in await chat.messages()] == [one.id, sent.reply.id]
    last = await chat.regenerate(two.id)
    await chat.end()
    assert [message.id for message in await chat.messages()] == [one.id, two.id, last.reply.id]


async def test_a_history_is_added_after_a_reply_and_goes_on(world: World, chat: Chat) -> None:
    reply = await chat.ask("one")
    message = await chat.add(USER, "two")
    assert message.parent_id == reply.id
    await chat.ask("three")
    assert [each.content for each in asked(world)] == ["one", reply.content, "two\n\nthree"]


# ---- what is refused -------------------------------------------------------------------------------------


async def test_nothing_is_added_while_a_reply_is_written(world: World, chat: Chat) -> None:
    stall = Stall()
    world.model.then("Hel", stall, "lo")
    await chat.send("one")
    for role in Role:
        with pytest.raises(ConversationBusy):
            await chat.add(role)
    stall.release()
    assert (await chat.end()).content == "Hello"
    await chat.add(USER)
    assert len(await chat.messages()) == 3


@pytest.mark.parametrize("content", ["", " \n", "x" * 200_001, "nul\0", "\ud800"])
async def test_content_that_breaks_the_rule(chat: Chat, content: str) -> None:
    with pytest.raises(ValidationFailed) as raised:
        await chat.add(ASSISTANT, content)
    assert [error.field for error in raised.value.errors] == ["content"]
    assert list(await chat.messages()) == []


async def test_content_may_be_very_long(chat: Chat) -> None:
    await chat.add(ASSISTANT, "🦄" * 200_000)
    assert len((await chat.messages())[0].content) == 200_000


async def test_only_to_a_conversation_of_ones_own(process: Process, chat: Chat) -> None:
    bob = await process.world.owner("bob")
    for place in (Chat(process, bob, chat.id), Chat(process, chat.owner, ConversationId(999_999))):
        with pytest.raises(NotFound, match="no such conversation"):
            await place.add(USER)
    assert list(await chat.messages()) == []


async def test_it_counts_as_a_send(world: World) -> None:
    world.set_limits(RateLimits(limiter=MemoryLimiter(world.clock), send=Rate(2, 60)))
    async with world.process() as process:
        chat = await process.chat()
        await chat.add(USER)
        await chat.ask("two")
        with pytest.raises(RateLimited):
            await chat.add(USER)
        assert len(await chat.messages()) == 3


async def test_a_commit_that_fails_has_added_nothing(world: World, chat: Chat) -> None:
    before = await chat.stored()
    world.storage.fail_once(after=False)
    with pytest.raises(Unavailable):
        await chat.add(USER)
    assert (await chat.stored(), list(await chat.messages())) == (before, [])


async def test_ids_that_cannot_be_are_nothing(chat: Chat) -> None:
    with pytest.raises(NotFound):
        await chat.regenerate(MessageId(0))
