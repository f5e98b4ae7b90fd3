"""What all encodings have in common: the same bytes whoever sends them and whenever; all of the text; no line that is
none of theirs."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from random import Random
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatcore import ConversationTitled, Message, ReplyDelta, ReplyEvent, Silence, Status
from chatcore_http.protocols import ag_ui, ai_sdk
from chatcore_http.protocols.openai.response_events import ResponseEvents
from chatcore_http.protocols.openai.stored_completions import CompletionChunks
from chatcore_memory import Stall
from recorded import ENDINGS, Recorded
from unit.test_pieces import said_by
from unit.world import World, read

Encode: TypeAlias = Callable[[ReplyEvent], bytes]

ENCODINGS: dict[str, Callable[[Message], Encode]] = {
    "responses": lambda reply: ResponseEvents(reply, {"model": "m", "metadata": {"a": "b"}}).encode,
    "chat completions": lambda reply: CompletionChunks(reply, include_usage=True).encode,
    "ai sdk": lambda _: ai_sdk.Chunks().encode,
    "ag-ui": lambda _: ag_ui.RunEvents(thread_id="thread", run_id="run").encode,
}
each = pytest.mark.parametrize("encoding", ENCODINGS)

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
RECORDED = st.builds(
    Recorded,
    reasoning=st.lists(TEXTS, max_size=4),
    answer=st.lists(TEXTS, max_size=6),
    status=st.sampled_from([status for status in Status if status is not Status.WRITING]),
)


def encoded(recorded: Recorded, encoding: str) -> list[bytes]:
    """What each event becomes."""
    return list(map(ENCODINGS[encoding](recorded.ended), recorded.events()))


def data_of(stream: bytes) -> list[Any]:
    """What is in the frames, as a client reads them that takes anything for a line's end that Python does."""
    lines = [line.removeprefix("data: ") for line in stream.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def texts_of(events: list[Any]) -> str:
    """Reasoning, then the answer."""
    deltas = [it["delta"] for it in events if "delta" in it]
    chunks = [choice["delta"] for it in events for choice in it.get("choices", ())]
    return "".join([*deltas, *(text for it in chunks for name, text in it.items() if name != "role")])


@each
@given(recorded=RECORDED)
@settings(max_examples=60, deadline=None)
def test_all_of_the_text_is_there_whatever_it_is(encoding: str, recorded: Recorded) -> None:
    stream = b"".join(encoded(recorded, encoding))
    assert texts_of(data_of(stream)) == "".join(chain(recorded.reasoning, recorded.answer))
    assert stream.endswith(b"\n\n")
    for frame in stream.decode().split("\n\n"):
        assert "\r" not in frame
        assert frame.splitlines() == frame.split("\n") if frame else True


@each
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_depends_on_the_reader_is_not_there(encoding: str, ending: str) -> None:
    """Silence is a comment, and a title comes when it comes."""
    recorded = ENDINGS[ending]
    plain, encode = encoded(recorded, encoding), ENCODINGS[encoding](recorded.ended)
    for event, expected in zip(recorded.events(), plain, strict=True):
        assert encode(event) == expected
        if not isinstance(event, ReplyDelta):
            continue
        assert encode(ConversationTitled(event.reply_id, event.offset, "A title")) == b""
        assert encode(Silence(event.reply_id, event.offset)).startswith(b":")


@each
@pytest.mark.parametrize("seed", range(10))
async def test_a_replay_has_the_bytes_of_the_first_time(world: World, encoding: str, seed: int) -> None:
    """Live, on another worker, and after the end."""
    random = Random(seed)
    said, stall = said_by(random), Stall()
    world.model.then(*said[: len(said) // 2], stall, *said[len(said) // 2 :])
    async with world.process() as process, world.process() as another:
        here = await process.chat()
        there = here.seen_from(another)
        reply = (await here.send()).reply
        await stall.reached()
        live = asyncio.gather(*(read(chat.follow(numbered=True)) for chat in (here, there)))
        await asyncio.sleep(0.05)
        stall.release()
        first, mirrored = await live
        later = await read(there.follow(numbered=True))
    ended = first.message
    streams = {b"".join(map(ENCODINGS[encoding](reply), first.events))}
    streams.add(b"".join(map(ENCODINGS[encoding](replace(reply, status=Status.WRITING)), mirrored.events)))
    streams.add(b"".join(map(ENCODINGS[encoding](ended), later.events)))
    assert len(streams) == 1
