"""How a WebSocket ends, who learns of it, and what is left behind: nothing."""

import asyncio
import base64
import json
import signal
import socket as sockets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientWebSocketResponse, WSMsgType
from structlog.testing import capture_logs

from chatcore import SessionWatch
from chatcore.ports import Clock, LLMGateway
from chatcore_http import open_sockets, socket_entrance
from chatcore_http.open_sockets import OpenSockets
from chatcore_http.routes import socket as socket_route
from chatcore_memory import ScriptedModel, Stall
from integration.databases import execute
from integration.http_app import PASSWORD, Api, provided, settings_for, text_of
from integration.model_server import Gate, ModelServer, chunk, says, stream
from integration.processes import serving
from integration.ws_client import Served, Socket, Tomorrow, connected, knocking, served

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = ScriptedModel("Hello")


CLOCK = Tomorrow()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    settings = settings_for(tmp_path_factory.mktemp("data"), DATABASE_URL=database_url, SHUTDOWN_GRACE="1")
    async with served(settings, provided(LLMGateway, MODEL), provided(Clock, CLOCK)) as house:
        await house.of(SessionWatch)  # has a task of its own, from its first use on
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def ada(house: Served) -> Api:
    return await house.stranger.user()


@pytest_asyncio.fixture(loop_scope="module")
async def conversation(ada: Api) -> int:
    return await ada.conversation()


@pytest.fixture
def stall() -> Iterator[Stall]:
    """In the middle of the next answer: "Hel", silence, "lo"."""
    stall = Stall()
    MODEL.then("Hel", stall, "lo")
    yield stall
    stall.release()


async def only_these(tasks: set[asyncio.Task[Any]]) -> None:
    """Returns once no others are left."""
    while others := asyncio.all_tasks() - tasks:
        await asyncio.wait(others)


# ---- the session ends ------------------------------------------------------------------------------------


async def own_session(api: Api) -> str:
    """The id of the session through which this client asks."""
    (session,) = (one for one in (await api.get("/auth/sessions?limit=100")).ok()["items"] if one["current"])
    session_id: str = session["id"]
    return session_id


async def logout(ada: Api, again: Api, database_url: str) -> None:
    (await ada.post("/auth/logout")).ok()


async def revoke(ada: Api, again: Api, database_url: str) -> None:
    (await again.post(f"/auth/sessions/{await own_session(ada)}/revoke")).ok()


async def revoke_others(ada: Api, again: Api, database_url: str) -> None:
    (await again.post("/auth/sessions/revoke-others")).ok()


async def change_password(ada: Api, again: Api, database_url: str) -> None:
    (await again.post("/auth/me/password", {"password": "another horse battery"})).ok()


async def disable(ada: Api, again: Api, database_url: str) -> None:
    user_id = (await ada.get("/auth/me")).ok()["id"]
    await execute(database_url, f"UPDATE users SET is_active = FALSE WHERE id = {user_id}")


async def expire(ada: Api, again: Api, database_url: str) -> None:
    CLOCK.later += timedelta(days=31)


Ending = Callable[[Api, Api, str], Awaitable[None]]


@pytest.mark.parametrize("end", [logout, revoke, revoke_others, change_password, disable, expire])
async def test_the_end_of_a_session_closes_its_connections(
    house: Served, database_url: str, stall: Stall, end: Ending
) -> None:
    """The idle one, and the one that is being told a reply; the reply goes on."""
    tokens = await house.stranger.register(f"ends-by-{end.__name__}")
    ada = house.stranger.with_token(tokens["access_token"])
    again = await signed_in_again(house.stranger, tokens["user"]["username"])
    conversation = await ada.conversation()
    async with connected(ada, conversation) as telling, connected(ada, conversation) as idle:
        await telling.say("send", content="Hi")
        await telling.until("Hel")
        await end(ada, again, database_url)
        assert await telling.close_code() == 4401
        assert await idle.close_code() == 4401
    stall.release()
    await MODEL.calls[-1].ended()
    assert MODEL.calls[-1].ending == "finished"


async def signed_in_again(stranger: Api, username: str) -> Api:
    tokens = (await stranger.post("/auth/login", {"username": username, "password": PASSWORD})).ok()
    return stranger.with_token(tokens["access_token"])


async def test_a_change_of_the_password_closes_also_the_connections_of_its_own_session(house: Served) -> None:
    """Whoever has copied the token may have opened one."""
    ada = await house.stranger.user()
    conversation = await ada.conversation()
    async with connected(ada, conversation) as socket:
        tokens = (await ada.post("/auth/me/password", {"password": "another horse battery"})).ok()
        assert await socket.close_code() == 4401
    async with connected(house.stranger.with_token(tokens["access_token"]), conversation) as socket:
        assert (await socket.ask())[-1].type == "reply.completed"


@pytest.mark.parametrize("end", [logout, revoke, revoke_others])
async def test_the_other_sessions_connections_go_on(
    house: Served, database_url: str, stall: Stall, end: Ending
) -> None:
    tokens = await house.stranger.register(f"goes-on-after-{end.__name__}")
    ada = house.stranger.with_token(tokens["access_token"])
    again = await signed_in_again(house.stranger, tokens["user"]["username"])
    bob = await house.stranger.user()
    conversation = await ada.conversation()
    async with AsyncExitStack() as stack:
        closing = await stack.enter_async_context(connected(ada, conversation))
        going_on = await stack.enter_async_context(connected(again, conversation))
        bobs = await stack.enter_async_context(connected(bob, await bob.conversation()))
        await going_on.say("send", content="Hi")
        await going_on.until("Hel")
        await end(ada, again, database_url)
        assert await closing.close_code() == 4401
        stall.release()
        assert text_of(await going_on.rest()) == "lo"
        for other in (going_on, bobs):
            assert (await other.ask())[-1].type == "reply.completed"


async def test_a_deleted_account_has_its_replies_stopped_and_its_connections_closed(
    ada: Api, conversation: int, stall: Stall
) -> None:
    async with connected(ada, conversation) as telling, connected(ada, conversation) as idle:
        await telling.say("send", content="Hi")
        await telling.until("Hel")
        (await ada.post("/auth/me/delete")).ok()
        assert [event.type for event in await telling.rest()] == ["reply.stopped"]
        assert await telling.close_code() == 4401
        assert await idle.close_code() == 4401


# ---- the client goes -------------------------------------------------------------------------------------


def cut(socket: Socket) -> None:
    """As if the client's machine had gone: no close frame."""
    connection: ClientWebSocketResponse = socket.connection
    transport = connection._writer.transport  # pyright: ignore[reportPrivateUsage] - there is no public way
    transport.abort()


@pytest.mark.parametrize("politely", [True, False])
async def test_who_leaves_in_mid_stream_finds_the_whole_reply_later(
    ada: Api, conversation: int, stall: Stall, politely: bool
) -> None:
    async with connected(ada, conversation) as socket:
        await socket.say("send", content="Hi")
        seen = await socket.until("Hel")
        if not politely:
            cut(socket)
    async with connected(ada, conversation) as socket:
        await socket.say("attach", after=seen[-1].data["offset"])
        assert (await socket.event()).type == "reply.started"
        stall.release()
        *_, completed = rest = await socket.rest()
    assert text_of(rest) == "lo"
    assert completed.data["message"] == (await ada.messages(conversation))[-1]
    assert completed.data["message"]["status"] == "complete"


async def test_who_sends_and_leaves_at_once_finds_the_reply_later(ada: Api, conversation: int) -> None:
    async with knocking(ada, conversation) as socket:
        await socket.say("auth", token=ada.token)
        await socket.ready()
        await socket.say("send", content="Hi")
    async with connected(ada, conversation) as socket:
        while not await ada.messages(conversation):
            pass  # the other connection's frame may still be on its way
        await socket.say("send", content="Hi", client_id="a")
        while (await socket.hear()).get("code") == "conversation_busy":
            await socket.say("send", content="Hi", client_id="a")
        await socket.rest()
    contents = [message["content"] for message in await ada.messages(conversation)]
    assert contents == ["Hi", "Hello"] * 2


async def test_connections_that_are_gone_leave_nothing_behind(
    house: Served, ada: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever they were at, and however they went."""
    tokens = (await house.stranger.register("leaver"))["access_token"]
    leaver = house.stranger.with_token(tokens)
    open_now: set[object] = (await house.of(OpenSockets))._open
    await one_round(house, ada, 1)
    before = asyncio.all_tasks()
    await one_round(house, ada, 10)
    async with AsyncExitStack() as stack:
        for _ in range(10):
            await stack.enter_async_context(connected(leaver, await leaver.conversation()))
        (await leaver.post("/auth/logout")).ok()
        monkeypatch.setattr(socket_entrance, "AUTH_WITHIN", 0.01)
        silent = [await stack.enter_async_context(knocking(ada, 1)) for _ in range(10)]
        assert [await socket.close_code() for socket in silent] == [4401] * 10
        await only_these(before)
    assert open_now == set()
    assert (await house.of(SessionWatch))._watched == {}


async def one_round(house: Served, ada: Api, each: int) -> None:
    stall = Stall()
    async with AsyncExitStack() as stack:
        for number in range(6 * each):
            conversation = await ada.conversation()
            if number % 3 == 0:
                socket = await stack.enter_async_context(knocking(ada, conversation))
            else:
                socket = await stack.enter_async_context(connected(ada, conversation))
            if number % 3 == 2:
                MODEL.then("Hel", stall, "lo")
                await socket.say("send", content="Hi")
                await socket.until("Hel")
            if number % 2:
                cut(socket)
    stall.release()


async def test_a_client_that_answers_no_ping_has_gone(tmp_path: Path) -> None:
    """One that does is still there."""
    options = {"ws_ping_interval": 0.01, "ws_ping_timeout": 0.5}
    async with served(settings_for(tmp_path), provided(LLMGateway, ScriptedModel("Hello")), **options) as house:
        ada = await house.stranger.user()
        conversation = await ada.conversation()
        async with connected(ada, conversation) as alive:
            listening = asyncio.create_task(alive.event())
            before = asyncio.all_tasks()
            async with connected(ada, conversation, autoping=False) as dead:
                while (message := await dead.connection.receive()).type is WSMsgType.PING:
                    pass
                assert (message.type, message.data) == (WSMsgType.CLOSE, 1011)
                await only_these(before)
            await alive.say("send", content="Hi")
            assert (await listening).type == "reply.started"
            assert text_of(await alive.rest()) == "Hello"


async def test_a_client_that_reads_nothing_is_dropped_and_slows_nobody(
    house: Served, ada: Api, conversation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_sockets, "TAKEN_WITHIN", 0.1)
    loop, stall, piece = asyncio.get_running_loop(), Stall(), "x" * 2**16
    MODEL.then("Hel", stall, *[piece] * 128)  # 8 MiB: more than a connection buffers
    before = asyncio.all_tasks()
    with sockets.create_connection(("127.0.0.1", house.port)) as deaf, capture_logs() as logs:
        deaf.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        await loop.sock_sendall(deaf, handshake(ada, conversation))
        assert (await loop.sock_recv(deaf, 1000)).startswith(b"HTTP/1.1 101")
        await loop.sock_sendall(deaf, text_frame('{"type": "send", "content": "Hi"}'))
        await stall.reached()
        async with connected(ada, conversation) as reading:
            await reading.say("attach")
            await reading.until("Hel")
            stall.release()
            assert len(text_of(await reading.rest())) == 128 * 2**16
        await only_these(before)
    assert sorted(entry["code"] for entry in logs if entry["event"] == "socket") == [1000, 1006]


def handshake(api: Api, conversation: int) -> bytes:
    key = base64.b64encode(bytes(16)).decode()
    return (
        f"GET /conversations/ws/{conversation} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"Sec-WebSocket-Protocol: chatcore.v1, bearer.{api.token}\r\n\r\n"
    ).encode()


def text_frame(text: str) -> bytes:
    """At most 125 bytes, with a mask of zeros."""
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text.encode()


# ---- a fault of ours -------------------------------------------------------------------------------------


async def test_a_fault_of_ours_is_logged_and_closes_the_connection(
    ada: Api, conversation: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: object) -> object:
        raise LookupError("a bug")

    monkeypatch.setattr(socket_route, "event_data", broken)
    async with connected(ada, conversation) as socket:
        await socket.say("send", content="Hi")
        assert await socket.close_code() == 1011
    assert "LookupError: a bug" in caplog.text
    assert f"/conversations/ws/{conversation} failed" in caplog.text


# ---- the server goes -------------------------------------------------------------------------------------


async def test_a_server_that_shuts_down_says_so(tmp_path: Path) -> None:
    """To who is being told a reply, when that has ended."""
    gate = Gate()
    async with ModelServer() as model:
        model.script(stream(chunk("Hel"), gate, chunk("lo")))
        async with serving(tmp_path, OPENAI_BASE_URL=model.url, AUTO_TITLE="first-message") as server:
            ada = await server.api.user()
            conversation = await ada.conversation()
            async with AsyncExitStack() as stack:
                telling = await stack.enter_async_context(connected(ada, conversation))
                idle = await stack.enter_async_context(connected(ada, conversation))
                await telling.say("send", content="Hi")
                await telling.until("Hel")
                stranger = await stack.enter_async_context(knocking(ada, conversation))
                server.send(signal.SIGTERM)
                assert await idle.close_code() == 1001
                assert await stranger.close_code() == 1001
                await telling.say("send", content="And?", client_id="a")
                assert await telling.refusal() == "conversation_busy"
                gate.open()
                assert text_of(await telling.rest()) == "lo"
                assert await telling.close_code() == 1001
            assert (await server.ended()).code == 0


async def test_a_reply_that_is_cut_off_by_that_is_told_to_be_interrupted(tmp_path: Path) -> None:
    gate = Gate()
    async with ModelServer() as model:
        model.script(stream(chunk("Hel"), gate))
        environ = {"OPENAI_BASE_URL": model.url, "AUTO_TITLE": "first-message", "SHUTDOWN_GRACE": "0"}
        async with serving(tmp_path, **environ) as server:
            ada = await server.api.user()
            async with connected(ada, await ada.conversation()) as socket:
                await socket.say("send", content="Hi")
                await socket.until("Hel")
                server.send(signal.SIGTERM)
                (interrupted,) = await socket.rest()
                assert (interrupted.type, interrupted.data["message"]["content"]) == ("reply.interrupted", "Hel")
                assert await socket.close_code() == 1001
            gate.open()
            assert (await server.ended()).code == 0


# ---- what is logged --------------------------------------------------------------------------------------


async def test_a_connection_is_one_line_of_the_log(house: Served, ada: Api, conversation: int) -> None:
    before = asyncio.all_tasks()
    with capture_logs() as logs:
        async with connected(ada, f"{conversation}?token={ada.token}") as socket:
            await socket.ask()
            await socket.connection.close(code=4000)
        async with knocking(ada, conversation, headers={"Origin": "https://evil.example"}) as socket:
            assert await socket.close_code() == 4403
        async with connected(ada, conversation) as socket:
            cut(socket)
        await only_these(before)
    assert [entry["code"] for entry in logs] == [4000, 4403, 1005]
    for entry in logs:
        assert set(entry) == {"event", "log_level", "path", "code", "ms", "address"}
        assert (entry["event"], entry["log_level"]) == ("socket", "info")
        assert (entry["path"], entry["address"]) == (f"/conversations/ws/{conversation}", "127.0.0.1")
        assert entry["ms"] >= 0


async def test_the_address_is_the_clients(tmp_path: Path) -> None:
    async with served(settings_for(tmp_path, TRUSTED_PROXIES="127.0.0.1")) as house:
        ada = await house.stranger.user()
        conversation = await ada.conversation()
        await house.of(SessionWatch)
        before = asyncio.all_tasks()
        with capture_logs() as logs:
            async with connected(ada, conversation, headers={"X-Forwarded-For": "203.0.113.7"}):
                pass
            await only_these(before)
    assert [entry["address"] for entry in logs] == ["203.0.113.7"]


async def test_the_log_has_no_secret_of_a_connection(tmp_path: Path) -> None:
    """Not even if everything is to be logged."""
    question, answer, garbage = "what-is-asked", "what-is-said", "what-is-garbage"
    async with ModelServer() as model:
        model.always = says(answer)
        environ = {"DEBUG": "true", "LOG_FORMAT": "json", "OPENAI_BASE_URL": model.url}
        async with serving(tmp_path, **environ) as server:
            ada = await server.api.user()
            conversation = await ada.conversation()
            where, protocols = f"{conversation}?token={ada.token}", ["chatcore.v1", f"bearer.{ada.token}"]
            async with connected(ada, where) as socket:
                await socket.ask(question, client_id=garbage)
                await socket.connection.send_str(garbage)
                assert await socket.refusal() == "validation_failed"
            async with knocking(ada, where, protocols=protocols) as socket:
                await socket.ready()
                await socket.connection.send_str(garbage * 300_000)
                assert await socket.close_code() == 1009
            async with knocking(ada, where) as socket:
                await socket.connection.send_str(garbage)
                assert await socket.close_code() == 4401
            ended = await server.stop()
    for secret in (ada.token, question, answer, garbage):
        assert secret
        assert secret not in ended.stdout + ended.stderr
    entries = [json.loads(line) for line in ended.stderr.splitlines()]
    closed = [entry for entry in entries if entry["event"] == "socket"]
    assert [(entry["path"], entry["code"]) for entry in closed] == [
        (f"/conversations/ws/{conversation}", code) for code in (1000, 1009, 4401)
    ]
