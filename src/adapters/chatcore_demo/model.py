"""The model that needs no network and no key: what development answers with until a real one is configured."""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Self

from chatcore.entities import TITLE_LENGTH, OwnerId, Role, Usage
from chatcore.errors import ModelUnavailable
from chatcore.ports import Delta, LLMGateway, ModelEndpoint, Prompt, PromptMessage
from chatcore.prompt import TITLE_REQUEST

DEMO_ENDPOINT = ModelEndpoint(url="demo:", model="demo", api_key="", trusted=True)
"""Users can't configure it: `bounds.ModelUrl` takes http and https only."""

QUESTION_LENGTH = 200
TITLE_WORDS = 6

ONLY_DEMO = "Only the demo model is installed here."
ANSWER = (
    "You asked: “{question}” I am the demo model: I work offline, so repeating your question is the best that I can "
    "do. For real answers set OPENAI_API_KEY (and OPENAI_BASE_URL for any other OpenAI-compatible server) and start "
    "again, or add an endpoint of your own with POST /auth/config/create."
)


class DemoModel(LLMGateway):
    """Answers for `DEMO_ENDPOINT` itself, word by word with `pause` seconds between them, and counts each word as a
    token. Asked for a title (`prompt.build_title_prompt`), it says the first words of the message. Every other endpoint
    is the business of `then`.
    """

    def __init__(self, then: LLMGateway | None = None, *, pause: float = 0.03) -> None:
        self._then = then
        self._pause = pause

    async def __aenter__(self) -> Self:
        if isinstance(self._then, AbstractAsyncContextManager):
            await self._then.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        if isinstance(self._then, AbstractAsyncContextManager):
            await self._then.__aexit__(*error)

    async def warm(self) -> None:
        if self._then is not None:
            await self._then.warm()

    def stream(self, endpoint: ModelEndpoint, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        """As the port; raises `ModelUnavailable` for another endpoint if there is no `then`."""
        if self._then is not None and endpoint.url != DEMO_ENDPOINT.url:
            return self._then.stream(endpoint, prompt)
        return self._answer(endpoint, prompt)

    async def models(self, endpoint: ModelEndpoint) -> Sequence[str]:
        """As `stream`."""
        if endpoint.url == DEMO_ENDPOINT.url:
            return (DEMO_ENDPOINT.model,)
        if self._then is None:
            raise ModelUnavailable(ONLY_DEMO)
        return await self._then.models(endpoint)

    async def may_call(self, url: str, *, owner: OwnerId) -> bool:
        return self._then is None or await self._then.may_call(url, owner=owner)

    async def _answer(self, endpoint: ModelEndpoint, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        if endpoint.url != DEMO_ENDPOINT.url:
            raise ModelUnavailable(ONLY_DEMO)
        said = words(answer(prompt.messages))[: prompt.max_tokens]
        for word in said:
            await asyncio.sleep(self._pause)
            yield Delta(text=word)
        asked = sum(len(words(message.text)) for message in prompt.messages)
        yield Delta(usage=Usage(prompt_tokens=asked, completion_tokens=len(said), total_tokens=asked + len(said)))


def answer(messages: Sequence[PromptMessage]) -> str:
    question = last_question(messages)
    if PromptMessage(Role.SYSTEM, TITLE_REQUEST) in messages:
        return " ".join(question.split()[:TITLE_WORDS])[:TITLE_LENGTH].rstrip(",;:")
    return ANSWER.format(question=question)


def last_question(messages: Sequence[PromptMessage]) -> str:
    """What the user said last, on one line and not too long."""
    asked = next((message.text for message in reversed(messages) if message.role == Role.USER), "")
    line = " ".join(asked.split())
    return line if len(line) <= QUESTION_LENGTH else line[:QUESTION_LENGTH] + "…"


def words(text: str) -> list[str]:
    """Each word with the white space behind it, so that joining them gives the text."""
    return re.findall(r"\S+\s*", text)
