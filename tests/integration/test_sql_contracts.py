"""The storage contracts on SQLite in tables with a prefix, on MySQL (or MariaDB), on PostgreSQL, and on that behind a
pooler in a schema of its own."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import Insert, event

from chatcore.ports import UnitOfWorkFactory
from chatcore_sql import Database
from chatcore_sql.tables import messages
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
from integration.databases import POOLER, behind_a_pooler, empty, migrated_database, on_each

NAMES: dict[str, dict[str, str]] = {"sqlite": {"prefix": "chat_"}, POOLER: {"prefix": "chat_", "schema": "talk"}}
"""Where the tables are not called what they are called in the rest of the tests."""
PLACES = [
    pytest.param((each.values[0], NAMES.get(str(each.values[0]), {})), id=str(each.values[0]), marks=each.marks)
    for each in (*on_each, behind_a_pooler)
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
    async def unit_of_work(self, place: Place) -> AsyncIterator[UnitOfWorkFactory]:
        url, names = place
        await empty(url, **names)
        async with Database(url, max_storage=MOST, **names) as database:
            yield database.unit_of_work


class TestOrder(OrderContract):
    @pytest.fixture(params=IDS)
    async def unit_of_work(self, request: pytest.FixtureRequest, place: Place) -> AsyncIterator[UnitOfWorkFactory]:
        url, names = place
        await empty(url, **names)
        ids = iter(IDS[request.param]())

        def numbered(_: object, statement: object, several: Any, values: dict[str, Any], options: object) -> Any:
            if isinstance(statement, Insert) and statement.table is messages:
                values = {**values, "id": next(ids)}
            return statement, several, values

        async with Database(url, **names) as database:
            event.listen(database._writing.engine, "before_execute", numbered, retval=True)
            yield database.unit_of_work


class TestOwnData(OwnDataContract):
    pass


class TestExpiry(ExpiryContract):
    pass


class TestUnitOfWork(UnitOfWorkContract):
    pass
