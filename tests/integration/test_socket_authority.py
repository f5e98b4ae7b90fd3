"""Every WebSocket of the application, by every way to say who one is, with a key that does not open it: nothing of
anybody's is told, and no model is asked."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import WSMsgType

from chatcore_memory import ScriptedModel, ScriptedRelay
from integration.databases import execute, on_one
from integration.http_app import Api
from integration.routes import ROUTES, Route
from integration.test_protocol_authority import NAME, Zoe, opened, zoe

__all__ = ["opened", "zoe"]

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.once]

Opened = tuple[Api, ScriptedModel, ScriptedRelay]
OWN: Route = ("WS", "/conversations/ws/{conversation_id}")
AI: Route = ("WS", "/ai/chat/ws")
_HELLO = {"id": "mine", "role": "user", "parts": [{"type": "text", "text": "Hello"}]}
_AI = {"requestId": "r", "id": "zoes"}
FRAMES: dict[Route, dict[str, Any]] = {
    OWN: {
        "send": {"type": "send", "content": "Hello"},
        "attach": {"type": "attach"},
        "stop": {"type": "stop"},
    },
    AI: {
        "send": {"type": "send", **_AI, "trigger": "submit-message", "messages": [_HELLO]},
        "regenerate": {"type": "send", **_AI, "trigger": "regenerate-message", "messages": []},
        "resume": {"type": "resume", **_AI},
    },
}
READING = {"attach", "resume"}


@dataclass(frozen=True)
class Way:
    """`by`: where the key is: in a `frame` or in the `protocol`."""

    route: Route
    kind: str
    by: str

    def __str__(self) -> str:
        return f"{self.route[1]} {self.kind} by {self.by}"

    @asynccontextmanager
    async def gone(self, zoe: Zoe, key: str | None) -> AsyncGenerator[Any, None]:
        """Connect with this key, and say it."""
        frame, named = FRAMES[self.route][self.kind], key is not None and self.by == "protocol"
        path = self.route[1].format(conversation_id=zoe.ids["response_id"].split("_")[1])
        protocols = ["chatcore.v1", f"bearer.{key}"] if named else []
        async with zoe.api.http.ws_connect(path, protocols=protocols, max_msg_size=0) as socket:
            if self.route == OWN and not named:
                await socket.send_json({"type": "auth", "token": key or ""})
            elif key is not None and not named:
                frame = {**frame, "headers": {"Authorization": f"Bearer {key}"}}
            await socket.send_json(frame)
            yield socket

    async def closed(self, zoe: Zoe, key: str | None) -> int:
        """The code with which the connection ends, before anything is told."""
        async with self.gone(zoe, key) as socket:
            message = await socket.receive(timeout=10)
            assert message.type is WSMsgType.CLOSE, message
            assert NAME not in (message.extra or "")
            return int(message.data)

    async def told(self, zoe: Zoe, key: str) -> list[Any]:
        """The frames up to the first that ends what was asked for."""
        frames = list[Any]()
        async with self.gone(zoe, key) as socket:
            while not frames or frames[-1]["type"] not in ENDS:
                frames.append(await socket.receive_json(timeout=10))
                if self.kind == "stop" and frames[-1]["type"] == "ready":
                    return frames
        return frames


ENDS = {"reply.completed", "end", "error", "no-active"}
WAYS = [Way(route, kind, by) for route, kinds in FRAMES.items() for kind in kinds for by in ("frame", "protocol")]
ways = pytest.mark.parametrize("way", WAYS, ids=str)


async def test_each_socket_is_here() -> None:
    assert {route for route in ROUTES if route[0] == "WS"} == FRAMES.keys()


@ways
@on_one
@pytest.mark.parametrize("key", [None, "ck-", "ck-" + "x" * 43, "sk-0123456789"], ids=str)
async def test_no_key(opened: Opened, zoe: Zoe, way: Way, key: str | None) -> None:
    calls = len(opened[1].calls)
    assert await way.closed(zoe, key) == 4401
    assert len(opened[1].calls) == calls


@ways
@on_one
@pytest.mark.parametrize("how", ["revoked", "expired", "another scope"])
async def test_a_key_that_opens_nothing(opened: Opened, zoe: Zoe, way: Way, how: str, database_url: str) -> None:
    key = await zoe.api.key(scopes=["files"] if how == "another scope" else ["chat"])
    if how == "revoked":
        (await zoe.api.post(f"/auth/keys/{key['id']}/revoke")).ok()
    elif how == "expired":
        await execute(database_url, "UPDATE sessions SET expires_at = '2001-01-01 00:00:00'")
    calls = len(opened[1].calls)
    assert await way.closed(zoe, key["key"]) == 4401
    assert len(opened[1].calls) == calls


@ways
async def test_a_key_that_reads(opened: Opened, zoe: Zoe, way: Way) -> None:
    calls = len(opened[1].calls)
    frames = await way.told(zoe, await zoe.key("read"))
    if way.kind in READING:
        assert frames[-1]["type"] != "error"
    elif way.kind != "stop":
        assert frames[-1]["type"] == "error"
        assert "chat" in (frames[-1].get("detail") or frames[-1]["errorText"])
        assert frames[-1].get("code", "scope_missing") == "scope_missing"
    assert len(opened[1].calls) == calls


@ways
async def test_anothers_key(opened: Opened, zoe: Zoe, way: Way) -> None:
    """The AI SDK's chats are by name, which two users may both have: each has their own."""
    key: str = (await (await opened[0].user()).key(scopes=["chat"]))["key"]
    if way.route == OWN:
        assert await way.closed(zoe, key) == 4404
        return
    frames = await way.told(zoe, key)
    assert NAME not in json.dumps(frames)
    assert frames[-1]["type"] == {"send": "end", "regenerate": "error", "resume": "no-active"}[way.kind]


@ways
async def test_its_owners_key(zoe: Zoe, way: Way) -> None:
    """So that it is nothing else that the others fail for."""
    frames = await way.told(zoe, await zoe.key("chat"))
    assert frames[-1]["type"] != "error"
    if way.kind in ("attach", "regenerate"):
        assert NAME in json.dumps(frames)  # what another would see
