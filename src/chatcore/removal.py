"""What closed accounts have left is deleted little by little."""

import time
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from chatcore.entities import UserId
from chatcore.ports import UnitOfWorkFactory
from chatcore.shielding import repeatable


@dataclass(frozen=True, slots=True)
class Removal:
    """Deletes everything of a closed account, a bounded number of rows in one transaction, so that nobody waits for
    long. Where one process has ended or been killed, any other goes on."""

    unit_of_work: UnitOfWorkFactory
    batch: ClassVar[int] = 1000

    async def __call__(self, user_id: UserId, *, within: float = inf) -> None:
        """What is not deleted `within` so many seconds is left to the sweep."""
        begun = time.monotonic()
        while await self._some(user_id):
            if time.monotonic() - begun > within:
                return
        await self._rest(user_id)

    @repeatable
    async def _some(self, user_id: UserId) -> int:
        async with self.unit_of_work() as work:
            deleted = await work.users.delete_some(user_id, limit=self.batch)
            await work.commit()
        return deleted

    @repeatable
    async def _rest(self, user_id: UserId) -> None:
        async with self.unit_of_work() as work:
            await work.users.delete(user_id)
            await work.commit()
