"""Sending again under the same key: the same answer, and nothing is sent twice."""

import asyncio
from dataclasses import dataclass

import pytest

from chatcore import ChatOptions, Earlier, Message, Role, Sent, Status, Vouched
from chatcore.errors import ConversationBusy, IdempotencyKeyReused, NotFound, Unavailable, ValidationFailed
from chatcore.ports import Delta
from chatcore.use_cases.sending import _digest
from chatcore_memory import Stall
from unit.world import LAST_STEP, Chat, Process, World, at_every_step, step

DAY = 86_400


async def test_ten_at_once_send_one_message_and_get_ten_equal_answers(world: World, chat: Chat) -> None:
    stall = Stall()
    world.model.then("Hel", stall, "lo")
    answers = await asyncio.gather(*(chat.send("Hello?", key="key") for _ in range(10)))
    assert all(answer == answers[0] for answer in answers)
    stall.release()
    reply = await chat.end()
    assert (reply.id, reply.content) == (answers[0].reply.id, "Hello")
    assert await chat.messages() == [answers[0].message, reply]
    assert len(world.model.calls) == 1


@dataclass(frozen=True)
class LaterOptions(ChatOptions):
    """Those of a later version."""

    voice: str | None = None


def test_what_is_remembered_of_a_send_is_the_same_for_a_later_version() -> None:
    """Else a client that sends again while servers are replaced gets an error."""
    remembered = "1b5dcfd8"
    assert _digest("Hello?", ChatOptions(system="Be brief.", temperature=0.5)).hex()[:8] == remembered
    assert _digest("Hello?", LaterOptions(system="Be brief.", temperature=0.5)).hex()[:8] == remembered
    assert _digest("Hello?", LaterOptions(system="Be brief.", temperature=0.5, voice="low")).hex()[:8] != remembered


@at_every_step
async def test_a_second_send_may_come_at_any_moment(world: World, process: Process, chat: Chat, steps: int) -> None:
    sending = asyncio.create_task(chat.send(key="key"))
    await step(steps)
    again = await chat.send(key="key")
    first = await sending
    assert (again.message, again.reply.id) == (first.message, first.reply.id)
    assert (await chat.end()).content == "Hello world"
    assert (len(await chat.messages()), len(world.model.calls), process.replies.writing_now) == (2, 1, 0)


async def test_after_the_end_the_answer_is_the_whole_reply(world: World, chat: Chat) -> None:
    sent = await chat.send(key="key")
    reply = await chat.end()
    await chat.ask("Another thing")
    assert await chat.send(key="key") == Sent(sent.message, reply)
    assert len(await chat.messages()) == 4


async def test_who_sends_again_reads_what_is_still_being_written(world: World, chat: Chat) -> None:
    stall = Stall()
    world.model.then(Delta(reasoning="Hm"), "Hel", stall, "lo")
    await chat.send(key="key")
    await stall.reached()
    again = await chat.send(key="key")
    assert again.reply.status is Status.WRITING
    stall.release()
    events = [event async for event in chat.follow(reply_id=again.reply.id)]
    assert events[-1].offset == len("HmHello")


# ---- other things under the same key ---------------------------------------------------------------------

OTHERS = {
    "content": ("Hello!", ChatOptions()),
    "space": ("Hello? ", ChatOptions()),
    "system": ("Hello?", ChatOptions(system="Be kind.")),
    "empty system": ("Hello?", ChatOptions(system="")),
    "temperature": ("Hello?", ChatOptions(temperature=0)),
    "max_tokens": ("Hello?", ChatOptions(max_tokens=1)),
}


@pytest.mark.parametrize(("content", "options"), list(OTHERS.values()), ids=list(OTHERS))
@pytest.mark.parametrize("busy", [True, False])
async def test_something_else_under_the_same_key_is_refused(
    world: World, chat: Chat, content: str, options: ChatOptions, busy: bool
) -> None:
    stall = Stall()
    world.model.then(stall)
    sent = await chat.send("Hello?", key="key")
    if not busy:
        stall.release()
        await chat.end()
    with pytest.raises(IdempotencyKeyReused):
        await chat.send(content, options, key="key")
    stall.release()
    await chat.end()
    assert (await chat.messages())[0] == sent.message
    assert (len(await chat.messages()), len(world.model.calls)) == (2, 1)


async def test_another_model_under_the_same_key_is_refused(world: World, chat: Chat) -> None:
    first, second = [await world.config(chat.owner, name) for name in ("first", "second")]
    await chat.send(options=ChatOptions(config_id=first.id), key="key")
    for options in (ChatOptions(config_id=second.id), ChatOptions()):
        with pytest.raises(IdempotencyKeyReused):
            await chat.send(options=options, key="key")
    assert (await chat.send(options=ChatOptions(config_id=first.id), key="key")).reply.model == "first"


async def test_the_same_options_are_the_same(chat: Chat) -> None:
    options = ChatOptions(system="Be kind.", temperature=0.5, max_tokens=7)
    sent = await chat.send("🦄\r\n'\"", options, key="key")
    again = ChatOptions(system="Be kind.", temperature=0.5, max_tokens=7)
    assert (await chat.send("🦄\r\n'\"", again, key="key")).message == sent.message


# ---- where the key is looked at --------------------------------------------------------------------------


async def test_the_key_is_looked_at_before_the_conversation_is_found_busy(world: World, chat: Chat) -> None:
    stall = Stall()
    world.model.then(stall)
    sent = await chat.send(key="key")
    await stall.reached()
    assert await chat.send(key="key") == sent
    for key in ("another", "KEY", "key ", None):
        with pytest.raises(ConversationBusy):
            await chat.send(key=key)
    stall.release()
    await chat.end()
    assert (await chat.send(key="another")).message.id != sent.message.id


async def test_the_answer_does_not_depend_on_the_model_any_more(world: World, chat: Chat) -> None:
    config = await world.config(chat.owner)
    options = ChatOptions(config_id=config.id)
    sent = await chat.send(options=options, key="key")
    await chat.end()
    await world.delete_model_config(by=Vouched(chat.owner), config_id=config.id)
    assert (await chat.send(options=options, key="key")).message == sent.message
    with pytest.raises(NotFound):
        await chat.send(options=options, key="another")


async def test_a_process_that_shuts_down_still_knows_the_answer(world: World, process: Process, chat: Chat) -> None:
    sent = await chat.send(key="key")
    reply = await chat.end()
    async with world.process() as other:
        pass
    elsewhere = chat.seen_from(other)
    assert await elsewhere.send(key="key") == Sent(sent.message, reply)
    with pytest.raises(Unavailable):
        await elsewhere.send(key="another")


async def test_each_conversation_has_keys_of_its_own(world: World, process: Process, chat: Chat) -> None:
    mine, bobs = await process.chat_of(chat.owner), await process.chat("bob")
    sent = [await each.send(str(each.id), key="key") for each in (chat, mine, bobs)]
    assert len({each.message.id for each in sent}) == len(world.model.calls) == 3


async def test_without_a_key_nothing_is_the_same(world: World, chat: Chat) -> None:
    for _ in range(2):
        await chat.ask("Hello?")
    assert (len(await chat.messages()), len(world.model.calls)) == (4, 2)


# ---- for how long ----------------------------------------------------------------------------------------


async def test_a_key_is_kept_for_24_hours(world: World, chat: Chat) -> None:
    sent = await chat.send(key="key")
    reply = await chat.end()
    world.clock.advance(DAY)
    assert await chat.send(key="key") == Sent(sent.message, reply)
    with pytest.raises(IdempotencyKeyReused):
        await chat.send("Another thing", key="key")

    world.clock.advance(0.000_001)
    other = await chat.send("Another thing", key="key")
    await chat.end()
    assert other.message.id != sent.message.id
    assert (await chat.send("Another thing", key="key")).message == other.message
    with pytest.raises(IdempotencyKeyReused):
        await chat.send(key="key")
    assert len(await chat.messages()) == 4


async def test_a_send_that_failed_leaves_the_key_free(world: World, chat: Chat) -> None:
    world.storage.fail_once(after=False)
    with pytest.raises(Unavailable):
        await chat.send("Hello?", key="key")
    assert (await chat.send("Something else", key="key")).message.content == "Something else"
    assert (await chat.end()).content == "Hello world"
    assert len(await chat.messages()) == 2


async def test_a_send_whose_answer_was_lost_is_not_sent_again(world: World, chat: Chat) -> None:
    world.storage.fail_once(after=True)
    with pytest.raises(Unavailable):
        await chat.send(key="key")
    again = await chat.send(key="key")
    await step(LAST_STEP)
    assert (await chat.messages())[0] == again.message
    assert (await chat.end()).status is Status.INTERRUPTED
    assert (len(await chat.messages()), world.model.calls) == (2, [])


@pytest.mark.parametrize("key", ["", "  ", "x" * 256, "a\0b", "\ud800"])
async def test_a_key_that_breaks_the_rule_is_refused(world: World, chat: Chat, key: str) -> None:
    with pytest.raises(ValidationFailed) as raised:
        await chat.send(key=key)
    assert [error.field for error in raised.value.errors] == ["idempotency_key"]
    assert (await chat.messages(), world.model.calls) == ([], [])


async def test_the_longest_key_holds(chat: Chat) -> None:
    sent = await chat.send(key="🦄" * 255)
    assert (await chat.send(key="🦄" * 255)).message == sent.message


# ---- keys of clients without a conversation --------------------------------------------------------------


async def begin(process: Process, chat: Chat, *earlier: Earlier, content: str = "Hello?") -> Sent:
    return await process.send_message(
        by=chat.by,
        conversation_id=None,
        client_id="response key",
        begins=True,
        content=content,
        earlier=earlier,
        idempotency_key="key",
    )


async def test_what_came_before_is_part_of_the_message(process: Process, chat: Chat) -> None:
    mine = Earlier(Role.USER, "I am Ada.")
    sent = await begin(process, chat, mine)
    assert await begin(process, chat, mine) == sent
    for other in ([], [Earlier(Role.USER, "I am Zoe.")], [Earlier(Role.SYSTEM, "I am Ada.")], [mine, mine]):
        with pytest.raises(IdempotencyKeyReused):
            await begin(process, chat, *other)


async def test_so_is_the_message_that_it_continues(process: Process, chat: Chat) -> None:
    first, second = await chat.ask(), await chat.ask()

    async def after(message: Message) -> Sent:
        return await process.send_message(
            by=chat.by, conversation_id=chat.id, content="And?", after=message.id, idempotency_key="key"
        )

    sent = await after(first)
    await chat.end()
    assert (await after(first)).message == sent.message
    with pytest.raises(IdempotencyKeyReused):
        await after(second)


async def test_an_old_key_does_not_continue_the_conversation_that_it_began(
    world: World, process: Process, chat: Chat
) -> None:
    await begin(process, chat)
    world.clock.advance(DAY + 1)
    with pytest.raises(IdempotencyKeyReused):
        await begin(process, chat, content="Something else?")
    assert len(world.model.calls) <= 1


@pytest.mark.parametrize("with_question", [True, False])
async def test_what_was_deleted_does_not_come_back_by_its_key(
    process: Process, chat: Chat, with_question: bool
) -> None:
    sent = await chat.send(key="key")
    await chat.end()
    await process.erase_message(
        by=chat.by, conversation_id=chat.id, message_id=sent.reply.id, with_question=with_question
    )
    with pytest.raises(NotFound, match="was deleted"):
        await chat.send(key="key")
