"""One transaction."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from chatcore.ports.accounts import Administration, UserRepo
from chatcore.ports.conversations import ConversationRepo
from chatcore.ports.files import FileRepo
from chatcore.ports.messages import MessageRepo
from chatcore.ports.model_configs import ModelConfigRepo, SealedKeys
from chatcore.ports.owners import OwnerRepo
from chatcore.ports.reply_log import ReplyLog
from chatcore.ports.requests import RequestRepo
from chatcore.ports.sessions import TokenStore
from chatcore.ports.workers import UnfinishedReplies, Workers

_NOTHING: Mapping[str, Any] = MappingProxyType({})

W_co = TypeVar("W_co", covariant=True)


class Transaction(Protocol):
    """One transaction. Each use case declares the repositories that it touches in a protocol of its own; a fake for its
    tests needs no others."""

    @abstractmethod
    async def commit(self) -> None:
        """When this returns, what was written is durable, and counted (`chatcore.storage`). Once per unit.

        Raise `StorageFull` if an owner would have more stored than one may; nothing is stored then.
        Raise `Contention` if the database answers that it rolled back: a cluster may find only here that another node
        was quicker. Whether a commit that failed in any other way took place is not known: `Unavailable`, and not to
        be run again blindly.
        """

    def then(self, call: Callable[[bool | None], None]) -> None:
        """Call after `commit`, once the outcome is known. True: durable, at once for a unit of its own. A unit that has
        joined the embedding program's transaction waits for the end of that: False, if it was rolled back; None, if it
        was committed, but perhaps without this unit, which a savepoint may have undone."""
        call(True)


class AuthorityWork(Transaction, Protocol):
    """What an authority confirms itself with."""

    owners: OwnerRepo
    tokens: TokenStore
    administration: Administration


class HookWork(Transaction, Protocol):
    """What hooks work with, in chatcore's own transaction, which they do not commit."""

    conversations: ConversationRepo
    messages: MessageRepo

    @abstractmethod
    async def execute(self, statement: Any, params: Mapping[str, Any] = _NOTHING) -> Any:
        """Run the embedding program's own statement in this transaction: with SQL, what SQLAlchemy can execute, such
        as `text("INSERT INTO bills VALUES (:reply)")`. Return the rows, or how many were changed."""


class UnitOfWork(AuthorityWork, HookWork, Protocol):
    """One transaction and all repositories."""

    users: UserRepo
    model_configs: ModelConfigRepo
    requests: RequestRepo
    files: FileRepo
    reply_log: ReplyLog
    workers: Workers
    unfinished: UnfinishedReplies
    sealed_keys: SealedKeys


class UnitsOfWork(Protocol[W_co]):
    """`async with unit_of_work() as work:` rolls back on leaving, unless `work.commit()` was called.

    A unit sees what was committed before it began and what it wrote itself. `read_only` costs no transaction:
    each read then sees the newest committed state, and writing or committing is a `RuntimeError`. `urgent` units
    have a few connections of their own: a process under load must still show that it is alive, and take what is said
    to the log.
    """

    @abstractmethod
    def __call__(self, *, read_only: bool = False, urgent: bool = False) -> AbstractAsyncContextManager[W_co]: ...


class UnitOfWorkFactory(UnitsOfWork[UnitOfWork], Protocol):
    """What a storage adapter provides."""
