"""A wire between the application and its database, which a test may cut, shut or let go silent."""

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Self


class TcpProxy:
    """Passes bytes on, both ways, between `127.0.0.1:port` and one address.

    `refuse` closes the port and cuts everybody; `cut` only cuts; `swallow` accepts whoever comes and passes on no
    answer any more, and no question either unless only `answers` are meant; `heal` ends it all, and cuts those whose
    bytes are lost. While `break_every` is a number, one of so many pieces ends its connection: in turn with half of it,
    with a reset, and with nothing. `answered` is set when the first of an answer has passed.
    """

    break_every: int | None = None

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._tasks = set[asyncio.Task[None]]()
        self._lost = set[str]()
        self._passed = 0
        self.port = 0
        self.answered = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()

    async def refuse(self) -> None:
        if self._server:
            self._server.close()
        self._server = None
        await self.cut()

    async def cut(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def swallow(self, *, answers: bool = False) -> None:
        self._lost = {"answer"} if answers else {"answer", "question"}

    async def heal(self) -> None:
        if self._lost:
            self._lost = set()
            await self.cut()
        if not self._server:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with closed(writer):
            there, back = await asyncio.open_connection(*self._target)
            async with closed(back):
                ways = [
                    asyncio.create_task(self._pass("question", reader, back)),
                    asyncio.create_task(self._pass("answer", there, writer)),
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)

    async def _pass(self, what: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if what in self._lost:
                    continue
                if whole := not self._breaks():
                    writer.write(data)
                elif self._passed % 3 == 0:
                    writer.write(data[: len(data) // 2])
                elif self._passed % 3 == 1:
                    connection: socket.socket = writer.get_extra_info("socket")
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await writer.drain()
                if what == "answer":
                    self.answered.set()
                if not whole:
                    return

    def _breaks(self) -> bool:
        self._passed += 1
        return self.break_every is not None and self._passed % self.break_every == 0


@asynccontextmanager
async def closed(writer: asyncio.StreamWriter) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        writer.transport.abort()
