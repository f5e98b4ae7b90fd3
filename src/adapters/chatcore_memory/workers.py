"""The processes that write replies, and what they are writing, in memory."""

from collections.abc import Collection, Sequence, Set
from datetime import datetime, timedelta

from chatcore.entities import Message, MessageId, OwnerId, Status, WorkerId
from chatcore.ports import Heartbeat, UnfinishedReplies, Workers
from chatcore_memory.messages import with_siblings
from chatcore_memory.state import State, Transaction


class MemoryWorkers(Workers):
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def join(self) -> tuple[WorkerId, datetime]:
        worker_id, now = WorkerId(self._transaction.new_id()), self._transaction.now()

        def insert(state: State) -> tuple[WorkerId, datetime]:
            state.workers[worker_id] = now
            return worker_id, now

        return await self._transaction.write(insert)

    async def renew(self, worker_id: WorkerId) -> Heartbeat | None:
        now = self._transaction.now()

        def update(state: State) -> Heartbeat | None:
            if worker_id not in state.workers:
                return None
            state.workers[worker_id] = now
            return Heartbeat(now, {reply_id for reply_id in state.stops if state.writers.get(reply_id) == worker_id})

        return await self._transaction.write(update)

    async def is_alive(self, worker_id: WorkerId) -> bool:
        return await self._transaction.read(lambda state: worker_id in state.workers)

    async def silent(self, *, longer_than: timedelta) -> Sequence[WorkerId]:
        latest = self._transaction.now() - longer_than
        return await self._transaction.read(
            lambda state: [worker_id for worker_id, renewed in state.workers.items() if renewed < latest]
        )

    async def expire(self, worker_id: WorkerId, *, longer_than: timedelta) -> None:
        latest = self._transaction.now() - longer_than

        def remove(state: State) -> None:
            if worker_id in state.workers and state.workers[worker_id] < latest:
                del state.workers[worker_id]

        await self._transaction.write(remove)


class MemoryUnfinished(UnfinishedReplies):
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def orphans(self, *, limit: int) -> Sequence[Message]:
        def select(state: State) -> Sequence[Message]:
            return written(state, [key for key, worker in state.writers.items() if worker not in state.workers][:limit])

        return await self._transaction.read(select)

    async def still(self, reply_ids: Collection[MessageId]) -> Set[MessageId]:
        def select(state: State) -> Set[MessageId]:
            found = (state.messages.get(reply_id) for reply_id in reply_ids)
            return {message.id for message in found if message and message.status is Status.WRITING}

        return await self._transaction.read(select)

    async def of(self, owner: OwnerId) -> Sequence[Message]:
        def select(state: State) -> Sequence[Message]:
            return [message for message in written(state, list(state.writers)) if message.user_id == owner]

        return await self._transaction.read(select)


def written(state: State, reply_ids: Sequence[MessageId]) -> Sequence[Message]:
    return [with_siblings(state, state.messages[reply_id]) for reply_id in reply_ids]
