"""The models that a user may name, and calls of them that pass through."""

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest

from chatcore import ListModels, OwnerId, Relayed, RelayModel, Vouched
from chatcore.audit import AuditEvent
from chatcore.errors import (
    ModelNotConfigured,
    ModelUnauthorized,
    RateLimited,
    Refused,
    Unavailable,
    UnknownModel,
)
from chatcore.hooks import NO_HOOKS, Hooks
from chatcore.ports import ModelEndpoint, Purpose, Turn
from chatcore.rate_limits import RateLimits
from chatcore.use_cases.chat_values import ChatDefaults
from chatcore.use_cases.relay import ModelChoice
from chatcore_memory import ScriptedRelay
from unit.world import SERVER_MODEL, Process, World


@dataclass
class Scene:
    world: World
    process: Process
    owner: OwnerId
    relay: ScriptedRelay = field(default_factory=lambda: ScriptedRelay(b"data: {}\n\n", b"data: [DONE]\n\n"))
    defaults: ChatDefaults = field(default_factory=lambda: ChatDefaults(model=SERVER_MODEL))
    limits: RateLimits = field(default_factory=RateLimits)
    hooks: Hooks = NO_HOOKS

    async def named(self, name: str) -> int:
        """The id of a new configuration with a model of this name."""
        by = {"by": Vouched(self.owner), "model_url": "https://own.test/v1", "model_name": name, "api_key": "sk-own"}
        return (await self.world.create_model_config(**by)).id  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    async def ask(self, model: str = "") -> Relayed:
        call = RelayModel(
            choice=self.choice,
            relay=self.relay,
            cipher=self.world.cipher,
            replies=self.process.replies,
            limits=self.limits,
            hooks=self.hooks,
        )
        return await call(
            by=Vouched(self.owner), path="/embeddings", model=model, body=lambda endpoint: endpoint.model.encode()
        )

    async def endpoint_of(self, model: str) -> ModelEndpoint:
        await (await self.ask(model)).aclose()
        assert self.relay.calls[-1].body == self.relay.calls[-1].endpoint.model.encode()
        return self.relay.calls[-1].endpoint

    @property
    def choice(self) -> ModelChoice:
        return ModelChoice(unit_of_work=self.world.storage, defaults=self.defaults)

    async def offered(self) -> list[str]:
        return [each.name for each in await ListModels(choice=self.choice)(owner=self.owner)]


@pytest.fixture
async def scene(world: World) -> AsyncIterator[Scene]:
    async with world.process() as process:
        yield Scene(world, process, (await world.signed_in()).user.id)


# ---- which model -------------------------------------------------------------------------------------------


async def test_without_a_name_it_is_the_newest_else_the_servers(scene: Scene) -> None:
    assert await scene.endpoint_of("") == SERVER_MODEL
    await scene.named("a")
    await scene.named("b")
    assert (await scene.endpoint_of("")).model == "b"


async def test_a_name_is_that_of_the_newest_that_has_it(scene: Scene) -> None:
    first = await scene.named("same")
    second = await scene.named("same")
    await scene.named("other")
    assert await scene.offered() == ["other", "same", f"config:{first}", SERVER_MODEL.model]
    assert (await scene.endpoint_of("same")).api_key == "sk-own"
    for config_id in (first, second):
        assert (await scene.endpoint_of(f"config:{config_id}")).model == "same"


async def test_an_own_name_hides_the_servers(scene: Scene) -> None:
    await scene.named(SERVER_MODEL.model)
    assert await scene.offered() == [SERVER_MODEL.model]
    assert not (await scene.endpoint_of(SERVER_MODEL.model)).trusted


async def test_a_name_is_found_among_many(scene: Scene) -> None:
    names = [f"model {number}" for number in range(205)]
    for name in names:
        await scene.named(name)
    for name in (names[0], names[104], names[105], names[-1]):
        assert (await scene.endpoint_of(name)).model == name
    assert len(await scene.offered()) == 206


@pytest.mark.parametrize("name", ["nothing", "SERVER-MODEL", "server-model ", "config:1.0", "config:0", "config:٣"])
async def test_any_other_name_is_unknown(scene: Scene, name: str) -> None:
    with pytest.raises(UnknownModel):
        await scene.ask(name)
    assert scene.relay.calls == []


async def test_without_any_model_there_is_none(scene: Scene) -> None:
    scene.defaults = ChatDefaults()
    assert await scene.offered() == []
    with pytest.raises(ModelNotConfigured):
        await scene.ask()


# ---- under which rules -------------------------------------------------------------------------------------


async def test_what_passed_is_in_the_audit_log(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chatcore.audit")
    async with aclosing(await scene.ask()) as relayed:
        assert [piece async for piece in relayed] == [b"data: {}\n\n", b"data: [DONE]\n\n"]
    assert scene.relay.calls[0].ending == "finished"
    (event,) = [record.msg for record in caplog.records if getattr(record.msg, "name", "") == "relayed"]
    assert isinstance(event, AuditEvent)
    assert event.fields == {
        "user_id": scene.owner,
        "model_host": "models.test",
        "path": "/embeddings",
        "status": 200,
        "sent": len(SERVER_MODEL.model),
        "received": 24,
        "upstream_id": "scripted",
    }


async def test_a_refused_key_is_in_the_audit_log(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chatcore.audit")
    scene.relay = ScriptedRelay(ModelUnauthorized())
    with pytest.raises(ModelUnauthorized):
        await scene.ask()
    assert "model_key_refused" in [getattr(record.msg, "name", "") for record in caplog.records]
    assert scene.process.replies.written_for(scene.owner) == 0


async def test_it_counts_among_the_replies_in_progress_until_it_is_closed(scene: Scene) -> None:
    scene.limits = RateLimits(replies=2)
    first, second = await scene.ask(), await scene.ask()
    with pytest.raises(RateLimited):
        await scene.ask()
    assert scene.process.replies.written_for(scene.owner) == 2
    for relayed in (first, second):
        await relayed.aclose()
    assert scene.process.replies.written_for(scene.owner) == 0
    assert [call.ending for call in scene.relay.calls] == ["closed", "closed"]


async def test_none_begins_while_the_process_shuts_down(scene: Scene) -> None:
    await scene.process.replies.drain()
    with pytest.raises(Unavailable):
        await scene.ask()


async def test_a_hook_sees_and_changes_what_passes(scene: Scene) -> None:
    turns = list[Turn]()

    class Noting(Hooks):
        async def relay(self, turn: Turn, body: bytes) -> bytes:
            turns.append(turn)
            return body + b"!"

    scene.hooks = Noting()
    await (await scene.ask()).aclose()
    assert [(turn.purpose, turn.owner) for turn in turns] == [(Purpose.RELAY, scene.owner)]
    assert scene.relay.calls[0].body == SERVER_MODEL.model.encode() + b"!"


@pytest.mark.parametrize("hook", ["before_send", "prompt", "delta"])
async def test_nothing_passes_by_hooks_that_do_not_see_it(scene: Scene, hook: str) -> None:
    async def moderating(*given: Any) -> Any:
        return given[-1]

    scene.hooks = type("Moderating", (Hooks,), {hook: moderating})()
    with pytest.raises(Refused):
        await scene.ask()
    assert scene.relay.calls == []
