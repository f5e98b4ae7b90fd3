"""What one attacker does to a server: each attack is a function of its target, bounded by the target's seconds.

An attack that needs something stored has a second function, which prepares it while nobody measures. Everything stays
on loopback.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count, cycle
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from hostile_models import bomb, serving_models

MIB = 2**20
MARKS = "a" + "\u0301" * 40_000 + "\u0323" * 40_000
"""Whose normal form takes quadratic time."""
_JSON = {"Content-Type": "application/json"}
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_names = count()


@dataclass(frozen=True)
class Target:
    """The server, and what the attacker has there: an account, and one conversation."""

    url: str
    token: str
    conversation: int
    seconds: float

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    async def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> bytes:
        """The answer's body, which is read to its end whatever the status."""
        sent = {**_JSON, **self.bearer, **(headers or {})}
        async with self._http() as http, http.request(method, path, data=body, headers=sent) as answer:
            read = bytearray()
            async for chunk in answer.content.iter_chunked(MIB):
                read = bytearray(chunk) if len(read) > MIB else read + chunk  # none of it is kept for long
            return bytes(read)

    async def made(self, path: str, **fields: Any) -> Any:
        return json.loads(await self.ask("POST", path, json.dumps(fields)))

    async def got(self, path: str) -> Any:
        async with self._http() as http, http.get(path, headers=self.bearer) as answer:
            return await answer.json()

    def _http(self) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=max(60.0, 4 * self.seconds))
        return aiohttp.ClientSession(self.url, timeout=timeout, connector=aiohttp.TCPConnector(limit=0))


Attack = Callable[[Target], Awaitable[object]]


async def at_once(number: int, work: Callable[[], Awaitable[object]]) -> None:
    """So many of it, and what fails of them is what the server is there for."""
    await asyncio.gather(*(work() for _ in range(number)), return_exceptions=True)


async def over_and_over(target: Target, number: int, work: Callable[[], Awaitable[object]]) -> None:
    """So many at once, each again as soon as it has ended, for the target's seconds; then they hang up."""

    async def again() -> None:
        while True:
            with suppress(Exception):  # what fails of it is what the server is there for
                await work()
            await asyncio.sleep(0.001)

    with suppress(TimeoutError):
        async with asyncio.timeout(target.seconds):
            await at_once(number, again)


@asynccontextmanager
async def connected(target: Target) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A raw connection."""
    where = urlsplit(target.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=2**16)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def pour(writer: asyncio.StreamWriter, what: bytes, total: int, *, pause: float = 0) -> None:
    """So many bytes of it, or until the server hangs up. `pause`: seconds between two pieces of 64 KiB."""
    piece = what * (65_536 // len(what))
    with suppress(OSError):
        for _ in range(total // len(piece)):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)


def head(path: str, **headers: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in {"Host": "x", **headers}.items()]
    return "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""]).encode()


# ---- A1 to A4: requests ------------------------------------------------------------------------------------


async def combining_marks(target: Target) -> None:
    askings = [
        ("/auth/login", {"username": MARKS, "password": "x"}),
        ("/auth/login", {"username": "ada", "password": MARKS}),
        ("/auth/register", {"username": MARKS, "password": "correct horse battery"}),
        ("/auth/register", {"username": "ada2", "email": MARKS, "password": MARKS}),
        ("/v1/auth/register", {"username": MARKS, "email": "a@example.com", "password": "correct horse battery"}),
        ("/user/register", {"userid": MARKS, "password": "correct horse battery"}),
        ("/auth/me/username", {"username": MARKS}),
        ("/auth/me/email", {"email": MARKS}),
        ("/auth/me/password", {"password": MARKS}),
    ]
    turns = count()

    async def one() -> None:
        path, body = askings[next(turns) % len(askings)]
        await target.ask("POST", path, json.dumps(body, ensure_ascii=False).encode())

    await over_and_over(target, 4, one)


def endless(beginning: bytes, more: bytes) -> Attack:
    async def attack(target: Target) -> None:
        async def one() -> None:
            async with connected(target) as (_, writer):
                writer.write(beginning)
                await pour(writer, more, 60 * MIB)

        await over_and_over(target, 2, one)

    return attack


async def half_sent_bodies(target: Target) -> None:
    async def one() -> None:
        async with connected(target) as (_, writer):
            writer.write(head("/auth/login", Content_Type="application/json", Content_Length=str(MIB)))
            await pour(writer, b" ", MIB - 65_536, pause=target.seconds / 16)
            await asyncio.sleep(target.seconds)

    await at_once(300, one)


async def half_sent_headers(target: Target) -> None:
    async def one() -> None:
        async with connected(target) as (_, writer):
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\na: " + b"b" * 30_000)
            await asyncio.sleep(target.seconds)

    await at_once(300, one)


async def form_fields(target: Target) -> None:
    await over_and_over(target, 2, lambda: target.ask("POST", "/v1/auth/token", b"a&" * 500_000, _FORM))


# ---- A5: sockets -------------------------------------------------------------------------------------------

EMPTY_CONTINUATION = b"\x00\x80\0\0\0\0"
ONE_BYTE = b"\x00\x81\0\0\0\0x"
PING = b"\x89\xfd\0\0\0\0" + b"x" * 125
BEGINNING = b"\x01\x80\0\0\0\0"


def text_frame(text: bytes) -> bytes:
    """Masked with zeros."""
    length = len(text)
    size = bytes([0x80 | length]) if length < 126 else b"\xfe" + length.to_bytes(2, "big")
    return b"\x81" + (size if length < 2**16 else b"\xff" + length.to_bytes(8, "big")) + b"\0\0\0\0" + text


@asynccontextmanager
async def socket_of(target: Target, *, signed_in: bool) -> AsyncIterator[asyncio.StreamWriter]:
    """Nothing of what the server says on it is read any more."""
    async with connected(target) as (reader, writer):
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
        path = f"/conversations/ws/{target.conversation}"
        upgrade = f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n\r\n"
        writer.write(upgrade.encode())
        await reader.readuntil(b"\r\n\r\n")
        if signed_in:
            writer.write(text_frame(json.dumps({"type": "auth", "token": target.token}).encode()))
            await reader.readuntil(b"ready")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        yield writer


def flood(frames: bytes, first: bytes = b"", sockets: int = 1) -> Attack:
    """Of frames, at 3 MB a second."""

    async def attack(target: Target) -> None:
        async def one() -> None:
            async with socket_of(target, signed_in=True) as writer, asyncio.timeout(target.seconds):
                writer.write(first)
                while True:
                    writer.write(frames * (30_000 // len(frames)))
                    await writer.drain()
                    await asyncio.sleep(0.01)

        await at_once(sockets, one)

    return attack


async def bursts_without_a_token(target: Target) -> None:
    async def one() -> None:
        async with socket_of(target, signed_in=False) as writer:
            writer.write(text_frame(b"x" * MIB))
            await writer.drain()
            await asyncio.sleep(0.2)

    await over_and_over(target, 4, one)


# ---- A6, A10: models ---------------------------------------------------------------------------------------


def model_that(behaves: str) -> Attack:
    """Twenty replies of it at once, and again those that have ended."""

    async def attack(target: Target) -> None:
        async with serving_models(target.seconds) as url:
            config = (
                await target.made("/auth/config/create", model_url=f"{url}/{behaves}", model_name="m", api_key="")
            )["id"]
            conversations = [(await target.made("/conversations/create"))["id"] for _ in range(20)]
            turns = cycle(conversations)

            async def one() -> None:
                body = json.dumps({"content": "Hello", "config_id": config, "stream": True})
                await target.ask("POST", f"/conversations/{next(turns)}/chat", body)

            await over_and_over(target, 20, one)

    return attack


async def have_a_bomb(_: Target) -> None:
    bomb()


async def checks_at_once(target: Target) -> None:
    async with serving_models(target.seconds) as url:
        config = (await target.made("/auth/config/create", model_url=f"{url}/silent", model_name="m", api_key=""))["id"]
        with suppress(TimeoutError):
            async with asyncio.timeout(target.seconds):
                await at_once(800, lambda: target.ask("POST", f"/auth/config/{config}/check"))


# ---- A7: imports -------------------------------------------------------------------------------------------

THEN = "2025-05-04T03:02:01Z"
_HEADER = {"kind": "export", "format": "chatcore export", "version": 1}


def _line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def exported(contents: Iterator[str], *, siblings: bool = False) -> Iterator[bytes]:
    """One conversation, as a chain of messages, or as messages that all follow the first."""
    yield _line(**_HEADER)
    yield _line(kind="conversation", id=1, title="t", created_at=THEN, updated_at=THEN)
    for number, content in enumerate(contents, 1):
        role = ("assistant", "user")[number % 2] if not siblings or number == 1 else "assistant"
        parent = None if number == 1 else 1 if siblings else number - 1
        place = {"id": number, "conversation_id": 1, "parent_id": parent}
        yield _line(kind="message", role=role, content=content, created_at=THEN, **place)


async def _sent(lines: Iterator[bytes]) -> AsyncIterator[bytes]:
    for line in lines:
        yield line


async def bring(target: Target, lines: Iterator[bytes]) -> int:
    """The new conversation's id."""
    ended = (*lines, _line(kind="end"))
    report = json.loads(await target.ask("POST", "/conversations/import", _sent(iter(ended))))
    assert report["conversations"] == 1, report
    newest: int = json.loads(await target.ask("GET", "/conversations?limit=1"))["items"][0]["id"]
    return newest


async def import_of_nonsense(target: Target) -> None:
    async def one() -> None:
        await target.ask("POST", "/conversations/import", _sent(iter([_line(**_HEADER), *[b"[\n" * MIB] * 15])))

    await over_and_over(target, 1, one)


async def held_open_imports(target: Target) -> None:
    async def held() -> AsyncIterator[bytes]:
        for line in exported(iter(["x" * 4_000_000] * 16)):
            yield line
        await asyncio.sleep(target.seconds)

    with suppress(TimeoutError):
        async with asyncio.timeout(2 * target.seconds):
            await at_once(12, lambda: target.ask("POST", "/conversations/import", held()))


# ---- A8, A9, B1 to B3: what is stored ----------------------------------------------------------------------


async def have_much_to_search(target: Target) -> None:
    await bring(target, exported(iter(["a" * 200_000] * 60)))


async def searches(target: Target) -> None:
    query = "a" * 199 + "b"
    await over_and_over(target, 12, lambda: target.ask("GET", f"/conversations/search?q={query}"))


async def have_many_siblings(target: Target) -> None:
    await bring(target, exported(iter(["Hello"] * 10_000), siblings=True))


async def exports(target: Target) -> None:
    await over_and_over(target, 2, lambda: target.ask("GET", "/auth/me/export"))


async def have_huge_messages(target: Target) -> None:
    await bring(target, exported(iter(["x" * 3_900_000] * 4)))  # nearly all that one import of a conversation may have


async def pages(target: Target) -> None:
    newest = json.loads(await target.ask("GET", "/conversations?limit=1"))["items"][0]["id"]
    await over_and_over(target, 4, lambda: target.ask("GET", f"/conversations/{newest}?limit=200"))


async def sends_into_huge_messages(target: Target) -> None:
    newest = json.loads(await target.ask("GET", "/conversations?limit=1"))["items"][0]["id"]
    body = json.dumps({"content": "Hello", "stream": False})
    await over_and_over(target, 4, lambda: target.ask("POST", f"/conversations/{newest}/chat", body))


async def have_a_long_reply(target: Target) -> None:
    async with serving_models(60) as url:
        config = (await target.made("/auth/config/create", model_url=f"{url}/long", model_name="m", api_key=""))["id"]
        body = json.dumps({"content": "Hello", "config_id": config, "stream": False})
        await target.ask("POST", f"/conversations/{target.conversation}/chat", body)
        newest = (await target.got(f"/conversations/{target.conversation}"))["messages"][-1]
        assert newest["status"] == "complete", newest["status"]


async def readers_that_read_nothing(target: Target) -> None:
    async def one() -> None:
        async with connected(target) as (reader, writer):
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            path = f"/conversations/{target.conversation}/reply?after=0"
            asked = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {target.token}\r\n\r\n"
            writer.write(asked.encode())
            await asyncio.sleep(target.seconds)

    await at_once(50, one)


# ---- B4 ----------------------------------------------------------------------------------------------------


async def large_posts(target: Target) -> None:
    body = b'{"title": "x", "ignored": "' + b"x" * (MIB - 50) + b'"}'
    left = iter(range(500))

    async def several() -> None:
        for _ in left:
            await target.ask("POST", "/conversations/create", body)

    await at_once(4, several)


# ---- the table ---------------------------------------------------------------------------------------------

ATTACKS: dict[str, tuple[Attack, Attack | None]] = {
    "A1 combining marks in names, addresses, passwords": (combining_marks, None),
    "A2 60 MiB of header lines": (endless(b"GET /health HTTP/1.1\r\nHost: x\r\n", b"a: b\r\n"), None),
    "A2 a URL of 60 MiB": (endless(b"GET /", b"a"), None),
    "A3 300 half-sent bodies": (half_sent_bodies, None),
    "A3 300 half-sent headers": (half_sent_headers, None),
    "A4 a form of 500,000 fields": (form_fields, None),
    "A5 empty continuation frames": (flood(EMPTY_CONTINUATION, BEGINNING), None),
    "A5 fragments of one byte": (flood(ONE_BYTE, BEGINNING), None),
    "A5 pings whose pongs are not read": (flood(PING, sockets=10), None),
    "A5 1 MiB without a token": (bursts_without_a_token, None),
    "A6 a gzip bomb": (model_that("gzip"), have_a_bomb),
    "A6 comments": (model_that("comments"), None),
    "A6 empty deltas": (model_that("deltas"), None),
    "A6 empty choices": (model_that("choices"), None),
    "A6 usage chunks": (model_that("usage"), None),
    "A6 chunk extensions": (model_that("extensions"), None),
    "A6 answers before the answer (1xx)": (model_that("continue"), None),
    "A7 an import of 30 MB of [": (import_of_nonsense, None),
    "A7 twelve imports held open": (held_open_imports, None),
    "A8 searches for aaa…b": (searches, have_much_to_search),
    "A9 exports of 10,000 siblings": (exports, have_many_siblings),
    "A10 800 checks at once": (checks_at_once, None),
    "B1 pages of huge messages": (pages, have_huge_messages),
    "B2 sends into huge messages": (sends_into_huge_messages, have_huge_messages),
    "B3 50 readers of 4 MiB that read nothing": (readers_that_read_nothing, have_a_long_reply),
    "B4 500 posts of 1 MiB": (large_posts, None),
}
