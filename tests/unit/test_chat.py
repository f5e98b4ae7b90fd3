"""Talking to a model: what is stored, what is asked of whom, and what is refused."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from chatcore import (
    ChatDefaults,
    ChatOptions,
    Message,
    MessageId,
    ModelConfigId,
    ModelEndpoint,
    PromptLimits,
    Role,
    Status,
    Usage,
    Vouched,
)
from chatcore.entities import Failure
from chatcore.errors import ConversationBusy, ModelNotConfigured, ModelUnauthorized, NotFound, ValidationFailed
from chatcore.ports import Delta, Prompt, PromptMessage
from chatcore_memory import PlainCipher, Stall
from chatcore_memory.messages import MemoryMessages
from unit.world import SERVER_MODEL, Chat, Process, World


def asked(world: World) -> Prompt:
    return world.model.calls[-1].prompt


# ---- what is stored --------------------------------------------------------------------------------------


async def test_a_message_and_its_reply_are_stored(world: World, chat: Chat) -> None:
    usage = Usage(prompt_tokens=5, completion_tokens=2, total_tokens=7)
    world.model.then(Delta(reasoning="Hm. "), "Hello", " 🦄", Delta(usage=usage))
    sent = await chat.send("Who\r\nare you?")
    assert (sent.message.role, sent.message.content, sent.message.status) == (
        Role.USER,
        "Who\r\nare you?",
        Status.COMPLETE,
    )
    assert (sent.reply.role, sent.reply.content, sent.reply.status) == (Role.ASSISTANT, "", Status.WRITING)
    assert (sent.message.parent_id, sent.reply.parent_id) == (None, sent.message.id)
    assert sent.message.created_at == sent.reply.created_at == world.clock.now()

    reply = await chat.end()
    assert (reply.id, reply.content, reply.reasoning, reply.status) == (
        sent.reply.id,
        "Hello 🦄",
        "Hm. ",
        Status.COMPLETE,
    )
    assert (reply.model, reply.usage, reply.error) == ("server-model", usage, None)
    assert await chat.messages() == [sent.message, reply]


async def test_each_message_follows_the_one_before(chat: Chat) -> None:
    for content in ("one", "two"):
        await chat.ask(content)
    messages = await chat.messages()
    assert [message.parent_id for message in messages] == [None, *(message.id for message in messages[:-1])]


async def test_the_first_message_gives_the_title(chat: Chat) -> None:
    assert (await chat.stored()).title == ""
    await chat.ask("  Tell me\nabout " + "x" * 100)
    assert (await chat.stored()).title == "Tell me about " + "x" * 36
    await chat.ask("Another thing")
    assert (await chat.stored()).title == "Tell me about " + "x" * 36


async def test_a_title_of_ones_own_stays(world: World, process: Process, chat: Chat) -> None:
    titled = await world.create_conversation(by=Vouched(chat.owner), title="Mine")
    chat = Chat(process, chat.owner, titled.id)
    await chat.ask()
    assert (await chat.stored()).title == "Mine"


async def test_a_conversation_is_busy_while_it_is_answered_and_used_when_that_ends(world: World, chat: Chat) -> None:
    stall = Stall()
    world.model.then(stall)
    world.clock.advance(60)
    sent = await chat.send()
    busy = await chat.stored()
    assert (busy.writing_reply_id, busy.updated_at) == (sent.reply.id, world.clock.now())
    world.clock.advance(60)
    stall.release()
    await chat.end()
    idle = await chat.stored()
    assert (idle.writing_reply_id, idle.updated_at) == (None, world.clock.now())


# ---- which model -----------------------------------------------------------------------------------------


async def test_without_a_configuration_the_servers_model_answers(world: World, chat: Chat) -> None:
    await chat.ask()
    assert world.model.calls[-1].endpoint == SERVER_MODEL


async def test_the_newest_configuration_goes_before_the_servers_model(world: World, chat: Chat) -> None:
    await world.config(chat.owner, "older")
    newest = await world.config(chat.owner, "newest", api_key="sk-newest-0123")
    await world.config(await world.owner("bob"), "bobs")
    reply = await chat.ask()
    endpoint = ModelEndpoint(url=newest.model_url, model="newest", api_key="sk-newest-0123", trusted=False)
    assert world.model.calls[-1].endpoint == endpoint
    assert reply.model == "newest"


async def test_the_conversations_goes_before_the_newest_and_the_requests_before_all(
    world: World, process: Process
) -> None:
    owner = await world.owner()
    names = ("request", "conversation", "newest")
    configs = {name: await world.config(owner, name) for name in names}
    conversation = await world.create_conversation(by=Vouched(owner), config_id=configs["conversation"].id)
    chat = Chat(process, owner, conversation.id)
    assert (await chat.ask()).model == "conversation"
    await chat.send(options=ChatOptions(config_id=configs["request"].id))
    assert (await chat.end()).model == "request"
    assert (await chat.ask()).model == "conversation"
    await world.delete_model_config(by=Vouched(owner), config_id=configs["conversation"].id)
    assert (await chat.ask()).model == "newest"


async def test_with_no_model_at_all_nothing_is_stored(world: World) -> None:
    async with world.process(defaults=ChatDefaults()) as process:
        chat = await process.chat()
        with pytest.raises(ModelNotConfigured):
            await chat.send()
        assert await chat.messages() == []
        assert (await chat.stored()).title == ""
        assert (await chat.stored()).writing_reply_id is None


async def test_anothers_configuration_and_a_missing_one_look_the_same(world: World, chat: Chat) -> None:
    bobs = await world.config(await world.owner("bob"))
    for config_id in (bobs.id, ModelConfigId(999)):
        with pytest.raises(NotFound, match="There is no such model configuration"):
            await chat.send(options=ChatOptions(config_id=config_id))
    assert await chat.messages() == []


async def test_an_endpoint_without_a_key_is_called_without_one(world: World, chat: Chat) -> None:
    await world.config(chat.owner, api_key="")
    await chat.ask()
    assert world.model.calls[-1].endpoint.api_key == ""


async def test_a_key_that_does_not_open_any_more_is_asked_for_again(world: World, chat: Chat) -> None:
    config = await world.config(chat.owner)
    sealed = PlainCipher("a key that was lost").seal("sk-1", owner=chat.owner, config_id=config.id)
    async with world.storage() as work:
        await work.model_configs.save(replace(config, sealed_key=sealed))
        await work.commit()
    with pytest.raises(ModelNotConfigured, match="Send it again"):
        await chat.send()
    assert await chat.messages() == []


def test_no_key_shows_in_a_representation() -> None:
    assert "sk-server" not in repr(ChatDefaults(model=SERVER_MODEL))


# ---- what the model is asked -----------------------------------------------------------------------------


async def test_the_model_is_asked_with_the_conversation_so_far(world: World, chat: Chat) -> None:
    world.model.then("First answer")
    world.model.then("Half an ans", ModelUnauthorized())
    for content in ("one", "two", "three"):
        await chat.ask(content)
    assert asked(world).messages == (
        PromptMessage(Role.USER, "one"),
        PromptMessage(Role.ASSISTANT, "First answer"),
        PromptMessage(Role.USER, "two\n\nthree"),
    )


async def test_what_is_said_while_a_reply_is_planned_is_part_of_its_prompt(
    world: World, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await chat.ask("one")
    told, said = MemoryMessages.told, list[Message]()

    async def overtaken(self: MemoryMessages, *args: Any, **named: Any) -> Sequence[Message]:
        planned = await told(self, *args, **named)
        if len(said) < overtakings:
            said.append(await chat.add(Role.USER, f"meanwhile {len(said)}"))
        return planned

    monkeypatch.setattr(MemoryMessages, "told", overtaken)
    overtakings = 2
    sent = await chat.send("two")
    await chat.end()
    assert [message.content for message in asked(world).messages] == [
        "one",
        first.content,
        "meanwhile 0\n\nmeanwhile 1\n\ntwo",
    ]
    assert sent.message.parent_id == said[-1].id
    overtakings = 100
    with pytest.raises(ConversationBusy):
        await chat.send("three")


async def test_no_text_is_read_while_the_conversation_is_locked(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others wait for the lock: what is long is read before it is taken."""
    await chat.ask("one")
    question = (await chat.messages())[0]
    under_lock = set[str]()

    def watched(name: str) -> Any:
        read = getattr(MemoryMessages, name)

        async def watch(self: MemoryMessages, *args: Any, **named: Any) -> Any:
            if self._transaction._draft is not None:
                under_lock.add(name)
            return await read(self, *args, **named)

        return watch

    for name in ("told", "history", "get", "last_reply", "reply_to", "by_depth"):
        monkeypatch.setattr(MemoryMessages, name, watched(name))
    for ask in (chat.send(), chat.edit(question.id), chat.regenerate(), chat.regenerate(question.id)):
        await ask
        await chat.end()
    await chat.add(Role.USER)
    assert under_lock == set()


async def test_the_servers_choices_hold_where_a_request_says_nothing(world: World) -> None:
    defaults = ChatDefaults(
        model=SERVER_MODEL,
        system_prompt="Be kind.",
        temperature=0.5,
        max_tokens=100,
        limits=PromptLimits(max_messages=2),
    )
    async with world.process(defaults=defaults) as process:
        chat = await process.chat()
        await chat.ask("one")
        assert asked(world) == Prompt(
            messages=(PromptMessage(Role.SYSTEM, "Be kind."), PromptMessage(Role.USER, "one")),
            temperature=0.5,
            max_tokens=100,
        )
        await chat.send("two", ChatOptions(system="Be short.", temperature=0, max_tokens=1))
        await chat.end()
        assert asked(world) == Prompt(
            messages=(PromptMessage(Role.SYSTEM, "Be short."), PromptMessage(Role.USER, "two")),
            temperature=0,
            max_tokens=1,
        )
        await chat.send("three", ChatOptions(system=""))
        await chat.end()
        assert asked(world).messages == (PromptMessage(Role.USER, "three"),)


async def test_where_nobody_chose_the_model_chooses(world: World, chat: Chat) -> None:
    await chat.ask("one")
    assert asked(world) == Prompt(messages=(PromptMessage(Role.USER, "one"),), temperature=None, max_tokens=None)


# ---- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "  \n", "x" * 200_001, "a\0b", "\ud800"])
async def test_content_that_breaks_the_rule_is_refused(world: World, chat: Chat, content: str) -> None:
    with pytest.raises(ValidationFailed) as raised:
        await chat.send(content)
    assert [error.field for error in raised.value.errors] == ["content"]
    assert await chat.messages() == []
    assert world.model.calls == []


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (ChatOptions(system="x" * 48_001), "system"),
        (ChatOptions(system="\0"), "system"),
        (ChatOptions(temperature=-0.1), "temperature"),
        (ChatOptions(temperature=2.1), "temperature"),
        (ChatOptions(temperature=float("nan")), "temperature"),
        (ChatOptions(max_tokens=0), "max_tokens"),
        (ChatOptions(max_tokens=1_000_001), "max_tokens"),
    ],
)
async def test_an_option_that_breaks_its_rule_is_refused(chat: Chat, options: ChatOptions, field: str) -> None:
    with pytest.raises(ValidationFailed) as raised:
        await chat.send(options=options)
    assert [error.field for error in raised.value.errors] == [field]
    assert await chat.messages() == []


async def test_bounds_that_hold(chat: Chat) -> None:
    options = ChatOptions(system="x" * 48_000, temperature=2, max_tokens=1_000_000)
    sent = await chat.send("🦄" * 200_000, options)
    assert (await chat.end()).status is Status.COMPLETE
    assert (await chat.messages())[0] == sent.message


async def test_a_failure_is_stored_with_the_reply(world: World, chat: Chat) -> None:
    world.model.then("Half an ans", ModelUnauthorized("The key was refused."))
    reply = await chat.ask()
    assert (reply.content, reply.status) == ("Half an ans", Status.FAILED)
    assert reply.error == Failure(code="model_unauthorized", detail="The key was refused.")
    assert (await chat.messages())[-1] == reply


# ---- where there is no reply -----------------------------------------------------------------------------


async def test_where_nothing_was_ever_said_there_is_nothing_to_follow_and_nothing_to_stop(chat: Chat) -> None:
    assert [event async for event in chat.follow()] == []
    with pytest.raises(NotFound, match="No reply"):
        await chat.stop()
    with pytest.raises(NotFound):
        await anext(chat.follow(reply_id=MessageId(999)))
