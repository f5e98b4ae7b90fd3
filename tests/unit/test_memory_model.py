"""The scripted model and the clock moved by hand: what tests may do with them."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from chatcore.entities import Role, Usage
from chatcore.errors import ModelProtocolError
from chatcore.ports import Delta, ModelEndpoint, Prompt, PromptMessage
from chatcore_memory import HandClock, ScriptedModel, Stall

ENDPOINT = ModelEndpoint(url="http://model.test/v1", model="scripted", api_key="sk-secret")
PROMPT = Prompt(messages=[PromptMessage(Role.USER, "Hello?")], temperature=0.5)


async def heard(model: ScriptedModel) -> list[Delta]:
    return [delta async for delta in model.stream(ENDPOINT, PROMPT)]


async def test_it_says_its_script_to_everybody() -> None:
    usage = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    model = ScriptedModel(Delta(reasoning="Hm"), "Hel", "lo", Delta(usage=usage))
    said = [Delta(reasoning="Hm"), Delta(text="Hel"), Delta(text="lo"), Delta(usage=usage)]
    assert await heard(model) == said
    assert await heard(model) == said


async def test_one_prompt_may_have_an_answer_of_its_own() -> None:
    model = ScriptedModel("always")
    model.then("first")
    model.then("second")
    answers = [await heard(model) for _ in range(3)]
    assert answers == [[Delta(text=text)] for text in ("first", "second", "always")]


async def test_it_remembers_what_it_was_asked() -> None:
    model = ScriptedModel("Hello")
    assert model.calls == []
    await heard(model)
    (call,) = model.calls
    assert (call.endpoint, call.prompt, call.ending) == (ENDPOINT, PROMPT, "finished")
    await call.ended()


async def test_it_is_silent_until_it_is_released() -> None:
    stall = Stall()
    model = ScriptedModel("Hel", stall, "lo")
    reader = asyncio.create_task(heard(model))
    await stall.reached()
    assert model.calls[0].ending is None
    assert not reader.done()
    stall.release()
    assert await reader == [Delta(text="Hel"), Delta(text="lo")]
    assert await heard(model) == [Delta(text="Hel"), Delta(text="lo")]


async def test_it_fails_in_the_middle_for_any_reason() -> None:
    for failure in (ModelProtocolError(), ZeroDivisionError()):
        model = ScriptedModel("Hel", failure, "lo")
        stream = model.stream(ENDPOINT, PROMPT)
        assert await anext(stream) == Delta(text="Hel")
        with pytest.raises(type(failure)):
            await anext(stream)
        assert model.calls[0].ending == "failed"


async def test_it_knows_that_its_reader_left() -> None:
    model = ScriptedModel("Hel", "lo")
    async with aclosing(model.stream(ENDPOINT, PROMPT)) as stream:
        await anext(stream)
    assert model.calls[0].ending == "closed"


async def test_it_knows_that_its_reader_was_cancelled() -> None:
    stall = Stall()
    model = ScriptedModel(stall)
    reader = asyncio.create_task(heard(model))
    await stall.reached()
    reader.cancel()
    await model.calls[0].ended()
    assert model.calls[0].ending == "closed"


async def test_it_lets_others_run_between_its_words() -> None:
    order: list[str] = []
    spoken = [str(number) for number in range(3)]

    async def listen(name: str) -> None:
        async for delta in ScriptedModel(*spoken).stream(ENDPOINT, PROMPT):
            order.append(name + delta.text)  # noqa: PERF401  # two of these take turns

    await asyncio.gather(listen("a"), listen("b"))
    assert order == ["a0", "b0", "a1", "b1", "a2", "b2"]


async def test_it_names_the_models_that_it_is_told_to_offer() -> None:
    model = ScriptedModel("Hello")
    assert await model.models(ENDPOINT) == ["scripted"]
    model.offers = ["b", "a"]
    assert await model.models(ENDPOINT) == ["a", "b"]
    model.offers = ModelProtocolError("No list.")
    with pytest.raises(ModelProtocolError, match="No list"):
        await model.models(ENDPOINT)
    assert model.checks == [ENDPOINT] * 3
    assert model.calls == []


def test_the_key_is_not_in_what_a_failed_test_prints() -> None:
    model = ScriptedModel("Hello")
    asyncio.run(heard(model))
    assert "sk-secret" not in repr(model.calls)


def test_the_clock_stands_still_until_it_is_moved() -> None:
    start = datetime(2030, 1, 1, tzinfo=UTC)
    clock = HandClock(start)
    assert clock.now() == clock.now() == start
    assert clock.advance(0.000_001) == clock.now() == start + timedelta(microseconds=1)
    clock.advance(3600)
    assert clock.now() == start + timedelta(hours=1, microseconds=1)
