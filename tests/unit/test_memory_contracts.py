"""The in-memory adapters keep the contracts that the real ones keep."""

from collections.abc import Sequence

import pytest

from chatcore.errors import ModelError
from chatcore.ports import (
    Cipher,
    Clock,
    Delta,
    ModelEndpoint,
    PasswordHasher,
    RateLimiter,
    TokenSigner,
    UnitOfWorkFactory,
)
from chatcore_memory import (
    HandClock,
    MemoryDatabase,
    MemoryLimiter,
    PlainCipher,
    PlainPasswords,
    PlainSigner,
    ScriptedModel,
    Stall,
)
from chatcore_memory import Step as ScriptStep
from contracts.clock import ClockContract
from contracts.gateway import GatewayContract, ModelListContract, Offer, Play, Silence, Stage, Step
from contracts.limits import RateLimiterContract
from contracts.secrets import CipherContract, PasswordHasherContract, TokenSignerContract
from contracts.storage import (
    AccountDeletionContract,
    AdministrationContract,
    BranchesContract,
    ConversationRepoContract,
    ExpiryContract,
    IdempotencyContract,
    MessageRepoContract,
    ModelConfigRepoContract,
    OrderContract,
    OwnDataContract,
    OwnerRepoContract,
    ReplyLogContract,
    SealedKeysContract,
    SearchContract,
    StorageQuotaContract,
    TokenStoreContract,
    UnfinishedRepliesContract,
    UnitOfWorkContract,
    UserRepoContract,
    WorkersContract,
)
from contracts.storage.order import IDS
from contracts.storage.quota import MOST

# ---- storage ----


@pytest.fixture
def unit_of_work() -> UnitOfWorkFactory:
    return MemoryDatabase().unit_of_work


class TestOrder(OrderContract):
    @pytest.fixture(params=IDS)
    def unit_of_work(self, request: pytest.FixtureRequest) -> UnitOfWorkFactory:
        return MemoryDatabase(ids=IDS[request.param]()).unit_of_work


class TestUsers(UserRepoContract):
    pass


class TestOwners(OwnerRepoContract):
    pass


class TestAccountDeletion(AccountDeletionContract):
    pass


class TestTokens(TokenStoreContract):
    pass


class TestModelConfigs(ModelConfigRepoContract):
    pass


class TestConversations(ConversationRepoContract):
    pass


class TestMessages(MessageRepoContract):
    pass


class TestIdempotency(IdempotencyContract):
    pass


class TestReplyLog(ReplyLogContract):
    pass


class TestWorkers(WorkersContract):
    pass


class TestBranches(BranchesContract):
    pass


class TestUnfinishedReplies(UnfinishedRepliesContract):
    pass


class TestAdministration(AdministrationContract):
    pass


class TestSealedKeys(SealedKeysContract):
    pass


class TestSearch(SearchContract):
    pass


class TestStorageQuota(StorageQuotaContract):
    @pytest.fixture
    def unit_of_work(self) -> UnitOfWorkFactory:
        return MemoryDatabase(max_storage=MOST).unit_of_work


class TestOwnData(OwnDataContract):
    pass


class TestExpiry(ExpiryContract):
    pass


class TestUnitOfWork(UnitOfWorkContract):
    pass


# ---- secrets ----


class TestPasswords(PasswordHasherContract):
    @pytest.fixture
    def hasher(self) -> PasswordHasher:
        return PlainPasswords(version=2)

    @pytest.fixture
    def outdated(self) -> PasswordHasher:
        return PlainPasswords(version=1)


class TestCipher(CipherContract):
    @pytest.fixture
    def cipher(self) -> Cipher:
        return PlainCipher()

    @pytest.fixture
    def stranger(self) -> Cipher:
        return PlainCipher(key="another")


class TestSigner(TokenSignerContract):
    @pytest.fixture
    def signer(self) -> TokenSigner:
        return PlainSigner()

    @pytest.fixture
    def stranger(self) -> TokenSigner:
        return PlainSigner(key="another")


# ---- the model, the clock ----


class TestModel(GatewayContract):
    @pytest.fixture
    def play(self) -> Play:
        async def play(*steps: Step) -> Stage:
            model = ScriptedModel(*(as_scripted(step) for step in steps))
            endpoint = ModelEndpoint(url="http://model.test/v1", model="scripted", api_key="sk-secret")

            async def left() -> None:
                await model.calls[-1].ended()
                assert model.calls[-1].ending == "closed"

            return Stage(gateway=model, endpoint=endpoint, calls=lambda: len(model.calls), left=left)

        return play


class TestModelList(ModelListContract):
    @pytest.fixture
    def offer(self) -> Offer:
        async def offer(offered: Sequence[str] | type[ModelError]) -> Stage:
            model = ScriptedModel()
            model.offers = offered() if isinstance(offered, type) else offered
            endpoint = ModelEndpoint(url="http://model.test/v1", model="scripted", api_key="sk-secret")
            return Stage(gateway=model, endpoint=endpoint, calls=lambda: len(model.checks), left=never)

        return offer


async def never() -> None:
    raise AssertionError("nobody listens to a list of models")


def as_scripted(step: Step) -> ScriptStep:
    match step:
        case Delta():
            return step
        case Silence():
            return Stall()
        case _:
            return step()


class TestClock(ClockContract):
    @pytest.fixture
    def clock(self) -> Clock:
        return HandClock()


class TestLimiter(RateLimiterContract):
    @pytest.fixture
    def limiter(self) -> RateLimiter:
        self.hands = HandClock()
        return MemoryLimiter(self.hands)

    async def pass_a_second(self) -> None:
        self.hands.advance(1)
