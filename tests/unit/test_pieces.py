"""The numbered pieces of a reply: the same for every reader, wherever and whenever, and from every number on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from random import Random
from typing import TypeAlias

import pytest

from chatcore import Message, ReplyDelta, ReplyEnded, ReplyEvent, ReplyStarted, Status, TextKind
from chatcore.live_reply import LiveReply
from chatcore.ports import Delta
from chatcore_memory import Stall
from unit.test_live_reply import a_reply
from unit.world import Chat, World, read

Piece: TypeAlias = tuple[int, TextKind, str]


def some_text(random: Random) -> str:
    return "".join(random.choices("aé漢🦄\n ", k=random.choice([1, 1, 2, 5, 12_000])))


def said_by(random: Random) -> list[Delta]:
    """Reasoning and then an answer, either of which may be missing; now and then both at once, or nothing."""
    reasoning = [Delta(reasoning=some_text(random), reasoned=True) for _ in range(random.choice([0, 0, 1, 4]))]
    both = [Delta(reasoning=some_text(random), text=some_text(random), reasoned=True)] * random.choice([0, 1])
    answer = [Delta(text=random.choice(["", some_text(random)])) for _ in range(random.choice([0, 1, 5, 70]))]
    return [*reasoning, *both, *answer, Delta(text="end")]


def pieces_of(said: Sequence[Delta]) -> list[Piece]:
    """As the model said it: what is longer than 10,000 code points, in parts of these."""
    texts = [(kind, text) for it in said for kind, text in kinds_of(it) if text]
    parts = [(kind, text[at : at + 10_000]) for kind, text in texts for at in range(0, len(text), 10_000)]
    return [(number, kind, text) for number, (kind, text) in enumerate(parts, 1)]


def kinds_of(delta: Delta) -> list[tuple[TextKind, str]]:
    return [(TextKind.REASONING, delta.reasoning), (TextKind.ANSWER, delta.text)]


async def numbered(events: AsyncIterator[ReplyEvent]) -> list[Piece]:
    """To the end."""
    return [(it.number, it.kind, it.text) for it in (await read(events)).events if isinstance(it, ReplyDelta)]


async def some(events: AsyncIterator[ReplyEvent], count: int) -> list[Piece]:
    """The first so many."""
    got = list[Piece]()
    while len(got) < count:
        it = await anext(events)
        got += [(it.number, it.kind, it.text)] if isinstance(it, ReplyDelta) else []
    return got


@pytest.mark.parametrize("seed", range(20))
async def test_from_every_number_on_they_are_the_rest(world: World, seed: int) -> None:
    """During the reply and after it, in its process and in another one."""
    random = Random(seed)
    said, stall = said_by(random), Stall()
    pieces, half = pieces_of(said), random.randrange(len(said))
    first = len(pieces_of(said[:half]))
    world.model.then(*said[:half], stall, *said[half:])
    async with world.process() as process, world.process() as another:
        here = await process.chat()
        there = here.seen_from(another)
        await here.send()
        await stall.reached()
        during = [chat.follow(number, numbered=True) for chat in (here, there) for number in range(first + 1)]
        shown = [await some(chat.follow(numbered=True), first) for chat in (here, there)]
        rest = asyncio.gather(*map(numbered, during))
        stall.release()
        for number, got in zip([*range(first + 1)] * 2, await rest, strict=True):
            assert got == pieces[number:]
        assert shown == [pieces[:first]] * 2
        for chat in (here, there):
            for number in {0, 1, random.randrange(len(pieces)), len(pieces) - 1, len(pieces)}:
                assert await numbered(chat.follow(number, numbered=True)) == pieces[number:]


async def test_a_reader_may_ask_for_more_than_there_is(world: World, chat: Chat) -> None:
    """It waits for what it has not seen, and has nothing but the end of a reply that has fewer pieces."""
    stall = Stall()
    world.model.then("Hel", stall, "lo", " you")
    await chat.send()
    await stall.reached()
    later, too_late = (asyncio.ensure_future(numbered(chat.follow(number, numbered=True))) for number in (2, 7))
    await asyncio.sleep(0.05)
    stall.release()
    assert await later == [(3, TextKind.ANSWER, " you")]
    assert await too_late == []
    ended = (await read(chat.follow(7, numbered=True))).events
    assert [type(it) for it in ended] == [ReplyStarted, ReplyEnded]
    assert [it.offset for it in ended] == [9, 9]


async def test_joined_text_has_no_numbers(world: World, chat: Chat) -> None:
    world.model.then("Hel", "lo")
    await chat.send()
    await chat.end()
    (only,) = [it for it in (await read(chat.follow())).events if isinstance(it, ReplyDelta)]
    assert (only.number, only.text) == (0, "Hello")


async def test_what_a_dead_process_had_logged_keeps_its_pieces(world: World) -> None:
    async with world.process() as process, world.process() as another:
        here = await process.chat()
        world.model.then(Delta(reasoning="Hm", reasoned=True), "Hel", "lo", Stall())
        await here.send()
        shown = await some(here.seen_from(another).follow(numbered=True), 3)
        async with world.process(lease=None) as heir:  # takes both for dead
            assert await numbered(here.seen_from(heir).follow(numbered=True)) == shown
        assert await numbered(here.follow(numbered=True)) == shown


async def test_a_reply_that_was_stopped_has_those_that_were_shown(world: World, chat: Chat) -> None:
    world.model.then("Hel", "lo", Stall())
    await chat.send()
    shown = await some(chat.follow(numbered=True), 2)
    assert (await chat.stop()).status is Status.STOPPED
    assert await numbered(chat.follow(numbered=True)) == shown


async def test_a_reply_of_before_has_one_piece_of_each_kind(world: World, chat: Chat) -> None:
    world.model.then(Delta(reasoning="Hm", reasoned=True), "Hel", "lo")
    await chat.send()
    reply = await chat.end()
    async with world.storage() as work:
        await work.messages.finish(reply)
        await work.commit()
    assert await numbered(chat.follow(numbered=True)) == [(1, TextKind.REASONING, "Hm"), (2, TextKind.ANSWER, "Hello")]


# ---- as the log has them ---------------------------------------------------------------------------------


def ended(live: LiveReply) -> Message:
    reasoning, content = live.since(0)
    return replace(live.reply, reasoning=reasoning or None, content=content, status=Status.COMPLETE)


@pytest.mark.parametrize("seed", range(40))
def test_a_mirror_has_the_same_pieces_however_the_log_was_cut(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatcore.live_reply._ENTRY", 7)
    monkeypatch.setattr("chatcore.live_reply.MAX_PIECE", 20)
    monkeypatch.setattr("chatcore.live_reply._MANY", 12)
    monkeypatch.setattr("chatcore.live_reply._SHORT", 5)
    random, live, mirror = Random(seed), a_reply(), a_reply()
    for _ in range(100):
        text = "x" * random.choice([1, 2, 30])
        thought = Delta(reasoning=random.choice(["", text]), reasoned=random.random() < 0.05)
        live.add(random.choice([Delta(text=text), thought]))
        if random.random() < 0.3:
            entries = list(live.unlogged())
            assert all(map(mirror.extend, entries[: random.randint(0, len(entries))]))
            assert all(map(mirror.extend, entries))  # some of them again
            live.logged = live.length
            assert "".join(mirror.since(0)) == "".join(live.since(0))
            assert mirror.ends[: len(live.ends)] == live.ends[: len(mirror.ends)]
    cuts = live.cuts_to(live.length)
    assert max(cuts) <= 20
    assert sum(cuts) == live.length
    for each in (live, mirror):
        each.end_as(ended(live), cuts)
    assert list(mirror.ends) == list(live.ends)


def test_so_many_short_pieces_become_longer_ones() -> None:
    live = a_reply()
    for _ in range(60_000):
        live.add(Delta(text="x"))
    assert len(live.ends) == 50_000 + 100
