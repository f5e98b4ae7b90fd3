"""Responses with `store: false`, with OpenAI's own client: they pass through to the endpoint's own Responses API."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from integration.http_app import Api, api_of, settings_for
from integration.model_server import CUT, ModelServer, named, plain, stream

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.once]

MODEL = "org/scripted:1"
TOOLS: list[Any] = [{"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}]
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": "{}"}
PNG = "data:image/png;base64,iVBORw0KGgo="
WHOLE = {
    "id": "resp_abc",
    "object": "response",
    "model": "of-2026",
    "status": "completed",
    "output": [CALL],
    "x": [1e3],
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with api_of(settings_for(tmp_path_factory.mktemp("data"))) as api:
        yield api


@pytest_asyncio.fixture(loop_scope="module")
async def model() -> AsyncIterator[ModelServer]:
    async with ModelServer() as model:
        yield model


@pytest_asyncio.fixture(loop_scope="module")
async def api(stranger: Api, model: ModelServer) -> Api:
    api = await stranger.user()
    config = {"model_url": model.url, "model_name": MODEL, "api_key": "sk-0123456789"}
    (await api.post("/auth/config/create", config)).ok(201)
    return api


@pytest_asyncio.fixture(loop_scope="module")
async def client(api: Api) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{api.http._base_url}/v1", api_key=api.token, max_retries=0) as client:
        yield client


async def ask(client: AsyncOpenAI, **more: Any) -> Any:
    return await client.responses.create(**{"model": MODEL, "input": "Hello", "store": False, **more})


async def test_all_that_is_sent_reaches_the_endpoint_and_all_that_it_says_the_client(
    client: AsyncOpenAI, model: ModelServer, api: Api
) -> None:
    model.always = plain(200, json.dumps(WHOLE))
    picture = {"type": "input_image", "image_url": PNG, "detail": "auto"}
    items: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": "What?"}, picture]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
        CALL,
        {"type": "function_call_output", "call_id": "call_1", "output": "nothing"},
        {"type": "item_reference", "id": "msg_67c"},
        {"role": "assistant", "content": "I see.", "id": "msg_1_2"},
    ]
    unknown = {"not_yet_invented": {"a": [1.0, 1e3, None]}}
    answer = await ask(
        client,
        input=items,
        tools=TOOLS,
        include=["reasoning.encrypted_content", "of.the.future"],
        background=False,
        extra_body={**unknown, "conversation": None},
    )
    assert answer.model_dump(exclude_unset=True) == WHOLE
    asked = model.requests[-1]
    assert (asked.method, asked.path) == ("POST", "/v1/responses")
    assert asked.headers["authorization"] == "Bearer sk-0123456789"
    assert asked.body["input"] == items
    assert asked.body["tools"] == TOOLS
    assert asked.body["include"] == ["reasoning.encrypted_content", "of.the.future"]
    assert asked.body["store"] is False
    assert asked.body["not_yet_invented"] == unknown["not_yet_invented"]
    assert (await api.get("/v1/conversations")).ok()["data"] == []


async def test_a_tool_call_is_streamed(client: AsyncOpenAI, model: ModelServer) -> None:
    begun = {**WHOLE, "status": "in_progress", "output": []}
    place = {"item_id": "fc_1", "output_index": 0}
    model.always = stream(
        named("response.created", 0, response=begun),
        named("response.output_item.added", 1, output_index=0, item={**CALL, "arguments": ""}),
        named("response.function_call_arguments.delta", 2, **place, delta="{"),
        named("response.function_call_arguments.delta", 3, **place, delta="}"),
        named("response.function_call_arguments.done", 4, **place, arguments="{}", name="look"),
        named("response.output_item.done", 5, output_index=0, item=CALL),
        named("response.completed", 6, response=WHOLE),
    )
    async with client.responses.stream(model=MODEL, input="Look", store=False, tools=TOOLS) as events:
        kinds = [event.type async for event in events]
        answer = await events.get_final_response()
    assert kinds[-1] == "response.completed"
    assert [(item.type, item.arguments) for item in answer.output] == [("function_call", "{}")]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"previous_response_id": "resp_1_2"}, "previous_response_id"),
        ({"previous_response_id": "resp_67c"}, "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"background": True}, "background"),
        ({"extra_body": {"background": "yes"}}, "background"),
        ({"extra_body": {"store": False, "model": 1}}, "model"),
        ({"input": [{"role": "user", "content": "x"}, {"type": "item_reference", "id": "msg_1_2"}]}, "input[1].id"),
        ({"input": [{"id": "rs_1_2"}, {"role": "user", "content": "x"}]}, "input[0].id"),
    ],
)
async def test_what_needs_something_stored_is_refused_by_name(
    client: AsyncOpenAI, model: ModelServer, asked: Any, param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(client, **asked)
    assert (refused.value.param, refused.value.code) == (param, "validation_failed")
    assert param == "model" or "store" in refused.value.message or param == "background"
    assert model.requests == []


async def test_what_is_no_input_is_the_endpoints_to_refuse(client: AsyncOpenAI, model: ModelServer, api: Api) -> None:
    model.always = plain(200, json.dumps(WHOLE))
    for odd in ("[" * 100 + "]" * 100, '[{"id": ' + "[" * 100 + "]" * 100 + "}]", "[1]", "null"):
        body = f'{{"model": "{MODEL}", "store": false, "input": {odd}}}'.encode()
        answer = await api.http.post("/v1/responses", data=body, headers={"Authorization": f"Bearer {api.token}"})
        assert answer.status == 200
        assert model.requests[-1].content == body


@pytest.mark.parametrize(
    "answer",
    [
        plain(404, "404 page not found", "text/plain"),
        plain(404, '{"detail": "Not Found"}'),
        plain(404, '{"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}'),
        plain(405, '{"detail": "Method Not Allowed"}'),
        plain(501, '{"detail": "no"}'),
    ],
)
async def test_an_endpoint_without_responses_is_named_and_what_to_do(
    client: AsyncOpenAI, model: ModelServer, answer: Any
) -> None:
    model.always = answer
    with pytest.raises(openai.APIStatusError) as refused:
        await ask(client)
    assert refused.value.status_code == answer.status
    assert refused.value.param == "store"
    assert "has no /responses" in refused.value.message
    assert "Without store: false" in refused.value.message


async def test_what_the_endpoint_refuses_by_name_passes(client: AsyncOpenAI, model: ModelServer) -> None:
    error = {"message": "No such model", "type": "invalid_request_error", "param": None, "code": "model_not_found"}
    model.always = plain(404, json.dumps({"error": error}))
    with pytest.raises(openai.NotFoundError) as refused:
        await ask(client)
    assert refused.value.body == error


async def test_a_stream_that_breaks_ends_with_an_event_of_responses(client: AsyncOpenAI, model: ModelServer) -> None:
    begun = named("response.created", 10, response={**WHOLE, "output": []})
    model.always = stream(begun[:40], begun[40:], named("response.in_progress", 11, response=WHOLE), CUT)
    events = await ask(client, stream=True)
    assert [(await anext(events)).sequence_number for _ in range(2)] == [10, 11]
    with pytest.raises(openai.APIError) as failed:
        await anext(events)
    assert failed.value.code == "model_unavailable"
    async with client.responses.with_streaming_response.create(
        model=MODEL, input="Hello", store=False, stream=True
    ) as answer:
        raw = b"".join([piece async for piece in answer.iter_bytes()]).decode()
    *_, kind, data = raw.strip().split("\n")
    last = json.loads(data.removeprefix("data: "))
    assert kind == "event: error"
    assert (last["type"], last["sequence_number"]) == ("error", 12)
    assert last["error"] == {name: last[name] for name in ("message", "param", "code")} | {
        "type": last["error"]["type"]
    }


async def test_whether_it_is_stored_is_true_or_false(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(client, extra_body={"store": "no"})
    assert refused.value.param == "store"
