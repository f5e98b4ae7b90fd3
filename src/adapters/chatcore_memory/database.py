"""The database in memory: its units of work, and the way to make it fail."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from itertools import count
from types import MappingProxyType, TracebackType
from typing import Any, Self

from chatcore.clock import SystemClock
from chatcore.ports import (
    Administration,
    Clock,
    ConversationRepo,
    FileRepo,
    MessageRepo,
    ModelConfigRepo,
    OwnerRepo,
    ReplyLog,
    RequestRepo,
    SealedKeys,
    Store,
    TokenStore,
    UnfinishedReplies,
    UnitOfWork,
    UserRepo,
    Workers,
)
from chatcore.storage import MAX_STORAGE_BYTES
from chatcore_memory.accounts import MemoryTokens, MemoryUsers
from chatcore_memory.administration import MemoryAdministration, MemorySealedKeys
from chatcore_memory.conversations import MemoryConversations, MemoryModelConfigs
from chatcore_memory.files import MemoryFiles
from chatcore_memory.messages import MemoryMessages, MemoryReplyLog
from chatcore_memory.owners import MemoryOwners
from chatcore_memory.requests import MemoryRequests
from chatcore_memory.state import Executed, Transaction
from chatcore_memory.state import Store as Tables
from chatcore_memory.workers import MemoryUnfinished, MemoryWorkers


class MemoryDatabase(Store):
    """Holds everything in this object, and nothing longer than it.

    Writing units of work come one after the other, each on a copy of what is committed; read-only ones see what
    is committed at the moment of each read.
    """

    def __init__(
        self, clock: Clock | None = None, *, max_storage: int = MAX_STORAGE_BYTES, ids: Iterable[int] | None = None
    ) -> None:
        """`clock`: the database's own, which leases go by. `max_storage`: bytes that a user may store. `ids`: of all
        that is stored, in that order; by default they rise."""
        self._store = Tables(clock or SystemClock(), max_storage, ids or count(1))
        self._lock = asyncio.Lock()
        self._writer: asyncio.Task[object] | None = None

    @asynccontextmanager
    async def unit_of_work(self, *, read_only: bool = False, urgent: bool = False) -> AsyncGenerator[UnitOfWork, None]:
        """The `UnitOfWorkFactory`. A writing unit inside another one of the same task is a `RuntimeError`: it
        would wait for itself."""
        await asyncio.sleep(0)
        async with nullcontext() if read_only else self._turn():
            self._store.reach()
            transaction = Transaction(self._store, read_only=read_only)
            try:
                yield MemoryUnitOfWork(transaction)
            finally:
                transaction.end()

    @property
    def is_shared(self) -> bool:
        return False

    @property
    def executed(self) -> Sequence[Executed]:
        """The statements that hooks have run, and their values."""
        return self._store.committed.executed

    async def migrate(self) -> None:
        """There is nothing to do."""

    async def is_migrated(self) -> bool:
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep everything."""

    @contextmanager
    def outage(self) -> Generator[None, None, None]:
        """`with database.outage():` makes every call within raise `Unavailable`, as if the server were gone.

        A unit of work that noticed can only be left; what was committed is there again afterwards.
        """
        self._store.gone = True
        try:
            yield
        finally:
            self._store.gone = False

    def contend(self, units: int, *, after: int = 0) -> None:
        """Make so many of the writing units of work that begin from now on the losers of a deadlock: each raises
        `Contention` at the call that follows `after` others, unless it has committed before.
        """
        self._store.losing = [after] * units

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None, None]:
        if self._writer is asyncio.current_task():
            raise RuntimeError("this task has a unit of work open already")
        async with self._lock:
            self._writer = asyncio.current_task()
            try:
                yield
            finally:
                self._writer = None


class MemoryUnitOfWork(UnitOfWork):
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self.owners: OwnerRepo = MemoryOwners(transaction)
        self.users: UserRepo = MemoryUsers(transaction)
        self.tokens: TokenStore = MemoryTokens(transaction)
        self.model_configs: ModelConfigRepo = MemoryModelConfigs(transaction)
        self.conversations: ConversationRepo = MemoryConversations(transaction)
        self.messages: MessageRepo = MemoryMessages(transaction)
        self.requests: RequestRepo = MemoryRequests(transaction)
        self.files: FileRepo = MemoryFiles(transaction)
        self.reply_log: ReplyLog = MemoryReplyLog(transaction)
        self.workers: Workers = MemoryWorkers(transaction)
        self.unfinished: UnfinishedReplies = MemoryUnfinished(transaction)
        self.administration: Administration = MemoryAdministration(transaction)
        self.sealed_keys: SealedKeys = MemorySealedKeys(transaction)

    async def execute(self, statement: Any, params: Mapping[str, Any] = MappingProxyType({})) -> Any:
        """Note it in `MemoryDatabase.executed`, if the unit commits."""
        await self._transaction.write(lambda state: state.executed.append((statement, dict(params))))
        return []

    async def commit(self) -> None:
        await self._transaction.commit()
