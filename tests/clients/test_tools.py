"""Responses with `store: false` and tools, with the clients that people own: they pass through."""

from pathlib import Path
from typing import Any

import pytest

from clients.running import node, python
from clients.serving import House, house_of
from integration.model_server import Answer, named, stream

pytestmark = pytest.mark.asyncio
PROMPT = {"MODEL": "scripted", "PROMPT": "How is the weather in Oslo?"}
RESPONSE = {
    "id": "resp_a",
    "object": "response",
    "created_at": 1,
    "model": "scripted",
    "tools": [],
    "tool_choice": "auto",
}
USAGE = {
    "input_tokens": 3,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 2,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 5,
}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"place": "Oslo"}',
    "status": "completed",
}
PART = {"type": "output_text", "text": "Take a coat.", "annotations": [], "logprobs": []}
MESSAGE = {"type": "message", "id": "msg_a", "role": "assistant", "status": "completed", "content": [PART]}


def answered(*events: tuple[str, dict[str, Any]], output: dict[str, Any]) -> Answer:
    whole = {**RESPONSE, "status": "completed", "output": [output], "usage": USAGE}
    begun = ("response.created", {"response": {**whole, "status": "in_progress", "output": [], "usage": None}})
    added = ("response.output_item.added", {"output_index": 0, "item": {**output, "status": "in_progress"}})
    done = ("response.output_item.done", {"output_index": 0, "item": output})
    sent: list[tuple[str, dict[str, Any]]] = [begun, added, *events, done, ("response.completed", {"response": whole})]
    return stream(*(named(kind, number, **more) for number, (kind, more) in enumerate(sent)))


def calls() -> Answer:
    place = {"item_id": "fc_1", "output_index": 0}
    delta = ("response.function_call_arguments.delta", {**place, "delta": CALL["arguments"]})
    done = ("response.function_call_arguments.done", {**place, "arguments": CALL["arguments"]})
    return answered(delta, done, output=CALL)


def speaks() -> Answer:
    place = {"item_id": "msg_a", "output_index": 0, "content_index": 0}
    added = ("response.content_part.added", {**place, "part": {**PART, "text": ""}})
    delta = ("response.output_text.delta", {**place, "delta": "Take a coat.", "logprobs": []})
    done = ("response.output_text.done", {**place, "text": "Take a coat.", "logprobs": []})
    return answered(added, delta, done, ("response.content_part.done", {**place, "part": PART}), output=MESSAGE)


async def keyed(house: House) -> House:
    user = house.user.with_token((await house.user.key())["key"])
    return House(house.server, house.model, user, house.url)


@pytest.mark.needs("agents")
async def test_an_agent_calls_its_tool(tmp_path: Path) -> None:
    async with house_of(tmp_path) as stranger:
        house = await keyed(stranger)
        house.model.script(calls(), speaks())
        found = await python("agents", "agents_tools.py", **PROMPT, **house.at("/v1"))
        assert found["text"] == "Take a coat."
        first, second = house.model.requests
        assert (first.body["store"], first.body["tools"][0]["name"]) == (False, "weather")
        kinds = [item.get("type", "message") for item in second.body["input"]]
        assert kinds == ["message", "function_call", "function_call_output"]
        assert second.body["input"][2]["output"] == "Rain in Oslo."
        assert (await house.user.get("/v1/conversations")).ok()["data"] == []


@pytest.mark.needs("npm")
async def test_the_ai_sdk_for_openai(tmp_path: Path) -> None:
    async with house_of(tmp_path) as stranger:
        house = await keyed(stranger)
        house.model.script(speaks())
        options = '{"openai": {"store": false}}'
        found = await node("ai_openai.mjs", API="responses", OPTIONS=options, **PROMPT, **house.at("/v1"))
        assert (found["errors"], found["text"], found["finishReason"]) == ([], "Take a coat.", "stop")
        assert house.model.requests[-1].body["store"] is False
