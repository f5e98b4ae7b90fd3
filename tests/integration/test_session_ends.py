"""When a session ends, on whichever server, all that hangs on it ends everywhere: at once or within a second."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import WSMsgType

from chatcore_sql import Database
from integration.databases import execute, only_servers
from integration.http_app import EVENTS, PASSWORD, Answer, Api, EventStream, client_of
from integration.model_server import Gate, ModelServer, chunk, says, stream
from integration.processes import serving, several_serving
from integration.ws_client import Socket, connected

pytestmark = [pytest.mark.asyncio(loop_scope="module"), only_servers]

WITHIN = 1.0  # seconds


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["two servers", "two workers"])
async def servers(
    request: pytest.FixtureRequest, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[ModelServer, Sequence[Api]]]:
    """Two on one database, or one whose connections are spread over two processes. Their model is ours."""
    folder = tmp_path_factory.mktemp("data")
    async with ModelServer() as model:
        environ = {"DATABASE_URL": database_url, "OPENAI_BASE_URL": model.url, "OPENAI_MODEL": "scripted"}
        if request.param == "two servers":
            async with several_serving(2, folder, **environ) as both:
                yield model, [server.api for server in both]
        else:
            async with serving(folder, WORKERS="2", **environ) as server:
                first, second = server.workers
                async with client_of(server.url) as elsewhere:
                    for api, worker in ((server.api, first), (elsewhere, second)):
                        with server.only(worker):  # its first connection is to that one
                            assert (await api.get("/health")).status == 200
                    yield model, [server.api, elsewhere]


@pytest.fixture
def model(servers: tuple[ModelServer, Sequence[Api]]) -> ModelServer:
    return servers[0]


@pytest.fixture
def here(servers: tuple[ModelServer, Sequence[Api]]) -> Api:
    return servers[1][0]


@pytest.fixture
def there(servers: tuple[ModelServer, Sequence[Api]]) -> Api:
    return servers[1][1]


class Reply:
    """One of a model that has said "Hel" and says the rest when it is let."""

    def __init__(self, ada: Api, conversation: int, gate: Gate) -> None:
        self.ada = ada
        self.path = f"/conversations/{conversation}"
        self.gate = gate

    async def is_complete(self, reader: Api) -> None:
        """Whoever has gone: it belongs to the conversation."""
        self.gate.open()
        async with reader.events(f"{self.path}/reply") as events:
            ended = (await events.rest())[-1]
        assert (ended.type, ended.data["message"]["content"]) == ("reply.completed", "Hello")


@pytest_asyncio.fixture(loop_scope="module")
async def reply(model: ModelServer, here: Api) -> AsyncIterator[Reply]:
    gate = Gate()
    ada = await here.user()
    conversation = await ada.conversation()
    model.script(stream(chunk("Hel"), gate, *says("lo").steps))
    yield Reply(ada, conversation, gate)
    gate.open()


async def again(ada: Api) -> Api:
    """The same user, signed in once more."""
    name = (await ada.get("/auth/me")).ok()["username"]
    tokens = (await ada.post("/auth/login", {"username": name, "password": PASSWORD})).ok()
    return ada.with_token(tokens["access_token"])


async def logout(ada: Api, second: Api, database_url: str) -> None:
    (await ada.post("/auth/logout")).ok()


async def revoke_others(ada: Api, second: Api, database_url: str) -> None:
    (await second.post("/auth/sessions/revoke-others")).ok()


async def change_password(ada: Api, second: Api, database_url: str) -> None:
    """Which gives `second` a new session."""
    second.token = (await second.post("/auth/me/password", {"password": "another password"})).ok()["access_token"]


async def disable(ada: Api, second: Api, database_url: str) -> None:
    user_id = (await ada.get("/auth/me")).ok()["id"]
    async with Database(database_url) as database, database.unit_of_work() as work:
        await work.administration.set_active(user_id, False, now=datetime.now(UTC))
        await work.commit()


async def delete(ada: Api, second: Api, database_url: str) -> None:
    (await second.post("/auth/me/delete")).ok()


End = Callable[[Api, Api, str], Awaitable[None]]
ENDS: list[End] = [logout, revoke_others, change_password, disable, delete]


async def revoke_key(ada: Api, key: Any, database_url: str) -> None:
    (await ada.post(f"/auth/keys/{key['id']}/revoke")).ok()


async def disable_owner(ada: Api, key: Any, database_url: str) -> None:
    await disable(ada, ada, database_url)


async def key_expires(ada: Api, key: Any, database_url: str) -> None:
    await execute(database_url, f"UPDATE sessions SET expires_at = '2001-01-01 00:00:00' WHERE id = '{key['id']}'")


async def ends(events: EventStream, *, mutely: bool = True) -> None:
    """In good order. `mutely`: without a last event."""
    async with asyncio.timeout(WITHIN):
        rest = await events.rest()
    assert not (mutely and rest)


async def closes(socket: Socket) -> None:
    async with asyncio.timeout(WITHIN):
        while (message := await socket.connection.receive()).type is WSMsgType.TEXT:
            pass
        assert (message.type, message.data) == (WSMsgType.CLOSE, 4401)


@pytest.mark.parametrize("end", [revoke_key, disable_owner, key_expires])
async def test_what_a_key_opened_ends_on_every_server(
    end: Callable[[Api, Any, str], Awaitable[None]], reply: Reply, there: Api, database_url: str
) -> None:
    key = await reply.ada.key()
    here, elsewhere = reply.ada.with_token(key["key"]), there.with_token(key["key"])
    async with (
        here.events(f"{reply.path}/chat", {"content": "Hi"}, EVENTS) as own,
        elsewhere.events(f"{reply.path}/reply") as other,
        connected(elsewhere, int(reply.path.rpartition("/")[2])) as socket,
    ):
        await own.until("Hel")
        await other.until("Hel")
        await socket.say("attach")
        await socket.event()
        await end(reply.ada, key, database_url)
        for api in (here, elsewhere):
            for answer in (await api.get(reply.path), await api.post(f"{reply.path}/stop")):
                assert answer.status in (401, 403), answer
        await asyncio.gather(ends(own), ends(other), closes(socket))


@pytest.mark.parametrize("end", ENDS)
async def test_the_streams_of_a_session_end_on_every_server(
    end: End, reply: Reply, there: Api, database_url: str
) -> None:
    ada, elsewhere, second = reply.ada, there.with_token(reply.ada.token), await again(reply.ada)
    async with (
        ada.events(f"{reply.path}/chat", {"content": "Hi"}, EVENTS) as own,
        elsewhere.events(f"{reply.path}/reply") as other,
        connected(elsewhere, int(reply.path.rpartition("/")[2])) as socket,
    ):
        await own.until("Hel")
        await other.until("Hel")
        await end(ada, second, database_url)
        mutely = end is not delete  # then the reply is stopped, of which its readers may hear
        await asyncio.gather(ends(own, mutely=mutely), ends(other, mutely=mutely), closes(socket))
    if end not in (disable, delete):
        await reply.is_complete(second)


async def test_who_waits_for_a_reply_is_told_that_the_session_has_ended(reply: Reply, there: Api) -> None:
    second = await again(reply.ada)
    waiting = asyncio.create_task(reply.ada.post(f"{reply.path}/chat", {"content": "Hi"}))
    await reply.gate.reached()
    (await there.with_token(reply.ada.token).post("/auth/logout")).ok()
    async with asyncio.timeout(WITHIN):
        answer = await waiting
    answer.problem(401, "unauthenticated")
    await reply.is_complete(second)


async def test_other_sessions_of_the_user_go_on(reply: Reply, there: Api) -> None:
    second = await again(reply.ada)
    async with second.events(f"{reply.path}/chat", {"content": "Hi"}, EVENTS) as events:
        await events.until("Hel")
        (await there.with_token(reply.ada.token).post("/auth/logout")).ok()
        await asyncio.sleep(WITHIN)
        reply.gate.open()
        assert (await events.rest())[-1].type == "reply.completed"


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not happened():
            await asyncio.sleep(0.01)


def late(answers: Sequence[tuple[float, Answer]], answered: float) -> Sequence[Answer]:
    """To what was asked after that."""
    return [answer for begun, answer in answers if begun > answered]


@pytest.mark.parametrize("end", ENDS)
async def test_after_its_answer_nothing_is_accepted_on_any_server(
    end: End, here: Api, there: Api, database_url: str
) -> None:
    """Neither a request, to read or to write, nor a frame on a socket that is still open, by many without a pause."""
    loop = asyncio.get_running_loop()
    ada = await here.user()
    conversation = await ada.conversation()
    elsewhere, second = there.with_token(ada.token), await again(ada)
    answers: dict[Api, list[tuple[float, Answer]]] = {ada: [], elsewhere: []}
    over = asyncio.Event()

    async def asking(api: Api, method: str, path: str, body: bytes | None) -> None:
        while not over.is_set():
            begun = loop.time()
            answers[api].append((begun, await api.call(method, path, body)))

    async with connected(elsewhere, conversation) as socket, asyncio.TaskGroup() as group:
        for api in (ada, elsewhere) * 2:
            group.create_task(asking(api, "GET", "/auth/me", None))
            group.create_task(asking(api, "POST", f"/conversations/{conversation}/rename", b'{"title": "Mine"}'))
        await until(lambda: all(any(answer.status == 200 for _, answer in of_one) for of_one in answers.values()))
        await end(ada, second, database_url)
        answered = loop.time()
        await socket.say("send", content="Hi")
        assert await socket.close_code() == 4401
        await until(lambda: all(len(late(of_one, answered)) > 10 for of_one in answers.values()))
        over.set()
    for of_one in answers.values():
        for answer in late(of_one, answered):
            answer.problem(*((403, "account_disabled") if end is disable else (401, "unauthenticated")))
    if end not in (disable, delete):
        assert await second.messages(conversation) == []
