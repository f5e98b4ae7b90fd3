"""A connection on which requests are written by hand, byte for byte."""

import asyncio
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from integration.http_app import Api


class Line:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.sent = 0

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()
        self.sent += len(data)

    async def endless(self, piece: bytes = b"%x\r\n%b\r\n" % (60_000, b" " * 60_000)) -> None:
        """Sends this, else chunks of a body, until the server will have no more of it."""
        while True:
            await self.say(piece)

    async def drip(self, data: bytes, *, pause: float) -> None:
        """Byte after byte."""
        for byte in data:
            await self.say(bytes((byte,)))
            await asyncio.sleep(pause)

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, json.loads(body)

    async def refusal(self, status: int, code: str) -> dict[str, Any]:
        """The problem that it must be, after which nothing comes any more."""
        answered, headers, problem = await self.answer()
        assert (answered, problem["status"], problem["code"]) == (status, status, code)
        assert headers["content-type"] == "application/problem+json"
        assert headers["connection"] == "close"
        assert headers["x-request-id"].isalnum()
        assert headers["x-content-type-options"] == "nosniff"
        with suppress(ConnectionResetError):  # which is what a client that goes on sending gets in the end
            assert await self.reader.read() == b""
        assert isinstance(problem, dict)
        return problem


async def line(api: Api) -> Line:
    url = api.http._base_url
    assert url
    return Line(*await asyncio.open_connection(url.host, url.port))


async def line_to(api: Api, path: str, headers: str, *, token: str | None) -> Line:
    """After a POST's head."""
    opened = await line(api)
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    await opened.say(f"POST {path} HTTP/1.1\r\nHost: test\r\n{bearer}{headers}\r\n\r\n".encode())
    return opened


def memory_of(pid: int) -> int:
    """The bytes that a process has in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
