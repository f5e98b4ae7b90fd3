"""Conversations and their history."""

from dataclasses import replace

import pytest

from chatcore import ConversationId, MessageId, UserId, Vouched
from chatcore.errors import NotFound, ValidationFailed
from chatcore_memory import Stall
from unit.world import Chat, Process, World

NOWHERE = ConversationId(999_999)


@pytest.fixture
async def ada(world: World) -> UserId:
    return await world.owner("ada")


# ---- lists -----------------------------------------------------------------------------------------------


async def test_a_conversation_begins_empty(world: World, ada: UserId) -> None:
    config = await world.config(ada)
    conversation = await world.create_conversation(by=Vouched(ada), title="Plans 🦄", config_id=config.id)
    assert (conversation.user_id, conversation.title, conversation.config_id) == (ada, "Plans 🦄", config.id)
    assert conversation.created_at == conversation.updated_at == world.clock.now()
    history = await world.read_history(owner=ada, conversation_id=conversation.id)
    assert (history.conversation, history.messages, history.next_before_id) == (conversation, [], None)


@pytest.mark.parametrize("title", ["", "  ", "x" * 201, "a\0b", "\ud800"])
async def test_a_title_that_breaks_the_rule_is_refused(world: World, ada: UserId, title: str) -> None:
    with pytest.raises(ValidationFailed) as raised:
        await world.create_conversation(by=Vouched(ada), title=title)
    assert [error.field for error in raised.value.errors] == ["title"]
    assert (await world.list_conversations(owner=ada)).items == []


async def test_a_title_has_at_most_200_characters(world: World, ada: UserId) -> None:
    assert (await world.create_conversation(by=Vouched(ada), title="🦄" * 200)).title == "🦄" * 200


@pytest.mark.parametrize(
    ("limit", "offset", "numbers", "has_more"),
    [
        (20, 0, [4, 3, 2, 1, 0], False),
        (5, 0, [4, 3, 2, 1, 0], False),
        (4, 0, [4, 3, 2, 1], True),
        (2, 2, [2, 1], True),
        (2, 3, [1, 0], False),
        (1, 4, [0], False),
        (100, 5, [], False),
        (1, 10**6, [], False),
    ],
)
async def test_a_list_goes_page_by_page(
    world: World, ada: UserId, limit: int, offset: int, numbers: list[int], has_more: bool
) -> None:
    for number in range(5):
        world.clock.advance(1)
        await world.create_conversation(by=Vouched(ada), title=str(number))
    page = await world.list_conversations(owner=ada, limit=limit, offset=offset)
    assert [int(conversation.title) for conversation in page.items] == numbers
    assert page.has_more is has_more


@pytest.mark.parametrize(
    ("limit", "offset", "fields"),
    [
        (0, 0, ["limit"]),
        (101, 0, ["limit"]),
        (20, -1, ["offset"]),
        (20, 10**6 + 1, ["offset"]),
        (-1, -1, ["limit", "offset"]),
    ],
)
async def test_a_list_has_bounds(world: World, ada: UserId, limit: int, offset: int, fields: list[str]) -> None:
    with pytest.raises(ValidationFailed) as raised:
        await world.list_conversations(owner=ada, limit=limit, offset=offset)
    assert [error.field for error in raised.value.errors] == fields


async def test_what_was_talked_in_last_comes_first(world: World, process: Process) -> None:
    first = await process.chat()
    world.clock.advance(1)
    second = await world.create_conversation(by=Vouched(first.owner))
    world.clock.advance(1)
    await first.ask()
    page = await world.list_conversations(owner=first.owner)
    assert [conversation.id for conversation in page.items] == [first.id, second.id]


# ---- renaming --------------------------------------------------------------------------------------------


async def test_a_conversation_is_renamed_and_stays_where_it_is(world: World, ada: UserId) -> None:
    first = await world.create_conversation(by=Vouched(ada))
    world.clock.advance(1)
    second = await world.create_conversation(by=Vouched(ada), title="Second")
    world.clock.advance(1)
    renamed = await world.rename_conversation(by=Vouched(ada), conversation_id=first.id, title="Plans 🦄 ")
    assert renamed == replace(first, title="Plans 🦄 ", titled_by_user=True)
    assert (await world.list_conversations(owner=ada)).items == [second, renamed]
    again = await world.rename_conversation(by=Vouched(ada), conversation_id=first.id, title="🦄" * 200)
    assert again == replace(renamed, title="🦄" * 200)


@pytest.mark.parametrize("title", ["", "  ", "x" * 201, "a\0b", "\ud800"])
async def test_a_new_title_keeps_the_rule(world: World, ada: UserId, title: str) -> None:
    conversation = await world.create_conversation(by=Vouched(ada), title="Mine")
    with pytest.raises(ValidationFailed) as raised:
        await world.rename_conversation(by=Vouched(ada), conversation_id=conversation.id, title=title)
    assert [error.field for error in raised.value.errors] == ["title"]
    assert (await world.list_conversations(owner=ada)).items == [conversation]


async def test_a_conversation_may_be_renamed_while_it_is_answered(world: World, process: Process, chat: Chat) -> None:
    stall = Stall()
    world.model.then("Hel", stall, "lo")
    await chat.send()
    renamed = await chat.rename("Mine")
    assert renamed.writing_reply_id is not None
    stall.release()
    assert (await chat.end()).content == "Hello"
    assert (await chat.stored()).title == "Mine"


# ---- history ---------------------------------------------------------------------------------------------


async def test_the_history_goes_back_page_by_page(world: World, chat: Chat) -> None:
    for number in range(4):
        await chat.ask(str(number))
    whole = list(await chat.messages())
    assert [message.content for message in whole[::2]] == ["0", "1", "2", "3"]
    pages: list[list[MessageId]] = []
    before: MessageId | None = None
    while before is not None or not pages:
        page = await world.read_history(owner=chat.owner, conversation_id=chat.id, limit=3, before=before)
        pages.append([message.id for message in page.messages])
        before = page.next_before_id
    ids = [message.id for message in whole]
    assert pages == [ids[5:], ids[2:5], ids[:2]]


async def test_a_page_that_fits_is_the_last(world: World, chat: Chat) -> None:
    await chat.ask()
    page = await world.read_history(owner=chat.owner, conversation_id=chat.id, limit=2)
    assert (len(page.messages), page.next_before_id) == (2, None)


@pytest.mark.parametrize("limit", [0, 201, -1])
async def test_a_page_has_bounds(world: World, chat: Chat, limit: int) -> None:
    with pytest.raises(ValidationFailed) as raised:
        await world.read_history(owner=chat.owner, conversation_id=chat.id, limit=limit)
    assert [error.field for error in raised.value.errors] == ["limit"]


# ---- whose they are --------------------------------------------------------------------------------------


async def test_nobody_sees_anothers(world: World, process: Process, chat: Chat) -> None:
    await chat.ask()
    bob = await world.owner("bob")
    assert (await world.list_conversations(owner=bob)).items == []
    details: set[str] = set()
    for conversation_id in (chat.id, NOWHERE):
        strangers = Chat(process, bob, conversation_id)
        for attempt in (
            strangers.messages,
            strangers.send,
            strangers.end,
            strangers.stop,
            strangers.delete,
            strangers.rename,
        ):
            with pytest.raises(NotFound) as raised:
                await attempt()
            details.add(raised.value.detail)
    assert details == {"There is no such conversation."}
    assert len(await chat.messages()) == 2


async def test_a_reply_is_read_only_in_its_own_conversation(world: World, process: Process, chat: Chat) -> None:
    reply = await chat.ask()
    sent_to = await chat.messages()
    mine = Chat(process, chat.owner, (await world.create_conversation(by=Vouched(chat.owner))).id)
    for elsewhere, reply_id in ((mine, reply.id), (chat, sent_to[0].id), (chat, MessageId(999_999))):
        with pytest.raises(NotFound, match="reply"):
            await anext(elsewhere.follow(reply_id=reply_id))


async def test_a_deleted_conversation_is_gone(world: World, chat: Chat) -> None:
    reply = await chat.ask()
    await chat.delete()
    assert (await world.list_conversations(owner=chat.owner)).items == []
    for attempt in (chat.messages, chat.send, chat.end, chat.stop, chat.delete, chat.rename):
        with pytest.raises(NotFound):
            await attempt()
    async with world.storage(read_only=True) as work:
        assert await work.messages.get(chat.owner, chat.id, reply.id) is None


# ---- by cursor -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", range(6))
@pytest.mark.parametrize("limit", [1, 2, 4])
async def test_one_that_is_used_between_two_pages_is_neither_missed_nor_shown_twice(
    world: World, used: int, limit: int
) -> None:
    """Wherever it is, and however often it is used."""
    ada = await world.owner("ada")
    made = list[ConversationId]()
    for number in range(6):
        made.append((await world.create_conversation(by=Vouched(ada), title=str(number))).id)
        world.clock.advance(1)
    seen, cursor = list[str](), None
    while True:
        page = await world.list_conversations(owner=ada, limit=limit, cursor=cursor)
        seen += [item.title for item in page.items]
        assert page.has_more == (page.next is not None)
        if (cursor := page.next) is None:
            break
        async with world.storage() as work:
            await work.conversations.touch(ada, made[used], now=world.clock.now())
            await work.commit()
        world.clock.advance(1)
        await world.create_conversation(by=Vouched(ada), title="begun meanwhile")
        world.clock.advance(1)
    assert seen == ["5", "4", "3", "2", "1", "0"]
