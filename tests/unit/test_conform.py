"""Each contract finds an adapter that breaks it, and says in the report what it does wrong."""

import asyncio
import unittest
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

import pytest

from chatcore.entities import ModelConfigId, OwnerId
from chatcore.errors import ModelError
from chatcore.ports import AccessClaims, Clock, Delta, ModelEndpoint, Prompt, Rate, RateLimiter, UnitOfWork
from chatcore_memory import (
    HandClock,
    MemoryDatabase,
    MemoryLimiter,
    PlainCipher,
    PlainPasswords,
    PlainSigner,
    ScriptedModel,
)
from chatcore_testing import (
    Capability,
    CipherContract,
    Contract,
    RateLimiterContract,
    Report,
    Silence,
    Stage,
    Step,
    StoreContract,
    conform,
)
from unit import test_memory_contracts as memory

LACKING = frozenset({Capability.ACCOUNTS, Capability.ENDPOINTS, Capability.SEARCH, Capability.SHARED, Capability.QUOTA})
"""Of a store: so that its report is there sooner."""


class Unbound(PlainCipher):
    def seal(self, api_key: str, *, owner: OwnerId, config_id: ModelConfigId) -> str:
        return super().seal(api_key, owner=OwnerId(0), config_id=ModelConfigId(0))

    def open(self, sealed: str, *, owner: OwnerId, config_id: ModelConfigId) -> str:
        return super().open(sealed, owner=OwnerId(0), config_id=ModelConfigId(0))


class Forever(PlainSigner):
    def verify(self, token: str, *, now: datetime) -> AccessClaims:
        return super().verify(token, now=datetime.min.replace(tzinfo=now.tzinfo))


class Unsalted(PlainPasswords):
    async def hash(self, password: str) -> str:
        return "$plain$v=1$$" + (await super().hash("x")).split("$")[0] + password[::-1]


class Local(Clock):
    def now(self) -> datetime:
        return datetime.now()  # noqa: DTZ005


class Generous(RateLimiter):
    def __init__(self) -> None:
        self.limiter = MemoryLimiter(HandClock())

    async def hit(self, rate: Rate, *who: str) -> int | None:
        return await self.limiter.hit(Rate(rate.times + 1, rate.seconds), *who)


class Deaf(ScriptedModel):
    """Leaves out what came last before a failure, and says that all is well."""

    async def stream(self, endpoint: ModelEndpoint, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        try:
            async for delta in super().stream(endpoint, prompt):
                yield delta
        except ModelError:
            return


class Hasty(MemoryDatabase):
    """Commits whatever was written, commit or no commit."""

    @asynccontextmanager
    async def unit_of_work(self, *, read_only: bool = False, urgent: bool = False) -> AsyncGenerator[UnitOfWork, None]:
        async with super().unit_of_work(read_only=read_only, urgent=urgent) as work:
            yield work
            if not read_only:
                with suppress(RuntimeError):  # it was committed before
                    await work.commit()


def deaf(*steps: Step) -> Stage:
    model = Deaf(*(memory.as_scripted(step) for step in steps))
    return Stage(
        gateway=model, endpoint=memory.ENDPOINT, calls=lambda: len(model.calls), left=lambda: model.calls[-1].ended()
    )


WRONG: dict[str, tuple[Callable[[], Awaitable[Report]], str, str]] = {
    "cipher": (
        lambda: conform.cipher(Unbound),
        "it opens for no other owner or config [12-7]",
        "ValueError is not raised",
    ),
    "signer": (lambda: conform.signer(Forever), "it holds until it expires", "Unauthenticated is not raised"),
    "hasher": (lambda: conform.hasher(Unsalted), "every hash has its own salt", "assert len(set(hashes)) == 3"),
    "limiter": (
        lambda: conform.limiter(Generous, lambda: asyncio.sleep(0)),
        "of many at once exactly so many",
        "assert hits.count(None) == 3",
    ),
    "clock": (lambda: conform.clock(Local), "the time is aware and in utc", "utcoffset() == timedelta(0)"),
    "gateway": (
        lambda: conform.gateway(deaf),
        "a model that fails at once [ModelTimeout]",
        "ModelError is not raised",
    ),
    "store": (
        lambda: conform.store(Hasty, lacks=LACKING),
        "units units one beside the other keep apart",
        "assert sorted(stored",
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_adapter_fails_with_what_it_does_wrong(name: str) -> None:
    run, check, why = WRONG[name]
    report = await run()
    assert not report.conforms
    assert why in report.failed[check]
    assert len(report.failed[check]) <= 500
    assert f"failed: {check}: " in str(report)


async def test_a_right_adapter_passes_and_what_it_lacks_is_skipped() -> None:
    report = await conform.cipher(PlainCipher)
    assert report.conforms
    assert set(report.skipped.values()) == {Capability.STRANGER}
    assert "skipped: it opens with no other key: without another one with other keys" in str(report)
    report = await conform.cipher(PlainCipher, lambda: PlainCipher(key="another"))
    assert (report.conforms, report.skipped) == (True, {})


class Missing:
    """A repository of which only these methods are there."""

    def __init__(self, inner: object = None, *kept: str) -> None:
        self._inner = inner
        self._kept = kept

    def __getattr__(self, name: str) -> Any:
        if name not in self._kept:
            raise NotImplementedError(name)
        return getattr(self._inner, name)


class Small(MemoryDatabase):
    """A store of one process, without accounts, endpoints and search."""

    @asynccontextmanager
    async def unit_of_work(self, *, read_only: bool = False, urgent: bool = False) -> AsyncGenerator[UnitOfWork, None]:
        async with super().unit_of_work(read_only=read_only, urgent=urgent) as work:
            unit: Any = work
            unit.users = unit.tokens = unit.model_configs = unit.sealed_keys = Missing()
            unit.administration = Missing(work.administration, "closed_conversations")
            unit.workers = Missing(work.workers, "join", "silent", "expire", "is_alive")
            yield work


async def test_a_store_may_be_of_one_process_and_without_accounts() -> None:
    report = await conform.store(Small, lacks=LACKING)
    assert report.conforms, report
    assert len(report.passed) > 150


async def test_a_gateway_may_be_without_reasoning_usage_and_models() -> None:
    def stage(*steps: Step) -> Stage:
        assert not any(isinstance(step, Delta) and (step.reasoning or step.usage) for step in steps)
        return memory.TestModel().stage(*steps)

    lacks = frozenset({Capability.REASONING, Capability.USAGE})
    report = await conform.gateway(stage, lacks=lacks)
    assert report.conforms, report
    assert set(report.skipped.values()) == {*lacks, Capability.MODELS}


async def test_a_check_that_takes_too_long_fails() -> None:
    class Silent(memory.TestModel):
        seconds = 0.05

        def stage(self, *steps: Step) -> Stage:
            return super().stage(Silence(), *steps)

    report = await conform.examined(Silent)
    assert "it takes more than 0.05 seconds" in report.failed["text arrives complete and in order [words]"]


async def test_what_is_made_is_closed_after_each_check() -> None:
    opened, closed = list[int](), list[int]()

    async def make() -> AsyncGenerator[RateLimiter, None]:
        opened.append(1)
        try:
            yield MemoryLimiter(HandClock())
        finally:
            closed.append(1)

    await conform.limiter(make, lambda: asyncio.sleep(0))
    assert len(opened) == len(closed) == len(RateLimiterContract.cases)


def test_unittest_runs_a_contract_too() -> None:
    class Cased(memory.TestCipher, unittest.TestCase):
        pass

    class Wrong(CipherContract, unittest.TestCase):
        def cipher(self) -> Unbound:
            return Unbound()

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Cased).run(result)
    assert (result.testsRun, result.failures, result.errors) == (len(CipherContract.cases), [], [])
    unittest.defaultTestLoader.loadTestsFromTestCase(Wrong).run(result)
    assert len(result.failures) > 3
    assert len(result.skipped) == 2


@pytest.mark.parametrize("contract", [StoreContract, CipherContract, RateLimiterContract])
def test_each_check_has_a_name_of_its_own(contract: type[Contract]) -> None:
    names = [case.name for case in contract.cases]
    assert len(set(names)) == len(names)
    assert all(callable(getattr(contract, name)) for name in names)
