"""What a client may send over a WebSocket in the form of frames, byte for byte: nobody floods the server."""

import asyncio
import base64
import json
import os
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from chatcore.ports import LLMGateway
from chatcore_http.ws_protocol import (
    FRAMES_AT_ONCE,
    MAX_BYTES_BEFORE_SIGNING_IN,
    MAX_FRAGMENTS,
    BoundedWebSocket,
)
from chatcore_memory import ScriptedModel
from integration.http_app import Api, provided, settings_for
from integration.ws_client import Served, connected, served

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONT, TEXT, CLOSE, PING, PONG = 0x0, 0x1, 0x8, 0x9, 0xA
FIN = 0x80
TURN = 2 * (64 + 1024 // 6)  # frames that are handled without a pause: a turn and a piece, by two ways


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    settings = settings_for(tmp_path_factory.mktemp("data"), AUTO_TITLE="first-message")
    async with served(settings, provided(LLMGateway, ScriptedModel("Hello"))) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def ada(house: Served) -> Api:
    return await house.stranger.user()


@pytest_asyncio.fixture(loop_scope="module")
async def conversation(ada: Api) -> int:
    return await ada.conversation()


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """As a client sends it: masked, with a mask that changes nothing."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    else:
        length = b"\xfe" + struct.pack("!H", size) if size <= 0xFFFF else b"\xff" + struct.pack("!Q", size)
    return bytes([(FIN if fin else 0) | opcode]) + length + b"\0\0\0\0" + payload


class Raw:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def say(self, kind: str, **fields: object) -> None:
        self.send(frame(TEXT, json.dumps({"type": kind, **fields}).encode()))

    async def hear(self) -> tuple[int, bytes]:
        first, size = await self.reader.readexactly(2)
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 0xF, await self.reader.readexactly(size)

    async def closed(self) -> tuple[int, str]:
        """The code and the reason, whatever comes before them."""
        async with asyncio.timeout(20):
            while (heard := await self.hear())[0] != CLOSE:
                pass
        return struct.unpack("!H", heard[1][:2])[0], heard[1][2:].decode()

    async def ready(self, token: str | None) -> None:
        self.say("auth", token=token)
        assert json.loads((await self.hear())[1]) == {"type": "ready"}


@asynccontextmanager
async def raw(house: Served, conversation: int, *protocols: str) -> AsyncGenerator[Raw, None]:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    offered = f"Sec-WebSocket-Protocol: {', '.join(protocols)}\r\n" if protocols else ""
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET /conversations/ws/{conversation} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{offered}\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in head
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


def protocols_of(house: Served) -> list[BoundedWebSocket]:
    return [each for each in house.server.server_state.connections if isinstance(each, BoundedWebSocket)]


def protocol_of(house: Served) -> BoundedWebSocket:
    (protocol,) = protocols_of(house)
    return protocol


class Counted:
    """How many frames are handled between two turns of the event loop, at most."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = self.all = self._now = 0
        counts = BoundedWebSocket._counts

        def counting(protocol: BoundedWebSocket, *, first: bool = False) -> bool:
            if not self._now:
                asyncio.get_running_loop().call_soon(self._next)
            self._now += 1
            self.all += 1
            return counts(protocol, first=first)

        monkeypatch.setattr(BoundedWebSocket, "_counts", counting)

    def _next(self) -> None:
        self.most, self._now = max(self.most, self._now), 0


FLOODS = {
    "empty continuations": frame(TEXT, b"", fin=False) + frame(CONT, b"", fin=False) * 500_000,
    "pings": frame(PING) * 500_000,
    "long pings": frame(PING, b"x" * 125) * 50_000,
    "pongs": frame(PONG) * 500_000,
    "one byte each": frame(TEXT, b"{", fin=False) + frame(CONT, b" ", fin=False) * 400_000,
    "messages of nothing": frame(TEXT) * 100_000,
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
async def test_a_flood_of_frames_ends_its_connection_and_keeps_nobody_waiting(
    house: Served, ada: Api, conversation: int, flood: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    async with raw(house, conversation) as attacker:
        await attacker.ready(ada.token)
        attacker.send(flood)
        code, reason = await attacker.closed()
        assert code == 1008
        assert "frames" in reason
    assert counted.most <= TURN
    assert counted.all <= 2 * FRAMES_AT_ONCE + 1024
    async with connected(ada, conversation) as socket:
        assert (await socket.ask())[-1].type == "reply.completed"


@pytest.mark.parametrize(
    "flood",
    [
        frame(PING) * 200_000,
        frame(TEXT, b"", fin=False) + frame(CONT, fin=False) * 150_000,
        frame(TEXT, b"[" * 1_000_000),
        frame(TEXT, b"", fin=False) + frame(CONT, b"x" * 200, fin=False) * 1000,
    ],
    ids=["pings", "continuations", "a frame", "fragments"],
)
@pytest.mark.parametrize("protocols", [(), ("chatcore.v1", "bearer.x")], ids=["no token", "a false one"])
async def test_before_signing_in_hardly_anything_is_read(
    house: Served, conversation: int, flood: bytes, protocols: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    fed = list[int]()
    receive = BoundedWebSocket._parse_piece

    def feed(protocol: BoundedWebSocket, size: int) -> None:
        if not protocol.close_sent:
            fed.append(size)
        receive(protocol, size)

    monkeypatch.setattr(BoundedWebSocket, "_parse_piece", feed)
    async with raw(house, conversation, *protocols) as attacker:
        attacker.send(flood)
        code, _ = await attacker.closed()
    assert code in ((4401,) if protocols else (1008, 1009))
    assert sum(fed) <= MAX_BYTES_BEFORE_SIGNING_IN


async def test_pongs_that_nobody_reads_do_not_pile_up(
    house: Served, ada: Api, conversation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatcore_http.ws_protocol.FRAMES_AT_ONCE", 10**9)
    monkeypatch.setattr("chatcore_http.ws_protocol.FRAMES_PER_SECOND", 10**9)
    async with raw(house, conversation) as attacker:
        await attacker.ready(ada.token)
        protocol = protocol_of(house)
        server_side = protocol.transport.get_extra_info("socket")
        server_side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # else the system takes megabytes off it
        attacker.writer.transport.set_write_buffer_limits(high=2**30)
        attacker.reader._transport.pause_reading()  # type: ignore[attr-defined]
        most = 0
        for _ in range(100):
            attacker.send(frame(PING, b"x" * 125) * 600)
            await asyncio.sleep(0.005)
            most = max(most, protocol.transport.get_write_buffer_size())
        assert 0 < most < 256 * 1024
        assert len(protocol._unparsed) < 1024 * 1024
        attacker.reader._transport.resume_reading()  # type: ignore[attr-defined]
        attacker.say("attach")
        async with asyncio.timeout(30):
            while (heard := await attacker.hear())[0] != TEXT:
                pass
        assert json.loads(heard[1])["code"] == "not_found"


async def test_a_long_message_in_fragments_behind_the_token_is_taken(
    house: Served, ada: Api, conversation: int
) -> None:
    """All of it arrives before the server has looked at the token."""
    message = json.dumps({"type": "send", "content": "x" * 150_000}).encode()
    parts = [message[first : first + 1000] for first in range(0, len(message), 1000)]
    frames = [frame(TEXT, parts[0], fin=False), *[frame(CONT, part, fin=False) for part in parts[1:-1]]]
    async with raw(house, conversation) as client:
        client.say("auth", token=ada.token)
        client.send(b"".join([*frames, frame(CONT, parts[-1])]))
        heard = [json.loads((await client.hear())[1])["type"] for _ in range(4)]
    assert heard == ["ready", "reply.started", "reply.delta", "reply.completed"]


async def test_a_token_in_the_handshake_may_be_followed_by_much_at_once(
    house: Served, ada: Api, conversation: int
) -> None:
    async with raw(house, conversation, "chatcore.v1", f"bearer.{ada.token}") as client:
        client.say("send", content="x" * 150_000)
        heard = [json.loads((await client.hear())[1])["type"] for _ in range(4)]
    assert heard == ["ready", "reply.started", "reply.delta", "reply.completed"]


async def test_a_message_has_a_bounded_number_of_fragments_however_slowly_they_come(
    house: Served, ada: Api, conversation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatcore_http.ws_protocol.FRAMES_PER_SECOND", 10**9)
    async with raw(house, conversation) as client:
        await client.ready(ada.token)
        for _ in range(2):  # each of two messages may have as many
            client.send(frame(TEXT, b"{", fin=False) + frame(CONT, b" ", fin=False) * (MAX_FRAGMENTS - 2))
            client.send(frame(CONT, b"}"))
            assert json.loads((await client.hear())[1])["code"] == "validation_failed"
        client.send(frame(TEXT, b"{", fin=False) + frame(CONT, b" ", fin=False) * MAX_FRAGMENTS)
        assert (await client.closed())[0] == 1008


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not reached():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def narrow(tmp_path: Path, **values: str) -> AsyncGenerator[tuple[Served, Api, int], None]:
    """A server of its own, and who has a conversation there."""
    settings = settings_for(tmp_path, AUTO_TITLE="first-message", **values)
    async with served(settings, provided(LLMGateway, ScriptedModel("Hello"))) as house:
        ada = await house.stranger.user()
        yield house, ada, await ada.conversation()


async def test_messages_that_are_not_complete_have_a_bound_in_all_and_give_their_room_back(tmp_path: Path) -> None:
    async with narrow(tmp_path, MAX_UNFINISHED_BODY_BYTES="400000") as (house, ada, conversation):  # 100,000 of one
        for how in ("finished", "left", "sent again"):
            async with raw(house, conversation) as first, raw(house, conversation) as second:
                await first.ready(ada.token)
                await second.ready(ada.token)
                first.send(frame(TEXT, b" " * 60_000, fin=False) + frame(CONT, b" " * 30_000)[:-1])
                await until(lambda: sum(each._held for each in protocols_of(house)) == 89_999)
                second.send(frame(TEXT, b" " * 60_000, fin=False))
                assert (await second.closed())[0] == 1013
                if how == "finished":
                    first.send(b" ")
                    assert json.loads((await first.hear())[1])["code"] == "validation_failed"
            await until(lambda: not protocols_of(house))


async def test_a_message_whose_rest_does_not_come_ends_its_connection_though_pings_are_answered(
    tmp_path: Path,
) -> None:
    async with (
        narrow(tmp_path, BODY_TIMEOUT="0.3") as (house, ada, conversation),
        raw(house, conversation) as client,
    ):
        await client.ready(ada.token)
        client.send(frame(TEXT, b"x" * 2000, fin=False) + frame(PING, b"x" * 125) * 20)
        assert await client.closed() == (1008, "The message did not arrive in time.")


async def test_a_client_that_leaves_is_noticed_although_much_is_unread(
    house: Served, ada: Api, conversation: int
) -> None:
    async with raw(house, conversation) as client:
        await client.ready(ada.token)
        for _ in range(200):
            client.say("attach")
        client.send(frame(CLOSE, struct.pack("!H", 1000)))
        assert (await client.closed())[0] == 1000
