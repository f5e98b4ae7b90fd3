"""The compliance cases of Open Responses, by their names, written from its specification. Two transports of it are not
offered: a WebSocket at /v1/responses, and what a connection remembers of `store: false`."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from integration.http_app import Api, api_of, settings_for
from integration.model_server import CUT, DONE, ModelServer, chunk, named, plain, says, stream
from integration.open_responses import (
    Compaction,
    CompactResource,
    ErrorEvent,
    FunctionCall,
    ItemAdded,
    ItemDone,
    Message,
    Reasoning,
    ResponseResource,
    TextDelta,
    events_of,
    response_of,
    told_by,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.once]

PNG = "data:image/png;base64,iVBORw0KGgo="
TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "Say what the weather is like somewhere.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "get_weather",
    "arguments": '{"place":"Oslo"}',
    "status": "completed",
}
ECHO: dict[str, Any] = {
    "previous_response_id": None,
    "instructions": None,
    "error": None,
    "incomplete_details": None,
    "tools": [{**TOOL, "strict": True}],
    "tool_choice": "auto",
    "truncation": "disabled",
    "parallel_tool_calls": True,
    "text": {"format": {"type": "text"}},
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "top_logprobs": 0,
    "temperature": 1,
    "reasoning": None,
    "usage": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "store": False,
    "background": False,
    "service_tier": "default",
    "metadata": {},
    "safety_identifier": None,
    "prompt_cache_key": None,
}
CALLED = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "completed_at": 2,
    "status": "completed",
    "model": "scripted",
    "output": [CALL],
    **ECHO,
}


def said(role: str, content: Any, **more: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content, **more}


class Client:
    """What the specification's own runner sends: JSON over HTTP, and nothing that only one maker's client does."""

    def __init__(self, api: Api, model: ModelServer) -> None:
        self.api = api
        self.model = model

    async def raw(self, asked: Any, *, path: str = "/v1/responses", **more: Any) -> tuple[int, bytes]:
        body = {"model": "scripted", "input": asked, **more}
        headers = {"Authorization": f"Bearer {self.api.token}"}
        async with self.api.http.post(path, json=body, headers=headers) as answer:
            return answer.status, await answer.read()

    async def ask(self, asked: Any, **more: Any) -> ResponseResource:
        """A whole response, completed and with an output."""
        status, body = await self.raw(asked, stream=False, **more)
        assert status == 200, body
        response = response_of(body)
        assert response.status == "completed"
        assert response.output
        return response

    async def stream(self, asked: Any, **more: Any) -> list[Any]:
        status, body = await self.raw(asked, stream=True, **more)
        assert status == 200, body
        return events_of(body)

    @property
    def told(self) -> list[tuple[str, Any]]:
        """What the model was told last."""
        return [(each["role"], each["content"]) for each in self.model.requests[-1].body["messages"]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with api_of(settings_for(tmp_path_factory.mktemp("data"), SYSTEM_PROMPT="")) as api:
        yield api


@pytest_asyncio.fixture(loop_scope="module")
async def client(stranger: Api) -> AsyncIterator[Client]:
    async with ModelServer() as model:
        api = await stranger.user()
        config = {"model_url": model.url, "model_name": "scripted", "api_key": "sk-0123456789"}
        (await api.post("/auth/config/create", config)).ok(201)
        model.always = says("Good ", "day, ", "world. 🦄", usage=(5, 3))
        yield Client(api, model)


def text_of(response: ResponseResource) -> str:
    (message,) = [item for item in response.output if isinstance(item, Message)]
    return "".join(part.text for part in message.content)  # type: ignore[union-attr]


async def test_basic_response(client: Client) -> None:
    response = await client.ask([said("user", "Greet me in three words.")])
    assert text_of(response) == "Good day, world. 🦄"
    assert response.usage
    assert response.usage.total_tokens == 8


async def test_assistant_phase(client: Client) -> None:
    history = [
        said("assistant", "I look it up.", phase="commentary"),
        said("assistant", "It is seven.", phase="final_answer"),
        said("user", "Say the number."),
    ]
    await client.ask(history)
    assert client.told == [("assistant", "I look it up.\n\nIt is seven."), ("user", "Say the number.")]


@pytest.mark.parametrize("phase", ["commentary", "final_answer"])
async def test_response_output_phase_schema(phase: str) -> None:
    """Of the validator alone."""
    item = {"type": "message", "id": "m", "status": "completed", "role": "assistant", "content": [], "phase": phase}
    (message,) = response_of(json.dumps({**CALLED, "output": [item]}).encode()).output
    assert isinstance(message, Message)
    assert message.phase == phase


async def test_streaming_response(client: Client) -> None:
    events = await client.stream([said("user", "Count to three.")])
    response = told_by(events)
    assert (response.status, text_of(response)) == ("completed", "Good day, world. 🦄")
    assert "".join(event.delta for event in events if isinstance(event, TextDelta)) == "Good day, world. 🦄"


async def test_streaming_response_of_a_model_that_thinks(client: Client) -> None:
    client.model.always = stream(chunk(reasoning="Hm. "), chunk(reasoning="Yes."), chunk("Four"), chunk(finish="stop"))
    response = told_by(await client.stream("2 + 2?"))
    assert [type(item) for item in response.output] == [Reasoning, Message]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (stream(chunk("Ha"), chunk(finish="length"), DONE), "incomplete"),
        (stream(chunk("Ha"), chunk(finish="content_filter"), DONE), "incomplete"),
        (stream(chunk("Ha"), CUT), "failed"),
        (plain(500, "{}"), "failed"),
    ],
)
async def test_streaming_response_without_a_good_end(client: Client, answer: Any, status: str) -> None:
    client.model.always = answer
    response = told_by(await client.stream("Hello?"))
    assert response.status == status
    assert (response.error is not None) == (status == "failed")
    assert (response.incomplete_details is not None) == (status == "incomplete")


@pytest.mark.parametrize("role", ["system", "developer"])
async def test_system_prompt(client: Client, role: str) -> None:
    await client.ask([said(role, "Talk like a sailor."), said("user", "Greet me.")])
    assert client.told == [("system", "Talk like a sailor."), ("user", "Greet me.")]


async def test_tool_calling(client: Client) -> None:
    client.model.always = plain(200, json.dumps(CALLED))
    response = await client.ask([said("user", "How is the weather in Oslo?")], tools=[TOOL], store=False)
    assert [type(item) for item in response.output] == [FunctionCall]
    assert client.model.requests[-1].body["tools"] == [TOOL]


async def test_tool_calling_where_responses_are_stored_names_what_to_do(client: Client) -> None:
    status, body = await client.raw("How is the weather in Oslo?", tools=[TOOL])
    error = json.loads(body)["error"]
    assert (status, error["param"]) == (400, "tools")
    assert "store: false" in error["message"]


async def test_tool_calling_streaming(client: Client) -> None:
    begun = {**CALLED, "status": "in_progress", "output": []}
    added = {**CALL, "arguments": "", "status": "in_progress"}
    place = {"item_id": "fc_1", "output_index": 0}
    sent: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
        ("response.output_item.added", {"output_index": 0, "item": added}),
        ("response.function_call_arguments.delta", {**place, "delta": '{"place":'}),
        ("response.function_call_arguments.delta", {**place, "delta": '"Oslo"}'}),
        ("response.function_call_arguments.done", {**place, "arguments": CALL["arguments"]}),
        ("response.output_item.done", {"output_index": 0, "item": CALL}),
        ("response.completed", {"response": CALLED}),
    ]
    client.model.always = stream(*(named(kind, number, **more) for number, (kind, more) in enumerate(sent)), DONE)
    events = await client.stream("How is the weather in Oslo?", tools=[TOOL], store=False)
    assert {type(event.item) for event in events if isinstance(event, ItemAdded | ItemDone)} == {FunctionCall}
    assert told_by(events).output == response_of(json.dumps(CALLED).encode()).output


async def test_a_stream_that_passes_and_breaks(client: Client) -> None:
    client.model.always = stream(named("response.created", 0, response={**CALLED, "output": []}), CUT)
    _, body = await client.raw("Hello?", store=False, stream=True)
    *_, last = body.decode().strip().split("\n\n")
    kind, data = last.split("\n")
    event = msgspec.json.decode(data.removeprefix("data: "), type=ErrorEvent)
    assert (kind, event.sequence_number, event.error.code) == ("event: error", 1, "model_unavailable")


async def test_image_input(client: Client) -> None:
    picture = {"type": "input_image", "image_url": PNG}
    await client.ask([said("user", [{"type": "input_text", "text": "What is it?"}, picture])])
    image = {"type": "image_url", "image_url": {"url": PNG}}
    assert client.told == [("user", [{"type": "text", "text": "What is it?"}, image])]


async def test_multi_turn(client: Client) -> None:
    turns = [("user", "I am Ada."), ("assistant", "Good day, Ada."), ("user", "Who am I?")]
    await client.ask([said(role, text) for role, text in turns])
    assert client.told == turns


async def test_previous_response_id(client: Client) -> None:
    first = await client.ask("I am Ada.")
    second = await client.ask("Who am I?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert client.told == [("user", "I am Ada."), ("assistant", "Good day, world. 🦄"), ("user", "Who am I?")]
    events = await client.stream("And now?", previous_response_id=second.id)
    assert told_by(events).previous_response_id == second.id
    assert len(client.told) == 5


COMPACTED = {
    "id": "resp_1",
    "object": "response.compaction",
    "created_at": 1,
    "output": [{"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"}],
    "usage": {
        "input_tokens": 9,
        "output_tokens": 3,
        "total_tokens": 12,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    },
}


async def test_compact_response(client: Client) -> None:
    client.model.always = plain(200, json.dumps(COMPACTED))
    turns = [said("user", "We meet on Monday."), said("assistant", "Noted: Monday.")]
    status, body = await client.raw(turns, prompt_cache_key="k", path="/v1/responses/compact")
    assert status == 200
    compacted = msgspec.json.decode(body, type=CompactResource)
    assert [type(item) for item in compacted.output] == [Compaction]
    asked = client.model.requests[-1]
    assert (asked.path, asked.body["input"]) == ("/v1/responses/compact", turns)


async def test_compact_missing_model(client: Client) -> None:
    status, body = await client.raw([said("user", "Compact this.")], model=None, path="/v1/responses/compact")
    assert (status, json.loads(body)["error"]["param"]) == (400, "model")
    assert client.model.requests == []


async def test_compact_needs_an_endpoint_that_can_and_all_of_the_input(client: Client) -> None:
    client.model.always = plain(404, "404 page not found", "text/plain")
    status, body = await client.raw("Hello?", path="/v1/responses/compact")
    assert status == 404
    assert "has no /responses/compact" in json.loads(body)["error"]["message"]
    status, body = await client.raw("Hello?", previous_response_id="resp_1_2", path="/v1/responses/compact")
    assert (status, json.loads(body)["error"]["param"]) == (400, "previous_response_id")


@pytest.mark.parametrize(
    "more",
    [
        {"text": {"verbosity": "low"}},
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}}},
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": {}, "strict": True, "description": "y"}}},
        {"text": {"format": {"type": "json_object"}}},
        {"reasoning": {"effort": "low"}},
        {"reasoning": {}},
        {"temperature": 0, "top_p": 0.5, "presence_penalty": 1, "frequency_penalty": 0.5, "max_output_tokens": 16},
        {"metadata": {"a": "b"}, "safety_identifier": "x", "prompt_cache_key": "y", "service_tier": "auto"},
        {"truncation": "auto", "parallel_tool_calls": False, "tool_choice": "none", "max_tool_calls": 1, "tools": []},
        {"instructions": "Be brief.", "include": ["reasoning.encrypted_content"], "top_logprobs": 0},
        {"background": False, "store": True, "stream_options": {"include_obfuscation": False}},
    ],
)
async def test_what_is_repeated_of_a_request_has_its_form(client: Client, more: dict[str, Any]) -> None:
    response = json.loads(msgspec.json.encode(await client.ask("Hello?", **more)))
    for name in more.keys() & response.keys() - {"text", "reasoning", "service_tier"}:
        assert response[name] == more[name]


async def test_the_websocket_transport_is_refused(client: Client) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.api.http.ws_connect("/v1/responses", headers={"Authorization": f"Bearer {client.api.token}"})
    assert 400 <= refused.value.status < 500
