"""The storage contracts on SQLite, MySQL (or MariaDB) and PostgreSQL."""

from collections.abc import AsyncIterator, Iterator

import pytest

from chatcore.ports import UnitOfWorkFactory
from chatcore_sql import Database
from contracts.storage import (
    AccountDeletionContract,
    ConversationRepoContract,
    IdempotencyContract,
    MessageRepoContract,
    ModelConfigRepoContract,
    ReplyLogContract,
    TokenStoreContract,
    UnfinishedRepliesContract,
    UnitOfWorkContract,
    UserRepoContract,
)
from integration.databases import KINDS, empty, migrated_database


@pytest.fixture(scope="module", params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with migrated_database(request.param, tmp_path_factory.mktemp("databases")) as url:
        yield url


@pytest.fixture
async def unit_of_work(url: str) -> AsyncIterator[UnitOfWorkFactory]:
    await empty(url)
    async with Database(url) as database:
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


class TestUnfinishedReplies(UnfinishedRepliesContract):
    pass


class TestUnitOfWork(UnitOfWorkContract):
    pass
