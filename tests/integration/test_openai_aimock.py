"""The OpenAI gateway against a model server that nobody here wrote."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from chatcore.entities import Role
from chatcore.errors import ModelError, ModelNotFound, ModelProtocolError, ModelRateLimited, ModelUnavailable
from chatcore.ports import Delta, ModelEndpoint, Prompt, PromptMessage
from chatcore_openai import LOOPBACK, OpenAIGateway
from integration.aimock import aimock

pytestmark = pytest.mark.once

ANSWER = "Hello 🦄 👩🏽‍💻\r\n\r\ndata: [DONE]\n\n\u2028end"
FIXTURES: list[dict[str, Any]] = [
    {"match": {"userMessage": "hello"}, "response": {"content": ANSWER}},
    {"match": {"userMessage": "think"}, "response": {"content": ANSWER, "reasoning": "Hm 🦄"}},
    {"match": {"userMessage": "long"}, "response": {"content": "x" * 65_536 + "🦄"}},
    {"match": {"userMessage": "limit"}, "response": {"error": {"message": "FOREIGN", "type": "x"}, "status": 429}},
    {"match": {"userMessage": "cut"}, "response": {"content": ANSWER}, "truncateAfterChunks": 3},
    {"match": {"userMessage": "garbled"}, "response": {"content": ANSWER}, "chaos": {"malformedRate": 1}},
]


@pytest.fixture(scope="module", params=[1, 7, 100_000])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with aimock(FIXTURES, chunk_size=request.param) as url:
        yield url


@pytest.fixture
async def gateway() -> AsyncIterator[OpenAIGateway]:
    async with OpenAIGateway(allow=LOOPBACK) as gateway:
        yield gateway


async def heard(gateway: OpenAIGateway, url: str, question: str) -> list[Delta]:
    endpoint = ModelEndpoint(url=url, model="mock", api_key="sk-any")
    prompt = Prompt(messages=[PromptMessage(Role.USER, question)])
    return [delta async for delta in gateway.stream(endpoint, prompt)]


@pytest.mark.parametrize(
    ("question", "reasoning", "text"),
    [("hello", "", ANSWER), ("think", "Hm 🦄", ANSWER), ("long", "", "x" * 65_536 + "🦄")],
)
async def test_it_is_understood(gateway: OpenAIGateway, url: str, question: str, reasoning: str, text: str) -> None:
    deltas = await heard(gateway, url, question)
    assert "".join(delta.reasoning for delta in deltas) == reasoning
    assert "".join(delta.text for delta in deltas) == text
    usage = deltas[-1].usage
    assert usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0


@pytest.mark.parametrize(
    ("question", "failure"),
    [
        ("limit", ModelRateLimited),
        ("cut", ModelUnavailable),
        ("garbled", ModelProtocolError),
        ("unknown", ModelNotFound),
    ],
)
async def test_its_failures_are_told_apart(
    gateway: OpenAIGateway, url: str, question: str, failure: type[ModelError]
) -> None:
    with pytest.raises(ModelError) as raised:
        await heard(gateway, url, question)
    assert type(raised.value) is failure
