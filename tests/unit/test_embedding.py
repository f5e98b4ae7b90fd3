"""`Chat`, `Mine` and `ReplyStream`, as an embedding program uses them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from chatcore import Chat, Cursor, Delta, Mine, ReplyDelta, ReplyEnded, ReplyStarted, Status, Usage
from chatcore.errors import ModelUnavailable, NotFound, Unauthenticated, Unavailable, ValidationFailed
from chatcore_memory import HandClock, MemoryDatabase, ScriptedModel, Stall
from chatcore_testing import finished, kill
from unit.world import SERVER_MODEL


@pytest.fixture
def database() -> MemoryDatabase:
    return MemoryDatabase(HandClock())


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel("Hel", "lo 🌈")


@pytest.fixture
async def chat(database: MemoryDatabase, model: ScriptedModel) -> AsyncIterator[Chat]:
    async with Chat(store=database, gateway=model, model=SERVER_MODEL) as chat:
        yield chat


@pytest.fixture
async def me(chat: Chat) -> Mine:
    return await chat.of("alice")


async def test_a_round_trip(me: Mine) -> None:
    sent = await me.send("Hello?")
    assert "".join([piece async for piece in (await me.reply(sent.conversation_id)).text()]) == "Hello 🌈"
    ended = await (await me.reply(sent.conversation_id)).ended()
    assert (ended.id, ended.content) == (sent.reply.id, "Hello 🌈")
    assert [message.content for message in (await me.history(sent.conversation_id)).messages] == ["Hello?", "Hello 🌈"]
    assert [one.id for one in (await me.conversations()).items] == [sent.conversation_id]


async def test_a_user_is_who_the_program_says(chat: Chat) -> None:
    one, again, other = await chat.of("alice"), await chat.of("alice"), await chat.of("alice", tenant="acme")
    assert one.by == again.by
    assert one.by.owner != other.by.owner
    sent = await one.send("Hello?")
    with pytest.raises(NotFound):
        await other.history(sent.conversation_id)
    with pytest.raises(NotFound):
        await other.reply(sent.conversation_id)


@pytest.mark.parametrize("user", ["", "x" * 256])
async def test_a_user_has_1_to_255_characters(chat: Chat, user: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        await chat.of(user)
    assert [broken.field for broken in refused.value.errors] == ["user"]


async def test_one_who_is_forgotten_leaves_nothing(chat: Chat, model: ScriptedModel) -> None:
    stall, me = Stall(), await chat.of("alice")
    model.then("Hel", stall)
    sent = await me.send("Hello?")
    await stall.reached()
    assert await chat.forget("alice")
    assert model.calls[-1].ending == "closed"
    assert not await chat.forget("alice")
    with pytest.raises(Unauthenticated):
        await me.send("Still here?")
    anew = await chat.of("alice")
    assert (await anew.conversations()).items == []
    with pytest.raises(NotFound):
        await anew.history(sent.conversation_id)


async def test_a_stream_is_refused_before_it_begins(me: Mine) -> None:
    with pytest.raises(NotFound):
        await me.reply(4711)
    empty = await me.create()
    with pytest.raises(NotFound, match="No reply was ever written"):
        await me.reply(empty.id)
    sent = await me.send("Hello?")
    with pytest.raises(NotFound):
        await me.reply(sent.conversation_id, after=Cursor(sent.message.id, 0))
    with pytest.raises(ValidationFailed):
        await me.reply(sent.conversation_id, after=-1)


@pytest.mark.parametrize("wrong", ["7", 7.0, True, None, b"7"])
async def test_an_id_of_another_type_is_an_error_with_a_name(me: Mine, wrong: object) -> None:
    with pytest.raises(ValidationFailed) as refused:
        await me.history(wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert [broken.field for broken in refused.value.errors] == ["conversation"]


@pytest.mark.parametrize("seen", range(9))
async def test_what_was_read_and_what_follows_are_the_whole(me: Mine, seen: int) -> None:
    sent = await me.send("Hello?")
    before, cursor = "", Cursor(sent.reply.id, 0)
    async with aclosing(await me.reply(sent.conversation_id)) as stream:
        async for event in stream:
            before += event.text if isinstance(event, ReplyDelta) else ""
            cursor = event.cursor
            assert stream.cursor == cursor
            if cursor.offset >= seen:
                break
    stream = await me.reply(sent.conversation_id, after=Cursor.parse(str(cursor)))
    assert before + "".join([piece async for piece in stream.text()]) == "Hello 🌈"
    by_number = await me.reply(sent.conversation_id, after=min(seen, 7))
    assert "Hello 🌈"[:seen] + "".join([piece async for piece in by_number.text()]) == "Hello 🌈"


def test_a_cursor_is_read_and_written() -> None:
    assert Cursor.parse("64:72") == Cursor.parse(" 64:72 ") == (64, 72)
    assert str(Cursor.parse("64:72")) == "64:72"
    assert Cursor.parse(None) is None


@pytest.mark.parametrize("text", ["", "64", "64:", "a:b", "-1:2", "6４:72", "9" * 19 + ":1", "1:2" * 1000])
def test_a_cursor_that_is_none(text: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        Cursor.parse(text)
    assert refused.value.errors[0].field == "Last-Event-ID"


async def test_events_as_sse_and_as_lines(me: Mine) -> None:
    sent = await me.send("Hello?")
    await (await me.reply(sent.conversation_id)).ended()
    frames = b"".join([frame async for frame in (await me.reply(sent.conversation_id, after=3)).sse()])
    lines = b"".join([line async for line in (await me.reply(sent.conversation_id, after=3)).ndjson()])
    shown = [json.loads(line) for line in lines.splitlines()]
    assert [each["type"] for each in shown] == ["reply.started", "reply.delta", "reply.completed"]
    assert shown[1]["text"] == "lo 🌈"
    assert [json.loads(frame.split("data: ")[1]) for frame in frames.decode().strip().split("\n\n")] == shown
    ids = [line[4:] for line in frames.decode().splitlines() if line.startswith("id: ")]
    assert ids == [f"{sent.reply.id}:{offset}" for offset in (3, 7, 7)]


async def test_readers_are_closed_and_the_reply_goes_on(chat: Chat, me: Mine, model: ScriptedModel) -> None:
    stall = Stall()
    model.then("Hel", stall, "lo")
    sent = await me.send("Hello?")
    events, frames = await me.reply(sent.conversation_id), await me.reply(sent.conversation_id)
    assert isinstance(await anext(events), ReplyStarted)
    assert isinstance(await anext(events), ReplyDelta)
    waiting, told = asyncio.create_task(anext(events)), asyncio.create_task(_all(frames.sse()))
    await stall.reached()
    await asyncio.sleep(0)
    chat.close_readers()
    with pytest.raises(Unavailable):
        await waiting
    assert (await told)[-1].startswith(b": ")
    with pytest.raises(Unavailable):
        await me.reply(sent.conversation_id)
    stall.release()
    stored = await me.stop(sent.conversation_id)
    assert "Hello".startswith(stored.content)


async def test_one_that_is_abandoned_stores_nothing_more(database: MemoryDatabase, model: ScriptedModel) -> None:
    stall = Stall()
    model.then("Hel", stall, "lo")
    async with (
        Chat(store=database, gateway=model, model=SERVER_MODEL, lease=60) as dying,
        Chat(store=database, gateway=model, lease=60) as other,
    ):
        me = await dying.of("alice")
        sent = await me.send("Hello?")
        events = await me.reply(sent.conversation_id)
        await stall.reached()
        await kill(dying)
        stall.release()
        assert model.calls[-1].ending == "closed"
        with pytest.raises(Unavailable):
            await finished(events)
        with pytest.raises(Unavailable):
            await me.send("More")
        ended = await finished(await (await other.of("alice")).reply(sent.conversation_id))
        assert ended.status is Status.INTERRUPTED
        assert "Hel".startswith(ended.content)


async def _all(frames: AsyncIterator[bytes]) -> list[bytes]:
    return [frame async for frame in frames]


async def test_branches_titles_and_stops(me: Mine, model: ScriptedModel) -> None:
    sent = await me.send("Hello?")
    await (await me.reply(sent.conversation_id)).ended()
    again = await me.regenerate(sent.conversation_id)
    assert again.message == sent.message
    await (await me.reply(sent.conversation_id)).ended()
    edited = await me.edit(sent.conversation_id, sent.message.id, "Hi?")
    ended = await (await me.reply(sent.conversation_id)).ended()
    assert ended.id == edited.reply.id
    assert (await me.switch(sent.conversation_id, sent.message.id)).messages[0] == sent.message
    assert (await me.rename(sent.conversation_id, "Greetings")).title == "Greetings"
    assert [hit.conversation.title for hit in (await me.search("hello")).hits] != []
    stall = Stall()
    model.then("Hel", stall)
    await me.send("More", to=sent.conversation_id)
    await stall.reached()
    assert (await me.stop(sent.conversation_id)).content == "Hel"
    await me.delete(sent.conversation_id)
    assert (await me.conversations()).items == []


async def test_a_send_with_a_key_is_sent_once(me: Mine) -> None:
    conversation = await me.create(title="Mine")
    first = await me.send("Hello?", to=conversation.id, key="1")
    await (await me.reply(conversation.id)).ended()
    again = await me.send("Hello?", to=conversation.id, key="1")
    assert (first.message.id, first.reply.id) == (again.message.id, again.reply.id)


async def test_what_one_exports_is_all_and_no_account(me: Mine) -> None:
    sent = await me.send("Hello?")
    await (await me.reply(sent.conversation_id)).ended()
    kinds = [type(thing).__name__ async for thing in me.export()]
    assert kinds == ["OwnConversation", "Message", "Message"]


async def test_the_last_event_is_the_stored_reply(me: Mine) -> None:
    sent = await me.send("Hello?")
    events = [event async for event in await me.reply(sent.conversation_id)]
    last = events[-1]
    assert isinstance(last, ReplyEnded)
    assert last.message == (await me.history(sent.conversation_id)).messages[-1]


async def test_without_a_cipher_there_are_no_own_endpoints(chat: Chat, me: Mine) -> None:
    with pytest.raises(LookupError, match=r"Chat\(cipher="):
        await chat.use_cases.create_model_config(
            by=me.by, model_url="https://models.test/v1", model_name="m", api_key="sk-1234567890"
        )


async def test_a_reply_that_was_cut_short_has_an_estimate_of_its_usage(me: Mine, model: ScriptedModel) -> None:
    stall = Stall()
    model.then("Hello 🌈", stall)
    sent = await me.send("Hello?")
    await stall.reached()
    stopped = await me.stop(sent.conversation_id)
    assert stopped.usage == Usage(prompt_tokens=2, completion_tokens=3, total_tokens=5, estimated=True)
    model.then("Hel", ModelUnavailable())
    await me.send("Again?", to=sent.conversation_id)
    failed = await (await me.reply(sent.conversation_id)).ended()
    assert failed.usage is not None
    assert failed.usage.estimated
    counted = Usage(prompt_tokens=7, completion_tokens=7, total_tokens=14)
    model.then(Delta(text="Hel", usage=counted), ModelUnavailable())
    await me.send("Once more?", to=sent.conversation_id)
    assert (await (await me.reply(sent.conversation_id)).ended()).usage == counted
    model.then(ModelUnavailable())
    await me.send("And now?", to=sent.conversation_id)
    assert (await (await me.reply(sent.conversation_id)).ended()).usage is None  # it said nothing


async def test_a_chat_is_open_once_at_a_time_and_may_be_opened_again(
    database: MemoryDatabase, model: ScriptedModel
) -> None:
    chat = Chat(store=database, gateway=model, model=SERVER_MODEL)
    with pytest.raises(RuntimeError, match="not open"):
        await chat.of("alice")
    for _ in range(2):
        async with chat:
            with pytest.raises(RuntimeError, match="open already"):
                await chat.__aenter__()
            me = await chat.of("alice")
            sent = await me.send("Hello?")
            assert (await (await me.reply(sent.conversation_id)).ended()).content == "Hello 🌈"
            chat.close_readers()


async def test_the_end_is_known_after_any_form(me: Mine) -> None:
    sent = await me.send("Hello?")
    stream = await me.reply(sent.conversation_id)
    assert "".join([piece async for piece in stream.text()]) == "Hello 🌈"
    assert (await stream.ended()).id == sent.reply.id
    closed = await me.reply(sent.conversation_id)
    await closed.aclose()
    with pytest.raises(RuntimeError, match="closed before"):
        await closed.ended()


@pytest.mark.parametrize("wrong", [None, 7, b"Hello?"])
async def test_what_is_no_text_is_refused_with_its_name(chat: Chat, me: Mine, wrong: Any) -> None:
    for field, call in (("user", chat.of(wrong)), ("content", me.send(wrong)), ("title", me.rename(1, wrong))):
        with pytest.raises(ValidationFailed) as refused:
            await call
        assert [broken.field for broken in refused.value.errors] == [field]
    assert (await me.conversations()).items == []


async def test_nothing_is_before_the_first_message(me: Mine) -> None:
    sent = await me.send("Hello?")
    await (await me.reply(sent.conversation_id)).ended()
    assert list((await me.history(sent.conversation_id, before=sent.message.id)).messages) == []
    assert [one.id for one in (await me.history(sent.conversation_id, before=sent.reply.id)).messages] == [
        sent.message.id
    ]
