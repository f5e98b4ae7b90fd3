"""The conversation routes as a bare ASGI application, without a server."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from chatcore import Chat
from chatcore.errors import Forbidden
from chatcore.ports import ImagePart
from chatcore_asgi import ASGIApp, Scope, User, closing_readers, conversations
from chatcore_memory import HandClock, MemoryDatabase, ScriptedModel, Stall
from unit.world import SERVER_MODEL


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel("Hel", "lo")


@pytest.fixture
async def chat(model: ScriptedModel) -> AsyncIterator[Chat]:
    async with Chat(store=MemoryDatabase(HandClock()), gateway=model, model=SERVER_MODEL) as chat:
        yield chat


def authenticate(scope: Scope) -> str | User | None:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    name = headers.get(b"x-user", b"alice").decode()
    match name:
        case "nobody":
            return None
        case "banned":
            raise Forbidden
        case "broken":
            raise RuntimeError("secret")
        case "teapot":
            raise HTTPException(418, "No coffee here.")
        case "stranger":
            raise HTTPException(401)
        case "host":
            raise HTTPException(503, "The host sleeps.")
        case "tenant":
            return User("alice", "acme")
        case _:
            return name


class Client:
    """Calls the application as a server does. `left`: the client goes when this is set."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.left = asyncio.Event()
        self.root_path = ""

    async def call(
        self, method: str, path: str, body: object = None, *, pieces: Sequence[bytes] | None = None, **headers: str
    ) -> "Answer":
        content = b"" if body is None else json.dumps(body).encode()
        waiting = list(pieces if pieces is not None else [content])
        answer, complete = Answer(), asyncio.Event()

        async def receive() -> Any:
            if waiting:
                piece = waiting.pop(0)
                return {"type": "http.request", "body": piece, "more_body": bool(waiting)}
            ends = [asyncio.ensure_future(event.wait()) for event in (self.left, complete)]
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    end.cancel()
            return {"type": "http.disconnect"}

        async def send(event: Any) -> None:
            answer.take(event)
            if answer.is_complete:
                complete.set()  # a server disconnects then; Quart waits for it

        path, _, query = path.partition("?")
        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "root_path": self.root_path}
        await self.app({**scope, "query_string": query.encode(), "headers": named}, receive, send)
        return answer

    async def post(self, path: str, body: object = None, **headers: str) -> "Answer":
        return await self.call("POST", path, body, pieces=None, **headers)

    async def get(self, path: str, **headers: str) -> "Answer":
        return await self.call("GET", path, pieces=None, **headers)


class Answer:
    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.begun = asyncio.Event()
        self.is_complete = False

    def take(self, event: Any) -> None:
        if event["type"] == "http.response.start":
            self.status = event["status"]
            self.headers = {name.decode(): value.decode() for name, value in event["headers"]}
        else:
            self.body += event["body"]
            self.is_complete = not event.get("more_body", False)
            self.begun.set()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self, status: int, code: str, *fields: str) -> None:
        assert (self.status, self.headers["content-type"]) == (status, "application/problem+json"), self.body
        assert self.json["code"] == code
        assert [error["field"] for error in self.json.get("errors", ())] == list(fields)


@pytest.fixture
def client(chat: Chat) -> Client:
    return Client(conversations(chat, authenticate=authenticate))


@pytest.fixture
async def conversation(client: Client) -> int:
    created = await client.post("/conversations/create", {"title": "Mine"})
    assert created.status == 201
    conversation_id: int = created.json["id"]
    return conversation_id


async def test_a_conversation_from_its_beginning_to_its_end(client: Client, conversation: int) -> None:
    here = f"/conversations/{conversation}"
    chatted = (await client.post(f"{here}/chat", {"content": "Hello?"})).json
    assert (chatted["message"]["content"], chatted["reply"]["content"]) == ("Hello?", "Hello")
    again = (await client.post(f"{here}/regenerate")).json
    assert again["reply"]["siblings"] == [chatted["reply"]["id"], again["reply"]["id"]]
    edited = (await client.post(f"{here}/messages/{chatted['message']['id']}/edit", {"content": "Hi?"})).json
    assert edited["message"]["parent_id"] is None
    branch = (await client.post(f"{here}/branch", {"message_id": chatted["reply"]["id"]})).json
    assert [each["id"] for each in branch["messages"]] == [chatted["message"]["id"], chatted["reply"]["id"]]
    assert (await client.get(here)).json == branch
    assert (await client.get(f"{here}?limit=1")).json["next_before_id"] == chatted["reply"]["id"]
    before = (await client.get(f"{here}?limit=1&before_id={chatted['reply']['id']}")).json
    assert [each["id"] for each in before["messages"]] == [chatted["message"]["id"]]
    assert (await client.post(f"{here}/rename", {"title": "Ours"})).json["title"] == "Ours"
    assert (await client.post(f"{here}/stop")).json["content"] == "Hello"
    assert (await client.post(f"{here}/delete")).json == {"message": "The conversation is deleted."}
    (await client.get(here)).problem(404, "not_found")


async def test_lists_go_on_by_cursor(client: Client) -> None:
    for title in ("one", "two", "three"):
        await client.post("/conversations/create", {"title": title})
    first = (await client.get("/conversations?limit=2")).json
    assert (len(first["items"]), first["has_more"]) == (2, True)
    rest = (await client.get(f"/conversations/?limit=2&cursor={first['next_cursor']}")).json
    assert (len(rest["items"]), rest["next_cursor"]) == (1, None)
    assert (await client.get("/conversations?offset=2")).json["items"] == rest["items"]
    found = (await client.get("/conversations/search?q=two")).json
    assert [hit["conversation"]["title"] for hit in found["items"]] == ["two"]
    assert (found["items"][0]["excerpt"], found["items"][0]["message"]) == ("two", None)


async def test_a_stream_is_resumed_and_refused_before_it_begins(client: Client, conversation: int) -> None:
    here = f"/conversations/{conversation}"
    assert (await client.get(f"{here}/reply")).status == 204
    streamed = await client.post(f"{here}/messages", {"content": "Hello?", "stream": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert (streamed.headers["cache-control"], streamed.headers["x-accel-buffering"]) == ("no-store", "no")
    assert (streamed.body.count(b"\n\n"), streamed.is_complete) == (streamed.body.count(b"event: "), True)
    asked = await client.post(f"{here}/regenerate", accept="text/event-stream")
    assert b"event: reply.completed" in asked.body
    rest = await client.get(f"{here}/reply?after=3")
    assert b'"text":"lo"' in rest.body
    ids = [line.split(b": ")[1].decode() for line in asked.body.splitlines() if line.startswith(b"id: ")]
    assert (await client.get(f"{here}/reply", last_event_id=ids[-1])).status == 204
    (await client.get(f"{here}/reply", last_event_id="x")).problem(400, "validation_failed", "Last-Event-ID")
    (await client.get(f"{here}/reply?after=-1")).problem(400, "validation_failed", "after")
    (await client.get("/conversations/4711/reply")).problem(404, "not_found")


async def test_a_send_with_a_key_happens_once(client: Client, conversation: int) -> None:
    here, body = f"/conversations/{conversation}/chat", {"content": "Hello?"}
    first = await client.post(here, body, idempotency_key="1")
    assert (await client.post(here, body, idempotency_key="1")).json == first.json
    (await client.post(here, {"content": "Other"}, idempotency_key="1")).problem(422, "idempotency_key_reused")
    (await client.post(here, body, idempotency_key="x" * 256)).problem(400, "validation_failed", "Idempotency-Key")


@pytest.mark.parametrize(
    ("user", "status", "code"),
    [
        ("nobody", 401, "unauthenticated"),
        ("banned", 403, "forbidden"),
        ("broken", 500, "internal"),
        ("stranger", 401, "unauthenticated"),
        ("teapot", 418, "im_a_teapot"),
        ("host", 503, "unavailable"),
    ],
)
async def test_who_may_not_ask(client: Client, user: str, status: int, code: str) -> None:
    answer = await client.get("/conversations", x_user=user)
    answer.problem(status, code)
    assert b"secret" not in answer.body
    assert ("www-authenticate" in answer.headers) == (status == 401)


async def test_users_and_tenants_see_their_own(client: Client, conversation: int) -> None:
    for other in ("bob", "tenant"):
        (await client.get(f"/conversations/{conversation}", x_user=other)).problem(404, "not_found")


async def test_it_may_be_asynchronous(chat: Chat) -> None:
    async def found(scope: Scope) -> str:
        await asyncio.sleep(0)
        return "alice"

    assert (await Client(conversations(chat, authenticate=found)).get("/conversations")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/conversations/x", 404, "not_found"),
        ("GET", f"/conversations/{2**63}", 404, "not_found"),
        ("GET", "/conversations/1/rename/", 404, "not_found"),
        ("GET", "/conversations/1\n", 404, "not_found"),
        ("DELETE", "/conversations/1", 405, "method_not_allowed"),
        ("GET", "/conversations/create", 405, "method_not_allowed"),
    ],
)
async def test_what_is_no_route(client: Client, method: str, path: str, status: int, code: str) -> None:
    (await client.call(method, path)).problem(status, code)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"content": 1}, "content"),
        ({}, "content"),
        ({"content": "x", "stream": 1}, "stream"),
        ({"content": "x", "temperature": "1"}, "temperature"),
        ({"content": "x", "temperature": True}, "temperature"),
        ({"content": "x", "temperature": 3}, "temperature"),
        ({"content": "x", "max_tokens": 1.5}, "max_tokens"),
        ({"content": "x", "config_id": 0}, "config_id"),
        ({"content": "x", "system": []}, "system"),
        ([], "body"),
    ],
)
async def test_what_a_body_may_not_have(client: Client, conversation: int, body: object, field: str) -> None:
    answer = await client.post(f"/conversations/{conversation}/chat", body)
    answer.problem(400, "validation_failed", field)
    assert (await client.get(f"/conversations/{conversation}")).json["messages"] == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"content": ' + b"9" * 5000 + b"}",
        b'{"content": "x", "more": [%b]}' % b",".join([b"{}"] * 110_000),
    ],
)
async def test_a_body_that_cannot_be_read(client: Client, conversation: int, body: bytes) -> None:
    answer = await client.call("POST", f"/conversations/{conversation}/chat", pieces=[body])
    answer.problem(400, "validation_failed", "body")


@pytest.mark.parametrize("query", ["limit=x", "limit=0", "limit=101", "offset=-1", "cursor=x", f"cursor=1-1-{2**63}"])
async def test_a_query_that_cannot_be_read(client: Client, query: str) -> None:
    (await client.get(f"/conversations?{query}")).problem(400, "validation_failed", query.partition("=")[0])


async def test_a_query_has_few_fields(client: Client) -> None:
    (await client.get(f"/conversations?{'a=1&' * 100}")).problem(400, "validation_failed", "query")


async def test_bodies_are_bounded(chat: Chat) -> None:
    client = Client(conversations(chat, authenticate=authenticate, max_body_bytes=100))
    path, received = "/conversations/create", [b"x" * 60, b"x" * 60, b"x" * 60]
    (await client.call("POST", path, pieces=received, content_length="180")).problem(413, "payload_too_large")
    (await client.call("POST", path, pieces=received)).problem(413, "payload_too_large")
    (await client.post(path, {}, content_encoding="gzip")).problem(413, "payload_too_large")
    assert (await client.post(path, {"title": "x" * 50})).status == 201


async def test_a_message_may_be_larger_with_its_images(chat: Chat) -> None:
    client = Client(conversations(chat, authenticate=authenticate, max_body_bytes=100, max_message_bytes=300))
    conversation = (await client.post("/conversations/create", {})).json["id"]
    path, url = f"/conversations/{conversation}/chat", f"data:image/png;base64,{'A' * 100}"
    assert (await client.post(path, {"content": "Which?", "images": [url]})).status == 200
    (await client.post(path, {"content": "Which?", "images": [url] * 3})).problem(413, "payload_too_large")


async def test_images_are_sent_edited_and_read(client: Client, conversation: int, model: ScriptedModel) -> None:
    here, url = f"/conversations/{conversation}", "data:image/png;base64,iVBORw=="
    sent = (await client.post(f"{here}/chat", {"content": "", "images": [url, url]})).json["message"]
    assert sent["images"] == 2
    assert model.calls[-1].prompt.messages[-1].content == [ImagePart(url), ImagePart(url)]
    found = await client.get(f"{here}/messages/{sent['id']}/images/1")
    assert (found.status, found.headers["content-type"], found.body) == (200, "image/png", b"\x89PNG")
    assert found.headers["content-disposition"] == f'attachment; filename="{sent["id"]}-1.png"'
    assert found.headers["x-content-type-options"] == "nosniff"
    (await client.get(f"{here}/messages/{sent['id']}/images/2")).problem(404, "not_found")
    (await client.get(f"{here}/messages/{sent['id']}/images/1", x_user="bob")).problem(404, "not_found")
    edited = (await client.post(f"{here}/messages/{sent['id']}/edit", {"content": "This?", "images": [url]})).json
    assert edited["message"]["images"] == 1


@pytest.mark.parametrize(
    ("images", "field"),
    [
        ("data:image/png;base64,iVBORw==", "images"),
        ([1], "images"),
        (["https://example.org/cat.png"], "images[0]"),
        (["data:image/png;base64,iVBORw==", "data:text/plain;base64,iVBORw=="], "images[1]"),
        (["data:image/png;base64,iVBORw=="] * 11, "images"),
    ],
)
async def test_images_that_break_a_rule(client: Client, conversation: int, images: Any, field: str) -> None:
    answer = await client.post(f"/conversations/{conversation}/chat", {"content": "Which?", "images": images})
    answer.problem(400, "validation_failed", field)


@pytest.mark.parametrize("path", ["/tools/chat/conversations", "/conversations"])
async def test_it_is_mounted_as_asgi_says_and_as_of_old(client: Client, path: str) -> None:
    client.root_path = "/tools/chat"
    assert (await client.get(path)).status == 200


async def test_a_failed_reply_is_a_problem_with_its_id(client: Client, conversation: int, model: ScriptedModel) -> None:
    model.then(RuntimeError("secret"))
    failed = await client.post(f"/conversations/{conversation}/chat", {"content": "Hello?"})
    failed.problem(500, "internal")
    assert failed.json["reply_id"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_ends_its_answer_and_not_the_reply(
    client: Client, conversation: int, model: ScriptedModel, stream: bool
) -> None:
    stall, here = Stall(), f"/conversations/{conversation}"
    model.then("Hel", stall, "lo")
    asking = asyncio.create_task(client.post(f"{here}/chat", {"content": "Hello?", "stream": stream}))
    await stall.reached()
    client.left.set()
    async with asyncio.timeout(5):
        answer = await asking
    assert not answer.is_complete
    stall.release()
    client.left.clear()
    assert b"reply.completed" in (await client.get(f"{here}/reply")).body


async def test_a_client_that_leaves_within_its_body_gets_nothing(client: Client) -> None:
    client.left.set()
    answer = await client.call("POST", "/conversations/create", pieces=[])
    assert answer.status == 0


async def test_a_host_that_cancels_does_not_cancel_a_send(
    client: Client, conversation: int, model: ScriptedModel
) -> None:
    asking = asyncio.create_task(client.post(f"/conversations/{conversation}/chat", {"content": "Hello?"}))
    while not model.calls:
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert b"reply.completed" in (await client.get(f"/conversations/{conversation}/reply")).body


async def test_alone_it_opens_the_chat() -> None:
    chat = Chat(store=MemoryDatabase(HandClock()), gateway=ScriptedModel("Hi"), model=SERVER_MODEL)
    app = conversations(chat, authenticate=authenticate)
    events: asyncio.Queue[Any] = asyncio.Queue()
    said: asyncio.Queue[Any] = asyncio.Queue()
    living = asyncio.ensure_future(app({"type": "lifespan"}, events.get, said.put))
    events.put_nowait({"type": "lifespan.startup"})
    assert (await said.get())["type"] == "lifespan.startup.complete"
    assert (await Client(app).post("/conversations/create")).status == 201
    events.put_nowait({"type": "lifespan.shutdown"})
    assert (await said.get())["type"] == "lifespan.shutdown.complete"
    await living


# ---- closing readers -------------------------------------------------------------------------------------


async def test_the_first_signal_closes_readers_and_then_does_what_it_did(
    chat: Chat, client: Client, conversation: int, model: ScriptedModel
) -> None:
    stall, here, heard = Stall(), f"/conversations/{conversation}", list[int]()
    model.then("Hel", stall, "lo")
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        mine = signal.getsignal(signal.SIGTERM)
        with closing_readers(chat):
            asking = asyncio.create_task(client.post(f"{here}/chat", {"content": "Hello?", "stream": True}))
            await stall.reached()
            signal.raise_signal(signal.SIGTERM)
            assert heard == [signal.SIGTERM]
            assert signal.getsignal(signal.SIGTERM) is mine
            async with asyncio.timeout(5):
                answer = await asking
            assert answer.body.endswith(b"read on elsewhere\n\n")
            stall.release()
        (await client.get(f"{here}/reply")).problem(503, "unavailable")
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_handler_of_the_loops_is_called_too(chat: Chat) -> None:
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, heard.set)
    try:
        with closing_readers(chat):
            signal.raise_signal(signal.SIGTERM)
            async with asyncio.timeout(5):
                await heard.wait()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def test_handlers_are_as_they_were(chat: Chat) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with closing_readers(chat):
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


async def test_in_another_thread_nothing_is_done(chat: Chat) -> None:
    def entered() -> object:
        with closing_readers(chat):
            return signal.getsignal(signal.SIGTERM)

    assert await asyncio.to_thread(entered) is signal.getsignal(signal.SIGTERM)
