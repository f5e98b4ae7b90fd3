"""Calls that pass through to the server's own model, whose operator's words and key are nobody's business; and clients
that take their time."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from integration.http_app import Api, api_of, settings_for
from integration.model_server import DONE, ModelServer, chunk, event, plain, says, stream

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.once]

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
SECRET_WORDS = "org-42 of the operator, key sk-operator-0123456789"


@dataclass(frozen=True)
class World:
    stranger: Api
    server: ModelServer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with ModelServer() as server:
        settings = settings_for(
            tmp_path_factory.mktemp("data"),
            OPENAI_BASE_URL=server.url,
            OPENAI_API_KEY="sk-operator-0123456789",
            OPENAI_MODEL="house",
            MODEL_IDLE_TIMEOUT="0.5",
        )
        async with api_of(settings) as stranger:
            yield World(stranger, server)


@pytest_asyncio.fixture(loop_scope="module")
async def client(world: World) -> AsyncIterator[AsyncOpenAI]:
    ada = await world.stranger.user()
    url = f"{ada.http._base_url}/v1"
    async with AsyncOpenAI(base_url=url, api_key=(await ada.key())["key"], max_retries=0) as client:
        yield client


async def test_it_answers_by_its_name_with_the_operators_key(world: World, client: AsyncOpenAI) -> None:
    world.server.always = says("Hello")
    for name in ("house", ""):
        chunks = await client.chat.completions.create(model=name, messages=HELLO, stream=True)
        assert "".join([each.choices[0].delta.content or "" async for each in chunks]) == "Hello"
        assert world.server.requests[-1].body["model"] == "house"
        assert world.server.requests[-1].headers["authorization"] == "Bearer sk-operator-0123456789"


@pytest.mark.parametrize("second", [b"model", b"\\u006dodel", b"Model", b"MODEL"])
@pytest.mark.parametrize("store", [b"false", b"true"])
async def test_no_second_name_gets_a_dearer_model(
    world: World, client: AsyncOpenAI, second: bytes, store: bytes
) -> None:
    """Some parsers take the first of two fields, some the last, and some ignore the case."""
    world.server.always = plain(200, '{"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}')
    body = b'{"%b":"dear","model":"house","store":%b,"messages":[{"role":"user","content":"Hello"}]}' % (second, store)
    headers = {"Content-Type": "application/json"}
    await client.post("/chat/completions", cast_to=object, content=body, options={"headers": headers})
    assert b"dear" not in world.server.requests[-1].content
    assert world.server.requests[-1].body["model"] == "house"


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, openai.BadRequestError, "model_refused"),
        (401, openai.InternalServerError, "model_unauthorized"),
        (402, openai.InternalServerError, "model_payment_required"),
        (404, openai.InternalServerError, "model_not_found"),
        (413, openai.BadRequestError, "model_context_length"),
        (429, openai.RateLimitError, "model_rate_limited"),
        (500, openai.InternalServerError, "model_unavailable"),
    ],
)
async def test_what_it_refuses_is_said_in_our_words(
    world: World, client: AsyncOpenAI, status: int, kind: type[openai.APIStatusError], code: str
) -> None:
    world.server.always = plain(status, f'{{"error": {{"message": "{SECRET_WORDS}"}}}}')
    with pytest.raises(kind) as raised:
        await client.chat.completions.create(model="house", messages=HELLO)
    assert raised.value.code == code
    assert "operator" not in raised.value.response.text


async def test_a_house_without_responses_says_so(world: World, client: AsyncOpenAI) -> None:
    world.server.always = plain(404, SECRET_WORDS)
    with pytest.raises(openai.InternalServerError) as raised:
        await client.responses.create(model="house", input="Hello", store=False)
    assert raised.value.code == "model_not_found"
    assert "has no /responses" in raised.value.message
    assert "operator" not in raised.value.response.text


async def test_a_client_that_reads_slowly_is_no_silence_of_the_model(world: World, client: AsyncOpenAI) -> None:
    """It takes nothing for longer than the model may be silent, while more waits than all buffers hold."""
    many = [event({"choices": [{"index": 0, "delta": {"content": "x" * 60_000}, "finish_reason": None}]})] * 200
    world.server.always = stream(*many, chunk(finish="stop"), DONE)
    chunks = await client.chat.completions.create(model="house", messages=HELLO, stream=True)
    await anext(chunks)
    await asyncio.sleep(1.2)
    assert sum([len(each.choices[0].delta.content or "") async for each in chunks]) == 199 * 60_000


async def test_a_model_that_is_silent_for_too_long_ends_the_stream(world: World, client: AsyncOpenAI) -> None:
    world.server.always = stream(chunk("Hel"), 5.0, DONE)
    chunks = await client.chat.completions.create(model="house", messages=HELLO, stream=True)
    await anext(chunks)
    with pytest.raises(openai.APIError) as raised:
        await anext(chunks)
    assert raised.value.code == "model_timeout"
