"""Responses with OpenAI's own client while processes die: each has its end, and for ever the bytes that it had."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from integration.model_server import CUT, STALL, Answer, Gate, ModelServer, chunk, plain, says, stream
from integration.processes import Server, several_serving

pytestmark = pytest.mark.asyncio

WITHIN = 60
"""Seconds for the end of a reply whose process was killed: its lease lasts 5."""


@asynccontextmanager
async def opened(url: str, folder: Path, model: ModelServer) -> AsyncIterator[Sequence[Server]]:
    """All that share this database: one on SQLite, else two."""
    environ = {"OPENAI_BASE_URL": model.url, "OPENAI_MODEL": "scripted", "SYSTEM_PROMPT": "", "DATABASE_URL": url}
    async with several_serving(1 if url.startswith("sqlite") else 2, folder, **environ) as servers:
        yield servers


def client_at(server: Server, key: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


async def key_at(server: Server) -> str:
    ada = await server.api.user()
    return str((await ada.key())["key"])


def frames_of(body: bytes) -> list[bytes]:
    """Whole events. Comments, which keep a connection alive, are none."""
    return [frame for frame in body.split(b"\n\n")[:-1] if not frame.startswith(b":")]


def number_of(frame: bytes) -> int:
    return int(json.loads(frame.partition(b"\ndata: ")[2])["sequence_number"])


async def replay(client: AsyncOpenAI, name: str, after: int | None = None) -> list[bytes]:
    more: Any = {} if after is None else {"starting_after": after}
    async with (
        asyncio.timeout(WITHIN),
        client.responses.with_streaming_response.retrieve(name, stream=True, **more) as answer,
    ):
        return frames_of(b"".join([piece async for piece in answer.iter_bytes()]))


async def check_each_event(client: AsyncOpenAI, name: str, whole: list[bytes]) -> None:
    """Whoever has come so far, the rest is the same to the byte."""
    assert whole[-1] == b"data: [DONE]"
    assert [number_of(frame) for frame in whole[:-1]] == list(range(len(whole) - 1))
    assert await replay(client, name) == whole
    for number in range(-1, len(whole) - 1):
        assert await replay(client, name, number) == whole[number + 1 :]


async def test_when_the_writing_process_is_killed(database_url: str, tmp_path: Path) -> None:
    async with ModelServer() as model:
        async with opened(database_url, tmp_path, model) as servers:
            key = await key_at(servers[0])
            model.script(stream(chunk(reasoning="hm"), chunk("Hel"), chunk("lo 🦄"), STALL))
            async with client_at(servers[0], key) as here, client_at(servers[-1], key) as there:
                events: Any = await here.responses.create(input="Hi", stream=True)
                seen = list[Any]()
                while "".join(each.delta for each in seen if each.type.endswith("output_text.delta")) != "Hello 🦄":
                    seen.append(await anext(events))
                name, last = seen[0].response.id, seen[-1].sequence_number
                while (await there.responses.retrieve(name)).output_text != "Hello 🦄":
                    await asyncio.sleep(0.05)  # until the log has it
                reading = asyncio.create_task(replay(there, name))
                await servers[0].stop(signal.SIGKILL)
                with pytest.raises(Exception, match=r"(?i)peer closed|connection|incomplete"):
                    await anext(events)
                if len(servers) > 1:
                    await check_killed(there, name, seen, await replay(there, name, last))
                    assert await reading == await replay(there, name)
                reading.cancel()
                await asyncio.wait([reading])
        async with opened(database_url, tmp_path, model) as servers, client_at(servers[-1], key) as later:
            rest = await replay(later, name, last)
            await check_killed(later, name, seen, rest)
            await check_each_event(later, name, await replay(later, name))


async def check_killed(client: AsyncOpenAI, name: str, seen: Sequence[Any], rest: list[bytes]) -> None:
    """It ends as failed, with its text; and what was seen of it before was true."""
    assert b"response.failed" in rest[-2]
    assert number_of(rest[0]) == seen[-1].sequence_number + 1
    whole = [event async for event in await client.responses.retrieve(name, stream=True)]
    assert [event.model_dump_json() for event in whole[: len(seen)]] == [event.model_dump_json() for event in seen]
    kept = await client.responses.retrieve(name)
    assert (kept.status, kept.output_text) == ("failed", "Hello 🦄")


ANSWERS: dict[str, Answer] = {
    "completed": stream(chunk(reasoning="h"), chunk(reasoning="m"), *says("He", "l", "lo 🦄", usage=(1, 2)).steps),
    "incomplete": stream(chunk("Hel"), chunk("lo"), chunk(finish="length")),
    "failed": stream(chunk("Hel"), CUT),
    "refused": plain(401, '{"error": {"message": "no", "code": "invalid_api_key"}}'),
}


async def test_after_a_restart_every_event_has_the_bytes_that_it_had(database_url: str, tmp_path: Path) -> None:
    had = dict[str, list[bytes]]()
    async with ModelServer() as model:
        async with opened(database_url, tmp_path, model) as servers:
            key = await key_at(servers[0])
            async with client_at(servers[0], key) as here:
                for answer in ANSWERS.values():
                    model.script(answer)
                    frames = await sent(here)
                    had[name_in(frames)] = frames
                frames = await cancelled(here, model)
                had[name_in(frames)] = frames
            for server in servers:
                await server.stop(signal.SIGKILL)
        async with opened(database_url, tmp_path, model) as servers, client_at(servers[-1], key) as later:
            for name, frames in had.items():
                await check_each_event(later, name, frames)
            ends = [json.loads(frames[-2].partition(b"\ndata: ")[2])["response"]["status"] for frames in had.values()]
    assert ends == ["completed", "incomplete", "failed", "failed", "cancelled"]


def name_in(frames: list[bytes]) -> str:
    return str(json.loads(frames[0].partition(b"\ndata: ")[2])["response"]["id"])


async def sent(client: AsyncOpenAI) -> list[bytes]:
    async with client.responses.with_streaming_response.create(input="Hi", stream=True) as answer:
        return frames_of(b"".join([piece async for piece in answer.iter_bytes()]))


async def cancelled(client: AsyncOpenAI, model: ModelServer) -> list[bytes]:
    gate = Gate()
    model.script(stream(chunk("Hel"), gate, *says("lo").steps))
    begun = await client.responses.create(input="Hi", background=True)
    await gate.reached()
    reading = asyncio.create_task(replay(client, begun.id))
    await client.responses.cancel(begun.id)
    return await reading
