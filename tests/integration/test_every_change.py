"""Every changing route of the table, on an authority that goes while the request is under way: the guard has let it in,
and its body, or its first transaction, comes only after a sign-out, a revocation, another password, … is answered. Then
nothing in the database changes, and the answer is 401 or 403.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import pytest_asyncio
from dishka import Provider, Scope

from chatcore import Authenticate, Caller
from chatcore.ports import LLMGateway, UnitOfWork, UnitOfWorkFactory
from chatcore_memory import ScriptedModel, Stall
from chatcore_sql import Database
from chatcore_sql.tables import metadata
from integration.databases import execute, on_each
from integration.http_app import PASSWORD, Answer, Api, api_of, provided, settings_for
from integration.routes import ADMIN, BODIED, CHANGING, RAW, SOCKETS, Route, body_of, path_of
from integration.ws_client import Socket, connected

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.once,
    pytest.mark.parametrize("database_url", on_each[:2], indirect=True),
]

OFF = {f"RATE_LIMIT_{rule}": "off" for rule in ("SIGN_IN", "REGISTER", "SEND", "REQUESTS")}
QUERIES = {("POST", "/v1/chats/message"): "?chat_id={chat_id}"}
OLD_TIME = "2026-01-01T00:00:00Z"
EXPORT = [
    {"kind": "export", "format": "chatcore export", "version": 1},
    {"kind": "conversation", "id": 1, "title": "Plans", "created_at": OLD_TIME, "updated_at": OLD_TIME},
    {"kind": "message", "id": 1, "conversation_id": 1, "role": "user", "content": "Hi", "created_at": OLD_TIME},
    {"kind": "end"},
]
BY_ITSELF = {"workers"}
"""Tables that change with the time."""


class Noted(Authenticate):
    """The guard's question, and how often it let somebody in."""

    let_in: ClassVar[list[Caller]] = []

    async def __call__(self, *, access_token: str) -> Caller:
        caller = await super().__call__(access_token=access_token)
        self.let_in.append(caller)
        return caller


class Gate(UnitOfWorkFactory):
    """Each writing unit of work that begins while it is shut waits until it is opened. What is urgent never waits."""

    def __init__(self, inner: UnitOfWorkFactory) -> None:
        self._inner = inner
        self._shut: asyncio.Event | None = None
        self.waiting = 0

    @asynccontextmanager
    async def __call__(self, *, read_only: bool = False, urgent: bool = False) -> AsyncGenerator[UnitOfWork, None]:
        if self._shut is not None and not (read_only or urgent):
            shut = self._shut
            self.waiting += 1
            await shut.wait()
        async with self._inner(read_only=read_only, urgent=urgent) as work:
            yield work

    def shut(self) -> asyncio.Event:
        """For whoever comes from now on, until `ignore`. Setting the event lets go on who waits."""
        self._shut, self.waiting = asyncio.Event(), 0
        return self._shut

    def ignore(self) -> None:
        """Who comes from now on."""
        self._shut = None


@dataclass(frozen=True, kw_only=True)
class World:
    stranger: Api
    root: Api
    gate: Gate
    model: ScriptedModel
    database_url: str

    async def everything(self) -> Mapping[str, Sequence[Any]]:
        tables = [table.name for table in metadata.sorted_tables if table.name not in BY_ITSELF]
        return {name: sorted(await execute(self.database_url, f"SELECT * FROM {name}"), key=repr) for name in tables}


@dataclass(frozen=True, kw_only=True)
class Account:
    """An administrator with one of everything, and a reply that is being written; in two sessions."""

    world: World
    api: Api
    elsewhere: Api
    name: str
    ids: dict[str, object]
    writing: int
    """The conversation with that reply."""
    session_id: str
    user_id: int


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    model = ScriptedModel("Hello")
    settings = settings_for(tmp_path_factory.mktemp("data"), DATABASE_URL=database_url, SHUTDOWN_GRACE="1", **OFF)
    async with Database(database_url) as database:
        gate = Gate(database.unit_of_work)
        noted = Provider(scope=Scope.APP)
        noted.provide(Noted, provides=Authenticate)
        adapters = (provided(Database, database), provided(UnitOfWorkFactory, gate), provided(LLMGateway, model))
        async with api_of(settings, *adapters, noted) as stranger:
            root = await stranger.admin("root")
            yield World(stranger=stranger, root=root, gate=gate, model=model, database_url=database_url)


async def account_of(world: World, name: str) -> Account:
    api = await world.stranger.admin(name)
    signed_in = (await world.stranger.post("/auth/login", {"username": name, "password": PASSWORD})).ok()
    conversation_id, writing = await api.conversation(), await api.conversation()
    said = (await api.post(f"/conversations/{conversation_id}/chat", {"content": "Hello"})).ok()
    world.model.then(Stall())
    async with api.events(f"/conversations/{writing}/chat", {"content": "Hello", "stream": True}) as events:
        await anext(events)
    config = {"model_url": "https://own.test/v1", "model_name": "own", "api_key": ""}
    victim = (await world.stranger.register(f"{name}-victim"))["user"]["id"]
    sessions = (await api.get("/auth/sessions")).ok()["items"]
    (session_id,) = (each["id"] for each in sessions if each["current"])
    ids = {
        "config_id": (await api.post("/auth/config/create", config)).ok(201)["id"],
        "conversation_id": conversation_id,
        "chat_id": conversation_id,
        "message_id": said["message"]["id"],
        "session_id": session_id,
        "key_id": (await api.key())["id"],
        "file_id": (await api.file())["id"],
        "user_id": victim,
    }
    return Account(
        world=world,
        api=api,
        elsewhere=world.stranger.with_token(signed_in["access_token"]),
        name=name,
        ids=ids,
        writing=writing,
        session_id=session_id,
        user_id=(await api.get("/auth/me")).ok()["id"],
    )


# ---- how it goes -----------------------------------------------------------------------------------------


async def signed_out(account: Account) -> Answer:
    return await account.api.post("/auth/logout")


async def revoked(account: Account) -> Answer:
    return await account.elsewhere.post(f"/auth/sessions/{account.session_id}/revoke")


async def another_password(account: Account) -> Answer:
    return await account.elsewhere.post("/auth/me/password", {"password": "a new password"})


async def disabled(account: Account) -> Answer:
    return await account.world.root.post(f"/admin/users/{account.user_id}/disable")


async def demoted(account: Account) -> Answer:
    return await account.world.root.post(f"/admin/users/{account.user_id}/roles/revoke", {"role": "admin"})


async def deleted(account: Account) -> Answer:
    return await account.world.root.post(f"/admin/users/{account.user_id}/delete")


ENDS: list[Callable[[Account], Awaitable[Answer]]] = [
    signed_out,
    revoked,
    another_password,
    disabled,
    demoted,
    deleted,
]
ends = pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)


def concerned(routes: Sequence[Route], end: Callable[[Account], Awaitable[Answer]]) -> list[Route]:
    """A role is needed for some routes only."""
    return [route for route in routes if end is not demoted or route in ADMIN]


# ---- requests --------------------------------------------------------------------------------------------


def request_of(account: Account, route: Route) -> tuple[str, bytes]:
    """Path and body, for something that would be done."""
    ids = {**account.ids, "conversation_id": account.writing} if route[1].endswith("/stop") else account.ids
    path = path_of(route, ids) + QUERIES.get(route, "").format_map(ids)
    if route[1].endswith("/import"):
        return path, b"".join(json.dumps(line).encode() + b"\n" for line in EXPORT)
    body = json.loads(body_of(route, ids) or b"{}")
    body |= {name: ids["message_id"] for name in body if name == "message_id"}
    body |= {name: f"new-{account.name}" for name in body if name == "username"}
    body |= {name: f"{account.name}@example.com" for name in body if name == "email"}
    return path, json.dumps(body).encode()


class Held:
    """A request on a connection of its own, whose body is kept back."""

    def __init__(self, account: Account, route: Route) -> None:
        self.account = account
        self.route = route
        self.path, self.body = request_of(account, route)

    async def begin(self) -> None:
        url = self.account.world.stranger.http._base_url
        assert url is not None
        self.reader, self.writer = await asyncio.open_connection(url.host, url.port)
        head = [
            f"{self.route[0]} {self.path} HTTP/1.1",
            f"Host: {url.host}:{url.port}",
            f"Authorization: Bearer {self.account.api.token}",
            "Content-Type: application/json",
            f"Content-Length: {len(self.body)}",
            "Connection: close",
        ]
        self.writer.write("\r\n".join([*head, "", ""]).encode())
        await self.writer.drain()

    async def end(self) -> tuple[int, str]:
        """The answer's status, and the code of its problem."""
        with suppress(ConnectionError):  # it may be answered without its body
            self.writer.write(self.body)
            await self.writer.drain()
        answer = await self.reader.read()
        self.writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body).get("code", "") if body.startswith(b"{") else ""


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not reached():
            await asyncio.sleep(0.001)


def is_refusal(status: int, code: str) -> bool:
    return (status, code) in {(401, "unauthenticated"), (403, "forbidden"), (403, "account_disabled")}


# ---- the tests -------------------------------------------------------------------------------------------


@ends
async def test_a_body_that_comes_afterwards_changes_nothing(
    world: World, end: Callable[[Account], Awaitable[Answer]]
) -> None:
    account = await account_of(world, f"body-{end.__name__}")
    requests = [Held(account, route) for route in concerned([each for each in CHANGING if each in BODIED], end)]
    assert requests
    let_in = len(Noted.let_in)
    await asyncio.gather(*(request.begin() for request in requests))
    await until(lambda: len(Noted.let_in) == let_in + len(requests))
    (await end(account)).ok()
    before, calls = await world.everything(), len(world.model.calls)
    answers = await asyncio.gather(*(request.end() for request in requests))
    heard = {request.route: answer for request, answer in zip(requests, answers, strict=True)}
    assert {route: answer for route, answer in heard.items() if not is_refusal(*answer)} == {}
    assert await world.everything() == before
    assert len(world.model.calls) == calls


@ends
async def test_a_transaction_that_begins_afterwards_changes_nothing(
    world: World, end: Callable[[Account], Awaitable[Answer]]
) -> None:
    """Each route comes to the point where it would change something; frames of a socket too."""
    account = await account_of(world, f"unit-{end.__name__}")
    routes = concerned(CHANGING, end)
    async with AsyncExitStack() as stack:
        sockets = [
            await stack.enter_async_context(connected(account.api, account.writing if kind == "stop" else conversation))
            for kind, conversation in (("send", account.ids["conversation_id"]), ("stop", account.writing))
            if concerned(SOCKETS, end)
        ]
        opened = world.gate.shut()
        asked = [asyncio.create_task(asked_at_once(account, route)) for route in routes]
        for socket, kind in zip(sockets, ("send", "stop"), strict=False):
            await socket.say(kind, **({"content": "Hello"} if kind == "send" else {}))
        await until(lambda: world.gate.waiting == len(routes) + len(sockets))
        world.gate.ignore()
        (await end(account)).ok()
        before, calls = await world.everything(), len(world.model.calls)
        opened.set()
        answers = dict(zip(routes, await asyncio.gather(*asked), strict=True))
        closed = [await code_at_the_end(socket) for socket in sockets]
    assert {route: answer for route, answer in answers.items() if not is_refusal(*answer)} == {}
    assert set(closed) <= {4401}
    assert await world.everything() == before
    assert len(world.model.calls) == calls


async def asked_at_once(account: Account, route: Route) -> tuple[int, str]:
    path, body = request_of(account, route)
    answer = await account.api.call(route[0], path, body if route in (*BODIED, *RAW) else None)
    return answer.status, json.loads(answer.body).get("code", "")


async def code_at_the_end(socket: Socket) -> int:
    async with asyncio.timeout(10):
        while not socket.connection.closed:
            await socket.connection.receive()
    return socket.connection.close_code or 0
