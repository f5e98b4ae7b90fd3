"""One unit of work: the repositories on one way of running statements."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from chatcore.ports import (
    Administration,
    ConversationRepo,
    FileRepo,
    MessageRepo,
    ModelConfigRepo,
    OwnerRepo,
    ReplyLog,
    RequestRepo,
    SealedKeys,
    TokenStore,
    UnfinishedReplies,
    UnitOfWork,
    UserRepo,
    Workers,
)
from chatcore.shielding import shielded
from chatcore.storage import StorageLedger
from chatcore_sql.administration import SqlAdministration, SqlSealedKeys
from chatcore_sql.conversations import SqlConversationRepo
from chatcore_sql.files import SqlFileRepo
from chatcore_sql.messages import SqlMessageRepo
from chatcore_sql.model_configs import SqlModelConfigRepo
from chatcore_sql.owners import SqlOwnerRepo
from chatcore_sql.reply_log import SqlReplyLog
from chatcore_sql.requests import SqlRequestRepo
from chatcore_sql.statements import Statements
from chatcore_sql.storage import settle
from chatcore_sql.tokens import SqlTokenStore
from chatcore_sql.users import SqlUserRepo
from chatcore_sql.workers import SqlUnfinishedReplies, SqlWorkers


class SqlUnitOfWork(UnitOfWork):
    def __init__(self, statements: Statements, *, max_storage: int) -> None:
        self._statements = statements
        self._max_storage = max_storage
        self._ledger = ledger = StorageLedger()
        self.owners: OwnerRepo = SqlOwnerRepo(statements)
        self.users: UserRepo = SqlUserRepo(statements)
        self.tokens: TokenStore = SqlTokenStore(statements)
        self.model_configs: ModelConfigRepo = SqlModelConfigRepo(statements)
        self.conversations: ConversationRepo = SqlConversationRepo(statements, ledger)
        self.messages: MessageRepo = SqlMessageRepo(statements, ledger)
        self.requests: RequestRepo = SqlRequestRepo(statements, ledger)
        self.files: FileRepo = SqlFileRepo(statements, ledger)
        self.reply_log: ReplyLog = SqlReplyLog(statements)
        self.workers: Workers = SqlWorkers(statements)
        self.unfinished: UnfinishedReplies = SqlUnfinishedReplies(statements)
        self.administration: Administration = SqlAdministration(statements)
        self.sealed_keys: SealedKeys = SqlSealedKeys(statements)

    async def execute(self, statement: Any, params: Mapping[str, Any] = MappingProxyType({})) -> Any:
        return await self._statements.execute(statement, params)

    async def commit(self) -> None:
        await shielded(self._commit())

    async def _commit(self) -> None:
        await settle(self._statements, self._ledger, self._max_storage)
        await self._statements.commit()

    def then(self, call: Callable[[bool | None], None]) -> None:
        self._statements.then(call)
