"""What relaying a reply costs: CPU seconds of chatcore per 1,000 deltas, beside the same relay written the obvious way.

    python bench/relay.py [--live 100] [--seconds 30] [--full 2000] [--at-once 8]

The obvious way is FastAPI, the OpenAI client's parsed stream, and an event per chunk: no users, no database. The bare
way is aiohttp on both sides and not a look at the bytes: less than that, no relay in Python does. The chatcore side is
`chatcore serve` on SQLite, signed in: `chatcore` with every reply stored, logged and resumable, `passing` with Chat
Completions that pass through unstored, which at a model's pace may cost 0.8 of that and 1.3 of the bare relay (at full
speed more: foreign bytes are read in slices, in turns). All run on uvloop, all but the bare one on uvicorn with
httptools. Model server, relay and client are processes of their own; what is measured is the CPU of the relay's, system
time included, and every client checks that it got the whole text.

Needs chatcore's development packages.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import uvloop
from processes import Child, child, tell

WORD = "word "
RATE = 20  # deltas per second of a stream that is talking at a model's pace
NO_TIMEOUT = aiohttp.ClientTimeout()
SPREAD = 0.05  # seconds between the beginnings of two such streams


# ---- the model server ------------------------------------------------------------------------------------


def chunk(delta: dict[str, str], finish: str | None = None, usage: dict[str, int] | None = None) -> bytes:
    choices = [] if usage else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    event = {
        "id": "chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz012",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "scripted",
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
        "choices": choices,
        "usage": usage,
    }
    return framed(f"data: {json.dumps(event)}\n\n".encode())


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
DELTA = chunk({"content": WORD})
END = (
    chunk({}, finish="stop")
    + chunk({}, usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})
    + framed(b"data: [DONE]\n\n")
    + b"0\r\n\r\n"
)


async def model(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers as the last message asks: `<number of deltas> <deltas per second, 0 for as fast as they go>`."""
    while head := await reader.readline():
        length = 0
        while head.strip():
            if head.lower().startswith(b"content-length:"):
                length = int(head.split(b":")[1])
            head = await reader.readline()
        body = json.loads(await reader.readexactly(length))
        number, rate = map(int, body["messages"][-1]["content"].split())
        writer.write(HEAD)
        if rate:
            began = time.monotonic()
            for index in range(number):
                await asyncio.sleep(began + index / rate - time.monotonic())
                writer.write(DELTA)
        else:
            writer.write(DELTA * number)
        writer.write(END)
        await writer.drain()


async def serve_model() -> None:
    server = await asyncio.start_server(model, "127.0.0.1", 0, backlog=2048)
    print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


# ---- the relays ------------------------------------------------------------------------------------------


def serve_obvious(model_url: str) -> None:
    import uvicorn
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse
    from openai import AsyncOpenAI

    app = FastAPI()
    client = AsyncOpenAI(base_url=model_url, api_key="any", timeout=600)

    @app.post("/chat")
    async def chat(body: dict[str, Any]) -> StreamingResponse:
        stream = await client.chat.completions.create(
            model="scripted",
            messages=[{"role": "user", "content": body["content"]}],
            stream=True,
            stream_options={"include_usage": True},
        )

        async def events() -> AsyncIterator[str]:
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield f"data: {json.dumps({'text': chunk.choices[0].delta.content})}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            print(f"running: http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}/", flush=True)

    config = uvicorn.Config(app, port=0, loop="uvloop", http="httptools", log_level="warning", access_log=False)
    Server(config).run()


def serve_bare(model_url: str) -> None:
    """The least that a relay can do: the model's bytes, passed on as they come, unread."""
    from aiohttp import web

    async def chat(request: web.Request) -> web.StreamResponse:
        content = (await request.json())["content"]
        question = {"model": "scripted", "messages": [{"role": "user", "content": content}], "stream": True}
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        async with request.app[session].post(f"{model_url}/chat/completions", json=question) as upstream:
            await answer.prepare(request)
            async for data in upstream.content.iter_any():
                await answer.write(data)
        await answer.write_eof()
        return answer

    async def opened(app: web.Application) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=NO_TIMEOUT) as app[session]:
            yield

    async def serve() -> None:
        app = web.Application()
        app.cleanup_ctx.append(opened)
        app.router.add_post("/chat", chat)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
        await site.start()
        print(f"running: http://127.0.0.1:{runner.addresses[0][1]}/", flush=True)
        await asyncio.Event().wait()

    session = web.AppKey("session", aiohttp.ClientSession)
    uvloop.run(serve())


def serve_chatcore(model_url: str, data_dir: str) -> None:
    from chatcore_app import Settings
    from chatcore_cli.server import run

    environ = {"OPENAI_BASE_URL": model_url, "PORT": "0", "DATA_DIR": data_dir, "AUTO_TITLE": "first-message"}
    environ["MAX_REPLIES_PER_USER"] = "100000"
    run(Settings.load(environ, env_file="/dev/null"))


# ---- the client ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """Where to ask one question after the other, and the body of one."""

    url: str
    headers: dict[str, str]
    body: Callable[[str], dict[str, Any]]


async def plain_calls(_: aiohttp.ClientSession, url: str, number: int) -> list[Call]:
    return [Call(f"{url}/chat", {}, lambda content: {"content": content})] * number


async def chatcore_calls(session: aiohttp.ClientSession, url: str, number: int) -> list[Call]:
    """One user with so many conversations, since a conversation has one reply at a time."""
    headers = await signed_in(session, url)
    ids: list[int] = []
    for _ in range(number):
        async with session.post(f"{url}/conversations/create", json={}, headers=headers) as answer:
            ids.append((await answer.json())["id"])
    return [Call(f"{url}/conversations/{id_}/chat", headers, streamed) for id_ in ids]


def streamed(content: str) -> dict[str, Any]:
    return {"content": content, "stream": True}


async def passing_calls(session: aiohttp.ClientSession, url: str, number: int) -> list[Call]:
    return [Call(f"{url}/v1/chat/completions", await signed_in(session, url), completion)] * number


def completion(content: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], "stream": True}


async def signed_in(session: aiohttp.ClientSession, url: str) -> dict[str, str]:
    registration = {"username": "bench", "password": "correct horse battery"}
    async with session.post(f"{url}/auth/register", json=registration) as answer:
        return {"Authorization": "Bearer " + (await answer.json())["access_token"]}


async def listen(session: aiohttp.ClientSession, call: Call, number: int, rate: int, delay: float) -> None:
    await asyncio.sleep(delay)
    question = call.body(f"{number} {rate}")
    while True:
        async with session.post(call.url, json=question, headers=call.headers) as answer:
            body = await answer.text()
        if answer.status != 503:
            break
        await asyncio.sleep(1)  # as Retry-After says: a relay with more work than it can do may refuse some
    events = (json.loads(line[6:]) for line in body.split("\n") if line.startswith("data: {"))
    text = "".join(text_of(event) for event in events)
    assert text == WORD * number, f"{answer.status}: {len(text)} of {number * len(WORD)} characters"


def text_of(event: dict[str, Any]) -> str:
    if choices := event.get("choices"):  # as the model said it
        return str(choices[0]["delta"].get("content", ""))
    return str(event.get("text", ""))


async def cost(relay: Child, calls: list[Call], session: aiohttp.ClientSession, number: int, rate: int) -> float:
    """CPU seconds of the relay per 1,000 deltas, when each call relays so many at this rate, all at once."""
    before = relay.cpu()
    spread = SPREAD if rate else 0
    await asyncio.gather(*(listen(session, call, number, rate, index * spread) for index, call in enumerate(calls)))
    return (relay.cpu() - before) / (len(calls) * number) * 1000


async def compare(options: argparse.Namespace) -> None:
    relays = {
        "obvious": (plain_calls, ()),
        "bare": (plain_calls, ()),
        "chatcore": (chatcore_calls, (f"{options.data_dir}/chatcore",)),
        "passing": (passing_calls, (f"{options.data_dir}/passing",)),
    }
    scenes = {
        f"full speed, {options.at_once} replies of {options.full} deltas at once": (options.at_once, options.full, 0),
        f"{RATE} deltas a second, {options.live} live replies, {options.seconds} s": (
            options.live,
            options.seconds * RATE,
            RATE,
        ),
    }
    found: dict[str, dict[str, float]] = {scene: {} for scene in scenes}
    with child("model") as model_server:
        for name, (make_calls, arguments) in relays.items():
            with child(name, model_server.url + "/v1", *arguments) as relay:
                connector = aiohttp.TCPConnector(limit=0)
                async with aiohttp.ClientSession(connector=connector, timeout=NO_TIMEOUT) as session:
                    calls = await make_calls(session, relay.url, max(options.live, options.at_once))
                    await cost(relay, calls[:1], session, 100, 0)  # imports and caches
                    for scene, (streams, number, rate) in scenes.items():
                        found[scene][name] = await cost(relay, calls[:streams], session, number, rate)
    print("CPU milliseconds of the relay per 1,000 deltas:")
    for scene, costs in found.items():
        print(f"  {scene}")
        for name, seconds in costs.items():
            ours = ", ".join(f"{own} {costs[own] / seconds:.3f}" for own in ("chatcore", "passing") if own != name)
            print(f"    {name:8} {seconds * 1000:8.1f}   of it: {ours}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--live", type=int, default=100, help="replies that are talking at a model's pace")
    parser.add_argument("--seconds", type=int, default=30, help="for how long they talk")
    parser.add_argument("--full", type=int, default=2000, help="deltas of a reply at full speed")
    parser.add_argument("--at-once", type=int, default=8, help="replies at full speed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as options.data_dir:
        uvloop.run(compare(options))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["model"]:
            tell()
            uvloop.run(serve_model())
        case ["obvious", model_url]:
            tell()
            serve_obvious(model_url)
        case ["bare", model_url]:
            tell()
            serve_bare(model_url)
        case ["chatcore" | "passing", model_url, data_dir]:
            tell()
            serve_chatcore(model_url, data_dir)
        case _:
            main()
