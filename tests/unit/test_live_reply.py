"""A reply in the making: one text, read from any offset, however it came in."""

import asyncio
import gc
import weakref
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import pytest

from chatcore import ConversationId, Message, MessageId, OwnerId, Role, Status, TextKind, Usage
from chatcore.live_reply import LiveReply
from chatcore.ports import Delta

OWNER, REPLY = OwnerId(3), MessageId(7)


def a_reply() -> LiveReply:
    return LiveReply(
        Message(
            id=REPLY,
            user_id=OWNER,
            conversation_id=ConversationId(5),
            role=Role.ASSISTANT,
            content="",
            status=Status.WRITING,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
    )


def told(deltas: list[Delta]) -> tuple[str, str]:
    """What a reader of all of it has: reasoning counts until the answer begins."""
    reasoning, answer = "", ""
    for delta in deltas:
        reasoning += "" if answer else delta.reasoning
        answer += delta.text
    return reasoning, answer


def rest(text: tuple[str, str], offset: int) -> tuple[str, str]:
    reasoning, answer = text
    return reasoning[offset:], answer[max(0, offset - len(reasoning)) :]


def some_text(random: Random) -> str:
    return "".join(random.choices("aé漢🦄\n ", k=random.randint(1, 3)))


def pieces(seed: int, reasoning: int, answer: int) -> list[Delta]:
    """So many pieces of each kind, now and then both at once, and late reasoning among the answer."""
    random = Random(seed)
    deltas = [Delta(reasoning=some_text(random)) for _ in range(reasoning)]
    deltas += [Delta(reasoning=some_text(random), text=some_text(random))] if seed % 2 else []
    return deltas + [
        Delta(reasoning=random.choice(["", "", "late"]), text=random.choice(["", some_text(random)]))
        if deltas and deltas[-1].text
        else Delta(text=some_text(random))
        for _ in range(answer)
    ]


LENGTHS = [(0, 0), (0, 1), (1, 0), (1, 1), (3, 4), (0, 255), (0, 256), (0, 257), (0, 700), (256, 1), (257, 0)]
LENGTHS += [(255, 2), (256, 256), (257, 257), (300, 20), (20, 300), (600, 600)]
replies = pytest.mark.parametrize(
    "deltas",
    [pieces(seed, *lengths) for lengths in LENGTHS for seed in (0, 1)],
    ids=[f"{reasoning}+{answer}.{seed}" for reasoning, answer in LENGTHS for seed in (0, 1)],
)


@replies
def test_from_every_offset_on_it_is_the_rest_of_the_text(deltas: list[Delta]) -> None:
    live, text = a_reply(), told(deltas)
    for delta in deltas:
        live.add(delta)
    assert live.length == len(text[0]) + len(text[1])
    for offset in range(live.length + 3):
        assert live.since(offset) == rest(text, offset)


@replies
def test_a_reader_who_comes_now_and_then_has_all_of_it(deltas: list[Delta]) -> None:
    live, random, got = a_reply(), Random(1), ("", "")
    for delta in deltas:
        live.add(delta)
        if random.random() < 0.3:
            more = live.since(len(got[0]) + len(got[1]))
            got = got[0] + more[0], got[1] + more[1]
    more = live.since(len(got[0]) + len(got[1]))
    assert (got[0] + more[0], got[1] + more[1]) == told(deltas)


@replies
def test_what_is_logged_bit_by_bit_is_all_of_it_in_order(deltas: list[Delta]) -> None:
    live, random, logged, offset = a_reply(), Random(2), {TextKind.REASONING: "", TextKind.ANSWER: ""}, 0
    for delta in [*deltas, None]:
        if delta is not None:
            live.add(delta)
        if delta is None or random.random() < 0.1:
            for entry in live.unlogged():
                assert (entry.user_id, entry.reply_id, entry.start) == (OWNER, REPLY, offset)
                assert entry.text
                logged[entry.kind] += entry.text
                offset += len(entry.text)
            live.logged = live.length
    assert (logged[TextKind.REASONING], logged[TextKind.ANSWER]) == told(deltas)
    assert list(live.unlogged()) == []


@replies
@pytest.mark.parametrize("most", [1, 3, 100, 10_000])
def test_a_reader_gets_it_in_parts_of_one_kind_up_to_where_it_may(
    deltas: list[Delta], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatcore.live_reply.MAX_PIECE", most)
    live, (reasoning, answer), random = a_reply(), told(deltas), Random(3)
    for delta in deltas:
        live.add(delta)
    whole = reasoning + answer
    for end in {len(whole), *random.sample(range(len(whole) + 1), min(5, len(whole)))}:
        offset = random.randrange(end) if end else 0
        begin, got = offset, ""
        while offset < end:
            kind, text = live.next(offset, end)
            assert kind is (TextKind.REASONING if offset < len(reasoning) else TextKind.ANSWER)
            assert 0 < len(text) <= most
            got, offset = got + text, offset + len(text)
        assert got == whole[begin:end]


def test_a_large_piece_is_cut_without_copying_the_rest() -> None:
    live = a_reply()
    live.add(Delta(text="x" * 25_000))
    assert [len(live.next(offset, 25_000)[1]) for offset in (0, 10_000, 20_000, 24_999)] == [10_000, 10_000, 5000, 1]


def test_an_empty_reply_has_no_text_anywhere() -> None:
    live = a_reply()
    assert (live.length, live.since(0), live.since(5), list(live.unlogged())) == (0, ("", ""), ("", ""), [])


@pytest.mark.parametrize("before", [0, 1, 10, 200])
@pytest.mark.parametrize("reasoning", ["", "m"])
def test_an_answer_may_turn_out_to_be_reasoning(before: int, reasoning: str) -> None:
    live = a_reply()
    for _ in range(before):
        live.add(Delta(text="H"))
    live.add(Delta(reasoning=reasoning, text="Yes", reasoned=True))
    whole = ("H" * before + reasoning, "Yes")
    for offset in range(live.length):
        assert live.since(offset) == rest(whole, offset)
    for _ in range(100):
        live.add(Delta(text="!"))
    assert live.since(0) == (whole[0], "Yes" + "!" * 100)


def test_what_was_read_as_an_answer_elsewhere_ends_as_it_was_stored() -> None:
    live = a_reply()
    live.add(Delta(text="Hm"))
    live.end_as(replace(live.reply, reasoning="Hmm", content="Yes", status=Status.COMPLETE), ())
    assert live.since(0) == ("Hmm", "Yes")


def test_reasoning_that_comes_too_late_is_dropped() -> None:
    live = a_reply()
    for delta in (Delta(reasoning="Hm", text="Yes"), Delta(reasoning="late"), Delta(reasoning="late", text="!")):
        live.add(delta)
    assert live.since(0) == ("Hm", "Yes!")


def test_an_emoji_counts_one() -> None:
    live = a_reply()
    live.add(Delta(text="🦄a🦄"))
    assert (live.length, live.since(1), live.since(2)) == (3, ("", "a🦄"), ("", "🦄"))


def test_the_last_usage_counts() -> None:
    live = a_reply()
    usage = [Usage(prompt_tokens=1, completion_tokens=n, total_tokens=1 + n) for n in (1, 2)]
    for delta in (Delta(usage=usage[0]), Delta(text="x"), Delta(usage=usage[1]), Delta()):
        live.add(delta)
    assert (live.usage, live.length) == (usage[1], 1)


def test_many_small_pieces_are_held_as_few() -> None:
    live = a_reply()
    for _ in range(10_000):
        live.add(Delta(text="x"))
    assert len(live._pieces) < 10_000 / 256 + 257  # pyright: ignore[reportPrivateUsage]


# ---- the end ---------------------------------------------------------------------------------------------


async def test_more_text_and_the_end_wake_everybody_who_waits() -> None:
    live = a_reply()

    async def woken() -> list[bool]:
        return await asyncio.gather(*(live.changed(60) for _ in range(3)))

    waiting = asyncio.create_task(woken())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    live.add(Delta(text="x"))
    assert await waiting == [True] * 3
    waiting = asyncio.create_task(woken())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    live.end(live.reply)
    assert await waiting == [True] * 3


async def test_silence_is_told_after_a_while() -> None:
    assert await a_reply().changed(0.001) is False


async def test_everybody_waits_as_long_as_they_said() -> None:
    live = a_reply()
    patient = asyncio.ensure_future(live.changed(60))
    await asyncio.sleep(0)
    assert await live.changed(0.001) is False
    assert not patient.done()
    assert await live.changed(0.001) is False
    live.add(Delta(text="x"))
    assert await patient is True


async def test_text_puts_silence_off(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, live = asyncio.get_running_loop(), a_reply()
    now = begin = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)

    async def at(seconds: float) -> None:
        nonlocal now
        now = begin + seconds
        for _ in range(3):  # so that timers ring
            await asyncio.sleep(0)

    waiting = asyncio.ensure_future(live.changed(10))
    await at(9)
    live.add(Delta(text="x"))
    assert await waiting is True
    waiting = asyncio.ensure_future(live.changed(10))
    await at(11)
    assert not waiting.done()
    await at(20)
    assert waiting.done()
    assert await waiting is False


async def test_an_ended_reply_leaves_no_timer() -> None:
    live = a_reply()
    waiting = asyncio.ensure_future(live.changed(60))
    await asyncio.sleep(0)
    gone = weakref.ref(live)
    live.end(live.reply)
    assert await waiting is True
    del live, waiting
    gc.collect()
    assert gone() is None


async def test_who_stops_waiting_is_forgotten() -> None:
    live = a_reply()
    waiting = asyncio.ensure_future(live.changed(60))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    live.add(Delta(text="x"))
    assert not live._waiting  # pyright: ignore[reportPrivateUsage]
    gone = asyncio.ensure_future(live.changed(0.01))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0.02)
    assert not live._waiting  # pyright: ignore[reportPrivateUsage]


def test_the_first_verdict_counts() -> None:
    live = a_reply()
    live.cut_short(Status.STOPPED)
    live.cut_short(Status.INTERRUPTED)
    assert live.verdict is Status.STOPPED


def test_no_verdict_changes_a_reply_that_is_ending() -> None:
    live = a_reply()
    live.ending = True
    live.cut_short(Status.STOPPED)
    assert live.verdict is None
