"""This process among those that write replies to one database: its lease, and the burial of those that are dead."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from math import inf

from chatcore.entities import WorkerId
from chatcore.errors import Unavailable
from chatcore.ports import Pulse, UnitOfWorkFactory
from chatcore.shielding import repeatable, settled

_log = logging.getLogger("chatcore.replies")
_EVERYBODY = timedelta(days=-1)  # whoever has not renewed for less than no time
_ALONE = Pulse(datetime.max.replace(tzinfo=UTC), frozenset())
_RENEWALS = 5  # so many fit into a lease
_RENEWALS_OF_THE_NEW = 20  # as long as it may not bury yet: the dead may be waiting for it

SURE_WITHIN = 0.5
"""Seconds for the database to confirm what makes a text safe to show: a renewal, or the text's way to the log."""


class Worker:
    """A lease of so many seconds, to be renewed a few times within them. None: no other process ever serves the
    database, which needs no lease then, and whatever was left there is left by the dead."""

    def __init__(
        self, unit_of_work: UnitOfWorkFactory, *, lease: float | None, on_certainty: Callable[[], object]
    ) -> None:
        """`on_certainty` is called when a doubt has been lifted."""
        self._unit_of_work = unit_of_work
        self._lease = None if lease is None else timedelta(seconds=lease)
        self._doubtful_after = inf if lease is None else lease / 2  # seconds
        self._on_certainty = on_certainty
        self._id: WorkerId | None = None
        self._renewed_at: datetime | None = None
        self._steady_since: datetime | None = None
        self._due_at = 0.0
        self.doubtful_at = 0.0
        """A time of `time.monotonic`. After it others may have taken this process for dead. Only a confirmed renewal
        puts it off; one that fails, or is not answered soon, brings it nearer."""

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
        asked_at = time.monotonic()
        async with self._unit_of_work() as work:
            if self._lease is None:
                for worker_id in await work.workers.silent(longer_than=_EVERYBODY):
                    await work.workers.bury(worker_id, longer_than=_EVERYBODY)
            self._id, self._renewed_at = await work.workers.join()
            await work.commit()
        self._steady_since = self._renewed_at
        self._rest(asked_at)

    async def leave(self) -> None:
        """Nobody has to wait for its lease to run out."""
        with suppress(Unavailable):
            async with self._unit_of_work() as work:
                await work.workers.bury(self.id, longer_than=_EVERYBODY)
                await work.commit()

    # ---- the lease -------------------------------------------------------------------------------------------

    async def renew(self) -> Pulse | None:
        """In a short transaction of its own. None: this process was taken for dead. Raises `Unavailable`."""
        if self._lease is None:
            return _ALONE
        asked_at = time.monotonic()
        self.doubtful_at = min(self.doubtful_at, asked_at + SURE_WITHIN)
        try:
            pulse = await settled(self._renew())
        except BaseException:
            self._doubt()
            raise
        if pulse is None:
            self._doubt()
        else:
            self._renewed(pulse, asked_at, self._lease)
        return pulse

    @repeatable
    async def _renew(self) -> Pulse | None:
        async with self._unit_of_work(urgent=True) as work:
            pulse = await work.workers.renew(self.id)
            await work.commit()
        return pulse

    def _renewed(self, pulse: Pulse, asked_at: float, lease: timedelta) -> None:
        unbroken = self._renewed_at is not None and pulse.at - self._renewed_at <= lease / 2
        if self._steady_since is None or not unbroken:
            self._steady_since = pulse.at
        self._renewed_at = pulse.at
        self._rest(asked_at)

    def _doubt(self) -> None:
        """The database was gone, perhaps for others too: they get a whole lease's time to come back."""
        self._steady_since = None
        self.doubtful_at = 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time to renew, if no reply is being written."""
        return self._lease is not None and time.monotonic() >= self._due_at

    @property
    def in_doubt(self) -> bool:
        return time.monotonic() >= self.doubtful_at

    def _rest(self, asked_at: float) -> None:
        doubted = self.in_doubt
        self.doubtful_at = asked_at + self._doubtful_after  # the answer may have waited for long
        if self._lease is not None:
            often = _RENEWALS if self._is_steady(self._lease) else _RENEWALS_OF_THE_NEW
            self._due_at = time.monotonic() + self._lease.total_seconds() / often
        if doubted and not self.in_doubt:
            self._on_certainty()

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
