"""What a conversation is called: by its first words, by the model, by the user."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from chatcore import ChatDefaults, ConversationTitled, ReplyDelta, ReplyEvent, Status, Vouched
from chatcore.errors import ModelRateLimited, ModelUnavailable
from chatcore.ports import Delta
from chatcore.prompt import build_title_prompt
from chatcore_memory import Call, Stall, Step
from unit.world import LAST_STEP, SERVER_MODEL, Chat, Process, World, at_every_step, read, read_until, step

DEFAULTS = ChatDefaults(model=SERVER_MODEL, system_prompt="Be kind.", model_titles=True)
QUESTION = "Why does the moon have phases,\nand why is it not seen when it is new?"
FIRST_WORDS = "Why does the moon have phases, and why is it not s"


@pytest.fixture
async def process(world: World) -> AsyncIterator[Process]:
    async with world.process(defaults=DEFAULTS) as process:
        yield process


def says(world: World, *reply: Step, title: Sequence[Step]) -> None:
    """The reply is asked for first, and the title then."""
    world.model.then(*reply)
    world.model.then(*title)


async def title_call(world: World) -> Call:
    while len(world.model.calls) < 2:
        await asyncio.sleep(0)
    return world.model.calls[1]


async def nothing_more_comes(world: World) -> None:
    """The title's call is over, and what followed from it too."""
    await (await title_call(world)).ended()
    await step(LAST_STEP)


def titles(events: Sequence[ReplyEvent]) -> list[str]:
    return [event.title for event in events if isinstance(event, ConversationTitled)]


# ---- the model's -----------------------------------------------------------------------------------------


async def test_the_model_is_asked_for_a_title_beside_the_first_reply(world: World, chat: Chat) -> None:
    stall = Stall()
    says(world, "Hel", stall, "lo", title=["Moon", " phases"])
    await chat.send(QUESTION)
    assert (await chat.stored()).title == FIRST_WORDS
    call = await title_call(world)
    assert (call.endpoint, call.prompt) == (SERVER_MODEL, build_title_prompt(QUESTION))
    await nothing_more_comes(world)
    stored = await chat.stored()
    assert (stored.title, stored.titled_by_user) == ("Moon phases", False)
    stall.release()
    assert (await chat.end()).content == "Hello"
    assert (await chat.stored()).title == "Moon phases"


async def test_a_title_that_is_known_before_the_end_is_told_once_to_everybody(world: World, chat: Chat) -> None:
    title, end = Stall(), Stall()
    says(world, "Hel", end, "lo", title=[title, "Moon phases"])
    sent = await chat.send(QUESTION)
    early = chat.follow()
    await read_until(early, "Hel")
    title.release()
    await nothing_more_comes(world)
    late = chat.follow()
    reading = [asyncio.create_task(read(events)) for events in (early, late)]
    await step(LAST_STEP)
    end.release()
    after_hel, from_the_start = [(await reader).events for reader in reading]
    assert titles(after_hel) == titles(from_the_start) == ["Moon phases"]
    assert ConversationTitled(sent.reply.id, 3, "Moon phases") in after_hel
    assert from_the_start[1] == ConversationTitled(sent.reply.id, 0, "Moon phases")
    assert "".join(event.text for event in from_the_start if isinstance(event, ReplyDelta)) == "Hello"
    assert titles((await read(chat.follow())).events) == []


async def test_the_reply_does_not_wait_for_its_title(world: World, process: Process, chat: Chat) -> None:
    title = Stall()
    says(world, "Hello", title=[title, "Moon phases"])
    await chat.send(QUESTION)
    seen = await read(chat.follow())
    assert (titles(seen.events), seen.message.status) == ([], Status.COMPLETE)
    assert ((await chat.stored()).title, process.replies.writing_now) == (FIRST_WORDS, 0)
    before = (await chat.stored()).updated_at
    world.clock.advance(60)
    title.release()
    await nothing_more_comes(world)
    stored = await chat.stored()
    assert (stored.title, stored.updated_at) == ("Moon phases", before)


@at_every_step
async def test_a_title_is_told_before_the_end_or_not_at_all(world: World, chat: Chat, steps: int) -> None:
    end = Stall()
    says(world, "Hel", end, title=["Moon phases"])
    await chat.send(QUESTION)
    reading = asyncio.create_task(read(chat.follow()))
    await step(steps)
    end.release()
    assert titles((await reading).events) in ([], ["Moon phases"])
    await nothing_more_comes(world)
    assert (await chat.stored()).title == "Moon phases"


@pytest.mark.parametrize(
    ("said", "title"),
    [
        (["“Moon phases.”"], "Moon phases"),
        (["**Moon\n phases**\n"], "Moon phases"),
        ([Delta(reasoning="Hm, the moon."), "Moon phases"], "Moon phases"),
        (["# Why?"], "Why?"),
        (["月の満ち欠け 🌒"], "月の満ち欠け 🌒"),
        (["x" * 300], "x" * 80),
        (["word "] * 1000, ("word " * 16).strip()),
        (["a\0b"], "a\ufffdb"),
        (["<think>The moon.</think>Moon phases"], "Moon phases"),
        (["The moon. " * 100, Delta(text="Moon phases", reasoned=True)], "Moon phases"),
    ],
)
async def test_a_title_is_trimmed(world: World, chat: Chat, said: Sequence[Step], title: str) -> None:
    says(world, "Hello", title=said)
    await chat.ask(QUESTION)
    await nothing_more_comes(world)
    assert (await chat.stored()).title == title
    assert world.model.calls[1].ending == "finished"


# ---- where the first words stay --------------------------------------------------------------------------


@pytest.mark.parametrize("said", [[], [""], ["  \n"], ["“”"], ["**"], ["<think>Hm"], [Delta(reasoning="Hm")]])
async def test_no_title_is_none(world: World, chat: Chat, said: Sequence[Step]) -> None:
    await self_titled(world, chat, said)


@pytest.mark.parametrize("said", [["Moon", ModelUnavailable()], [ModelRateLimited()]])
async def test_a_title_that_fails_is_none(world: World, chat: Chat, said: Sequence[Step]) -> None:
    await self_titled(world, chat, said)


async def test_a_bug_in_the_title_call_is_noted_and_harms_nothing(
    world: World, chat: Chat, caplog: pytest.LogCaptureFixture
) -> None:
    await self_titled(world, chat, ["Moon", RuntimeError("what")])
    assert "no title for conversation" in caplog.text
    assert "RuntimeError" in caplog.text


async def self_titled(world: World, chat: Chat, said: Sequence[Step]) -> None:
    end = Stall()
    says(world, "Hel", end, "lo", title=said)
    await chat.send(QUESTION)
    reading = asyncio.create_task(read(chat.follow()))
    await nothing_more_comes(world)
    end.release()
    seen = await reading
    assert (seen.text, seen.message.status, titles(seen.events)) == ("Hello", Status.COMPLETE, [])
    assert (await chat.stored()).title == FIRST_WORDS


async def test_a_title_that_takes_too_long_is_given_up(
    world: World, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatcore.titles._TITLE_TIMEOUT", 0.001)
    says(world, "Hello", title=["Moon", Stall()])
    assert (await chat.ask(QUESTION)).content == "Hello"
    await nothing_more_comes(world)
    assert world.model.calls[1].ending == "closed"
    assert (await chat.stored()).title == FIRST_WORDS


async def test_a_title_is_lost_when_the_database_is_gone(world: World, chat: Chat) -> None:
    title = Stall()
    says(world, "Hello", title=[title, "Moon phases"])
    assert (await chat.ask(QUESTION)).content == "Hello"
    with world.database.outage():
        title.release()
        await nothing_more_comes(world)
    assert (await chat.stored()).title == FIRST_WORDS
    assert (await chat.ask("And then?")).content == "Hello world"


async def test_a_conversation_that_is_deleted_meanwhile_is_not_titled(
    world: World, process: Process, chat: Chat
) -> None:
    title = Stall()
    says(world, "Hel", Stall(), title=[title, "Moon phases"])
    await chat.send(QUESTION)
    await title.reached()
    await chat.delete()
    title.release()
    await nothing_more_comes(world)
    assert (await world.list_conversations(owner=chat.owner)).items == []
    assert process.replies.writing_now == 0


# ---- the user's ------------------------------------------------------------------------------------------


async def test_a_title_that_the_user_gave_is_not_asked_for(world: World, process: Process, chat: Chat) -> None:
    await chat.rename("Mine")
    titled = await world.create_conversation(by=Vouched(chat.owner), title="Mine, too")
    for each, title in ((chat, "Mine"), (Chat(process, chat.owner, titled.id), "Mine, too")):
        await each.ask(QUESTION)
        assert (await each.stored()).title == title
    assert len(world.model.calls) == 2


async def test_a_conversation_that_a_message_began_keeps_its_first_50_characters(
    world: World, process: Process, chat: Chat
) -> None:
    sent = await process.send_message(by=Vouched(chat.owner), conversation_id=None, content="Why is the sky blue? " * 4)
    begun = Chat(process, chat.owner, sent.message.conversation_id)
    await begun.end()
    assert (await begun.stored()).title == ("Why is the sky blue? " * 4)[:50].strip()
    assert len(world.model.calls) == 1


@at_every_step
async def test_a_rename_wins_at_any_moment(world: World, chat: Chat, steps: int) -> None:
    end = Stall()
    says(world, "Hel", end, title=["Moon", " phases"])
    await chat.send(QUESTION)
    await step(steps)
    renamed = await chat.rename("Mine")
    assert (renamed.title, renamed.titled_by_user) == ("Mine", True)
    await nothing_more_comes(world)
    end.release()
    await chat.end()
    stored = await chat.stored()
    assert (stored.title, stored.titled_by_user) == ("Mine", True)


async def test_a_title_that_came_too_late_is_not_told(world: World, chat: Chat) -> None:
    title, end = Stall(), Stall()
    says(world, "Hel", end, title=[title, "Moon phases"])
    await chat.send(QUESTION)
    reading = asyncio.create_task(read(chat.follow()))
    await title.reached()
    await chat.rename("Mine")
    title.release()
    await nothing_more_comes(world)
    end.release()
    assert titles((await reading).events) == []
    assert (await chat.stored()).title == "Mine"


# ---- how often -------------------------------------------------------------------------------------------


async def test_only_the_first_message_is_titled(world: World, chat: Chat) -> None:
    says(world, "Hello", title=[ModelUnavailable()])
    await chat.ask(QUESTION)
    await nothing_more_comes(world)
    for content in ("And then?", "And now?"):
        await chat.ask(content)
    assert len(world.model.calls) == 4
    assert (await chat.stored()).title == FIRST_WORDS


async def test_the_same_message_sent_again_is_titled_once(world: World, chat: Chat) -> None:
    says(world, "Hello", title=["Moon phases"])
    for _ in range(3):
        await chat.send(QUESTION, key="key")
    await chat.end()
    await nothing_more_comes(world)
    assert (len(world.model.calls), (await chat.stored()).title) == (2, "Moon phases")


async def test_where_it_is_not_wanted_the_model_is_not_asked(world: World) -> None:
    async with world.process(defaults=ChatDefaults(model=SERVER_MODEL)) as process:
        chat = await process.chat()
        await chat.ask(QUESTION)
        await step(LAST_STEP)
        assert (len(world.model.calls), (await chat.stored()).title) == (1, FIRST_WORDS)


# ---- shutting down ---------------------------------------------------------------------------------------


async def test_a_drain_does_not_wait_for_titles(world: World) -> None:
    async with world.process(defaults=DEFAULTS, grace=3600) as process:
        chat = await process.chat()
        says(world, "Hello", title=["Moon", Stall()])
        assert (await chat.ask(QUESTION)).status is Status.COMPLETE
        await title_call(world)
    assert world.model.calls[1].ending == "closed"
    assert (await chat.stored()).title == FIRST_WORDS


async def test_a_drain_waits_for_the_reply_and_not_for_its_title(world: World) -> None:
    end = Stall()
    process = world.process(defaults=DEFAULTS, grace=3600)
    async with process:
        chat = await process.chat()
        says(world, "Hel", end, "lo", title=["Moon", Stall()])
        await chat.send(QUESTION)
        call = await title_call(world)
        leaving = asyncio.create_task(process.__aexit__())
        await call.ended()
        assert (call.ending, leaving.done()) == ("closed", False)
        end.release()
        await leaving
    reply = (await chat.messages())[-1]
    assert (reply.content, reply.status) == ("Hello", Status.COMPLETE)
    assert (await chat.stored()).title == FIRST_WORDS
