"""The contract of `ModelRelay`."""

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from chatcore.errors import ModelError, ModelUnauthorized, ModelUnavailable
from chatcore.ports import ModelEndpoint, ModelRelay, OpenAnswer
from chatcore_testing.contract import Checks, Contract, Made, each, raises
from chatcore_testing.contracts.gateway import FOREIGN, Silence

RelayPlay = bytes | Silence | type[ModelError]
"""A piece of the answer, silence, or a failure of this kind."""
BODY = b'{ "model": "any",\n"x": 1.0e0 }'


@dataclass(frozen=True, slots=True)
class RelayStage:
    """An endpoint that plays a script for every call, and the relay to it. `asked`: path and body of each call so far;
    `left` returns once the endpoint has noticed that its caller went away."""

    relay: ModelRelay
    endpoint: ModelEndpoint
    asked: Callable[[], Sequence[tuple[str, bytes]]]
    left: Callable[[], Awaitable[object]]

    async def ask(self) -> OpenAnswer:
        return await self.relay.relay(self.endpoint, "/chat/completions", BODY)


class Play(Protocol):
    async def __call__(self, *steps: RelayPlay, status: int = 200) -> RelayStage: ...


ANSWERS = {
    "JSON": [b'{ "a":\n 1.0e0 }'],
    "events": [b": x\r\n", b"\r\ndata: {", b'"a": 1}\n\n', b"data: [DONE]\n\n"],
    "no UTF-8": [b"\xff\xfe\x00", b"\xf0\x9f"],
    "256 KiB at once": [b"0123456789abcdef" * 16_384],
    "a thousand": [b"%d " % number for number in range(1000)],
}


async def heard(answer: OpenAnswer) -> bytes:
    async with aclosing(answer), aclosing(answer.pieces()) as pieces:
        return b"".join([piece async for piece in pieces])


class RelayChecks(Checks):
    """`await play(*steps)` sets a stage whose endpoint answers just so."""

    def play(self) -> Play:
        async def play(*steps: RelayPlay, status: int = 200) -> RelayStage:
            stage: RelayStage = await self.made(self.contract.stage(*steps, status=status))
            return stage

        return play

    @each("said", list(ANSWERS.values()), ids=list(ANSWERS))
    async def test_an_answer_passes_byte_for_byte(self, play: Play, said: list[bytes]) -> None:
        answer = await (await play(*said)).ask()
        assert answer.status == 200
        assert await heard(answer) == b"".join(said)
        assert answer.received == len(b"".join(said))

    async def test_a_request_passes_byte_for_byte(self, play: Play) -> None:
        stage = await play(b"{}")
        await heard(await stage.ask())
        assert list(stage.asked()) == [("/chat/completions", BODY)]

    async def test_bytes_arrive_while_the_model_is_talking(self, play: Play) -> None:
        answer = await (await play(b"Hel", b"lo", Silence())).ask()
        got = b""
        async with aclosing(answer), aclosing(answer.pieces()) as pieces:
            while got != b"Hello":
                got += await anext(pieces)

    @each("status", [400, 404, 429, 500, 503])
    async def test_its_own_endpoint_refuses_in_its_own_words(self, play: Play, status: int) -> None:
        stage = await play(FOREIGN.encode(), status=status)
        answer = await stage.ask()
        assert answer.status == status
        assert await heard(answer) == FOREIGN.encode()
        assert len(stage.asked()) == 1

    @each("failure", [ModelUnauthorized, ModelUnavailable])
    async def test_a_call_that_fails_at_once(self, play: Play, failure: type[ModelError]) -> None:
        stage = await play(failure)
        with raises(ModelError) as raised:
            await stage.ask()
        assert type(raised.value) is failure
        assert FOREIGN not in raised.value.detail
        assert len(stage.asked()) == 1

    async def test_what_came_before_a_failure_has_passed(self, play: Play) -> None:
        answer = await (await play(b"Hel", b"lo", ModelUnavailable)).ask()
        got = list[bytes]()
        async with aclosing(answer), aclosing(answer.pieces()) as pieces:
            with raises(ModelUnavailable):
                async for piece in pieces:
                    got.append(piece)  # kept although the loop ends in an error
        assert b"".join(got) == b"Hello"

    @each("begun", [True, False])
    async def test_closing_the_answer_leaves_the_endpoint(self, play: Play, begun: bool) -> None:
        stage = await play(b"Hello", Silence())
        answer = await stage.ask()
        async with aclosing(answer), aclosing(answer.pieces()) as pieces:
            if begun:
                await anext(pieces)
        await stage.left()

    async def test_cancelling_the_reader_leaves_the_endpoint(self, play: Play) -> None:
        stage = await play(b"Hello", Silence())
        reader = asyncio.create_task(heard(await stage.ask()))
        await asyncio.sleep(0.01)
        reader.cancel()
        with raises(asyncio.CancelledError):
            await reader
        await stage.left()


class RelayContract(Contract, checks=(RelayChecks,)):
    """What `ModelRelay` promises of a user's own endpoint."""

    @abstractmethod
    def stage(self, *steps: RelayPlay, status: int = 200) -> Made[RelayStage]:
        """Make a stage that answers so. A failure comes with `FOREIGN` wherever the endpoint can say something."""
