"""The in-memory adapters keep the contracts that the real ones keep."""

import asyncio
from collections.abc import Iterable, Sequence

from chatcore.errors import ModelError
from chatcore.ports import Cipher, Clock, Delta, ModelEndpoint, PasswordHasher, RateLimiter, Store, TokenSigner
from chatcore_memory import (
    HandClock,
    MemoryDatabase,
    MemoryLimiter,
    PlainCipher,
    PlainPasswords,
    PlainSigner,
    RelayStep,
    ScriptedModel,
    ScriptedRelay,
    Stall,
)
from chatcore_memory import Step as ScriptStep
from chatcore_testing import (
    CipherContract,
    ClockContract,
    GatewayContract,
    PasswordHasherContract,
    RateLimiterContract,
    RelayContract,
    RelayPlay,
    RelayStage,
    Silence,
    Stage,
    Step,
    StoreContract,
    TokenSignerContract,
)


class TestStore(StoreContract):
    def store(self) -> Store:
        return MemoryDatabase()

    def limited_store(self, most: int) -> Store:
        return MemoryDatabase(max_storage=most)

    def numbered_store(self, ids: Iterable[int]) -> Store:
        return MemoryDatabase(ids=ids)


# ---- secrets ----


class TestPasswords(PasswordHasherContract):
    def hasher(self) -> PasswordHasher:
        return PlainPasswords(version=2)

    def outdated(self) -> PasswordHasher:
        return PlainPasswords(version=1)


class TestCipher(CipherContract):
    def cipher(self) -> Cipher:
        return PlainCipher()

    def stranger(self) -> Cipher:
        return PlainCipher(key="another")


class TestSigner(TokenSignerContract):
    def signer(self) -> TokenSigner:
        return PlainSigner()

    def stranger(self) -> TokenSigner:
        return PlainSigner(key="another")


# ---- the model, the clock ----

ENDPOINT = ModelEndpoint(url="http://model.test/v1", model="scripted", api_key="sk-secret")


class TestModel(GatewayContract):
    def stage(self, *steps: Step) -> Stage:
        model = ScriptedModel(*(as_scripted(step) for step in steps))

        async def left() -> None:
            await model.calls[-1].ended()
            assert model.calls[-1].ending == "closed"

        return Stage(gateway=model, endpoint=ENDPOINT, calls=lambda: len(model.calls), left=left)

    def listing(self, offered: Sequence[str] | type[ModelError]) -> Stage:
        model = ScriptedModel()
        model.offers = offered() if isinstance(offered, type) else offered
        return Stage(gateway=model, endpoint=ENDPOINT, calls=lambda: len(model.checks))


class TestRelay(RelayContract):
    def stage(self, *steps: RelayPlay, status: int = 200) -> RelayStage:
        relay = ScriptedRelay(*(relayed(step) for step in steps), status=status)

        async def left() -> None:
            await asyncio.sleep(0)
            assert relay.calls[-1].ending == "closed"

        return RelayStage(relay, ENDPOINT, lambda: [(call.path, call.body) for call in relay.calls], left)


def relayed(step: RelayPlay) -> RelayStep:
    match step:
        case bytes():
            return step
        case Silence():
            return Stall()
        case _:
            return step()


def as_scripted(step: Step) -> ScriptStep:
    match step:
        case Delta():
            return step
        case Silence():
            return Stall()
        case _:
            return step()


class TestClock(ClockContract):
    def clock(self) -> Clock:
        return HandClock()


class TestLimiter(RateLimiterContract):
    def limiter(self) -> RateLimiter:
        self.hands = HandClock()
        return MemoryLimiter(self.hands)

    async def pass_a_second(self) -> None:
        self.hands.advance(1)
