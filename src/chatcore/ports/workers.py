"""The processes that write replies, and the replies that they owe."""

from abc import abstractmethod
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from chatcore.entities import Message, MessageId, OwnerId, WorkerId


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """`at`: the database's time. `stops`: replies of the worker that somebody asked to stop."""

    at: datetime
    stops: Set[MessageId]


class Workers(Protocol):
    """The processes that write replies to this database, each with a lease that it has to renew. Its id is its epoch:
    none is given twice. Time is the database's. Sees across owners."""

    @abstractmethod
    async def join(self) -> tuple[WorkerId, datetime]:
        """A new worker, and the time."""

    @abstractmethod
    async def renew(self, worker_id: WorkerId) -> Heartbeat | None:
        """None: it was taken for dead."""

    @abstractmethod
    async def is_alive(self, worker_id: WorkerId) -> bool:
        """False: it was taken for dead. Otherwise nobody can take it for dead before this unit of work is over, so that
        what else is written in it is written by a living worker. A renewal waits for that, too: ask last."""

    @abstractmethod
    async def silent(self, *, longer_than: timedelta) -> Sequence[WorkerId]:
        """Those that have not renewed for longer than that."""

    @abstractmethod
    async def expire(self, worker_id: WorkerId, *, longer_than: timedelta) -> None:
        """Take a worker for dead if it still has not renewed for longer than that. It waits for one that is just
        renewing."""


class UnfinishedReplies(Protocol):
    """Replies that are being written. Sees across owners."""

    @abstractmethod
    async def orphans(self, *, limit: int) -> Sequence[Message]:
        """Those whose worker is dead, at most `limit` of them."""

    @abstractmethod
    async def still(self, reply_ids: Collection[MessageId]) -> Set[MessageId]:
        """Those among these that are being written."""

    @abstractmethod
    async def of(self, owner: OwnerId) -> Sequence[Message]:
        """All of one user's."""
