"""Asynchronous generators of ours are closed by those who read them, also when they stop in the middle: none waits for
the collector, which closes it later and in a task of its own."""

import asyncio
import gc
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
import pytest_asyncio

from chatcore.ports import LLMGateway
from chatcore_memory import ScriptedModel, Stall
from histories import chatgpt_talk, raw, sharded
from integration.http_app import EVENTS, Api, provided, settings_for
from integration.test_http_own_data import CONVERSATION, HEADER, jsonl
from integration.ws_client import Served, connected, served

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = ScriptedModel("Hello")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with served(settings_for(tmp_path_factory.mktemp("data")), provided(LLMGateway, MODEL)) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def ada(house: Served) -> Api:
    return await house.stranger.user()


@pytest_asyncio.fixture(loop_scope="module")
async def conversation(ada: Api) -> int:
    """One with a reply that has ended."""
    conversation = await ada.conversation()
    (await ada.post(f"/conversations/{conversation}/chat", {"content": "Hi"})).ok()
    return conversation


@contextmanager
def noting_collected() -> Generator[list[str], None, None]:
    """Which generators of ours, begun inside, are left to the collector."""
    found, hooks = list[str](), sys.get_asyncgen_hooks()

    def note(generator: Any) -> None:
        if "chatcore" in generator.ag_code.co_filename.partition("/src/")[2]:
            found.append(generator.ag_code.co_qualname)
        assert hooks.finalizer is not None
        hooks.finalizer(generator)

    sys.set_asyncgen_hooks(finalizer=note)
    try:
        yield found
    finally:
        sys.set_asyncgen_hooks(*hooks)


async def none_is_left(ask: Callable[[], Awaitable[Any]]) -> None:
    with noting_collected() as left:
        await ask()
        await asyncio.sleep(0.05)
        gc.collect()
        await asyncio.sleep(0)
    assert left == []


class Leaving:
    """An ASGI client that takes nothing of this kind of message, and leaves in the middle of the first."""

    def __init__(self, at: Callable[[Any], bool], *messages: dict[str, Any], leaves: dict[str, Any]) -> None:
        self._at = at
        self._messages = list(messages)
        self._leaves = leaves
        self.reached = asyncio.Event()

    async def receive(self) -> Any:
        if self._messages:
            return self._messages.pop(0)
        await self.reached.wait()
        return self._leaves

    async def send(self, message: Any) -> None:
        if self._at(message):
            self.reached.set()
            await asyncio.Event().wait()


def scope_of(api: Api, path: str, **more: Any) -> dict[str, Any]:
    path, _, query = path.partition("?")
    return {
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [
            (b"host", b"localhost"),
            (b"authorization", f"Bearer {api.token}".encode()),
            (b"content-type", b"application/json"),
            (b"accept", b"text/event-stream"),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "subprotocols": [f"bearer.{api.token}"],
        "extensions": {},
        "state": {},
        **more,
    }


async def left_in_the_middle(house: Served, api: Api, method: str, path: str, body: object = None) -> None:
    request = {"type": "http.request", "body": b"" if body is None else json.dumps(body).encode(), "more_body": False}
    client = Leaving(
        lambda message: message["type"] == "http.response.body", request, leaves={"type": "http.disconnect"}
    )
    app: Any = house.app
    await app(scope_of(api, path, type="http", scheme="http", method=method), client.receive, client.send)
    assert client.reached.is_set()


# ---- out -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", "?format=openai", "?format=markdown"])
async def test_an_export_is_closed_with_its_client(house: Served, ada: Api, conversation: int, query: str) -> None:
    await none_is_left(lambda: left_in_the_middle(house, ada, "GET", f"/auth/me/export{query}"))


async def test_a_stream_is_closed_with_its_client(house: Served, ada: Api, conversation: int) -> None:
    path = f"/conversations/{conversation}"
    await none_is_left(lambda: left_in_the_middle(house, ada, "POST", f"{path}/chat", {"content": "Hi"}))
    await none_is_left(lambda: left_in_the_middle(house, ada, "GET", f"{path}/reply"))


async def test_a_stream_whose_client_takes_its_head_only_is_closed(house: Served, ada: Api, conversation: int) -> None:
    client = Leaving(
        lambda message: message["type"] == "http.response.start",
        {"type": "http.request", "body": b"", "more_body": False},
        leaves={"type": "http.disconnect"},
    )
    app: Any = house.app

    async def ask() -> None:
        scope = scope_of(ada, f"/conversations/{conversation}/reply", type="http", scheme="http", method="GET")
        asking = asyncio.create_task(app(scope, client.receive, client.send))
        await client.reached.wait()
        asking.cancel()
        await asyncio.wait((asking,))

    await none_is_left(ask)


async def test_an_answer_in_json_closes_what_it_followed(ada: Api, conversation: int) -> None:
    await none_is_left(lambda: ada.post(f"/conversations/{conversation}/chat", {"content": "Hi"}))


async def test_a_socket_closes_what_it_followed(house: Served, ada: Api, conversation: int) -> None:
    async def leave() -> None:
        client = Leaving(
            lambda message: '"reply.started"' in (message.get("text") or ""),
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": '{"type": "attach"}'},
            leaves={"type": "websocket.disconnect", "code": 1006},
        )
        app: Any = house.app
        scope = scope_of(ada, f"/conversations/ws/{conversation}", type="websocket", scheme="ws")
        await app(scope, client.receive, client.send)
        assert client.reached.is_set()

    await none_is_left(leave)


async def test_clients_that_leave_the_server_itself(ada: Api, conversation: int) -> None:
    stall = Stall()
    MODEL.then("Hel", stall, "lo")

    async def leave() -> None:
        async with ada.events(f"/conversations/{conversation}/chat", {"content": "Hi"}, EVENTS) as stream:
            await stream.until("Hel")
        async with connected(ada, conversation) as socket:
            await socket.say("attach")
            await socket.until("Hel")
        async with ada.events(f"/conversations/{conversation}/reply") as stream:
            await stream.until("Hel")
            stall.release()
            await stream.rest()

    await none_is_left(leave)


# ---- in --------------------------------------------------------------------------------------------------

BROKEN = raw([chatgpt_talk()] * 2)[:-100]
UNKNOWN = b'{"neither": "of them"}' * 100
IMPORTS = {
    "that stops early": jsonl(HEADER, CONVERSATION) + b"[\n" * 20_000,
    "that begins with no header": b'{"kind": "conversation"}\n' * 1000,
    "that is cut off": BROKEN,
    "of an unknown format": UNKNOWN,
    "of an archive": sharded([chatgpt_talk()], [chatgpt_talk()]),
    "of an archive with one that is cut off": sharded([chatgpt_talk()]),
}


@pytest.mark.parametrize("kind", IMPORTS)
async def test_an_import_closes_what_it_read(ada: Api, kind: str) -> None:
    await none_is_left(lambda: ada.call("POST", "/conversations/import", IMPORTS[kind]))
