"""An endpoint that sends more than a reply needs takes neither the event loop nor the memory: every user has one."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from aiohttp.client_proto import ResponseHandler

from chatcore.errors import ModelError, ModelProtocolError, ModelTimeout
from chatcore.ports import ModelEndpoint, Prompt
from chatcore_openai import LOOPBACK, OpenAIGateway
from chatcore_openai._internals import MAX_HEAD
from chatcore_openai.reply import ReplyReader
from chatcore_openai.sse import SLICE
from integration.model_server import DONE, STALL, Answer, ModelServer, Step, chunk, event, raw, says, stream

PROMPT = Prompt(messages=[])
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
TIMES = 3000
MUCH = 1_000_000  # raw bytes


def many(piece: bytes) -> Sequence[bytes]:
    """Twenty times as much as is allowed, in large writes."""
    return [piece * (20_000 // len(piece) + 1)] * 1000


FLOODS = {
    "comments": stream(*many(b": OPENROUTER PROCESSING\n\n")),
    "short comments": stream(*many(b":\n\n")),
    "blank lines": stream(*many(b"\n")),
    "carriage returns": stream(*many(b"\r")),
    "events without data": stream(*many(b"event: ping\n\n")),
    "empty data": stream(*many(b"data:\n\n")),
    "blank data": stream(*many(b"data: \n\n")),
    "empty objects": stream(*many(b"data: {}\n\n")),
    "empty choices": stream(*many(event({"choices": []}))),
    "empty deltas": stream(*many(chunk(""))),
    "usage": stream(*many(chunk(usage=(1, 2)))),
    "odd usage": stream(*many(event({"usage": "many"}))),
    "tiny chunks": raw(CHUNKED, *many(b"1\r\n:\r\n")),
    "extensions of chunks": raw(CHUNKED, *many(b"1;" + b"a" * 1000 + b"\r\n\n\r\n")),
    "interim responses": raw(*many(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "interim headers": raw(*many(b"HTTP/1.1 103 Early Hints\r\n" + b"a: b\r\n" * 50 + b"\r\n")),
    "headers": raw(HEAD, *many(b"a: b\r\n")),
    "one header": raw(HEAD + b"a: ", *many(b"b")),
    "one line": raw(*many(b"a")),
}


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


def at(server: ModelServer, *, trusted: bool = False) -> ModelEndpoint:
    return ModelEndpoint(url=server.url, model="scripted", api_key="", trusted=trusted)


async def failure(gateway: OpenAIGateway, endpoint: ModelEndpoint) -> ModelError:
    with pytest.raises(ModelError) as raised:
        async for _ in gateway.stream(endpoint, PROMPT):
            pass
    return raised.value


class Reads:
    """How much was read at once: by the HTTP parser, and by the reader of events."""

    def __init__(self) -> None:
        self.all = 0
        self.largest = 0

    def note(self, data: bytes) -> None:
        self.all += len(data)
        self.largest = max(self.largest, len(data))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    reads = Reads()
    for kind, name in ((ResponseHandler, "data_received"), (ReplyReader, "feed")):
        monkeypatch.setattr(kind, name, noting(reads, getattr(kind, name)))
    return reads


def noting(reads: Reads, method: Any) -> Any:
    def noted(self: Any, data: bytes) -> Any:
        reads.note(data)
        return method(self, data)

    return noted


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
async def test_a_flood_is_cut_off_and_taken_in_slices(
    server: ModelServer, reads: Reads, flood: Answer, trusted: bool
) -> None:
    server.script(flood)
    async with OpenAIGateway(max_raw_bytes=MUCH, allow=LOOPBACK) as gateway:
        error = await failure(gateway, at(server, trusted=trusted))
        assert type(error) is ModelProtocolError
        await server.requests[0].ended()
        assert server.requests[0].ending == "left"
        assert (await anext(gateway.stream(at(server, trusted=trusted), PROMPT))).text == "Hello"
    assert reads.largest <= SLICE
    assert reads.all <= 2 * (MUCH + MAX_HEAD) + 100_000


async def test_events_that_say_nothing_are_counted(server: ModelServer) -> None:
    server.script(stream(*[event({})] * TIMES, *says("Hello").steps))
    async with OpenAIGateway(max_raw_bytes=64 * (TIMES - 1), allow=LOOPBACK) as gateway:
        assert "events" in (await failure(gateway, at(server))).detail


async def test_others_have_their_turn_between_the_slices(server: ModelServer) -> None:
    """Though nothing has to be waited for."""
    server.script(stream(*many(b": comment\n\n")))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with OpenAIGateway(max_raw_bytes=MUCH, allow=LOOPBACK) as gateway:
        await gateway.warm()
        busy = asyncio.create_task(others())
        await failure(gateway, at(server))
        busy.cancel()
    assert turns > MUCH / SLICE


@pytest.mark.parametrize(
    "large",
    [
        b'data: {"choices": [' + b"{}," * 1_400_000 + b"{}]}\n\n",
        b'data: {"choices": [{"delta": {"content": "' + b"x" * 4_000_000 + b'"}}]}\n\n',
        b"data: " + b"x" * 4_200_000,
        b"data:\n" * 700_000,
    ],
    ids=["choices", "text", "garbage", "lines"],
)
async def test_no_event_is_larger_than_a_mebibyte(server: ModelServer, large: bytes) -> None:
    server.script(stream(large, STALL))
    async with OpenAIGateway(allow=LOOPBACK) as gateway:
        assert "too long" in (await failure(gateway, at(server))).detail


async def test_a_large_answer_comes_whole(server: ModelServer) -> None:
    text = "".join(f"{number} 🦄\n" for number in range(60_000))
    parts = [text[start : start + 5000] for start in range(0, len(text), 5000)]
    server.script(stream(b"".join(map(chunk, parts)), chunk(finish="stop"), DONE))
    async with OpenAIGateway(allow=LOOPBACK) as gateway:
        assert "".join([delta.text async for delta in gateway.stream(at(server), PROMPT)]) == text
        async for _ in gateway.stream(at(server), PROMPT):
            pass
    assert server.connections == 1


async def test_a_large_answer_comes_whole_though_its_connection_is_closed_behind_it(server: ModelServer) -> None:
    text = "x" * 700_000
    server.script(raw(HEAD + b"Connection: close\r\n\r\n" + chunk(text) + chunk(finish="stop")))
    async with OpenAIGateway(allow=LOOPBACK) as gateway:
        assert "".join([delta.text async for delta in gateway.stream(at(server), PROMPT)]) == text


@pytest.mark.parametrize("said", [b": ping\n\n", event({}), chunk("")], ids=["comment", "object", "delta"])
async def test_what_says_nothing_is_no_sign_of_life(server: ModelServer, said: bytes) -> None:
    pause: Step = 0.05
    server.script(stream(chunk("Hel"), *[said, pause] * 1000))
    async with OpenAIGateway(idle_timeout=0.5, allow=LOOPBACK) as gateway:
        assert type(await failure(gateway, at(server))) is ModelTimeout


async def test_a_reader_that_takes_its_time_is_no_silence_of_the_models(server: ModelServer) -> None:
    server.script(says("Hel", "lo"))
    async with OpenAIGateway(idle_timeout=0.2, allow=LOOPBACK) as gateway:
        heard = ""
        async for delta in gateway.stream(at(server), PROMPT):
            heard += delta.text
            await asyncio.sleep(0.5)
    assert heard == "Hello"
