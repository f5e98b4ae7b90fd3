"""A model's endpoint that means harm: what it does is the first part of the path that it is asked at."""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import cache

MIB = 2**20
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
_CHUNKED = _STREAM + b"Transfer-Encoding: chunked\r\n\r\n"


def _event(**fields: object) -> bytes:
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", **fields}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


def _delta(**delta: str) -> dict[str, object]:
    return {"index": 0, "delta": delta, "finish_reason": None}


_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
FLOODS = {
    "comments": (_CHUNKED, _chunk(b":\n\n" * 1000)),
    "deltas": (_CHUNKED, _chunk(_event(choices=[_delta(content="")]) * 100)),
    "choices": (_CHUNKED, _chunk(_event(choices=[]) * 100)),
    "usage": (_CHUNKED, _chunk(_event(choices=[], usage=_USAGE) * 100)),
    "extensions": (_CHUNKED, _chunk(b":", b";" + b"x" * 4000)),
    "continue": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100),
}
"""How each begins, and what it goes on with until its caller hangs up."""


def _long_reply() -> bytes:
    """4 MiB but for a little, and its end."""
    text = _event(choices=[_delta(content="x" * 4096)])
    end = _event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    return _STREAM + b"Connection: close\r\n\r\n" + text * 1000 + end + b"data: [DONE]\n\n"


@cache
def bomb() -> bytes:
    """Half a megabyte that becomes 512 MiB."""
    packer = zlib.compressobj(wbits=31)
    packed = b"".join(packer.compress(b" " * MIB) for _ in range(512)) + packer.flush()
    return _STREAM + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed


_ONCE: dict[str, Callable[[], bytes]] = {"gzip": bomb, "long": _long_reply}


@asynccontextmanager
async def serving_models(seconds: float) -> AsyncIterator[str]:
    """Its URL. No answer takes longer than so many seconds."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(seconds):
                request = await reader.readuntil(b"\r\n\r\n")
                await _behave(request.split(b"/")[1].decode(), writer)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _behave(how: str, writer: asyncio.StreamWriter) -> None:
    if how in _ONCE:
        writer.write(_ONCE[how]())
        await writer.drain()
    elif how in FLOODS:
        start, more = FLOODS[how]
        writer.write(start)
        while True:
            writer.write(more)
            await writer.drain()
            await asyncio.sleep(0)
    else:
        await asyncio.sleep(3600)  # until the time limit
