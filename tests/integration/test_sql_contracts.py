"""The storage contracts on SQLite, MySQL (or MariaDB) and PostgreSQL, on that behind a pooler, and in tables with a
prefix and a schema."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

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
from integration.databases import behind_a_pooler, empty, migrated_database, on_each

PREFIX = {"prefix": "chat_"}
SCHEMA = {"prefix": "chat_", "schema": "talk"}
PLACES = [
    *(pytest.param((each.values[0], {}), id=str(each.values[0]), marks=each.marks) for each in on_each),
    pytest.param(("pgbouncer", {}), id="pgbouncer", marks=behind_a_pooler.marks),
    pytest.param(("sqlite", PREFIX), id="sqlite-prefix", marks=pytest.mark.sqlite),
    pytest.param(("postgresql", SCHEMA), id="postgresql-schema", marks=pytest.mark.postgresql),
]
pytestmark = [pytest.mark.contract, pytest.mark.parametrize("place", PLACES, indirect=True, scope="module")]

Place = tuple[str, dict[str, Any]]
"""A URL, and what `Database` is told of the tables' names."""


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    kind, names = request.param
    with migrated_database(kind, tmp_path_factory.mktemp("databases"), **names) as url:
        yield url, names


@pytest.fixture
async def unit_of_work(place: Place) -> AsyncIterator[UnitOfWorkFactory]:
    url, names = place
    await empty(url, **names)
    async with Database(url, **names) as database:
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
    async def unit_of_work(self, place: Place) -> AsyncIterator[UnitOfWorkFactory]:
        url, names = place
        await empty(url, **names)
        async with Database(url, max_storage=MOST, **names) as database:
            yield database.unit_of_work


class TestOwnData(OwnDataContract):
    pass


class TestExpiry(ExpiryContract):
    pass


class TestUnitOfWork(UnitOfWorkContract):
    pass
