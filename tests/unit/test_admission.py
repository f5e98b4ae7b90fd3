"""How many requests of one network are in work: who waits, whom nobody waits for, and that every place comes back."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from chatcore_app import Settings
from chatcore_http import admission
from chatcore_http.admission import Admission
from chatcore_http.held_bytes import HeldBytes

PLACES = 8
HERE, THERE = "192.0.2.1", "198.51.100.1"
START: Any = {"type": "http.response.start", "status": 200, "headers": []}
FRAME = {"type": "websocket.receive", "text": "x"}


class House:
    """An application whose requests do what their test says, and who of them has begun."""

    def __init__(self, work: Callable[[Any, Any], Any], *, held: int = 2**26) -> None:
        settings = Settings(database_pool_size=PLACES - 6)
        self.held = HeldBytes(held)
        self.admission = Admission(self._app, settings, self.held)
        self.begun: list[int] = []
        self.sent: list[Any] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._work = work

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun.append(scope["number"])
        await self._work(receive, send)

    def ask(
        self, number: int, address: str = HERE, *, path: str = "/", kind: str = "http", receive: Any = None
    ) -> asyncio.Task[None]:
        async def send(message: Any) -> None:
            self.sent.append(message)

        async def connected() -> Any:
            return {"type": "websocket.connect"}

        scope: Any = {"type": kind, "client": (address, 1), "path": path, "headers": [], "number": number}
        task = asyncio.create_task(self.admission(scope | {"subprotocols": []}, receive or connected, send))
        self.tasks.append(task)
        return task

    async def settle(self) -> None:
        """Until nothing happens by itself any more."""
        for _ in range(200):
            await asyncio.sleep(0)

    async def end(self) -> None:
        """All of them; then nothing is left of any."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.settle()
        assert self.admission._lines == {}
        assert (self.held._all, self.held._of) == (0, {})


async def for_ever(receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "PATIENCE", 3600.0)


async def test_so_many_of_one_network_are_in_work_and_others_do_not_wait_for_them() -> None:
    house = House(for_ever)
    for number in range(50):
        house.ask(number)
    await house.settle()
    assert house.begun == list(range(PLACES))
    house.ask(100, THERE)
    house.ask(101, path="/health")
    await asyncio.sleep(0)
    assert house.begun[PLACES:] == [100, 101]
    house.tasks[0].cancel()
    await house.settle()
    assert house.begun[PLACES:] == [100, 101, PLACES]
    await house.end()


@pytest.mark.parametrize("addresses", [("2001:db8::1", "2001:db8::2"), ("::ffff:192.0.2.1", "192.0.2.1")])
async def test_the_addresses_of_one_network_wait_for_one_another(addresses: tuple[str, str]) -> None:
    house = House(for_ever)
    for number in range(50):
        house.ask(number, addresses[number % 2])
    await house.settle()
    assert len(house.begun) == PLACES
    await house.end()


async def test_no_more_than_a_few_begin_in_one_turn() -> None:
    """And each of them in its turn, also if they are answered as soon as they begin."""

    async def at_once(receive: Any, send: Any) -> None:
        await send(START)

    house = House(at_once)
    for number in range(60):
        house.ask(number)
    most = 0
    while len(house.begun) < 60:
        before = len(house.begun)
        await asyncio.sleep(0)
        most = max(most, len(house.begun) - before)
    assert most == 2
    assert house.begun == list(range(60))
    await house.end()


async def test_an_answer_that_has_begun_has_no_place() -> None:
    async def streaming(receive: Any, send: Any) -> None:
        await send(START)
        await asyncio.Event().wait()

    house = House(streaming)
    for number in range(50):
        house.ask(number)
    await house.settle()
    assert house.begun == list(range(50))
    await house.end()


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_who_waits_for_its_client_has_no_place_and_goes_on_before_those_that_have_not_begun(kind: str) -> None:
    gone_on: list[int] = []
    came = asyncio.Event()

    async def receive() -> Any:
        await came.wait()
        return {**FRAME, "type": f"{kind}.request"}

    async def reading(receive: Any, send: Any) -> None:
        await receive()
        gone_on.append(1)
        await asyncio.Event().wait()

    house = House(reading)
    for number in range(2 * PLACES):
        house.ask(number, kind=kind, receive=receive)
    await house.settle()
    assert len(house.begun) == 2 * PLACES
    house._work = for_ever
    for number in range(PLACES):
        house.ask(100 + number, kind=kind)
    await house.settle()
    house.ask(200, kind=kind)
    came.set()
    await house.settle()
    assert (gone_on, house.begun[-1]) == ([], 100 + PLACES - 1)
    for task in house.tasks[2 * PLACES : 3 * PLACES]:
        task.cancel()
    await house.settle()
    assert (len(gone_on), house.begun[-1]) == (PLACES, 100 + PLACES - 1)
    await house.end()


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_client_that_has_gone_is_told_at_once(kind: str) -> None:
    async def receive() -> Any:
        return {"type": f"{kind}.disconnect"}

    told: list[Any] = []

    async def reading(receive: Any, send: Any) -> None:
        for number in range(PLACES):
            house.ask(number)
        house._work = for_ever
        await house.settle()
        told.append(await receive())

    house = House(reading)
    house.ask(100, kind=kind, receive=receive)
    await house.settle()
    await house.settle()
    assert len(told) == 1
    await house.end()


async def test_a_body_that_is_refused_is_answered_in_its_turn() -> None:
    """For 800 that are refused at once are 800 answers."""
    refused: list[int] = []

    async def receive() -> Any:
        raise ValueError

    async def reading(receive: Any, send: Any) -> None:
        try:
            await receive()
        except ValueError:
            refused.append(1)
            await asyncio.Event().wait()

    house = House(reading)
    for number in range(50):
        house.ask(number, receive=receive)
    await house.settle()
    assert len(refused) == PLACES
    await house.end()


async def test_whoever_waits_for_something_else_does_so_without_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "PATIENCE", 0.001)
    house = House(for_ever)
    for number in range(50):
        house.ask(number)
    async with asyncio.timeout(30):
        while len(house.begun) < 50:
            await asyncio.sleep(0.001)
    assert house.begun == list(range(50))
    await house.end()


async def test_what_waits_is_bounded_in_bytes() -> None:
    house = House(for_ever, held=4 * 10 * 17 * 1024)
    for number in range(PLACES):
        house.ask(number)
    await house.settle()
    for number in range(PLACES, PLACES + 100):
        house.ask(number)
    await house.settle()
    starts = [message for message in house.sent if message["type"] == "http.response.start"]
    assert {message["status"] for message in starts} == {503}
    assert len(starts) == 90
    assert (b"retry-after", b"2") in [(name.lower(), value) for name, value in starts[0]["headers"]]
    assert msgspec.json.decode(house.sent[1]["body"])["code"] == "unavailable"
    house.sent.clear()
    house.ask(200, kind="websocket")
    await house.settle()
    assert [message["type"] for message in house.sent] == ["websocket.accept", "websocket.close"]
    assert house.sent[1]["code"] == 1013
    await house.end()


async def test_who_is_cancelled_gives_back_what_it_has() -> None:
    """While it waits, when it has been called, while it works: whatever the moment."""
    house = House(for_ever)
    for number in range(40):
        house.ask(number)
    await house.settle()
    for turns in range(1, 12):
        house.tasks[turns].cancel()  # one that has a place, or waits
        for _ in range(turns % 4):
            await asyncio.sleep(0)
        house.tasks[PLACES + 2 * turns].cancel()
    await house.settle()
    (line,) = house.admission._lines.values()
    assert len(line._working) == PLACES
    assert len(line._waiting) == sum(not task.done() for task in house.tasks) - PLACES
    await house.end()


async def test_a_request_that_fails_gives_its_place_back() -> None:
    async def failing(receive: Any, send: Any) -> None:
        raise ValueError

    house = House(failing)
    for number in range(50):
        house.ask(number)
    with suppress(ValueError):
        await asyncio.gather(*house.tasks)
    await house.settle()
    assert len(house.begun) == 50
    await house.end()
