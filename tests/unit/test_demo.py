"""The demo model."""

import asyncio
from collections.abc import Sequence

import pytest

from chatcore.bounds import MODEL
from chatcore.entities import Role, Usage, title_of
from chatcore.errors import ModelUnavailable
from chatcore.ports import Delta, ModelEndpoint, Prompt, PromptMessage
from chatcore.prompt import TITLE_REQUEST, build_title_prompt
from chatcore_demo import DEMO_ENDPOINT, DemoModel
from chatcore_memory import ScriptedModel

ELSEWHERE = ModelEndpoint(url="https://api.example.org/v1", model="real", api_key="sk-secret")


def asking(*questions: str, max_tokens: int | None = None) -> Prompt:
    messages = [PromptMessage(Role.SYSTEM, "Be kind."), *(PromptMessage(Role.USER, each) for each in questions)]
    return Prompt(messages=messages, max_tokens=max_tokens)


async def answer(prompt: Prompt) -> Sequence[Delta]:
    return [delta async for delta in DemoModel(pause=0).stream(DEMO_ENDPOINT, prompt)]


async def text(prompt: Prompt) -> str:
    return "".join(delta.text for delta in await answer(prompt))


async def test_it_repeats_the_last_question_and_tells_how_to_configure_a_model() -> None:
    said = await text(asking("Who was Ada?", "What is\r\n the  moon 🦄?"))
    assert "“What is the moon 🦄?”" in said
    assert "Ada" not in said
    assert "demo model" in said
    for hint in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "POST /auth/config/create"):
        assert hint in said


async def test_it_talks_word_by_word() -> None:
    deltas = await answer(asking("What is the moon?"))
    spoken = [delta.text for delta in deltas if delta.text]
    assert spoken[:3] == ["You ", "asked: ", "“What "]
    assert all(len(text.split()) == 1 for text in spoken)


async def test_it_counts_words() -> None:
    deltas = await answer(asking("What is the moon?"))
    said = len("".join(delta.text for delta in deltas).split())
    assert deltas[-1].usage == Usage(prompt_tokens=6, completion_tokens=said, total_tokens=6 + said)
    assert [delta.usage for delta in deltas[:-1] if delta.usage] == []


async def test_it_stops_at_max_tokens() -> None:
    deltas = await answer(asking("What is the moon?", max_tokens=2))
    assert [delta.text for delta in deltas] == ["You ", "asked: ", ""]
    assert deltas[-1].usage == Usage(prompt_tokens=6, completion_tokens=2, total_tokens=8)


@pytest.mark.parametrize("question", ["", "   ", "{0} {question} %s", "“quoted”"])
async def test_any_question_will_do(question: str) -> None:
    assert f"“{question.strip()}”" in await text(asking(question))


async def test_a_long_question_is_cut() -> None:
    said = await text(asking("🦄" * 100_000))
    assert f"“{'🦄' * 200}…”" in said
    assert len(said) < 1000


async def test_without_a_question_it_answers_too() -> None:
    assert "demo model" in await text(Prompt(messages=[]))


@pytest.mark.parametrize(
    ("message", "title"),
    [
        ("What is the moon?", "What is the moon?"),
        ("  Why does\r\nthe moon\thave phases, and when?", "Why does the moon have phases"),
        ("x" * 300, "x" * 50),
        ("incomprehensibilities " * 6, "incomprehensibilities incomprehensibilities incomp"),
        ("月はなぜ満ち欠けするのですか 🌒", "月はなぜ満ち欠けするのですか 🌒"),
        ("{question} {0} %s", "{question} {0} %s"),
        ("# Heading", "Heading"),
    ],
)
async def test_asked_for_a_title_it_says_the_first_words_of_the_message(message: str, title: str) -> None:
    said = await text(build_title_prompt(message))
    assert title_of(said) == title
    assert len(said) <= 50


async def test_a_message_that_only_quotes_the_request_for_a_title_is_none() -> None:
    assert "demo model" in await text(asking(TITLE_REQUEST))
    quoting = [*asking("x").messages, PromptMessage(Role.ASSISTANT, TITLE_REQUEST)]
    assert "demo model" in await text(Prompt(messages=quoting))


async def test_it_offers_itself() -> None:
    real = ScriptedModel()
    for model in (DemoModel(), DemoModel(then=real)):
        assert tuple(await model.models(DEMO_ENDPOINT)) == ("demo",)
    assert real.checks == []


async def test_the_models_of_every_other_endpoint_are_the_others_business() -> None:
    real = ScriptedModel()
    real.offers = ["b", "a"]
    assert await DemoModel(then=real).models(ELSEWHERE) == ["a", "b"]
    assert real.checks == [ELSEWHERE]
    with pytest.raises(ModelUnavailable):
        await DemoModel().models(ELSEWHERE)


async def test_every_other_endpoint_is_passed_on() -> None:
    real = ScriptedModel("Hello")
    prompt = asking("What is the moon?")
    said = [delta async for delta in DemoModel(then=real).stream(ELSEWHERE, prompt)]
    assert said == [Delta(text="Hello")]
    assert [(call.endpoint, call.prompt) for call in real.calls] == [(ELSEWHERE, prompt)]


async def test_its_own_is_not_passed_on() -> None:
    real = ScriptedModel("Hello")
    stream = DemoModel(then=real, pause=0).stream(DEMO_ENDPOINT, asking("x"))
    assert await anext(stream) == Delta(text="You ")
    assert real.calls == []


async def test_without_another_model_another_endpoint_is_unavailable() -> None:
    stream = DemoModel().stream(ELSEWHERE, asking("x"))
    with pytest.raises(ModelUnavailable):
        await anext(stream)


async def test_it_may_be_interrupted() -> None:
    stream = DemoModel(pause=3600).stream(DEMO_ENDPOINT, asking("x"))
    reader = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader


def test_no_user_can_configure_it() -> None:
    assert MODEL["model_url"].broken(DEMO_ENDPOINT.url, "model_url") is not None
