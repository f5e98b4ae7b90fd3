"""Asking once more, and asking something else instead: what is stored, what the model is asked, what is refused."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from chatcore import ChatDefaults, ChatOptions, ConversationId, MessageId, PromptLimits, Role, Status
from chatcore.errors import (
    ConversationBusy,
    ModelNotConfigured,
    ModelUnauthorized,
    NotFound,
    Unavailable,
    ValidationFailed,
)
from chatcore.ports import Prompt, PromptMessage
from chatcore.shielding import TRIES
from chatcore_memory import Stall
from unit.world import SERVER_MODEL, Chat, Process, World, everything_has_ended, read, read_until

NOWHERE = MessageId(999_999)


def asked(world: World) -> list[str]:
    """What the model was sent last."""
    return [message.text for message in world.model.calls[-1].prompt.messages]


async def talk(world: World, chat: Chat, *contents: str) -> list[MessageId]:
    """Asks these and is answered "re: …"; all ids of the conversation that are shown then."""
    for content in contents:
        world.model.then(f"re: {content}")
        await chat.ask(content)
    return await shown(chat)


async def shown(chat: Chat) -> list[MessageId]:
    return [message.id for message in await chat.messages()]


async def said(chat: Chat) -> list[str]:
    return [message.content for message in await chat.messages()]


# ---- regenerate ------------------------------------------------------------------------------------------


async def test_the_last_reply_is_written_again_beside_the_first(world: World, chat: Chat) -> None:
    one, first = await talk(world, chat, "one")
    world.model.then("another")
    sent = await chat.regenerate()
    assert (sent.message.id, sent.message.siblings) == (one, (one,))
    assert (sent.reply.role, sent.reply.content, sent.reply.status) == (Role.ASSISTANT, "", Status.WRITING)
    assert (sent.reply.parent_id, sent.reply.siblings, sent.reply.model) == (
        one,
        (first, sent.reply.id),
        "server-model",
    )
    reply = await chat.end()
    assert (reply.content, reply.siblings, asked(world)) == ("another", (first, sent.reply.id), ["one"])
    assert await said(chat) == ["one", "another"]
    assert [message.siblings for message in await chat.messages()] == [(one,), (first, reply.id)]
    earlier = (await read(chat.follow(reply_id=first))).message
    assert (earlier.content, earlier.siblings) == ("re: one", (first, reply.id))


async def test_a_reply_may_be_written_any_number_of_times(world: World, chat: Chat) -> None:
    _, first = await talk(world, chat, "one")
    again = [(await chat.regenerate(), await chat.end())[1].id for _ in range(3)]
    assert (await chat.messages())[-1].siblings == (first, *again)


async def test_an_earlier_reply_may_be_written_again_and_what_followed_it_is_kept(world: World, chat: Chat) -> None:
    one, first, two, second = await talk(world, chat, "one", "two")
    world.model.then("another")
    sent = await chat.regenerate(first)
    assert (await chat.end(), asked(world)) == ((await chat.messages())[-1], ["one"])
    assert await shown(chat) == [one, sent.reply.id]
    back = await chat.switch(two)
    assert [message.id for message in back.messages] == [one, first, two, second]


@pytest.mark.parametrize("named", ["reply", "message"])
async def test_a_reply_of_a_branch_that_is_not_shown_may_be_written_again(world: World, chat: Chat, named: str) -> None:
    one, first, two, second = await talk(world, chat, "one", "two")
    await chat.edit(one, "ONE")
    await chat.end()
    sent = await chat.regenerate(second if named == "reply" else two)
    await chat.end()
    assert asked(world) == ["one", "re: one", "two"]
    assert await shown(chat) == [one, first, two, sent.reply.id]
    assert sent.reply.siblings == (second, sent.reply.id)


async def test_a_reply_that_failed_or_was_stopped_is_written_again(world: World, chat: Chat) -> None:
    world.model.then("Half an ans", ModelUnauthorized())
    failed = await chat.ask("one")
    sent = await chat.regenerate()
    reply = await chat.end()
    assert (reply.status, reply.siblings) == (Status.COMPLETE, (failed.id, sent.reply.id))
    stall = Stall()
    world.model.then("Hel", stall)
    await chat.regenerate()
    await stall.reached()
    stopped = await chat.stop()
    assert (stopped.content, stopped.status) == ("Hel", Status.STOPPED)
    assert stopped.siblings == (failed.id, reply.id, stopped.id)
    await chat.regenerate()
    assert (await chat.end()).siblings == (*stopped.siblings, (await shown(chat))[-1])
    assert asked(world) == ["one"]


async def test_a_reply_that_is_written_again_is_resumed_from_any_place(world: World, chat: Chat) -> None:
    _, first = await talk(world, chat, "one")
    stall = Stall()
    world.model.then("Hel", stall, "lo")
    sent = await chat.regenerate()
    events = chat.follow()
    await read_until(events, "Hel")
    await events.aclose()
    assert (await chat.messages())[-1].id == sent.reply.id
    stall.release()
    for after in range(6):
        seen = await read(chat.follow(after=after))
        assert (seen.message.id, seen.text, seen.message.siblings) == (
            sent.reply.id,
            "Hello"[after:],
            (first, sent.reply.id),
        )
    await everything_has_ended(chat)


async def test_where_nothing_was_said_nothing_can_be_said_again(chat: Chat) -> None:
    for message_id in (None, NOWHERE):
        with pytest.raises(NotFound, match="no reply to be written again"):
            await chat.regenerate(message_id)


# ---- edit ------------------------------------------------------------------------------------------------


async def test_a_message_is_edited_into_a_branch_of_its_own(world: World, chat: Chat) -> None:
    one, first, two, second = await talk(world, chat, "one", "two")
    sent = await chat.edit(two, "TWO")
    reply = await chat.end()
    assert (sent.message.role, sent.message.content, sent.message.status) == (Role.USER, "TWO", Status.COMPLETE)
    assert (sent.message.parent_id, sent.message.siblings) == (first, (two, sent.message.id))
    assert (sent.reply.parent_id, sent.reply.siblings) == (sent.message.id, (reply.id,))
    assert asked(world) == ["one", "re: one", "TWO"]
    assert await shown(chat) == [one, first, sent.message.id, reply.id]
    assert [message.siblings for message in (await chat.switch(two)).messages] == [
        (one,),
        (first,),
        (two, sent.message.id),
        (second,),
    ]


async def test_the_first_message_is_edited_too(world: World, chat: Chat) -> None:
    one, first, *_ = await talk(world, chat, "one", "two")
    sent = await chat.edit(one, "ONE")
    reply = await chat.end()
    assert (sent.message.parent_id, sent.message.siblings, asked(world)) == (None, (one, sent.message.id), ["ONE"])
    assert await shown(chat) == [sent.message.id, reply.id]
    again = await chat.edit(sent.message.id, "Eins")
    assert again.message.siblings == (one, sent.message.id, again.message.id)
    await chat.end()
    assert asked(world) == ["Eins"]
    assert [message.id for message in (await chat.switch(first)).messages][:2] == [one, first]


async def test_an_edit_may_say_the_same_again(world: World, chat: Chat) -> None:
    one, _ = await talk(world, chat, "one")
    sent = await chat.edit(one, "one")
    assert sent.message.siblings == (one, sent.message.id)
    assert (await chat.end()).parent_id == sent.message.id


async def test_a_message_of_a_branch_that_is_not_shown_is_edited_there(world: World, chat: Chat) -> None:
    one, first, two, _ = await talk(world, chat, "one", "two")
    await chat.edit(one, "ONE")
    await chat.end()
    sent = await chat.edit(two, "TWO")
    await chat.end()
    assert asked(world) == ["one", "re: one", "TWO"]
    assert await shown(chat) == [one, first, sent.message.id, sent.reply.id]


async def test_the_conversation_goes_on_in_the_new_branch(world: World, chat: Chat) -> None:
    one, *_ = await talk(world, chat, "one", "two")
    world.model.then("re: ONE")
    await chat.edit(one, "ONE")
    await chat.end()
    await talk(world, chat, "three")
    assert asked(world) == ["ONE", "re: ONE", "three"]
    assert await said(chat) == ["ONE", "re: ONE", "three", "re: three"]


async def test_only_a_users_message_is_edited(world: World, chat: Chat) -> None:
    _, first = await talk(world, chat, "one")
    for message_id in (first, NOWHERE, MessageId(0), MessageId(-1), MessageId(2**70)):
        with pytest.raises(NotFound, match="no such message of a user"):
            await chat.edit(message_id)
    assert len(await chat.messages()) == 2


@pytest.mark.parametrize("content", ["", "  \n", "x" * 200_001, "a\0b", "\ud800"])
async def test_content_that_breaks_the_rule_is_refused(world: World, chat: Chat, content: str) -> None:
    one, first = await talk(world, chat, "one")
    with pytest.raises(ValidationFailed) as raised:
        await chat.edit(one, content)
    assert [error.field for error in raised.value.errors] == ["content"]
    assert await shown(chat) == [one, first]


# ---- switching -------------------------------------------------------------------------------------------


async def test_a_switch_shows_the_branch_down_to_its_newest_message(world: World, chat: Chat) -> None:
    one, first, two, second = await talk(world, chat, "one", "two")
    edited = await chat.edit(two, "TWO")
    await chat.end()
    await chat.edit(one, "ONE")
    await chat.end()
    history = await chat.switch(one)
    assert [message.id for message in history.messages] == [one, first, edited.message.id, edited.reply.id]
    for message_id in (two, second):
        assert [message.id for message in (await chat.switch(message_id)).messages] == [one, first, two, second]
    assert (await chat.stored()) == history.conversation


async def test_a_switch_to_what_is_shown_changes_nothing(world: World, chat: Chat) -> None:
    messages = await talk(world, chat, "one", "two")
    world.clock.advance(60)
    before = await chat.stored()
    for message_id in messages:
        assert [message.id for message in (await chat.switch(message_id)).messages] == messages
    assert await chat.stored() == before


async def test_the_next_message_continues_the_branch_that_is_shown(world: World, chat: Chat) -> None:
    one, first, two, _ = await talk(world, chat, "one", "two")
    await chat.edit(two, "TWO")
    await chat.end()
    await chat.switch(two)
    await talk(world, chat, "three")
    assert asked(world) == ["one", "re: one", "two", "re: two", "three"]
    assert (await shown(chat))[:3] == [one, first, two]


async def test_without_a_number_the_last_reply_of_the_branch_that_is_shown_is_written_again(
    world: World, chat: Chat
) -> None:
    one, first, *_ = await talk(world, chat, "one", "two")
    await chat.edit(one, "ONE")
    newest = await chat.end()
    await chat.switch(first)
    await chat.regenerate()
    await chat.end()
    assert asked(world) == ["one", "re: one", "two"]
    assert newest.id not in await shown(chat)


async def test_another_branch_may_be_shown_while_a_reply_is_written(world: World, chat: Chat) -> None:
    one, first = await talk(world, chat, "one")
    stall = Stall()
    world.model.then("Hel", stall, "lo")
    sent = await chat.edit(one, "ONE")
    await stall.reached()
    history = await chat.switch(first)
    assert [message.id for message in history.messages] == [one, first]
    assert history.conversation.writing_reply_id == sent.reply.id
    with pytest.raises(ConversationBusy):
        await chat.send()
    assert (await anext(chat.follow())).reply_id == sent.reply.id
    stall.release()
    reply = await chat.end_of(sent.reply.id)
    assert (reply.content, reply.status) == ("Hello", Status.COMPLETE)
    assert await shown(chat) == [one, first]
    assert [message.content for message in (await chat.switch(reply.id)).messages] == ["ONE", "Hello"]
    await everything_has_ended(chat)


async def test_a_reply_that_is_not_shown_is_stopped_all_the_same(world: World, chat: Chat) -> None:
    one, first = await talk(world, chat, "one")
    stall = Stall()
    world.model.then("Hel", stall)
    sent = await chat.edit(one, "ONE")
    await stall.reached()
    await chat.switch(first)
    stopped = await chat.stop()
    assert (stopped.id, stopped.content, stopped.status) == (sent.reply.id, "Hel", Status.STOPPED)
    assert (await chat.stop()).id == first
    assert await shown(chat) == [one, first]


async def test_the_history_of_a_branch_goes_page_by_page(world: World, chat: Chat) -> None:
    contents = [str(number) for number in range(6)]
    messages = await talk(world, chat, *contents)
    await chat.edit(messages[4], "other")
    await chat.end()
    await talk(world, chat, "more")
    branch = await shown(chat)
    for wanted in (branch, messages):
        await chat.switch(wanted[-1])
        for size in (1, 3, 50):
            seen, before = list[MessageId](), None
            while True:
                page = await world.read_history(owner=chat.owner, conversation_id=chat.id, limit=size, before=before)
                seen = [*(message.id for message in page.messages), *seen]
                if page.next_before_id is None:
                    break
                before = page.next_before_id
            assert seen == wanted


async def test_a_page_is_asked_for_before_any_message_even_one_that_is_not_shown(world: World, chat: Chat) -> None:
    one, first, two, second = await talk(world, chat, "one", "two")
    sent = await chat.edit(two, "TWO")
    await chat.end()
    page = await world.read_history(owner=chat.owner, conversation_id=chat.id, before=second)
    assert [message.id for message in page.messages] == [one, first]
    page = await world.read_history(owner=chat.owner, conversation_id=chat.id, before=sent.reply.id)
    assert [message.id for message in page.messages] == [one, first, sent.message.id]


# ---- what all of them have in common ---------------------------------------------------------------------

Attempt = Callable[[Chat, MessageId], Awaitable[object]]
ATTEMPTS: dict[str, Attempt] = {
    "regenerate": lambda chat, message_id: chat.regenerate(message_id),
    "edit": lambda chat, message_id: chat.edit(message_id),
    "switch": lambda chat, message_id: chat.switch(message_id),
}
attempts = pytest.mark.parametrize("attempt", list(ATTEMPTS.values()), ids=list(ATTEMPTS))


@attempts
async def test_nothing_of_anothers_and_nothing_that_is_missing_is_found(
    world: World, process: Process, chat: Chat, attempt: Attempt
) -> None:
    one, first = await talk(world, chat, "one")
    bob = await world.owner("bob")
    bobs = await process.chat_of(bob)
    (bobs_one, _) = await talk(world, bobs, "bob's")
    elsewhere = await process.chat_of(chat.owner)
    (other, _) = await talk(world, elsewhere, "elsewhere")
    details = set[str]()
    for place in (Chat(process, bob, chat.id), Chat(process, chat.owner, ConversationId(NOWHERE))):
        with pytest.raises(NotFound) as raised:
            await attempt(place, one)
        details.add(raised.value.detail)
    assert details == {"There is no such conversation."}
    details = set[str]()
    for message_id in (bobs_one, other, NOWHERE, MessageId(0), MessageId(2**70)):
        with pytest.raises(NotFound) as raised:
            await attempt(chat, message_id)
        details.add(raised.value.detail)
    assert len(details) == 1
    assert await shown(chat) == [one, first]
    assert await world.unfinished() == []


@attempts
async def test_while_a_reply_is_written_nothing_else_is_asked(world: World, chat: Chat, attempt: Attempt) -> None:
    one, _ = await talk(world, chat, "one")
    stall = Stall()
    world.model.then("Hel", stall, "lo")
    sent = await chat.send("two")
    if attempt is ATTEMPTS["switch"]:
        await attempt(chat, one)
    else:
        for message_id in (one, sent.message.id):
            with pytest.raises(ConversationBusy):
                await attempt(chat, message_id)
        with pytest.raises(ConversationBusy):
            await chat.regenerate()
    stall.release()
    assert (await chat.end()).id == sent.reply.id
    assert (len(await chat.messages()), len(world.model.calls)) == (4, 2)


async def test_of_many_at_once_one_is_answered(world: World, chat: Chat) -> None:
    one, first = await talk(world, chat, "one")
    stall = Stall()
    world.model.then(stall, "lo")
    attempts = [chat.regenerate(), chat.regenerate(first), chat.edit(one), chat.edit(one), chat.send("two")]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    refused = [result for result in results if isinstance(result, ConversationBusy)]
    assert len(refused) == 4
    stall.release()
    await chat.end()
    async with world.storage(read_only=True) as work:
        tree = await work.messages.tree(chat.owner, chat.id)
    assert len(tree) in (3, 4)
    await everything_has_ended(chat)


@pytest.mark.parametrize("what", ["regenerate", "edit"])
async def test_a_request_chooses_as_for_a_message_that_is_sent(world: World, chat: Chat, what: str) -> None:
    one, _ = await talk(world, chat, "one")
    config = await world.config(chat.owner, "chosen")
    await world.config(chat.owner, "newest")
    options = ChatOptions(config_id=config.id, system="Be short.", temperature=0, max_tokens=1)
    sent = await (chat.regenerate(options=options) if what == "regenerate" else chat.edit(one, "one", options))
    await chat.end()
    assert sent.reply.model == world.model.calls[-1].endpoint.model == "chosen"
    assert world.model.calls[-1].prompt == Prompt(
        messages=(PromptMessage(Role.SYSTEM, "Be short."), PromptMessage(Role.USER, "one")),
        temperature=0,
        max_tokens=1,
    )
    for wrong, field in ((ChatOptions(temperature=3), "temperature"), (ChatOptions(max_tokens=0), "max_tokens")):
        with pytest.raises(ValidationFailed) as raised:
            await (chat.regenerate(options=wrong) if what == "regenerate" else chat.edit(one, "one", wrong))
        assert [error.field for error in raised.value.errors] == [field]


@pytest.mark.parametrize("what", ["regenerate", "edit"])
async def test_with_no_model_nothing_changes(world: World, chat: Chat, what: str) -> None:
    one, first, two, second = await talk(world, chat, "one", "two")
    async with world.process(defaults=ChatDefaults()) as process:
        chat = chat.seen_from(process)
        with pytest.raises(ModelNotConfigured):
            await (chat.regenerate(first) if what == "regenerate" else chat.edit(one))
        assert await shown(chat) == [one, first, two, second]
        assert await world.unfinished() == []


@pytest.mark.parametrize("what", ["regenerate", "edit"])
async def test_a_process_that_leaves_takes_none_of_them(world: World, chat: Chat, what: str) -> None:
    one, first = await talk(world, chat, "one")
    await chat.process.replies.drain()
    with pytest.raises(Unavailable, match="shutting down"):
        await (chat.regenerate() if what == "regenerate" else chat.edit(one))
    assert await shown(chat) == [one, first]
    assert await world.unfinished() == []
    assert [message.id for message in (await chat.switch(one)).messages] == [one, first]


@pytest.mark.parametrize("after", range(12))
@pytest.mark.parametrize("what", ["regenerate", "edit", "switch"])
async def test_each_gets_through_where_others_stand_in_its_way(
    world: World, chat: Chat, monkeypatch: pytest.MonkeyPatch, what: str, after: int
) -> None:
    monkeypatch.setattr("chatcore.shielding._FIRST_PAUSE", 0.0)
    one, first, two, second = await talk(world, chat, "one", "two")
    await chat.edit(one, "ONE")
    await chat.end()
    calls = len(world.model.calls)
    world.database.contend(TRIES - 1, after=after)
    if what == "switch":
        assert [message.id for message in (await chat.switch(one)).messages] == [one, first, two, second]
        return
    sent = await (chat.regenerate(second) if what == "regenerate" else chat.edit(two, "two"))
    world.database.contend(0)
    reply = await chat.end()
    assert (reply.id, reply.content) == (sent.reply.id, "Hello world")
    assert await shown(chat) == [one, first, sent.message.id, reply.id]
    siblings = reply.siblings if what == "regenerate" else sent.message.siblings
    assert len(siblings) == 2
    assert len(world.model.calls) == calls + 1
    await everything_has_ended(chat)


@pytest.mark.parametrize("what", ["regenerate", "edit"])
@pytest.mark.parametrize("after", [False, True])
async def test_a_commit_whose_outcome_is_unknown_is_not_tried_again(
    world: World, chat: Chat, what: str, after: bool
) -> None:
    one, _ = await talk(world, chat, "one")
    world.storage.fail_once(after=after)
    with pytest.raises(Unavailable):
        await (chat.regenerate() if what == "regenerate" else chat.edit(one))
    await chat.process.replies.drain()
    last = (await chat.messages())[-1]
    assert last.status is (Status.INTERRUPTED if after else Status.COMPLETE)
    assert len(world.model.calls) == 1
    assert await world.unfinished() == []


async def test_a_long_branch_is_cut_as_any_conversation_is(world: World) -> None:
    limits = PromptLimits(max_messages=3)
    async with world.process(defaults=ChatDefaults(model=SERVER_MODEL, limits=limits)) as process:
        chat = await process.chat()
        *_, two, _, _, _ = await talk(world, chat, "one", "two", "three")
        await chat.regenerate()
        await chat.end()
        assert asked(world) == ["two", "re: two", "three"]
        await chat.edit(two, "TWO")
        await chat.end()
        assert asked(world) == ["one", "re: one", "TWO"]


async def test_only_a_first_message_gives_the_conversation_a_title(world: World) -> None:
    defaults = ChatDefaults(model=SERVER_MODEL, model_titles=True, limits=PromptLimits(max_messages=1))
    async with world.process(defaults=defaults) as process:
        chat = await process.chat()
        await chat.ask("one")
        await chat.ask("two")
        calls = len(world.model.calls)
        await chat.regenerate()
        await chat.end()
        assert len(world.model.calls) == calls + 1


async def test_the_title_stays_when_the_first_message_is_edited(world: World, chat: Chat) -> None:
    one, _ = await talk(world, chat, "one")
    await chat.edit(one, "ONE")
    await chat.end()
    assert (await chat.stored()).title == "one"


async def test_sending_again_under_a_key_gives_the_first_reply_whatever_was_written_since(
    world: World, chat: Chat
) -> None:
    sent = await chat.send("one", key="key")
    first = await chat.end()
    await chat.regenerate()
    second = await chat.end()
    again = await chat.send("one", key="key")
    assert (again.message, again.reply) == (sent.message, first)
    assert again.reply.siblings == (first.id, second.id)
    edited = await chat.edit(sent.message.id, "ONE")
    await chat.end()
    again = await chat.send("one", key="key")
    assert (again.message.id, again.message.siblings) == (sent.message.id, (sent.message.id, edited.message.id))


async def test_a_conversation_with_branches_is_deleted_with_all_of_them(world: World, chat: Chat) -> None:
    one, first, *_ = await talk(world, chat, "one", "two")
    stall = Stall()
    world.model.then("Hel", stall)
    sent = await chat.edit(one, "ONE")
    await stall.reached()
    await chat.switch(first)
    await chat.delete()
    assert await world.unfinished() == []
    async with world.storage(read_only=True) as work:
        for message_id in (one, first, sent.message.id, sent.reply.id):
            assert await work.messages.get(chat.owner, chat.id, message_id) is None
        assert list(await work.messages.tree(chat.owner, chat.id)) == []
    assert await world.log_of(sent.reply) == []


async def test_a_reply_that_is_written_again_by_a_process_that_died_is_ended_by_the_next(world: World) -> None:
    process = await world.process(lease=None).__aenter__()
    chat = await process.chat()
    _, first = await talk(world, chat, "one")
    stall = Stall()
    world.model.then("Hel", stall)
    sent = await chat.regenerate()
    await stall.reached()
    async with world.process(lease=None) as following:
        reply = await chat.seen_from(following).end()
        assert (reply.id, reply.status, reply.siblings) == (sent.reply.id, Status.INTERRUPTED, (first, sent.reply.id))
        await chat.seen_from(following).regenerate()
        assert (await chat.seen_from(following).end()).status is Status.COMPLETE
    await process.__aexit__()
