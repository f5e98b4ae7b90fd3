"""Deletion of the data of closed owners and conversations, in batches."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import inf
from typing import ClassVar, Protocol

from chatcore.entities import ConversationId, OwnerId
from chatcore.ports import Clock, ConversationRepo, OwnerRepo, Transaction, UnitsOfWork
from chatcore.shielding import retry_on_contention

REMOVE_WITHIN = 5.0
"""Seconds that a request spends on it, its last batch excepted."""


class RemovalWork(Transaction, Protocol):
    owners: OwnerRepo
    conversations: ConversationRepo


@dataclass(frozen=True, slots=True)
class Removal:
    """Delete all data of a closed owner or conversation, a bounded number of rows per transaction, so that others
    wait briefly. Any process continues what another has begun. What is not deleted `within` so many seconds is left to
    the sweep."""

    unit_of_work: UnitsOfWork[RemovalWork]
    clock: Clock
    batch: ClassVar[int] = 1000

    async def owner(self, owner: OwnerId, *, within: float = inf) -> None:
        if await _all(lambda: self._some_of_owner(owner), within, least=1):
            await self._rest_of_owner(owner)

    async def conversation(self, owner: OwnerId, conversation_id: ConversationId, *, within: float = inf) -> None:
        await _all(lambda: self._some_of_conversation(owner, conversation_id), within, least=self.batch)

    @retry_on_contention
    async def _some_of_owner(self, owner: OwnerId) -> int:
        async with self.unit_of_work() as work:
            deleted = await work.owners.delete_some(owner, limit=self.batch)
            await work.commit()
        return deleted

    @retry_on_contention
    async def _rest_of_owner(self, owner: OwnerId) -> None:
        async with self.unit_of_work() as work:
            await work.owners.delete(owner)
            await work.commit()

    @retry_on_contention
    async def _some_of_conversation(self, owner: OwnerId, conversation_id: ConversationId) -> int:
        async with self.unit_of_work() as work:
            deleted = await work.conversations.delete(owner, conversation_id, limit=self.batch, now=self.clock.now())
            await work.commit()
        return deleted


async def _all(some: Callable[[], Awaitable[int]], within: float, *, least: int) -> bool:
    """Whether nothing is left. `least`: as many are deleted as long as something may be left."""
    begun = time.monotonic()
    while await some() >= least:
        if time.monotonic() - begun > within:
            return False
    return True
