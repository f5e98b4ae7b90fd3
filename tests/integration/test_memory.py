"""What requests leave behind when they are over: nothing that waits for the garbage collector, and no memory."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from chatcore.ports import LLMGateway
from chatcore_memory import ScriptedModel
from integration.http_app import EVENTS, Api, api_of, provided, settings_for
from integration.processes import serving
from integration.raw_http import memory_of
from integration.ws_client import connected

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * 1024
OURS = ("chatcore", "litestar", "dishka", "uvicorn")
OF_STATEMENTS = "chatcore_sql.tables"  # the types of columns: SQLAlchemy drops its oldest prepared statements


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ada(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    settings = settings_for(tmp_path_factory.mktemp("data"))
    async with api_of(settings, provided(LLMGateway, ScriptedModel("Hello"))) as stranger:
        yield await stranger.user()


async def completed(api: Api, conversation: int) -> None:
    async with api.events(f"/conversations/{conversation}/chat", {"content": "Hi"}, EVENTS) as stream:
        assert (await stream.rest())[-1].type == "reply.completed"


async def talk(api: Api, conversation: int) -> None:
    async with connected(api, conversation) as socket:
        assert (await socket.ask())[-1].type == "reply.completed"


REQUESTS: dict[str, Callable[[Api, int], Awaitable[Any]]] = {
    "JSON": lambda api, _: api.get("/auth/me"),
    "a body": lambda api, _: api.post("/conversations/create", {"title": "Travel"}),
    "an answer of a model": lambda api, conversation: api.post(
        f"/conversations/{conversation}/chat", {"content": "Hi"}
    ),
    "a stream": completed,
    "a socket": talk,
    "a field that is wrong": lambda api, _: api.post("/conversations/create", {"title": 1}),
    "no JSON": lambda api, _: api.call("POST", "/conversations/create", b"{"),
    "nothing there": lambda api, _: api.get("/conversations/999"),
    "no route": lambda api, _: api.get("/nope"),
    "no token": lambda api, _: api.with_token(None).get("/auth/me"),
    "too large": lambda api, _: api.call("POST", "/conversations/create", BytesIO(b" " * (MIB + 1))),
    "compressed": lambda api, _: api.call("POST", "/conversations/create", b"{}", {"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("kind", REQUESTS)
async def test_a_request_leaves_nothing_to_the_garbage_collector(ada: Api, kind: str) -> None:
    ask, conversation = REQUESTS[kind], await ada.conversation()
    for _ in range(2):  # what is made once, and kept
        await ask(ada, conversation)
    assert await garbage_of(lambda: ask(ada, conversation), times=20) == []


async def garbage_of(ask: Callable[[], Awaitable[Any]], *, times: int) -> list[str]:
    """The types of our own, and of the framework's, of which the collector has to free something afterwards."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(times):
            await ask()
        await asyncio.sleep(0.1)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        modules = {type(it): type(it).__module__ for it in gc.garbage}
        return sorted(str(of) for of, at in modules.items() if at.startswith(OURS) and at != OF_STATEMENTS)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def test_large_bodies_leave_no_memory_behind(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        api = await server.api.user()
        body = b'{"title": "%b"}' % (b"a" * (MIB - len('{"title": ""}')))
        before = 0
        for number in range(510):
            (await api.call("POST", "/conversations/create", BytesIO(body))).problem(400, "validation_failed", "title")
            if number == 10:
                before = memory_of(server.pid)
        assert memory_of(server.pid) - before < 64_000_000
