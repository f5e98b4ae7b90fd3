"""This process among others that work on one database: its lease, and the expiry of those that are dead.

Long work belongs to the process that does it. A process renews its lease a few times within its length. One that is
silent for a whole lease is dead: another process ends its work. One that was only paused finds its lease gone, joins
anew, and drops its work.
"""

import asyncio
import logging
import time
from abc import abstractmethod
from collections.abc import Set
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Protocol

from chatcore.entities import MessageId, WorkerId
from chatcore.errors import Unavailable
from chatcore.periodic import forever
from chatcore.ports import Heartbeat, UnitOfWorkFactory
from chatcore.shielding import ended, retry_on_contention, shielded

_log = logging.getLogger("chatcore.lease")
_EVERYBODY = timedelta(days=-1)  # a limit that every worker has passed
_ALONE = Heartbeat(datetime.max.replace(tzinfo=UTC), frozenset())
_RENEWALS = 5  # so many fit into a lease
_RENEWALS_OF_THE_NEW = 20  # as long as it may not expire others yet: the dead may be waiting for it
_SWEEP_EVERY = 1.0  # seconds

SURE_WITHIN = 0.5
"""Seconds for the database to confirm a renewal, or new text in the log, before there is doubt."""


class LeasedWork(Protocol):
    """Work that another process ends when this one's lease expires."""

    @property
    @abstractmethod
    def is_busy(self) -> bool:
        """Return whether there is work that may have to be stopped."""

    @abstractmethod
    def stop_these(self, these: Set[MessageId]) -> None:
        """Stop these, as requested on whichever process."""

    @abstractmethod
    def certain(self) -> None:
        """Continue: the lease is no longer in doubt."""

    @abstractmethod
    def lost(self) -> None:
        """Drop the work of other workers than `Lease.id`: others end it."""

    @abstractmethod
    async def end_orphans(self) -> None:
        """End what dead workers have left. Several processes may do so at once. Raise `Unavailable`."""


class Lease:
    """Open it once per process, for all its work. `seconds`: the same in all processes. None: no other process serves
    the database; no lease is needed, and all earlier processes are dead."""

    def __init__(self, unit_of_work: UnitOfWorkFactory, *, seconds: float | None, every: float) -> None:
        """`every`: seconds between two readings of the stop requests."""
        self._unit_of_work = unit_of_work
        self._works: list[LeasedWork] = []
        self._every = every
        self._length = None if seconds is None else timedelta(seconds=seconds)
        self._doubtful_after = inf if seconds is None else seconds / 2
        self._id: WorkerId | None = None
        self._renewed_at: datetime | None = None
        self._steady_since: datetime | None = None
        self._due_at = 0.0
        self._turn = asyncio.Lock()
        self._keepers: list[asyncio.Task[None]] = []
        self.doubtful_at: float = 0.0
        """A time of `time.monotonic` after which others may have taken this process for dead. A confirmed renewal moves
        it on; a failed or slow one brings it nearer."""

    @property
    def id(self) -> WorkerId:
        if self._id is None:
            raise RuntimeError("open Replies first: async with replies:")
        return self._id

    @property
    def is_alone(self) -> bool:
        return self._length is None

    @property
    def in_doubt(self) -> bool:
        return time.monotonic() >= self.doubtful_at

    def cover(self, work: LeasedWork) -> None:
        """Call it before the lease is opened."""
        self._works.append(work)

    async def open(self) -> None:
        """Join, and end what the dead have left. Raise `Unavailable`."""
        await self._join()
        await self._end_orphans()

    def keep(self) -> None:
        """Renew the lease in time, and end what others leave, until it is closed."""
        if self._length is None:
            return
        keepers = (
            forever(self._renew_if_due, every=self._every, name="lease"),
            forever(self._sweep, every=_SWEEP_EVERY, name="ending what dead processes have left"),
        )
        self._keepers = [asyncio.create_task(keeper, name="chatcore lease") for keeper in keepers]

    async def close(self) -> None:
        """Leave, so that nobody waits for the lease to expire."""
        for keeper in self._keepers:
            await ended(keeper)
        with suppress(Unavailable):
            async with self._unit_of_work() as work:
                await work.workers.expire(self.id, longer_than=_EVERYBODY)
                await work.commit()

    async def confirmed(self) -> WorkerId:
        """Return the worker for which work is claimed, after a renewal if the lease is in doubt."""
        if self.in_doubt:
            await self._renew()
        return self.id

    async def _join(self) -> None:
        """Become a new worker. If no other process serves the database, expire all earlier workers."""
        asked_at = time.monotonic()
        async with self._unit_of_work() as work:
            if self._length is None:
                for worker_id in await work.workers.silent(longer_than=_EVERYBODY):
                    await work.workers.expire(worker_id, longer_than=_EVERYBODY)
            self._id, self._renewed_at = await work.workers.join()
            await work.commit()
        self._steady_since = self._renewed_at
        self._rest(asked_at)

    # ---- renewing --------------------------------------------------------------------------------------------

    async def _renew_if_due(self) -> None:
        if any(work.is_busy for work in self._works) or time.monotonic() >= self._due_at:
            await self._renew()

    async def _renew(self) -> None:
        async with self._turn:
            pulse = await self._ask()
            if pulse is None:
                await self._join()
                _log.warning("this process was taken for dead; it continues as worker %d", self.id)
                for work in self._works:
                    work.lost()
                return
        for work in self._works:
            work.stop_these(pulse.stops)

    async def _ask(self) -> Heartbeat | None:
        """Renew in a short transaction. Return None if this process was taken for dead. Raise `Unavailable`."""
        if self._length is None:
            return _ALONE
        asked_at = time.monotonic()
        self.doubtful_at = min(self.doubtful_at, asked_at + SURE_WITHIN)
        try:
            pulse = await shielded(self._store_renewal())
        except BaseException:
            self._doubt()
            raise
        if pulse is None:
            self._doubt()
        else:
            self._renewed(pulse, asked_at, self._length)
        return pulse

    @retry_on_contention
    async def _store_renewal(self) -> Heartbeat | None:
        async with self._unit_of_work(urgent=True) as work:
            pulse = await work.workers.renew(self.id)
            await work.commit()
        return pulse

    def _renewed(self, pulse: Heartbeat, asked_at: float, length: timedelta) -> None:
        unbroken = self._renewed_at is not None and pulse.at - self._renewed_at <= length / 2
        if self._steady_since is None or not unbroken:
            self._steady_since = pulse.at
        self._renewed_at = pulse.at
        self._rest(asked_at)

    def _doubt(self) -> None:
        """The database was gone, perhaps for others too: give them a whole lease to return."""
        self._steady_since = None
        self.doubtful_at = 0.0

    def _rest(self, asked_at: float) -> None:
        doubted = self.in_doubt
        self.doubtful_at = asked_at + self._doubtful_after  # the answer may have waited for long
        if self._length is not None:
            often = _RENEWALS if self._is_steady(self._length) else _RENEWALS_OF_THE_NEW
            self._due_at = time.monotonic() + self._length.total_seconds() / often
        if doubted and not self.in_doubt:
            for work in self._works:
                work.certain()

    # ---- others ----------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        if self._length is not None:
            await self._expire_the_dead(self._length)
        await self._end_orphans()

    async def _end_orphans(self) -> None:
        for work in self._works:
            await work.end_orphans()

    async def _expire_the_dead(self, length: timedelta) -> None:
        """Expire workers whose lease is over, if this one has renewed its own for a whole lease without a gap: after an
        outage of the database all were silent."""
        if not self._is_steady(length):
            return
        async with self._unit_of_work(read_only=True) as work:
            silent = await work.workers.silent(longer_than=length)
        for worker_id in silent:
            # Again: the answer may have taken as long as the outage that has made them silent.
            if worker_id != self.id and self._is_steady(length):
                await self._expire(worker_id, length)

    def _is_steady(self, length: timedelta) -> bool:
        since, until = self._steady_since, self._renewed_at
        return since is not None and until is not None and until - since >= length

    async def _expire(self, worker_id: WorkerId, length: timedelta) -> None:
        async with self._unit_of_work() as work:
            await work.workers.expire(worker_id, longer_than=length)
            await work.commit()
        _log.warning("worker %d has been silent for %s: ending its replies", worker_id, length)
