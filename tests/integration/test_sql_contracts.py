"""The storage contracts on SQLite, MySQL (or MariaDB) and PostgreSQL, and on that behind a pooler."""

from collections.abc import AsyncIterator

import pytest

from chatcore.ports import UnitOfWorkFactory
from chatcore_sql import Database
from contracts.storage import (
    AccountDeletionContract,
    AdministrationContract,
    BranchesContract,
    ConversationRepoContract,
    ExpiryContract,
    IdempotencyContract,
    MessageRepoContract,
    ModelConfigRepoContract,
    OwnDataContract,
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
from contracts.storage.quota import MOST
from integration.databases import behind_a_pooler, empty, on_each

pytestmark = [
    pytest.mark.contract,
    pytest.mark.parametrize("database_url", [*on_each, behind_a_pooler], indirect=True, scope="module"),
]


@pytest.fixture
async def unit_of_work(database_url: str) -> AsyncIterator[UnitOfWorkFactory]:
    await empty(database_url)
    async with Database(database_url) as database:
        yield database.unit_of_work


class TestUsers(UserRepoContract):
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
    async def unit_of_work(self, database_url: str) -> AsyncIterator[UnitOfWorkFactory]:
        await empty(database_url)
        async with Database(database_url, max_storage=MOST) as database:
            yield database.unit_of_work


class TestOwnData(OwnDataContract):
    pass


class TestExpiry(ExpiryContract):
    pass


class TestUnitOfWork(UnitOfWorkContract):
    pass
