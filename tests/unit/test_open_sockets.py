"""How a WebSocket ends: by itself, by somebody else, and when nobody is there any more."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect

from chatcore.errors import NotFound, Unavailable
from chatcore.shielding import shielded
from chatcore_http import open_sockets
from chatcore_http.open_sockets import Closed, Connection, OpenSockets
from unit.world import step

TURNS = 20
"""So many turns of the event loop let everything happen that can."""

Work = Callable[[Connection], Awaitable[None]]


class Client:
    """The other end, and the server between: an ASGI connection without a network."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.reason = ""
        self.takes = asyncio.Event()
        self.takes.set()
        self.failure: Exception | None = None
        self._said: asyncio.Queue[Any] = asyncio.Queue()
        self._said.put_nowait({"type": "websocket.connect"})

    def say(self, **frame: object) -> None:
        self._said.put_nowait({"type": "websocket.receive", **frame})

    def leave(self, code: int = 1000) -> None:
        self._said.put_nowait({"type": "websocket.disconnect", "code": code})

    def socket(self) -> WebSocket[Any, Any, Any]:
        scope: Any = {"type": "websocket", "path": "/ws", "headers": [], "subprotocols": []}
        return WebSocket(scope, receive=self._said.get, send=self._take)

    async def _take(self, message: Any) -> None:
        await self.takes.wait()
        if self.failure is not None:
            raise self.failure
        kind = message["type"].removeprefix("websocket.")
        self.reason = message.get("reason", "")
        self.told.append((kind, message["code"]) if kind == "close" else message.get("text") or kind)


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def sockets() -> OpenSockets:
    return OpenSockets()


async def serve(sockets: OpenSockets, client: Client, work: Work, *, max_bytes: int = 100) -> None:
    await sockets.serve(client.socket(), work, subprotocol=None, max_bytes=max_bytes)


@pytest.fixture
async def running() -> AsyncIterator[Callable[..., Awaitable[tuple[Connection, asyncio.Task[None]]]]]:
    """Starts to serve a client, and returns once that has got as far as it gets by itself."""
    tasks: list[asyncio.Task[None]] = []

    async def run(sockets: OpenSockets, client: Client, work: Work) -> tuple[Connection, asyncio.Task[None]]:
        found: list[Connection] = []

        async def noting(connection: Connection) -> None:
            found.append(connection)
            await work(connection)

        tasks.append(asyncio.create_task(serve(sockets, client, noting)))
        await step(TURNS)
        return found[0], tasks[-1]

    yield run
    assert all(task.done() for task in tasks)


async def listen(connection: Connection) -> None:
    while True:
        await connection.receive()


async def for_ever() -> None:
    await asyncio.Event().wait()


def raising(error: BaseException) -> Work:
    async def work(_: Connection) -> None:
        raise error

    return work


# ---- frames ----------------------------------------------------------------------------------------------


async def test_frames_come_as_they_were_sent(sockets: OpenSockets, client: Client) -> None:
    heard: list[str | bytes] = []

    async def work(connection: Connection) -> None:
        heard.extend([await connection.receive() for _ in range(4)])
        await connection.tell({"heard": "🦄"})
        await connection.receive()

    client.say(text="Hi")
    client.say(text="", bytes=None)
    client.say(bytes=b"\xff")
    client.say(text=None, bytes=b"")
    client.leave()
    await serve(sockets, client, work)
    assert heard == ["Hi", "", b"\xff", b""]
    assert [json.loads(text) for text in client.told[1:]] == [{"heard": "🦄"}]


@pytest.mark.parametrize("frame", [{"text": "x" * 101}, {"text": "🦄" * 26}, {"bytes": b"x" * 101}])
async def test_a_frame_that_is_too_large_closes(sockets: OpenSockets, client: Client, frame: dict[str, object]) -> None:
    client.say(text="x" * 100)
    client.say(text="🦄" * 25)
    client.say(bytes=b"x" * 100)
    client.say(**frame)
    await serve(sockets, client, listen)
    assert client.told == ["accept", ("close", 1009)]


# ---- by itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Closed(4404, "There is no such conversation."), [("close", 4404)]),
        (Unavailable(), [("close", 1013)]),
        (WebSocketDisconnect(detail="gone", code=1000), []),
    ],
)
async def test_what_is_raised_says_how_it_ends(
    sockets: OpenSockets,
    client: Client,
    error: Exception,
    told: list[object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    await serve(sockets, client, raising(error))
    assert client.told == ["accept", *told]
    assert caplog.records == []


async def test_a_reason_is_told_as_far_as_a_close_frame_carries_it(sockets: OpenSockets) -> None:
    for reason in ("x" * 124, "🦄" * 31):
        client = Client()
        await serve(sockets, client, raising(Closed(4401, reason)))
        assert client.told[-1] == ("close", 4401)
        assert len(client.reason.encode()) in (123, 120)
        assert reason.startswith(client.reason)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), NotFound(), TimeoutError()])
async def test_whatever_else_is_a_fault_of_ours_and_logged(
    sockets: OpenSockets, client: Client, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    await serve(sockets, client, raising(error))
    assert client.told == ["accept", ("close", 1011)]
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "/ws failed")
    assert record.exc_info
    assert record.exc_info[1] is error


async def test_a_client_that_leaves_is_not_told_anything(sockets: OpenSockets, client: Client) -> None:
    client.leave()
    await serve(sockets, client, listen)
    assert client.told == ["accept"]


@pytest.mark.parametrize("failure", [ConnectionResetError(), RuntimeError("the server has sent a close frame")])
@pytest.mark.parametrize("last_words", ["", "Hello?"])
async def test_a_server_that_finds_nobody_there_ends_it(
    sockets: OpenSockets, client: Client, failure: Exception, last_words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(connection: Connection) -> None:
        client.failure = failure
        if last_words:
            await connection.tell(last_words)
        raise Closed(4401, "The session has ended.")

    await serve(sockets, client, work)
    assert client.told == ["accept"]
    assert caplog.records == []


# ---- by somebody else ------------------------------------------------------------------------------------


async def test_an_interruption_ends_it_wherever_it_is(
    sockets: OpenSockets, client: Client, running: Callable[..., Any]
) -> None:
    connection, task = await running(sockets, client, listen)
    connection.interrupt(Closed(4401, "The session has ended."))
    connection.interrupt(Closed(1001, "too late"))
    await task
    assert client.told == ["accept", ("close", 4401)]
    assert task.cancelling() == 0
    connection.interrupt(Closed(1001, "much too late"))
    await step(TURNS)


async def test_what_has_begun_comes_to_its_end_and_nothing_after_it(
    sockets: OpenSockets, client: Client, running: Callable[..., Any]
) -> None:
    """A message that is being stored is stored; the next one, which is here already, is not looked at."""
    stored, storing = list[str | bytes](), asyncio.Event()

    async def store(frame: str | bytes) -> None:
        await storing.wait()
        stored.append(frame)

    async def work(connection: Connection) -> None:
        while True:
            await shielded(store(await connection.receive()))

    client.say(text="first")
    client.say(text="second")
    connection, task = await running(sockets, client, work)
    connection.interrupt(Closed(4401, "The session has ended."))
    await step(TURNS)
    assert client.told == ["accept"]
    storing.set()
    await task
    assert (stored, client.told) == (["first"], ["accept", ("close", 4401)])


async def test_an_interruption_that_comes_while_it_ends_changes_nothing(
    sockets: OpenSockets, client: Client, running: Callable[..., Any]
) -> None:
    connection, task = await running(sockets, client, listen)
    client.takes.clear()
    client.say(text="x" * 101)
    await step(TURNS)
    connection.interrupt(Closed(4401, "The session has ended."))
    await step(TURNS)
    client.takes.set()
    await task
    assert client.told == ["accept", ("close", 1009)]


async def test_a_cancellation_of_the_servers_is_the_servers(
    sockets: OpenSockets, client: Client, running: Callable[..., Any]
) -> None:
    _, task = await running(sockets, client, listen)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.told == ["accept"]
    await sockets.close(within=60)


@pytest.mark.parametrize("first", [True, False])
async def test_a_cancellation_of_the_servers_beside_an_interruption_is_the_servers(
    sockets: OpenSockets, client: Client, running: Callable[..., Any], first: bool
) -> None:
    connection, task = await running(sockets, client, listen)
    if first:
        task.cancel()
    connection.interrupt(Closed(4401, "The session has ended."))
    if not first:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.told == ["accept"]


# ---- beside it -------------------------------------------------------------------------------------------


async def test_what_runs_beside_ends_with_it_and_with_the_next(
    sockets: OpenSockets, client: Client, running: Callable[..., Any]
) -> None:
    before = asyncio.all_tasks()
    connection, task = await running(sockets, client, listen)
    for _ in range(3):
        connection.run_beside(for_ever())
        await step(TURNS)
        assert len(asyncio.all_tasks() - before) == 2
    client.leave()
    await task
    await step(TURNS)
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Closed(4404, ""), [("close", 4404)]),
        (RuntimeError("a bug"), [("close", 1011)]),
        (WebSocketDisconnect(detail="gone", code=1006), []),
    ],
)
async def test_what_fails_beside_ends_the_connection(
    sockets: OpenSockets,
    client: Client,
    running: Callable[..., Any],
    error: Exception,
    told: list[object],
) -> None:
    async def failing() -> None:
        raise error

    connection, task = await running(sockets, client, listen)
    connection.run_beside(failing())
    await task
    assert client.told == ["accept", *told]


# ---- nobody there any more -------------------------------------------------------------------------------


async def test_a_client_that_takes_nothing_is_not_waited_for(
    sockets: OpenSockets, client: Client, running: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_sockets, "TAKEN_WITHIN", 0.01)
    before = asyncio.all_tasks()
    connection, task = await running(sockets, client, listen)
    client.takes.clear()
    connection.run_beside(connection.tell("Hello?"))
    await task
    await step(TURNS)
    assert asyncio.all_tasks() == before


async def test_nor_is_its_goodbye(
    sockets: OpenSockets, client: Client, running: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_sockets, "TAKEN_WITHIN", 0.01)
    connection, task = await running(sockets, client, listen)
    client.takes.clear()
    connection.interrupt(Closed(4401, "The session has ended."))
    await task
    assert client.told == ["accept"]


# ---- shutting down ---------------------------------------------------------------------------------------


async def test_when_the_server_leaves_all_are_told(sockets: OpenSockets, running: Callable[..., Any]) -> None:
    clients = [Client() for _ in range(3)]
    for client in clients:
        await running(sockets, client, listen)
    await sockets.close(within=60)
    late = Client()
    await serve(sockets, late, listen)
    assert [client.told for client in [*clients, late]] == [["accept", ("close", 1001)]] * 4
    await sockets.close(within=60)


async def test_who_is_being_told_something_hears_it_out(
    sockets: OpenSockets, client: Client, running: Callable[..., Any]
) -> None:
    more = asyncio.Event()
    connection, _ = await running(sockets, client, listen)
    idle = Client()
    await running(sockets, idle, listen)

    async def telling() -> None:
        await more.wait()
        await connection.tell("the end")

    connection.run_beside(telling())
    closing = asyncio.create_task(sockets.close(within=60))
    await step(TURNS)
    assert (client.told, idle.told) == (["accept"], ["accept", ("close", 1001)])
    more.set()
    await closing
    assert client.told == ["accept", '"the end"', ("close", 1001)]


async def test_but_not_for_ever(sockets: OpenSockets, client: Client, running: Callable[..., Any]) -> None:
    connection, _ = await running(sockets, client, listen)
    connection.run_beside(for_ever())
    await sockets.close(within=0)
    assert client.told == ["accept", ("close", 1001)]


async def test_one_that_listens_no_more_does_not_hold_up_the_others(
    sockets: OpenSockets, client: Client, running: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_sockets, "TOLD_WITHIN", 0.01)
    deaf = Client()
    _, task = await running(sockets, deaf, listen)
    await running(sockets, client, listen)
    deaf.takes.clear()
    await sockets.close(within=0)
    assert (deaf.told, client.told) == (["accept"], ["accept", ("close", 1001)])
    deaf.takes.set()
    await task
