"""Connections at the door: whose are opened first, and what becomes of those that wait when it closes."""

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from chatcore_cli import accepting
from chatcore_cli.accepting import Accepting


class Opened(asyncio.Protocol):
    """Notes whose connection it is, and ends with its client's."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._addresses.append(transport.get_extra_info("peername")[0])
        connection = transport.get_extra_info("socket")
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


class Door:
    def __init__(self) -> None:
        self.opened: list[str] = []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.accepting = Accepting(self.listening, self._protocol)
        self.port: int = self.listening.getsockname()[1]
        self.clients: list[socket.socket] = []
        self._protocols: list[Opened] = []

    def _protocol(self) -> Opened:
        self._protocols.append(Opened(self.opened))
        return self._protocols[-1]

    def connect(self, address: str = "127.0.0.1") -> socket.socket:
        """Without a turn of the event loop: the system does so by itself."""
        self.clients.append(socket.create_connection(("127.0.0.1", self.port), source_address=(address, 0)))
        return self.clients[-1]

    async def until(self, number: int) -> int:
        """So many are open. The most that were opened between two looks."""
        most = 0
        async with asyncio.timeout(30):
            while len(self.opened) < number:
                before = len(self.opened)
                await asyncio.sleep(0)
                most = max(most, len(self.opened) - before)
        return most

    async def close(self) -> None:
        self.accepting.close()
        await asyncio.gather(*self.accepting._opening)
        for client in self.clients:
            client.close()
        async with asyncio.timeout(30):
            await asyncio.gather(*(protocol.lost.wait() for protocol in self._protocols))
        await asyncio.sleep(0)


@pytest_asyncio.fixture
async def door() -> AsyncIterator[Door]:
    door = Door()
    yield door
    await door.close()


async def test_the_connections_of_one_network_keep_no_others_waiting(door: Door) -> None:
    for _ in range(300):
        door.connect()
    door.connect("127.0.0.2")
    await door.until(301)
    assert door.opened.index("127.0.0.2") < 60  # of which some were opened before all were accepted


async def test_a_few_are_opened_in_one_turn(door: Door) -> None:
    for _ in range(60):
        door.connect()
    assert 0 < await door.until(60) <= 8  # two turns' work may meet in one


async def test_those_that_wait_when_it_closes_are_cut_off(door: Door) -> None:
    for _ in range(50):
        door.connect()
    await door.until(1)
    door.accepting.close()
    assert not door.accepting._waiting
    await asyncio.gather(*door.accepting._opening)
    assert len(door.opened) < 50
    last = door.clients[-1]
    last.settimeout(5)
    assert last.recv(1) == b""


async def test_without_files_it_rests_and_goes_on(
    door: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accepting, "_PAUSE", 0.01)

    def exhausted() -> None:
        monkeypatch.undo()
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(door.accepting, "_take", exhausted)
    door.connect()
    await door.until(1)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_connection_that_is_lost_before_it_is_opened_is_no_error(door: Door) -> None:
    for _ in range(20):
        lost = door.connect()
        lost.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        lost.close()
    door.connect("127.0.0.2")
    async with asyncio.timeout(30):
        while "127.0.0.2" not in door.opened:
            await asyncio.sleep(0)
