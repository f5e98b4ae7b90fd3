"""This process among those that write replies to one database: its lease, and the burial of those that are dead."""

import asyncio
import logging
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from math import inf

from chatcore.entities import WorkerId
from chatcore.errors import Unavailable
from chatcore.ports import Pulse, UnitOfWork, UnitOfWorkFactory

_log = logging.getLogger("chatcore.replies")
_EVERYBODY = timedelta(days=-1)  # whoever has not renewed for less than no time
_ALONE = Pulse(datetime.max.replace(tzinfo=UTC), frozenset())
_TICK = 0.2  # seconds
_RENEWALS = 5  # so many fit into a lease
_RENEWALS_OF_THE_NEW = 20  # as long as it may not bury yet: the dead may be waiting for it


class Worker:
    """A lease of so many seconds, to be renewed a few times within them. None: no other process ever serves the
    database, which needs no lease then, and whatever was left there is left by the dead."""

    def __init__(self, unit_of_work: UnitOfWorkFactory, *, lease: float | None) -> None:
        self._unit_of_work = unit_of_work
        self._lease = None if lease is None else timedelta(seconds=lease)
        self._doubtful_after = inf if lease is None else lease / 2  # seconds
        self._id: WorkerId | None = None
        self._renewed_at: datetime | None = None
        self._steady_since: datetime | None = None
        self._due_at = 0.0
        self.doubtful_at = 0.0
        """A time of `time.monotonic`. After it the whole process was stopped for so long that others may have taken it
        for dead. A tick in time puts it off; later only a renewal does, that was asked for since."""
        self._asked_at = 0.0
        self._ticker: asyncio.TimerHandle | None = None

    @property
    def id(self) -> WorkerId:
        if self._id is None:
            raise RuntimeError("open Replies first: async with replies:")
        return self._id

    @property
    def is_alone(self) -> bool:
        return self._lease is None

    async def join(self) -> None:
        """As a new worker. Alone, it buries whoever was there before."""
        self._asked_at = time.monotonic()
        async with self._unit_of_work() as work:
            if self._lease is None:
                for worker_id in await work.workers.silent(longer_than=_EVERYBODY):
                    await work.workers.bury(worker_id, longer_than=_EVERYBODY)
            self._id, self._renewed_at = await work.workers.join()
            await work.commit()
        self._steady_since = self._renewed_at
        self._rest()
        if self._ticker is None and self._lease is not None:
            self._tick()

    async def leave(self) -> None:
        """Nobody has to wait for its lease to run out."""
        if self._ticker is not None:
            self._ticker.cancel()
        with suppress(Unavailable):
            async with self._unit_of_work() as work:
                await work.workers.bury(self.id, longer_than=_EVERYBODY)
                await work.commit()

    # ---- the lease -------------------------------------------------------------------------------------------

    async def renew(self, work: UnitOfWork) -> Pulse | None:
        """As `Workers.renew`. Once that is committed, call `renewed`, or `missed` if it could not be."""
        if self._lease is None:
            return _ALONE
        self._asked_at = time.monotonic()
        return await work.workers.renew(self.id)

    def renewed(self, pulse: Pulse) -> None:
        if self._lease is None:
            return
        unbroken = self._renewed_at is not None and pulse.at - self._renewed_at <= self._lease / 2
        if self._steady_since is None or not unbroken:
            self._steady_since = pulse.at
        self._renewed_at = pulse.at
        self._rest()

    def missed(self) -> None:
        """The database was gone, perhaps for others too: they get a whole lease's time to come back."""
        self._steady_since = None

    @property
    def is_due(self) -> bool:
        """Whether it is time to renew, if nothing else is to be written."""
        return self._lease is not None and time.monotonic() >= self._due_at

    @property
    def in_doubt(self) -> bool:
        return time.monotonic() >= self.doubtful_at

    def _rest(self) -> None:
        if self.in_doubt:
            self.doubtful_at = self._asked_at + self._doubtful_after  # the answer may have waited for long
        if self._lease is not None:
            often = _RENEWALS if self._is_steady(self._lease) else _RENEWALS_OF_THE_NEW
            self._due_at = time.monotonic() + self._lease.total_seconds() / often

    def _tick(self) -> None:
        if not self.in_doubt:
            self.doubtful_at = time.monotonic() + self._doubtful_after
        self._ticker = asyncio.get_running_loop().call_later(_TICK, self._tick)

    # ---- others ----------------------------------------------------------------------------------------------

    async def bury_the_dead(self) -> None:
        """Takes those for dead whose lease has run out, once this one has renewed its own for a whole lease without a
        gap: after an outage of the database everybody has been silent."""
        if self._lease is None or not self._is_steady(self._lease):
            return
        async with self._unit_of_work(read_only=True) as work:
            silent = await work.workers.silent(longer_than=self._lease)
        for worker_id in silent:
            # Again: the answer may have taken as long as the outage that has made them silent.
            if worker_id != self.id and self._is_steady(self._lease):
                await self._bury(worker_id, self._lease)

    def _is_steady(self, lease: timedelta) -> bool:
        since, until = self._steady_since, self._renewed_at
        return since is not None and until is not None and until - since >= lease

    async def _bury(self, worker_id: WorkerId, lease: timedelta) -> None:
        async with self._unit_of_work() as work:
            await work.workers.bury(worker_id, longer_than=lease)
            await work.commit()
        _log.warning("worker %d has not been heard of for %s: its replies are ended", worker_id, lease)
