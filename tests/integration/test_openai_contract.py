"""The OpenAI gateway keeps the contract of the port, over real HTTP."""

import json
from collections.abc import AsyncIterator, Sequence

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
from chatcore.ports import Delta, ModelEndpoint
from chatcore_openai import LOOPBACK, OpenAIGateway
from chatcore_testing import FOREIGN, GatewayContract, RelayContract, RelayPlay, RelayStage, Silence, Stage, Step
from integration.model_server import CUT, DONE, STALL, Answer, ModelServer, chunk, event, plain, raw, stream
from integration.model_server import Step as Act

AT_ONCE: dict[type[ModelError], Answer] = {
    ModelUnauthorized: plain(401, FOREIGN),
    ModelNotFound: plain(404, FOREIGN),
    ModelRateLimited: plain(429, FOREIGN),
    ModelRefused: plain(400, FOREIGN),
    ModelUnavailable: plain(503, FOREIGN),
    ModelProtocolError: plain(200, FOREIGN, "text/html"),
    ModelTimeout: raw(STALL),
}
LATER: dict[type[ModelError], Act] = {
    ModelUnavailable: CUT,
    ModelProtocolError: event(FOREIGN),
    ModelTimeout: STALL,
}


class TestOpenAIGateway(GatewayContract):
    async def stage(self, *steps: Step) -> AsyncIterator[Stage]:
        async with ModelServer() as server:
            server.always = answer_of(steps)
            async with gateway(impatient=ModelTimeout in steps) as opened:

                async def left() -> None:
                    await server.requests[-1].ended()
                    assert server.requests[-1].ending == "left"

                yield Stage(gateway=opened, endpoint=endpoint_at(server), calls=lambda: len(server.requests), left=left)

    async def listing(self, offered: Sequence[str] | type[ModelError]) -> AsyncIterator[Stage]:
        async with ModelServer() as server:
            server.always = AT_ONCE[offered] if isinstance(offered, type) else listing_of(offered)
            async with gateway(impatient=offered is ModelTimeout) as opened:
                yield Stage(gateway=opened, endpoint=endpoint_at(server), calls=lambda: len(server.requests))


class TestOpenAIRelay(RelayContract):
    async def stage(self, *steps: RelayPlay, status: int = 200) -> AsyncIterator[RelayStage]:
        async with ModelServer() as server:
            server.always = relayed(steps, status)
            async with gateway(impatient=False) as opened:

                async def left() -> None:
                    await server.requests[-1].ended()
                    assert server.requests[-1].ending == "left"

                def asked() -> Sequence[tuple[str, bytes]]:
                    return [(request.path.removeprefix("/v1"), request.content) for request in server.requests]

                yield RelayStage(opened, endpoint_at(server), asked, left)


def relayed(steps: tuple[RelayPlay, ...], status: int) -> Answer:
    if isinstance(steps[0], type):
        return AT_ONCE[steps[0]] if steps[0] is ModelUnauthorized else raw(CUT)
    return Answer([passed(step) for step in steps], status=status)


def passed(step: RelayPlay) -> Act:
    if isinstance(step, type):
        return LATER[step]
    return STALL if isinstance(step, Silence) else step


def gateway(*, impatient: bool) -> OpenAIGateway:
    return OpenAIGateway(idle_timeout=0.05 if impatient else 60, allow=LOOPBACK)


def endpoint_at(server: ModelServer) -> ModelEndpoint:
    return ModelEndpoint(url=server.url, model="scripted", api_key="sk-" + "k" * 20)


def listing_of(names: Sequence[str]) -> Answer:
    return plain(200, json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in names]}))


def answer_of(steps: tuple[Step, ...]) -> Answer:
    first = steps[0]
    if isinstance(first, type):
        return AT_ONCE[first]
    return stream(*(act_of(step) for step in steps), chunk(finish="stop"), DONE)


def act_of(step: Step) -> Act:
    if isinstance(step, Delta):
        usage = (step.usage.prompt_tokens, step.usage.completion_tokens) if step.usage else None
        return chunk(step.text or None, reasoning=step.reasoning or None, usage=usage)
    return STALL if isinstance(step, Silence) else LATER[step]
