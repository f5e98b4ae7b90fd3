"""One unit of work: the repositories on one way of running statements."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from chatcore.ports import UnitOfWork
from chatcore.shielding import shielded
from chatcore.storage import StorageLedger
from chatcore_sql.administration import SqlAdministration, SqlSealedKeys
from chatcore_sql.conversations import SqlConversationRepo
from chatcore_sql.messages import SqlMessageRepo
from chatcore_sql.model_configs import SqlModelConfigRepo
from chatcore_sql.owners import SqlOwnerRepo
from chatcore_sql.reply_log import SqlReplyLog
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
        self.owners = SqlOwnerRepo(statements)
        self.users = SqlUserRepo(statements)
        self.tokens = SqlTokenStore(statements)
        self.model_configs = SqlModelConfigRepo(statements)
        self.conversations = SqlConversationRepo(statements, ledger)
        self.messages = SqlMessageRepo(statements, ledger)
        self.reply_log = SqlReplyLog(statements)
        self.workers = SqlWorkers(statements)
        self.unfinished = SqlUnfinishedReplies(statements)
        self.administration = SqlAdministration(statements)
        self.sealed_keys = SqlSealedKeys(statements)

    async def execute(self, statement: Any, params: Mapping[str, Any] = MappingProxyType({})) -> Any:
        return await self._statements.execute(statement, params)

    async def commit(self) -> None:
        await shielded(self._commit())

    async def _commit(self) -> None:
        await settle(self._statements, self._ledger, self._max_storage)
        await self._statements.commit()
