"""Whose requests wait for whose, on a server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from chatcore.ports import LLMGateway
from chatcore_http import admission
from chatcore_http.admission import Admission
from chatcore_memory import ScriptedModel, Stall
from integration.http_app import Api, CurrentModel, provided, settings_for
from integration.raw_http import line
from integration.ws_client import Served, connected, served

MODEL = CurrentModel()
PLACES = 8
CROWD = {"X-Forwarded-For": "192.0.2.1"}
OTHER = {"X-Forwarded-For": "192.0.2.2"}


@pytest_asyncio.fixture
async def house(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr(admission, "PATIENCE", 3600.0)
    settings = settings_for(tmp_path, TRUSTED_PROXIES="127.0.0.1", DATABASE_POOL_SIZE=str(PLACES - 6))
    async with served(settings, provided(LLMGateway, MODEL)) as house:
        yield house
        assert admission_of(house)._lines == {}


def admission_of(house: Served) -> Admission:
    layer: Any = house.app.asgi_handler
    while not isinstance(layer, Admission):
        layer = layer.app
    return layer


async def waiting(house: Served, number: int) -> None:
    async with asyncio.timeout(30):
        while sum(len(line._waiting) for line in admission_of(house)._lines.values()) != number:
            await asyncio.sleep(0.001)


class Crowd:
    """Has all the places of its address, until it is let go."""

    def __init__(self, ada: Api) -> None:
        self._ada = ada
        self._stall = Stall()
        self._tasks: list[asyncio.Task[Any]] = []

    async def come(self, house: Served) -> None:
        MODEL.model = ScriptedModel("Hel", self._stall, "lo")
        for _ in range(PLACES):
            path = f"/conversations/{await self._ada.conversation()}/chat"
            body = b'{"content": "Hi", "stream": false}'
            self._tasks.append(asyncio.create_task(self._ada.call("POST", path, body, CROWD)))
        async with asyncio.timeout(30):
            while not any(len(line._working) == PLACES for line in admission_of(house)._lines.values()):
                await asyncio.sleep(0.001)

    async def go(self) -> None:
        self._stall.release()
        for answer in await asyncio.gather(*self._tasks):
            answer.ok()


async def test_behind_a_proxy_each_client_waits_for_its_own_requests(house: Served) -> None:
    ada = await house.stranger.user()
    crowd = Crowd(ada)
    await crowd.come(house)
    mine = [asyncio.create_task(ada.call("GET", "/auth/me", None, CROWD)) for _ in range(30)]
    await waiting(house, 30)
    (await ada.call("GET", "/auth/me", None, OTHER)).ok()
    (await ada.call("GET", "/health", None, CROWD)).ok()
    async with connected(ada, await ada.conversation()):
        pass
    assert not any(task.done() for task in mine)
    await crowd.go()
    for answer in await asyncio.gather(*mine):
        answer.ok()


async def test_clients_that_leave_while_they_wait_leave_nothing(house: Served) -> None:
    """Among them one that had sent several requests at once, and one that had asked for a WebSocket."""
    ada = await house.stranger.user()
    crowd = Crowd(ada)
    await crowd.come(house)
    head = f"Host: test\r\nX-Forwarded-For: 192.0.2.1\r\nAuthorization: Bearer {ada.token}\r\n"
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    path = f"/conversations/ws/{await ada.conversation()}"
    sent = [
        f"GET /auth/me HTTP/1.1\r\n{head}\r\n" * 3,
        f"POST /conversations/create HTTP/1.1\r\n{head}Content-Length: 100\r\n\r\n{{",
        f"GET {path} HTTP/1.1\r\n{head}{upgrade}dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    ]
    lines = [await line(house.stranger) for _ in sent]
    for opened, request in zip(lines, sent, strict=True):
        await opened.say(request.encode())
    await waiting(house, len(sent))
    for opened in lines:
        opened.writer.transport.abort()
    await crowd.go()
    await waiting(house, 0)
    (await ada.call("GET", "/auth/me", None, CROWD)).ok()
    async with asyncio.timeout(30):
        while admission_of(house)._lines:
            await asyncio.sleep(0.001)
