"""What clients of other protocols read last when their session ends, and what over-long names cost."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from chatcore_http.open_sockets import OpenSockets
from integration.http_app import Api, api_of, settings_for
from integration.model_server import STALL, ModelServer, chunk, stream

SAID = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "Hello"}], "content": "Hello"}
ENDS = {
    "/ai/chat": (
        {"id": "c", "messages": [SAID]},
        'data: {"type":"error","errorText":"The session has ended."}\n\ndata: [DONE]\n\n',
    ),
    "/ag-ui": (
        {"threadId": "t", "runId": "r", "messages": [SAID]},
        'data: {"type":"RUN_ERROR","message":"The session has ended.","code":"unauthenticated"}\n\n',
    ),
}


@pytest_asyncio.fixture
async def ada(tmp_path: Path) -> AsyncIterator[Api]:
    async with ModelServer() as server:
        server.always = stream(chunk("Hel"), STALL)
        settings = settings_for(tmp_path, OPENAI_BASE_URL=server.url, OPENAI_API_KEY="sk-house")
        async with api_of(settings) as stranger:
            yield await stranger.user()


@pytest.mark.parametrize("path", ENDS)
async def test_a_session_that_ends_is_an_error_of_the_stream(ada: Api, path: str) -> None:
    body, end = ENDS[path]
    key: dict[str, Any] = await ada.key()
    async with ada.with_token(key["key"]).http.post(
        path, json=body, headers={"Authorization": f"Bearer {key['key']}"}
    ) as answer:
        await answer.content.readuntil(b'"Hel"')
        (await ada.post(f"/auth/keys/{key['id']}/revoke")).ok()
        async with asyncio.timeout(5):
            rest = (await answer.content.read()).decode()
    assert rest.endswith(end)


def frame(**fields: object) -> str:
    return json.dumps({"type": "send", "requestId": "1", "id": "c", "messages": [SAID], **fields})


@pytest.mark.parametrize(
    "odd",
    [frame(requestId="r" * 256), frame(body=[{}] * 110_000), frame(messages=[{"id": "", "role": ""}] * 40_000)],
    ids=["a long id of a request", "a flood of values", "a flood of messages"],
)
async def test_a_frame_that_would_cost_too_much(ada: Api, odd: str) -> None:
    protocols = ("chatcore.v1", f"bearer.{ada.token}")
    async with ada.http.ws_connect("/ai/chat/ws", protocols=protocols) as socket:
        await socket.send_str(odd)
        message = await socket.receive(timeout=5)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1007)


async def test_an_error_names_what_the_client_sent(ada: Api) -> None:
    async with ada.http.ws_connect("/ai/chat/ws", protocols=("chatcore.v1", f"bearer.{ada.token}")) as socket:
        await socket.send_str(frame(id=" "))
        assert (await socket.receive_json(timeout=5))["errorText"] == "id: must not be empty"


async def test_a_user_has_so_many_connections_and_no_more(ada: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ada.container
    monkeypatch.setattr((await ada.container.get(OpenSockets)).of_users, "_most", 2)
    protocols = ("chatcore.v1", f"bearer.{ada.token}")
    resume = json.dumps({"type": "resume", "requestId": "1", "id": "c"})

    async def opened(stack: AsyncExitStack) -> aiohttp.WSMessage:
        socket = await stack.enter_async_context(ada.http.ws_connect("/ai/chat/ws", protocols=protocols))
        await socket.send_str(resume)
        return await socket.receive(timeout=5)

    async with AsyncExitStack() as stack:
        for _ in range(2):
            assert (await opened(stack)).type is aiohttp.WSMsgType.TEXT
        refused = await opened(stack)
        assert (refused.type, refused.data) == (aiohttp.WSMsgType.CLOSE, 1013)
    async with AsyncExitStack() as stack:  # those that have closed no longer count
        while (await opened(stack)).type is not aiohttp.WSMsgType.TEXT:
            await stack.aclose()
