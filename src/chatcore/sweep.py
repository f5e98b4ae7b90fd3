"""What has expired is deleted now and then, by every process, a little at a time."""

import asyncio
import logging
import random
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Self

from chatcore.errors import Unavailable
from chatcore.ports import Clock, UnitOfWorkFactory
from chatcore.shielding import repeatable

_log = logging.getLogger("chatcore.sessions")


class ExpirySweep:
    """`async with` it once per process. About every `every` seconds it deletes sessions and refresh tokens that expired
    more than `keep` ago, at most `batch` of each in one transaction.

    Any number of processes may do so at once: what one has deleted, another does not find.
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
        self._unit_of_work = unit_of_work
        self._clock = clock
        self._every = every
        self._keep = keep
        self._batch = batch
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._sweep_forever(), name="chatcore expiry sweep")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def sweep(self) -> int:
        """Deletes all that has expired by now. How many rows that were."""
        swept = 0
        while some := await self._some():
            swept += some
        return swept

    @repeatable
    async def _some(self) -> int:
        async with self._unit_of_work() as work:
            deleted = await work.tokens.delete_expired(before=self._clock.now() - self._keep, limit=self._batch)
            await work.commit()
        return deleted

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(self._every * random.uniform(0.5, 1.5))  # noqa: S311 - so that they come one by one
            try:
                await self.sweep()
            except Unavailable:
                continue  # another time
            except Exception:
                _log.exception("deleting what has expired failed")
