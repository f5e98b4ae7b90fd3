"""`SyncChat`: chatcore in a program with threads."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from chatcore import Chat, Cursor, ReplyDelta, ReplyEnded, SyncChat, SyncMine
from chatcore.errors import NotFound, Unavailable
from chatcore_memory import MemoryDatabase, ScriptedModel
from unit.world import SERVER_MODEL


@pytest.fixture
def chat() -> Iterator[SyncChat]:
    with SyncChat(Chat(store=MemoryDatabase(), gateway=ScriptedModel("Hel", "lo"), model=SERVER_MODEL)) as chat:
        yield chat


@pytest.fixture
def me(chat: SyncChat) -> SyncMine:
    return chat.of("alice")


def test_a_round_trip(me: SyncMine) -> None:
    sent = me.send("Hello?")
    assert "".join(me.reply(sent.conversation_id).text()) == "Hello"
    events = list(me.reply(sent.conversation_id, after=Cursor(sent.reply.id, 3)))
    assert [event.text for event in events if isinstance(event, ReplyDelta)] == ["lo"]
    assert isinstance(events[-1], ReplyEnded)
    assert me.reply(sent.conversation_id).ended().content == "Hello"
    assert b"".join(me.reply(sent.conversation_id).sse()).startswith(b"event: reply.started\n")
    assert b"".join(me.reply(sent.conversation_id).ndjson()).count(b"\n") == 3
    assert me.stop(sent.conversation_id).content == "Hello"
    assert [message.content for message in me.history(sent.conversation_id).messages] == ["Hello?", "Hello"]
    assert len(list(me.export())) == 3


def test_errors_are_raised_where_they_belong(me: SyncMine) -> None:
    with pytest.raises(NotFound):
        me.reply(4711)
    with pytest.raises(NotFound):
        me.history(4711)


def test_a_stream_may_be_left(me: SyncMine) -> None:
    sent = me.send("Hello?")
    stream = me.reply(sent.conversation_id)
    next(stream)
    assert stream.cursor == (sent.reply.id, 0)
    stream.close()
    with pytest.raises(StopIteration):
        next(stream)


def test_many_threads_at_once(chat: SyncChat) -> None:
    def talk(number: int) -> str:
        me = chat.of(f"user {number}")
        return "".join(me.reply(me.send("Hello?").conversation_id).text())

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(talk, range(50))) == ["Hello"] * 50


def test_one_that_cannot_be_opened_leaves_no_thread() -> None:
    database = MemoryDatabase()
    chat = SyncChat(Chat(store=database, gateway=ScriptedModel(), model=SERVER_MODEL))
    with database.outage(), pytest.raises(Unavailable):
        chat.__enter__()
    assert chat._loop._thread is None


def test_what_is_forgotten(chat: SyncChat, me: SyncMine) -> None:
    me.send("Hello?")
    assert chat.forget("alice")
    assert not chat.forget("alice")
    assert chat.of("alice").conversations().items == []


def test_what_is_not_open_says_so() -> None:
    chat = SyncChat(Chat(store=MemoryDatabase(), gateway=ScriptedModel("Hello"), model=SERVER_MODEL))
    with pytest.raises(RuntimeError, match="is not open"):
        chat.of("alice")
    for _ in range(2):  # it may be opened again
        with chat:
            assert chat.of("alice").conversations().has_more is False
        with pytest.raises(RuntimeError, match="is not open"):
            chat.of("alice")


def test_a_stream_that_the_collector_finds_on_the_loop_is_closed(chat: SyncChat, me: SyncMine) -> None:
    sent = me.send("Hello?")
    left = [me.reply(sent.conversation_id)]
    next(left[0])

    async def forget() -> None:
        left.clear()

    chat.run(forget())
    assert me.reply(sent.conversation_id).ended().content == "Hello"
    with pytest.raises(RuntimeError, match="other threads"):
        chat.run(_called_inside(chat))


async def _called_inside(chat: SyncChat) -> None:
    chat.of("alice")
