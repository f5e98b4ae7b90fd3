"""The AI SDK's chat over a WebSocket: its own transport, and frames that it would not send."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientWebSocketResponse

from clients.running import node
from clients.serving import House, house_of, on_the_way, sending, text_of, ui_message
from integration.model_server import STALL, Gate, chunk, plain, says, stream

pytestmark = pytest.mark.asyncio(loop_scope="module")
needs_npm = pytest.mark.needs("npm")
HELLO = ui_message("Hello?")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house_of(tmp_path_factory.mktemp("server")) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def house(shared: House) -> House:
    """With a user of its own."""
    shared.model.always = says("Hello")
    return House(shared.server, shared.model, await shared.server.api.user(), shared.url)


async def by_transport(house: House, **environ: str) -> Any:
    return await node("ai_socket.mjs", ORIGIN=house.url, **house.at("/ai/chat/ws"), **environ)


@asynccontextmanager
async def connected(house: House, *protocols: str) -> AsyncIterator[ClientWebSocketResponse]:
    async with house.user.http.ws_connect("/ai/chat/ws", protocols=protocols) as socket:
        yield socket


def signed_in(house: House) -> tuple[str, str]:
    return "chatcore.v1", f"bearer.{house.key}"


def send(request_id: str = "r", chat: str = "chat", **more: Any) -> dict[str, Any]:
    return {"type": "send", "requestId": request_id, "id": chat, "messages": [HELLO], "headers": {}, "body": {}, **more}


async def heard(socket: ClientWebSocketResponse, request_id: str) -> list[dict[str, Any]]:
    """The frames to the end of one request's stream."""
    frames = list[dict[str, Any]]()
    while not frames or frames[-1]["type"] not in ("end", "error", "no-active"):
        frame = await socket.receive_json(timeout=30)
        if frame["requestId"] == request_id:
            frames.append(frame)
    return frames


@needs_npm
async def test_a_client_sends_and_reads_the_reply(house: House) -> None:
    house.model.script(says("Hel", "lo", reasoning=["Hm"]))
    found = await by_transport(house, REQUEST=sending("chat", HELLO))
    assert found["errors"] == []
    assert text_of(found["message"]) == "Hello"


@needs_npm
async def test_a_client_resumes(house: House) -> None:
    gate = Gate()
    house.model.script(stream(chunk("Hel"), gate, chunk("lo"), chunk(finish="stop")))
    async with connected(house, *signed_in(house)) as socket:
        await socket.send_json(send())
        await gate.reached()
    async with on_the_way(house) as (there, answered):
        resumed = asyncio.ensure_future(by_transport(there, RESUME="chat"))
        await answered.wait()
        await asyncio.sleep(1)
        gate.open()
        found = await resumed
    assert found["errors"] == []
    assert text_of(found["message"]) == "Hello"


@needs_npm
async def test_a_client_has_nothing_to_resume(house: House) -> None:
    found = await by_transport(house, RESUME="chat")
    assert found == {"message": None, "errors": [], "active": False}


@needs_npm
async def test_a_client_is_told_why_it_was_refused(house: House) -> None:
    assert (await by_transport(house, REQUEST=sending("chat", ui_message(" "))))["errors"] == [
        "messages: must not be empty"
    ]
    house.model.script(plain(401, '{"error": "no such key"}'))
    assert (await by_transport(house, REQUEST=sending("chat", HELLO)))["errors"] == [
        "The model endpoint refused the API key."
    ]


async def test_several_streams_at_once(house: House) -> None:
    one, other = Gate(), Gate()
    house.model.script(stream(chunk("a"), one, chunk("b"), chunk(finish="stop")))
    async with connected(house, *signed_in(house)) as socket:
        await socket.send_json(send("one", "first"))
        await one.reached()
        house.model.script(stream(chunk("c"), other, chunk("d"), chunk(finish="stop")))
        await socket.send_json(send("other", "second"))
        await other.reached()
        other.open()
        frames = await heard(socket, "other")
        assert [it["sequence"] for it in frames if it["type"] == "chunk"] == list(range(len(frames) - 2))
        one.open()
        assert (await heard(socket, "one"))[-1]["type"] == "end"


async def test_a_stream_goes_on_after_the_last_chunk(house: House) -> None:
    gate = Gate()
    house.model.script(stream(chunk("Hel"), gate, chunk("lo"), chunk(finish="stop")))
    async with connected(house, *signed_in(house)) as socket:
        await socket.send_json(send("first"))
        await gate.reached()
        for number in range(3):
            resume = {"type": "resume", "requestId": f"r{number}", "id": "chat", "lastSequence": number}
            await socket.send_json(resume)
        await asyncio.sleep(0.3)
        gate.open()
        frames = list[dict[str, Any]]()
        while [frame["type"] for frame in frames].count("end") < 4:
            frames.append(await socket.receive_json(timeout=30))
    by_request = {name: [it for it in frames if it["requestId"] == name] for name in ("first", "r0", "r1", "r2")}
    _, *whole, end = by_request["first"]
    assert end["type"] == "end"
    for number in range(3):
        _, *rest, end = by_request[f"r{number}"]
        assert end["type"] == "end"
        assert [it["chunk"] for it in rest] == [it["chunk"] for it in whole[number + 1 :]]


async def test_who_aborts_reads_no_further(house: House) -> None:
    gate = Gate()
    house.model.script(stream(chunk("Hel"), gate, chunk("lo"), chunk(finish="stop")))
    async with connected(house, *signed_in(house)) as socket:
        await socket.send_json(send())
        await gate.reached()
        await socket.send_json({"type": "abort", "requestId": "r"})
        await socket.send_json({"type": "abort", "requestId": "none"})
        await socket.send_json({"type": "resume", "requestId": "again", "id": "chat"})
        gate.open()
        assert (await heard(socket, "again"))[-1]["type"] == "end"


async def test_a_connection_has_so_many_streams(house: House) -> None:
    house.model.script(stream(chunk("Hel"), STALL))
    async with connected(house, *signed_in(house)) as socket:
        await socket.send_json(send())
        await socket.receive_json()
        for number in range(17):
            await socket.send_json({"type": "resume", "requestId": f"r{number}", "id": "chat"})
        refused = await heard(socket, "r16")
        assert "at most 16 streams" in refused[-1]["errorText"]
    (await house.user.post("/ai/chat/chat/stop")).ok()


@pytest.mark.parametrize("frame", ["", "{}", json.dumps(send(trigger="other")), '{"type":"abort"}'])
async def test_a_frame_that_is_none_ends_the_connection(house: House, frame: str) -> None:
    async with connected(house, *signed_in(house)) as socket:
        await socket.send_str(frame)
        await socket.receive()
        assert socket.close_code == 1007


async def test_the_token_may_be_in_the_first_frame(house: House) -> None:
    async with connected(house) as socket:
        await socket.send_json(send(headers={"Authorization": f"Bearer {house.key}"}))
        assert (await heard(socket, "r"))[-1]["type"] == "end"


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer none"}, {"authorization": "none"}])
async def test_a_stranger_is_not_let_in(house: House, headers: dict[str, str]) -> None:
    async with connected(house) as socket:
        await socket.send_json(send(headers=headers))
        await socket.receive()
        assert socket.close_code == 4401


async def test_it_ends_with_its_session(house: House) -> None:
    house.model.script(stream(chunk("Hel"), STALL))
    async with connected(house, *signed_in(house)) as socket:
        await socket.send_json(send())
        await socket.receive_json()
        (await house.user.post("/auth/logout")).ok()
        while not socket.closed:
            await socket.receive(timeout=10)
        assert socket.close_code == 4401
