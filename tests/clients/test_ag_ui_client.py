"""AG-UI's own client: runs of a thread."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from clients.running import node
from clients.serving import House, house_of, on_the_way
from integration.model_server import STALL, ModelServer, chunk, plain, says, stream
from integration.processes import several_serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
needs_npm = pytest.mark.needs("npm")
HELLO = {"id": "mine", "role": "user", "content": "Hello?"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house_of(tmp_path_factory.mktemp("server")) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def house(shared: House) -> House:
    """With a user of its own."""
    shared.model.always = says("Hello")
    return House(shared.server, shared.model, await shared.server.api.user(), shared.url)


async def run(
    house: House, *messages: dict[str, Any], run_id: str = "run", key: str | None = None, tools: Sequence[Any] = ()
) -> Any:
    environ = {**house.at("/ag-ui"), "THREAD": "thread", "RUN": run_id, "MESSAGES": json.dumps(messages)}
    environ["TOOLS"] = json.dumps(tools)
    return await node("ag_ui.mjs", **{**environ, "KEY": key or house.key})


def asked(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    run = {"threadId": "thread", "runId": "run", "state": {}, "tools": [], "context": [], "forwardedProps": {}}
    return {**run, "messages": messages, **more}


@needs_npm
async def test_a_thread(house: House) -> None:
    house.model.script(says("He", "llo", reasoning=["Hm"], usage=(3, 2)), says("Fine."), says("Well."))
    first = await run(house, HELLO)
    assert first["error"] is None
    assert [(it["role"], it["content"]) for it in first["messages"]] == [
        ("user", "Hello?"),
        ("reasoning", "Hm"),
        ("assistant", "Hello"),
    ]
    assert first["events"][-1]["usage"] == [
        {"model": "scripted", "inputTokens": 3, "outputTokens": 2, "totalTokens": 5}
    ]
    more = {"id": "more", "role": "user", "content": "How are you?"}
    second = await run(house, *first["messages"], more, run_id="second")
    assert second["messages"][-1]["content"] == "Fine."
    prompt = [message["content"] for message in house.model.requests[-1].body["messages"][1:]]
    assert prompt == ["Hello?", "Hello", "How are you?"]
    again = await run(house, *first["messages"], more, run_id="third")
    assert again["messages"][-1]["content"] == "Well."
    prompt = [message["content"] for message in house.model.requests[-1].body["messages"][1:]]
    assert prompt == ["Hello?", "Hello", "How are you?"]


async def test_a_run_is_answered_once(house: House) -> None:
    called = len(house.model.requests)
    answers = [await house.user.post("/ag-ui", asked(HELLO)) for _ in range(3)]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert len(house.model.requests) == called + 1


@needs_npm
async def test_a_client_may_offer_tools(house: House) -> None:
    """As CopilotKit does on every run. None is called."""
    weather = {"name": "weather", "description": "Say what the weather is.", "parameters": {"type": "object"}}
    found = await run(house, HELLO, tools=[weather])
    assert found["error"] is None
    assert found["messages"][-1]["content"] == "Hello"
    assert [event["type"] for event in found["events"]].count("CUSTOM") == 1
    assert "tools" not in house.model.requests[-1].body


@needs_npm
async def test_a_client_is_told_why_the_model_failed(house: House) -> None:
    house.model.script(plain(401, '{"error": "no such key"}'))
    failed = await run(house, HELLO)
    last = failed["events"][-1]
    assert (last["type"], last["code"]) == ("RUN_ERROR", "model_unauthorized")
    assert last["message"] == "The model endpoint refused the API key."


@needs_npm
async def test_a_client_is_told_why_it_was_refused(house: House) -> None:
    refused = await run(house, HELLO, key="none")
    assert refused["error"]["payload"]["code"] == "unauthenticated"


@pytest.mark.parametrize(
    ("run_", "message"),
    [
        ({}, "threadId: is required"),
        (asked(), "messages: must end with a message of the user"),
        (asked({**HELLO, "content": " "}), "messages: must not be empty"),
        (asked(HELLO, threadId=""), "threadId: must not be empty"),
        (asked(HELLO, runId="r" * 256), "runId: must be at most 255 characters"),
        (asked(HELLO, resume=[{"interruptId": "i"}]), "resume: is not supported: no run waits for an answer"),
    ],
)
async def test_what_is_refused_is_named(house: House, run_: dict[str, Any], message: str) -> None:
    answer = await house.user.post("/ag-ui", run_)
    assert (answer.status, answer.json) == (400, {"message": message, "code": "validation_failed"})


@pytest.mark.mysql
@needs_npm
async def test_a_client_on_another_worker_sees_the_writers_death(database_url: str, tmp_path: Path) -> None:
    """It runs the same run there."""
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
                writing = asyncio.ensure_future(run(here, HELLO))
                await begun.wait()
                following = asyncio.ensure_future(run(there, HELLO))
                await resumed.wait()
                await asyncio.sleep(1)  # the text reaches the log
                os.kill(one.pid, signal.SIGKILL)
                found, cut_off = await following, await writing
    last = found["events"][-1]
    assert (last["type"], last["code"]) == ("RUN_ERROR", "interrupted")
    assert found["messages"][-1]["content"] == "Hello"
    assert cut_off["events"][-1]["type"] != "RUN_FINISHED"
