"""A model that says what a test tells it to."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from chatcore.entities import OwnerId, storable
from chatcore.ports import Delta, LLMGateway, ModelEndpoint, Prompt


class Stall:
    """Silence in the middle of an answer: the model says no more until `release()`.

    stall = Stall()
    model = ScriptedModel("Hel", stall, "lo")
    ...
    await stall.reached()       # "Hel" has been said, and taken
    stall.release()
    """

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._released = asyncio.Event()

    async def reached(self) -> None:
        """Return once a model has come to this point."""
        await self._reached.wait()

    def release(self) -> None:
        """Let the model go on, now and whenever it comes here again."""
        self._released.set()

    async def hold(self) -> None:
        self._reached.set()
        await self._released.wait()


Step: TypeAlias = str | Delta | Stall | Exception
"""Some text; reasoning, text and usage; silence; or the end in failure, any `ModelError` or even a bug."""


@dataclass(slots=True, eq=False)
class Call:
    """One stream that was asked of the model.

    `ending`: None while it goes on; `finished` with all steps said; `failed` by the script; `closed` by its reader,
    who closed the iterator or was cancelled.
    """

    endpoint: ModelEndpoint
    prompt: Prompt
    ending: Literal["finished", "failed", "closed"] | None = None
    _ended: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    async def ended(self) -> None:
        """Return once the stream has ended in one way or another."""
        await self._ended.wait()

    def end(self, ending: Literal["finished", "failed", "closed"]) -> None:
        self.ending = ending
        self._ended.set()


class ScriptedModel(LLMGateway):
    """Answers every prompt with `answer`, step by step; `calls` tells what it was asked.

    A connection that drops is `ScriptedModel("Hel", ModelUnavailable())`, an answer that turns into garbage
    `ScriptedModel("Hel", ModelProtocolError())`. `offers` are the names that it gives for its models, or the failure
    to give any; `checks` tells for which endpoints it was asked for them. `forbidden` are the URLs that no user's
    endpoint may be at.
    """

    def __init__(self, *answer: Step) -> None:
        self.calls: list[Call] = []
        self.offers: Sequence[str] | Exception = ("scripted",)
        self.checks: list[ModelEndpoint] = []
        self.forbidden: set[str] = set()
        self._answer = answer
        self._next: deque[tuple[Step, ...]] = deque()

    def then(self, *answer: Step) -> None:
        """Answers one prompt with this instead: the next, or the one after those that have their answers."""
        self._next.append(answer)

    async def stream(self, endpoint: ModelEndpoint, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        call = Call(endpoint, prompt)
        self.calls.append(call)
        try:
            for step in self._next.popleft() if self._next else self._answer:
                await asyncio.sleep(0)
                if isinstance(step, Exception):
                    call.end("failed")
                    raise step
                if isinstance(step, Stall):
                    await step.hold()
                else:
                    yield fit(step)
            call.end("finished")
        finally:
            if call.ending is None:
                call.end("closed")

    async def may_call(self, url: str, *, owner: OwnerId) -> bool:
        await asyncio.sleep(0)
        return url not in self.forbidden

    async def models(self, endpoint: ModelEndpoint) -> Sequence[str]:
        self.checks.append(endpoint)
        await asyncio.sleep(0)
        if isinstance(self.offers, Exception):
            raise self.offers
        return sorted(storable(name) for name in self.offers)[:1000]


def fit(step: str | Delta) -> Delta:
    delta = Delta(text=step) if isinstance(step, str) else step
    return replace(delta, reasoning=storable(delta.reasoning), text=storable(delta.text))
