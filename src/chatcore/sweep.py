"""Deletion of expired data in the background, by every process, in small batches."""

from datetime import timedelta

from chatcore.periodic import Periodic
from chatcore.ports import Clock, UnitOfWorkFactory
from chatcore.removal import Removal
from chatcore.shielding import retry_on_contention


class ExpirySweep(Periodic):
    """`async with` it once per process. About every `every` seconds it deletes sessions and refresh tokens that expired
    more than `keep` ago, at most `batch` of each in one transaction, and the data of closed owners and
    conversations.

    Any number of processes may do so at once.
    """

    def __init__(
        self,
        *,
        unit_of_work: UnitOfWorkFactory,
        clock: Clock,
        every: float = 600,
        keep: timedelta = timedelta(days=1),
        batch: int = 200,
    ) -> None:
        super().__init__(every=every, spread=0.5)
        self._unit_of_work = unit_of_work
        self._clock = clock
        self._keep = keep
        self._batch = batch

    async def sweep(self) -> int:
        """Delete all that has expired by now. Return the number of rows."""
        swept = 0
        while some := await self._some():
            swept += some
        return swept

    @retry_on_contention
    async def _some(self) -> int:
        async with self._unit_of_work() as work:
            deleted = await work.tokens.delete_expired(before=self._clock.now() - self._keep, limit=self._batch)
            await work.commit()
        return deleted

    async def _round(self) -> None:
        await self.sweep()
        async with self._unit_of_work(read_only=True) as work:
            owners = await work.owners.closed(limit=self._batch)
            conversations = await work.administration.closed_conversations(limit=self._batch)
        removal = Removal(self._unit_of_work, self._clock)
        for owner in owners:
            await removal.owner(owner)
        for owner, conversation_id in conversations:
            await removal.conversation(owner, conversation_id)
