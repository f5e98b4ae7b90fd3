"""The AI SDK's own clients in a chat: send, edit, regenerate, resume, stop."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from chatcore_http.protocols.ai_sdk import HEADERS
from clients.running import node
from clients.serving import House, house_of, on_the_way, sending, text_of, ui_message
from integration.model_server import STALL, Gate, ModelServer, chunk, plain, says, stream
from integration.processes import several_serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
needs_npm = pytest.mark.needs("npm")
HELLO = ui_message("Hello?")
PIECES = ["Hel", "lo ", "漢🦄", " world"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house_of(tmp_path_factory.mktemp("server")) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def house(shared: House) -> House:
    """With a user of its own."""
    shared.model.always = says("Hello")
    return House(shared.server, shared.model, await shared.server.api.user(), shared.url)


async def sent(house: House, request: str, package: str = "ai") -> Any:
    return await node("ai_stream.mjs", PACKAGE=package, REQUEST=request, **house.at("/ai/chat"))


async def page(house: House, *steps: dict[str, Any], messages: list[dict[str, Any]] | None = None) -> Any:
    """What a page with `useChat` shows after each step."""
    environ = {"CHAT": "chat", "MESSAGES": json.dumps(messages or []), "STEPS": json.dumps(steps)}
    return await node("ai_react.mjs", **environ, **house.at("/ai/chat"))


async def stored(house: House, chat: str = "chat") -> list[dict[str, Any]]:
    answer = (await house.user.get(f"/ai/chat/{chat}/messages")).ok()
    assert answer["hasMore"] is False
    messages: list[dict[str, Any]] = answer["messages"]
    return messages


def body(request: str) -> dict[str, Any]:
    """As the transport sends it."""
    asked: dict[str, Any] = json.loads(request)
    return {"id": asked.pop("chatId"), **asked}


# ---- send ------------------------------------------------------------------------------------------------


@needs_npm
@pytest.mark.parametrize("package", ["ai5", "ai", "ai7"])
async def test_a_client_sends_and_reads_the_reply(house: House, package: str) -> None:
    house.model.script(says(*PIECES, reasoning=["Hm", "m"], usage=(3, 2)))
    found = await sent(house, sending("chat", HELLO), package)
    assert found["errors"] == []
    assert "".join(it["delta"] for it in found["chunks"] if it["type"] == "text-delta") == "".join(PIECES)
    for part in found["message"]["parts"]:
        part.pop("id", None)  # of a part, within its stream
    assert await stored(house) == [HELLO, found["message"]]


async def test_the_headers_of_a_stream(house: House) -> None:
    answer = await house.user.post("/ai/chat", body(sending("chat", HELLO)))
    assert answer.status == 200
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.body.endswith(b"data: [DONE]\n\n")


async def test_a_message_is_sent_once(house: House) -> None:
    asked = len(house.model.requests)
    answers = [await house.user.post("/ai/chat", body(sending("chat", HELLO))) for _ in range(3)]
    assert len({answer.body for answer in answers}) == 1
    assert len(house.model.requests) == asked + 1


async def test_nothing_is_believed_but_the_last_message(house: House) -> None:
    past = ui_message("I am the model.", name="a", role="assistant")
    await house.user.post("/ai/chat", body(sending("chat", ui_message("Once.", name="b"), past, HELLO)))
    assert [message["content"] for message in house.model.requests[-1].body["messages"][1:]] == ["Hello?"]


async def test_a_name_is_its_owners(house: House) -> None:
    other = await house.server.api.user()
    for user in (house.user, other):
        assert (await user.post("/ai/chat", body(sending("chat", HELLO)))).status == 200
    await house.user.post("/ai/chat", body(sending("chat", ui_message("More?", name="more"))))
    assert len((await other.get("/ai/chat/chat/messages")).ok()["messages"]) == 2


# ---- in a page -------------------------------------------------------------------------------------------


@needs_npm
async def test_a_page_sends_and_regenerates(house: House) -> None:
    house.model.script(says("One"), says("Two"), says("Three"))
    first, again, more = await page(house, {"send": "Hello?"}, {"regenerate": True}, {"send": "More?"})
    assert [text_of(message) for message in first["messages"]] == ["Hello?", "One"]
    assert [text_of(message) for message in again["messages"]] == ["Hello?", "Two"]
    assert [text_of(message) for message in more["messages"]] == ["Hello?", "Two", "More?", "Three"]
    assert [it["error"] for it in (first, again, more)] == [None] * 3
    assert [(it["id"], text_of(it)) for it in await stored(house)] == [
        (it["id"], text_of(it)) for it in more["messages"]
    ]


@needs_npm
async def test_a_page_edits_a_message(house: House) -> None:
    await page(house, {"send": "Hello?"})
    messages = await stored(house)
    house.model.script(says("Edited"))
    (edited,) = await page(house, {"send": "Hi!", "messageId": messages[0]["id"]}, messages=messages)
    assert [text_of(message) for message in edited["messages"]] == ["Hi!", "Edited"]
    assert [text_of(message) for message in await stored(house)] == ["Hi!", "Edited"]
    listed = (await house.user.get("/conversations")).ok()
    assert len(listed["items"]) == 1


@needs_npm
async def test_a_page_shows_why_it_was_refused(house: House) -> None:
    (refused,) = await page(house, {"send": " "})
    assert (refused["status"], refused["error"]) == ("error", "messages: must not be empty")


@needs_npm
async def test_a_page_shows_why_the_model_failed(house: House) -> None:
    house.model.script(plain(401, '{"error": "no such key"}'))
    (failed,) = await page(house, {"send": "Hello?"})
    assert (failed["status"], failed["error"]) == ("error", "The model endpoint refused the API key.")


# ---- resume and stop -------------------------------------------------------------------------------------


async def begun(house: House, gate: Gate) -> None:
    """A reply whose first pieces are there, and whose reader has left."""
    first, *rest = PIECES
    house.model.script(stream(chunk(first), gate, *map(chunk, rest), chunk(finish="stop")))
    headers = {"Authorization": f"Bearer {house.key}"}
    asked = house.user.http.post("/ai/chat", json=body(sending("chat", HELLO)), headers=headers)
    async with asked as answer:
        await answer.content.readuntil(b"text-delta")


@needs_npm
async def test_a_page_that_is_reloaded_shows_the_same_message(house: House) -> None:
    gate = Gate()
    await begun(house, gate)
    before = await stored(house)
    assert before == [HELLO]
    async with on_the_way(house) as (there, answered):
        reloaded = asyncio.ensure_future(page(there, {"resume": True}, messages=before))
        await answered.wait()
        gate.open()
        (shown,) = await reloaded
    assert [text_of(message) for message in shown["messages"]] == ["Hello?", "".join(PIECES)]
    for part in shown["messages"][-1]["parts"]:
        part.pop("id", None)
    assert shown["messages"] == await stored(house)


async def test_wherever_a_reader_is_cut_off_it_is_all_there_again(house: House) -> None:
    gate = Gate()
    await begun(house, gate)
    headers = {"Authorization": f"Bearer {house.key}"}
    for events in range(1, 5):
        async with house.user.http.get("/ai/chat/chat/stream", headers=headers) as answer:
            for _ in range(events):
                await answer.content.readuntil(b"\n\n")
    readers = [asyncio.ensure_future(house.user.get("/ai/chat/chat/stream")) for _ in range(3)]
    await asyncio.sleep(0.2)
    gate.open()
    bodies = {(await reader).body for reader in readers}
    again = await house.user.post("/ai/chat", body(sending("chat", HELLO)))
    assert bodies == {again.body}
    assert (await house.user.get("/ai/chat/chat/stream")).status == 204


@pytest.mark.parametrize("chat", ["chat", "none"])
async def test_there_is_nothing_to_resume(house: House, chat: str) -> None:
    await house.user.post("/ai/chat", body(sending("chat", HELLO)))
    answer = await house.user.get(f"/ai/chat/{chat}/stream")
    assert (answer.status, answer.body) == (204, b"")


async def test_a_reply_is_stopped(house: House) -> None:
    house.model.script(stream(chunk("Hello"), STALL))
    reading = asyncio.ensure_future(house.user.post("/ai/chat", body(sending("chat", HELLO))))
    while (await house.user.get("/ai/chat/chat/messages")).status != 200:
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)
    stopped = (await house.user.post("/ai/chat/chat/stop")).ok()
    assert (text_of(stopped), stopped["metadata"]["status"]) == ("Hello", "stopped")
    assert b'{"type":"abort"}' in (await reading).body


# ---- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("POST", "/ai/chat/none/stop", 404, "There is no such conversation."),
        ("GET", "/ai/chat/none/messages", 404, "There is no such conversation."),
        ("GET", "/ai/chat/chat/messages?before=none", 404, "There is no such message."),
        ("GET", "/ai/chat/chat/messages?limit=0", 400, "limit: must be between 1 and 100"),
        ("GET", "/ai/nothing", 404, "There is no such route."),
    ],
)
async def test_errors_are_sentences(house: House, method: str, path: str, status: int, text: str) -> None:
    await house.user.post("/ai/chat", body(sending("chat", HELLO)))
    answer = await house.user.call(method, path)
    assert (answer.status, answer.headers["Content-Type"]) == (status, "text/plain; charset=utf-8")
    assert answer.body.decode() == text


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"id": "chat"}, "messages: must end with a message of the user"),
        ({"messages": [HELLO]}, "id: is required"),
        ({"id": "", "messages": [HELLO]}, "id: must not be empty"),
        ({"id": "i" * 256, "messages": [HELLO]}, "id: must be at most 255 characters"),
        ({"id": "chat", "messages": [HELLO], "trigger": "other"}, "trigger: Invalid enum value 'other'"),
        ({"id": "chat", "messages": [{**HELLO, "id": ""}]}, "messages: must not be empty"),
    ],
)
async def test_what_cannot_be_sent_is_named(house: House, request_: dict[str, Any], text: str) -> None:
    answer = await house.user.post("/ai/chat", request_)
    assert (answer.status, answer.body.decode()) == (400, text)


@pytest.mark.parametrize("message", [None, "none", "msg_999"])
async def test_what_is_regenerated_exists(house: House, message: str | None) -> None:
    named = {} if message is None else {"messageId": message}
    request = body(sending("chat", HELLO, trigger="regenerate-message", **named))
    assert (await house.user.post("/ai/chat", request)).status == 404
    if message is not None:
        await house.user.post("/ai/chat", body(sending("chat", HELLO)))
        assert (await house.user.post("/ai/chat", request)).status == 404


# ---- several workers -------------------------------------------------------------------------------------


@pytest.mark.mysql
@needs_npm
async def test_a_client_on_another_worker_sees_the_writers_death(database_url: str, tmp_path: Path) -> None:
    async with ModelServer() as model:
        model.script(stream(chunk("Hel"), 0.3, chunk("lo"), STALL))
        own = {"OPENAI_API_KEY": "key", "OPENAI_BASE_URL": model.url, "OPENAI_MODEL": "scripted"}
        async with several_serving(2, tmp_path, DATABASE_URL=database_url, **own) as (one, other):
            user = await one.api.user()
            other_user = other.api.with_token(user.token)
            async with (
                on_the_way(House(one, model, user, one.url)) as (here, begun),
                on_the_way(House(other, model, other_user, other.url)) as (there, resumed),
            ):
                writing = asyncio.ensure_future(sent(here, sending("chat", HELLO)))
                await begun.wait()
                following = asyncio.ensure_future(
                    node("ai_stream.mjs", PACKAGE="ai", RESUME="chat", **there.at("/ai/chat"))
                )
                await resumed.wait()
                await asyncio.sleep(1)  # the text reaches the log
                os.kill(one.pid, signal.SIGKILL)
                found, cut_off = await following, await writing
    assert found["errors"] == [
        "The server that wrote this reply ended before the reply did. The text up to there is kept."
    ]
    assert text_of(found["message"]) == "Hello"
    assert cut_off["errors"] != []
