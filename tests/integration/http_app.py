"""The real application on a real server on a loopback port, in the test's event loop, and a client that takes nothing
for granted: it reads what came byte for byte.
"""

import itertools
import json
import re
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Self

import uvicorn
from aiohttp import ClientResponse, ClientSession, ClientTimeout, TCPConnector
from dishka import AsyncContainer, Provider, Scope
from litestar import Litestar

from chatcore import CreateAdmin
from chatcore.entities import OwnerId, Profile
from chatcore.ports import Delta, LLMGateway, ModelEndpoint, PasswordHasher, Prompt
from chatcore_app import Settings
from chatcore_cli.server import uvicorn_options
from chatcore_http import create_app
from chatcore_memory import PlainPasswords, ScriptedModel
from unit.documents import fields_of

Body = bytes | BinaryIO | AsyncIterable[bytes]

PASSWORD = "correct horse battery"
_EVENT = re.compile(rb"event: ([a-z.]+)\nid: ([0-9]+:[0-9]+)\ndata: (\{[^\r\n]*\})\n\n")
_numbers = itertools.count(1)
_COMMENT = re.compile(rb":[^\r\n]*\n\n")

# ---- shapes ----------------------------------------------------------------------------------------------

PROFILE = {field.name for field in fields(Profile)}
USER, TOKENS, MODEL_CONFIG, CONVERSATION, MESSAGE = map(
    fields_of, ("User", "Tokens", "ModelConfig", "Conversation", "Message")
)
HISTORY = {"conversation", "messages", "has_more", "next_before_id"}

EVENTS = {"Accept": "text/event-stream"}

_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def check_shape(thing: Mapping[str, Any], keys: set[str]) -> None:
    """Exactly these keys, and every date in RFC 3339 and UTC."""
    assert set(thing) == keys
    for name in keys & {"created_at", "updated_at"}:
        assert _DATE.fullmatch(thing[name]), thing[name]


# ---- the server ------------------------------------------------------------------------------------------


def with_id(path: str, number: object) -> str:
    """A path with this in the place of `{config_id}` or `{conversation_id}`."""
    return re.sub(r"\{\w+\}", str(number), path)


def settings_for(folder: Path, **environ: str) -> Settings:
    """Those of an environment with nothing in it but `environ`. No model is asked for titles, unless that says so."""
    given = {"DATA_DIR": str(folder), "AUTO_TITLE": "first-message", **environ}
    return Settings.load(given, env_file=str(folder / ".env"))


def provided(port: Any, thing: object) -> Provider:
    """Puts one thing in the place of what stands behind a port."""
    provider = Provider(scope=Scope.APP)
    provider.provide(lambda: thing, provides=port)
    return provider


class CurrentModel(LLMGateway):
    """The model of the test at hand, for an application that serves many tests."""

    def __init__(self) -> None:
        self.model: LLMGateway = ScriptedModel("Hello")

    def stream(self, endpoint: ModelEndpoint, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        return self.model.stream(endpoint, prompt)

    async def models(self, endpoint: ModelEndpoint) -> Sequence[str]:
        return await self.model.models(endpoint)

    async def may_call(self, url: str, *, owner: OwnerId) -> bool:
        return await self.model.may_call(url, owner=owner)


@asynccontextmanager
async def api_of(settings: Settings, *providers: Provider) -> AsyncGenerator["Api", None]:
    """A client of the application, where only passwords are hashed faster than is good for them."""
    app = create_app(settings, provided(PasswordHasher, PlainPasswords()), *providers)
    async with serving(app) as url, client_of(url) as api:
        api.container = app.state.dishka_container
        yield api


@asynccontextmanager
async def serving(app: Litestar) -> AsyncGenerator[str, None]:
    """Its URL. The server is uvicorn, without the part that takes over the process's signals."""
    settings = await app.state.dishka_container.get(Settings)
    config = uvicorn.Config(app, **{**uvicorn_options(settings), "host": "127.0.0.1", "port": 0})
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        await server.shutdown()


@asynccontextmanager
async def client_of(url: str, *, within: float = 30, connections: int = 100) -> AsyncGenerator["Api", None]:
    """`within`: seconds in which an answer must have come, to its end. `connections`: at most so many at once."""
    connector = TCPConnector(limit=connections, keepalive_timeout=2)  # before the server closes what is idle
    async with ClientSession(url, timeout=ClientTimeout(total=within), read_bufsize=2**22, connector=connector) as http:
        yield Api(http)


# ---- the client ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["Content-Type"] == "application/json", self
        return json.loads(self.body)

    def ok(self, status: int = 200) -> Any:
        """The JSON of an answer that went well."""
        assert self.status == status, self
        return self.json

    def problem(self, status: int, code: str, *fields: str, more: frozenset[str] = frozenset()) -> Any:
        """The problem (RFC 9457) that it must be, which names exactly these fields."""
        assert (self.status, self.headers["Content-Type"]) == (status, "application/problem+json"), self
        problem = json.loads(self.body)
        assert problem["code"] == code, self
        errors = {"errors"} if code == "validation_failed" and "errors" in problem else set[str]()
        assert set(problem) == {"type", "title", "status", "detail", "code"} | errors | more, self
        assert (problem["type"], problem["status"]) == ("about:blank", status)
        assert problem["title"]
        assert problem["detail"]
        for error in problem.get("errors", ()):
            assert set(error) == {"field", "message"}
            assert error["message"]
        assert sorted(error["field"] for error in problem.get("errors", ())) == sorted(fields), self
        return problem

    def unavailable(self) -> Any:
        """The problem, which says that another try makes sense, and when."""
        assert int(self.headers["Retry-After"]) >= 1, self
        return self.problem(503, "unavailable")


@dataclass(frozen=True, slots=True)
class Event:
    type: str
    id: str
    data: dict[str, Any]


class EventStream:
    """A response of Server-Sent Events, in exactly the form that the wire promises."""

    def __init__(self, response: ClientResponse) -> None:
        self.headers: Mapping[str, str] = response.headers
        self._response = response

    async def block(self) -> bytes:
        """The bytes up to and with the next empty line; none at the end."""
        lines = [await self._response.content.readline()]
        while lines[-1] not in (b"\n", b""):
            lines.append(await self._response.content.readline())
        return b"".join(lines)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while _COMMENT.fullmatch(block := await self.block()):
            pass
        if not block:
            raise StopAsyncIteration
        found = _EVENT.fullmatch(block)
        assert found, block
        event = Event(found[1].decode(), found[2].decode(), json.loads(found[3]))
        assert event.type == event.data["type"]
        assert event.id == f"{event.data['reply_id']}:{event.data['offset']}"
        return event

    async def until(self, text: str) -> list[Event]:
        """The events until the deltas have said this text, and no more."""
        events = list[Event]()
        while text_of(events) != text:
            events.append(await anext(self))
            assert text.startswith(text_of(events))
        return events

    async def rest(self) -> list[Event]:
        return [event async for event in self]


def text_of(events: list[Event]) -> str:
    """What was reasoned and answered in them."""
    return "".join(event.data["text"] for event in events if event.type in ("reply.reasoning", "reply.delta"))


class Api:
    """One client; with a `token` it is signed in."""

    def __init__(self, http: ClientSession, token: str | None = None) -> None:
        self.http = http
        self.token = token
        self.container: AsyncContainer | None = None

    def with_token(self, token: str | None) -> "Api":
        api = Api(self.http, token)
        api.container = self.container
        return api

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.call("GET", path, headers=headers)

    async def post(self, path: str, json: object = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Without `json` the request has no body."""
        return await self.call("POST", path, encoded(json), headers)

    async def call(
        self, method: str, path: str, body: Body | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        async with self.http.request(method, path, data=body, headers=self._headers(headers)) as response:
            return Answer(response.status, response.headers, await response.read())

    @asynccontextmanager
    async def events(
        self, path: str, json: object = None, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[EventStream, None]:
        """A GET, or a POST of `json`, whose answer is a stream. Leaving before its end drops the connection."""
        method = "GET" if json is None else "POST"
        async with self.http.request(method, path, data=encoded(json), headers=self._headers(headers)) as response:
            assert response.status == 200, await response.read()
            assert response.content_type == "text/event-stream"
            yield EventStream(response)

    def _headers(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        bearer = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return {"Content-Type": "application/json", **bearer, **(headers or {})}

    # ---- what most tests begin with ----------------------------------------------------------------------

    async def register(self, username: str, password: str = PASSWORD) -> Any:
        return (await self.post("/auth/register", {"username": username, "password": password})).ok(201)

    async def user(self, username: str | None = None) -> "Api":
        """A new account's client."""
        return self.with_token((await self.register(username or f"user{next(_numbers)}"))["access_token"])

    async def admin(self, username: str | None = None) -> "Api":
        """As `user`, of an administrator."""
        assert self.container, "for clients of api_of"
        username = username or f"admin{next(_numbers)}"
        admin = await self.user(username)
        await (await self.container.get(CreateAdmin)).promote(name=username)
        return admin

    async def conversation(self, title: str | None = None) -> int:
        created = (await self.post("/conversations/create", {"title": title})).ok(201)
        conversation_id: int = created["id"]
        return conversation_id

    async def key(self, **fields: object) -> Any:
        """A new personal API key: its ApiKey with the key itself."""
        return (await self.post("/auth/keys/create", {"name": "laptop", **fields})).ok(201)

    async def file(self, data: bytes = b"The sky is blue.", **query: str) -> Any:
        """A new file."""
        named = "&".join(f"{name}={value}" for name, value in query.items())
        return (await self.call("POST", f"/files?{named}", data)).ok(201)

    async def messages(self, conversation_id: int) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = (await self.get(f"/conversations/{conversation_id}")).ok()["messages"]
        return messages


def encoded(value: object) -> bytes | None:
    return None if value is None else json.dumps(value, ensure_ascii=False).encode()
