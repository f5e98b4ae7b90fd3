"""The contracts of `LLMGateway`: its stream, and its list of models."""

import asyncio
import traceback
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from chatcore.entities import Role, Usage
from chatcore.errors import (
    ModelError,
    ModelNotFound,
    ModelProtocolError,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnauthorized,
    ModelUnavailable,
)
from chatcore.ports import Delta, LLMGateway, ModelEndpoint, Prompt, PromptMessage
from chatcore_testing.contract import Capability, Checks, Contract, Lacking, Made, each, needs, raises

FOREIGN = "WORDS-OF-THE-ENDPOINT"
"""A failing model says this wherever it can say anything: no error may repeat it."""

USAGE = Usage(prompt_tokens=3, completion_tokens=5, total_tokens=8)
FAILURES: Sequence[type[ModelError]] = (
    ModelUnauthorized,
    ModelNotFound,
    ModelRateLimited,
    ModelRefused,
    ModelUnavailable,
    ModelProtocolError,
    ModelTimeout,
)
PROMPT = Prompt(messages=[PromptMessage(Role.USER, "Hello?")])


@dataclass(frozen=True, slots=True)
class Silence:
    """The model keeps the connection and says nothing more."""


Step: TypeAlias = Delta | Silence | type[ModelError]
"""Something said, silence, or a failure of this kind. After the last step the model has finished."""


async def nobody() -> None:
    raise AssertionError("nobody listens")


@dataclass(frozen=True, slots=True)
class Stage:
    """A model that plays a script, for every call anew, and the gateway to it.

    `calls` counts the calls so far; `left` returns once the model has noticed that its caller went away, which a list
    of models does not.
    """

    gateway: LLMGateway
    endpoint: ModelEndpoint
    calls: Callable[[], int]
    left: Callable[[], Awaitable[object]] = nobody

    def ask(self) -> AsyncGenerator[Delta, None]:
        return self.gateway.stream(self.endpoint, PROMPT)


class Play(Protocol):
    async def __call__(self, *steps: Step) -> Stage: ...


class Offer(Protocol):
    async def __call__(self, offered: Sequence[str] | type[ModelError]) -> Stage: ...


TEXTS = {
    "words": ["Hel", "lo", " ", "world"],
    "emoji": ["🦄", "👩🏽‍💻", "e\u0301", "\U0010ffff"],
    "line ends": ["one\r\n", "\r", "\n", "two\n\n", "\u2028\x85"],
    "events": ["data: x\n\n", "data: [DONE]\n\n", "event: error\r\n\r\n", ": comment\n"],
    "json": ['{"choices": [', "\\u0041\\n", '"', "\\", "</script>"],
    "controls": ["\x01", "\t", "\x1b[0m", "\x7f", "\ufeff"],
    "64 KB at once": ["x" * 65_536 + "🦄"],
    "a thousand": [f"{number} " for number in range(1000)],
}


async def heard(stream: AsyncIterator[Delta]) -> list[Delta]:
    return [delta async for delta in stream]


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def reasoning_of(deltas: list[Delta]) -> str:
    return "".join(delta.reasoning for delta in deltas)


def tells_nothing_foreign(error: ModelError, failure: type[ModelError], stage: Stage) -> None:
    """It is of exactly this kind, was not tried again, and has neither the endpoint's words nor the key in it."""
    assert type(error) is failure
    told = "".join(traceback.format_exception(error)) + error.detail
    assert FOREIGN not in told
    assert not stage.endpoint.api_key or stage.endpoint.api_key not in told
    assert stage.calls() == 1


class GatewayChecks(Checks):
    """`await play(*steps)` sets a `Stage` on which the model does just that."""

    def play(self) -> Play:
        async def play(*steps: Step) -> Stage:
            stage: Stage = await self.made(self.contract.stage(*steps))
            return stage

        return play

    @each("said", list(TEXTS.values()), ids=list(TEXTS))
    async def test_text_arrives_complete_and_in_order(self, play: Play, said: list[str]) -> None:
        stage = await play(*(Delta(text=text) for text in said))
        deltas = await heard(stage.ask())
        assert text_of(deltas) == "".join(said)
        assert reasoning_of(deltas) == ""
        assert stage.calls() == 1

    async def test_text_arrives_while_the_model_is_talking(self, play: Play) -> None:
        stage = await play(Delta(text="Hel"), Delta(text="lo"), Silence())
        text = ""
        async with aclosing(stage.ask()) as stream:
            while text != "Hello":
                text += (await anext(stream)).text

    @needs(Capability.REASONING)
    async def test_reasoning_is_kept_apart(self, play: Play) -> None:
        stage = await play(Delta(reasoning="Hm"), Delta(reasoning="m 🦄"), Delta(text="Hel"), Delta(text="lo"))
        deltas = await heard(stage.ask())
        assert (reasoning_of(deltas), text_of(deltas)) == ("Hmm 🦄", "Hello")
        first_text = next(index for index, delta in enumerate(deltas) if delta.text)
        assert not any(delta.reasoning for delta in deltas[first_text + 1 :])

    @needs(Capability.USAGE)
    async def test_usage_comes_with_the_last_delta(self, play: Play) -> None:
        deltas = await heard((await play(Delta(text="Hello"), Delta(usage=USAGE))).ask())
        assert text_of(deltas) == "Hello"
        assert deltas[-1].usage == USAGE
        assert [delta.usage for delta in deltas[:-1] if delta.usage] == []

    async def test_a_model_that_does_not_count_has_no_usage(self, play: Play) -> None:
        deltas = await heard((await play(Delta(text="Hello"))).ask())
        assert [delta.usage for delta in deltas if delta.usage] == []

    async def test_text_is_made_fit_to_store(self, play: Play) -> None:
        thought = [Delta(reasoning="\0?")] if self.has(Capability.REASONING) else []
        stage = await play(*thought, Delta(text="a\0b"), Delta(text="\udfff"), Delta(text="\ud800!"))
        deltas = await heard(stage.ask())
        assert reasoning_of(deltas) == ("\ufffd?" if thought else "")
        assert text_of(deltas) == "a\ufffdb\ufffd\ufffd!"

    async def test_two_at_once_are_not_mixed_up(self, play: Play) -> None:
        stage = await play(*(Delta(text=f"{number} ") for number in range(50)))
        both = await asyncio.gather(heard(stage.ask()), heard(stage.ask()))
        assert [text_of(deltas) for deltas in both] == ["".join(f"{number} " for number in range(50))] * 2
        assert stage.calls() == 2

    # ---- failures ----

    @needs(Capability.FAILURES)
    @each("failure", FAILURES)
    async def test_a_model_that_fails_at_once(self, play: Play, failure: type[ModelError]) -> None:
        said = await self.fails(await play(failure), failure)
        assert said == []

    @needs(Capability.FAILURES)
    @each("failure", [ModelUnavailable, ModelProtocolError, ModelTimeout])
    async def test_what_was_said_before_a_failure_stays_said(self, play: Play, failure: type[ModelError]) -> None:
        thought = [Delta(reasoning="Hm")] if self.has(Capability.REASONING) else []
        said = await self.fails(await play(*thought, Delta(text="Hel"), Delta(text="lo"), failure), failure)
        assert (reasoning_of(said), text_of(said)) == ("Hm" if thought else "", "Hello")

    async def fails(self, stage: Stage, failure: type[ModelError]) -> list[Delta]:
        """What was said before; the failure is of exactly this kind, tells nothing foreign and is not tried again."""
        said: list[Delta] = []

        async def listen() -> None:
            async with aclosing(stage.ask()) as stream:
                async for delta in stream:
                    said.append(delta)  # noqa: PERF401  # kept although the loop ends in an error

        with raises(ModelError) as raised:
            await listen()
        tells_nothing_foreign(raised.value, failure, stage)
        return said

    # ---- leaving ----

    async def test_closing_the_iterator_leaves_the_model(self, play: Play) -> None:
        stage = await play(Delta(text="Hello"), Silence())
        async with aclosing(stage.ask()) as stream:
            assert (await anext(stream)).text
        await stage.left()

    @each("steps", [(Delta(text="Hello"), Silence()), (Silence(),)], ids=["talking", "silent"])
    async def test_cancelling_the_reader_leaves_the_model(self, play: Play, steps: tuple[Step, ...]) -> None:
        stage = await play(*steps)
        reader = asyncio.create_task(heard(stage.ask()))
        while stage.calls() == 0:
            await asyncio.sleep(0)
        reader.cancel()
        with raises(asyncio.CancelledError):
            await reader
        await stage.left()


class ModelListChecks(Checks, needs=Capability.MODELS):
    """`await offer(names)` sets a `Stage` whose endpoint names these models, in this order, or fails in this way."""

    def offer(self) -> Offer:
        async def offer(offered: Sequence[str] | type[ModelError]) -> Stage:
            stage: Stage = await self.made(self.contract.listing(offered))
            return stage

        return offer

    @each("names", [(), ("gpt",), ("b/2", "a", "B", "a b", "🦄", "ä")], ids=["none", "one", "many"])
    async def test_models_are_sorted(self, offer: Offer, names: Sequence[str]) -> None:
        stage = await offer(names)
        assert list(await stage.gateway.models(stage.endpoint)) == sorted(names)
        assert stage.calls() == 1

    async def test_there_are_at_most_a_thousand(self, offer: Offer) -> None:
        names = [f"model-{number:04}" for number in range(1500)]
        stage = await offer(names[::-1])
        told = list(await stage.gateway.models(stage.endpoint))
        assert len(told) == 1000
        assert told == sorted(told)
        assert set(told) <= set(names)

    async def test_names_are_made_fit_to_store(self, offer: Offer) -> None:
        stage = await offer(["a\0b", "c\ud800d", "e\udfff"])
        assert list(await stage.gateway.models(stage.endpoint)) == ["a\ufffdb", "c\ufffdd", "e\ufffd"]

    @needs(Capability.FAILURES)
    @each("failure", FAILURES)
    async def test_an_endpoint_that_does_not_tell(self, offer: Offer, failure: type[ModelError]) -> None:
        stage = await offer(failure)
        with raises(ModelError) as raised:
            await stage.gateway.models(stage.endpoint)
        tells_nothing_foreign(raised.value, failure, stage)


class GatewayContract(Contract, checks=(GatewayChecks, ModelListChecks)):
    """What `LLMGateway` promises."""

    @abstractmethod
    def stage(self, *steps: Step) -> Made[Stage]:
        """Make a stage on which the model does just that. A kind of failure says `FOREIGN` wherever it can."""

    def listing(self, offered: Sequence[str] | type[ModelError]) -> Made[Stage]:
        """Make a stage whose endpoint names these models, in this order, or fails in this way."""
        raise Lacking(Capability.MODELS)
