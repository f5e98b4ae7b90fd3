"""A model server that does to the byte what a test tells it to: a real socket, and no HTTP library.

    async with ModelServer() as server:
        server.script(says("Hel", "lo"))                        # the answer to the next request
        server.script(stream(chunk("Hel"), STALL))              # and to the one after
        server.always = plain(401, '{"error": "no such key"}')  # and to all others
        ...                                                     # let something call server.url
        await server.requests[1].ended()

A step of an answer is bytes, which go out as one chunk of the response as soon as it is their turn, or what happens
then: `STALL`, `CUT`, `RESET`, a `Gate`, or a number of seconds in which the model thinks.
"""

import asyncio
import json
import socket
import struct
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias


class Sign(Enum):
    STALL = auto()
    CUT = auto()
    RESET = auto()


STALL = Sign.STALL
"""Nothing more is sent; the connection stays until the client leaves."""
CUT = Sign.CUT
"""The server ends the connection, however far the response has come."""
RESET = Sign.RESET
"""As a cut, but as if the server had died: a TCP reset."""


class Gate:
    """The answer waits here until the test opens it."""

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._open = asyncio.Event()

    async def reached(self) -> None:
        """Returns once an answer has come this far: all before has been sent."""
        await self._reached.wait()

    def open(self) -> None:
        self._open.set()

    async def wait(self) -> None:
        self._reached.set()
        await self._open.wait()


Step: TypeAlias = bytes | float | Gate | Sign


@dataclass(frozen=True, slots=True)
class Answer:
    """A response in chunks. `raw`: without head and framing, the steps are all that goes over the wire."""

    steps: Sequence[Step]
    status: int = 200
    headers: Sequence[tuple[str, str]] = (("Content-Type", "text/event-stream; charset=utf-8"),)
    raw: bool = False


def stream(*steps: Step) -> Answer:
    return Answer(steps)


def plain(status: int, body: str, content_type: str = "application/json", **headers: str) -> Answer:
    return Answer([body.encode()], status=status, headers=[("Content-Type", content_type), *headers.items()])


def raw(*steps: Step) -> Answer:
    return Answer(steps, raw=True)


def event(data: object) -> bytes:
    """`data: …` and a blank line, as OpenAI writes it."""
    return f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


def named(kind: str, number: int, **more: object) -> bytes:
    """One event of Responses."""
    return f"event: {kind}\n".encode() + event({"type": kind, "sequence_number": number, **more})


def chunk(
    text: str | None = None,
    *,
    reasoning: str | None = None,
    finish: str | None = None,
    usage: tuple[int, int] | None = None,
) -> bytes:
    """One event with what of this is given; `usage`: prompt and completion tokens."""
    said = {"content": text, "reasoning_content": reasoning}
    delta = {name: value for name, value in said.items() if value is not None}
    choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}] if delta or finish else []
    counts = usage and {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "scripted"}
    return event(frame | {"system_fingerprint": "fp_1", "choices": choices, "usage": counts})


def part(**delta: object) -> bytes:
    """One event with a delta of any form."""
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


DONE = event("[DONE]")


def says(*texts: str, reasoning: Sequence[str] = (), usage: tuple[int, int] | None = None) -> Answer:
    """A well-formed stream with one chunk of the response per text."""
    said = [*(chunk(reasoning=thought) for thought in reasoning), *(chunk(text) for text in texts)]
    return stream(*said, chunk(finish="stop"), *([chunk(usage=usage)] if usage else []), DONE)


@dataclass(slots=True, eq=False)
class Request:
    """What was asked. Names of headers are in lower case; `body` is the JSON that came, as `content`, None for none.

    `ending`: None while it is being answered; `answered` when all steps have been sent; `left` if the client closed the
    connection before.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    content: bytes = b""
    ending: Literal["answered", "left"] | None = None
    _ended: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    async def ended(self) -> None:
        await self._ended.wait()

    def end(self, ending: Literal["answered", "left"]) -> None:
        self.ending = ending
        self._ended.set()


class ModelServer:
    """Listens on 127.0.0.1, on a port of its own. Connections are kept alive after a complete answer.

    `open_connections` and `connections`: how many there are now, and have been in all.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.always = says("Hello")
        self.connections = 0
        self.open_connections = 0
        self._next: deque[Answer] = deque()
        self._handlers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=1024)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await self._server.wait_closed()

    def script(self, *answers: Answer) -> None:
        """Answers the next requests, one each; what comes after them gets `always`."""
        self._next.extend(answers)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        assert handler
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)
        self.connections += 1
        self.open_connections += 1
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self.open_connections -= 1
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(1)
        while True:
            request = await _read_request(first, reader)
            self.requests.append(request)
            answer = self._next.popleft() if self._next else self.always
            answering = asyncio.create_task(_play(answer, writer))
            reading = asyncio.create_task(reader.readexactly(1))
            try:
                await asyncio.wait((answering, reading), return_when=asyncio.FIRST_COMPLETED)
                request.end("answered" if answering.done() and not answering.exception() else "left")
                if request.ending == "left" or not await answering:
                    return
                first = await reading
            finally:
                answering.cancel()
                reading.cancel()
                await asyncio.gather(answering, reading, return_exceptions=True)


async def _read_request(first: bytes, reader: asyncio.StreamReader) -> Request:
    head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *fields = head.removesuffix("\r\n\r\n").split("\r\n")
    method, path, _ = line.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, json.loads(body) if body else None, body)


async def _play(answer: Answer, writer: asyncio.StreamWriter) -> bool:
    """Whether the connection may be used again."""
    if not answer.raw:
        lines = "".join(f"{name}: {value}\r\n" for name, value in (*answer.headers, ("Transfer-Encoding", "chunked")))
        writer.write(f"HTTP/1.1 {answer.status} Scripted\r\n{lines}\r\n".encode())
    for step in answer.steps:
        if step is Sign.CUT or step is Sign.RESET:
            await _cut(writer, reset=step is Sign.RESET)
            return False
        if step is Sign.STALL:
            await asyncio.Event().wait()
        elif isinstance(step, Gate):
            await step.wait()
        elif isinstance(step, int | float):
            await asyncio.sleep(step)
        else:
            writer.write(step if answer.raw else b"%x\r\n%b\r\n" % (len(step), step))
            await writer.drain()
    if not answer.raw:
        writer.write(b"0\r\n\r\n")
        await writer.drain()
    return not answer.raw


async def _cut(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    if reset:
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
