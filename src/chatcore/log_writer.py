"""The text of live replies on its way to the log."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from math import inf

from chatcore.entities import MessageId, Status, WorkerId
from chatcore.errors import Unavailable
from chatcore.lease import SURE_WITHIN, Lease
from chatcore.live_reply import LiveReply
from chatcore.ports import LogEntry, UnitOfWorkFactory
from chatcore.shielding import retry_on_contention, shielded

_log = logging.getLogger("chatcore.replies")
_AT_ONCE = 256 * 1024
"""Code points that one transaction takes to the log, unless a single entry has more: a megabyte at most, which every
database takes quickly and MySQL in one packet."""

Batch = Sequence[tuple[LiveReply, Sequence[LogEntry]]]


class LogWriter:
    """Takes the new text of all live replies to the log, a bounded part per transaction: after an outage it catches up
    in parts. The lease has its own transactions, so that a slow log does not delay it."""

    def __init__(
        self,
        unit_of_work: UnitOfWorkFactory,
        lease: Lease,
        replies: Mapping[MessageId, LiveReply],
        *,
        on_certainty: Callable[[], object],
    ) -> None:
        """`on_certainty` is called when a doubt ends, and during one when more text is safe."""
        self._unit_of_work = unit_of_work
        self._lease = lease
        self._replies = replies
        self._on_certainty = on_certainty
        self._turn = asyncio.Lock()
        self.doubtful_at: float = inf
        """A time of `time.monotonic` after which unlogged text might never reach the log."""

    async def write(self) -> None:
        """Write all text up to now. Raise `Unavailable`."""
        while await self._write_some():
            pass

    async def settle(self) -> None:
        """Wait for a transaction in progress: a reply's rows must not be written after their deletion."""
        async with self._turn:
            pass

    async def _write_some(self) -> bool:
        """Return whether there is more."""
        async with self._turn:
            pending = [live for live in self._replies.values() if live.is_unlogged]
            batch = _batch_of(pending)
            more = len(batch) < len(pending) or any(entries[-1].end < live.length for live, entries in batch)
            if batch:
                await self._write_batch(batch)
            self._confirm(more=more)
        return more

    async def _write_batch(self, batch: Batch) -> None:
        if not self._lease.is_alone:  # otherwise nobody else could end a reply with less than was shown
            self.doubtful_at = min(self.doubtful_at, time.monotonic() + SURE_WITHIN)
        try:
            await self._append(batch)
        except BaseException as error:
            self._doubt()
            if isinstance(error, Unavailable) or not isinstance(error, Exception):
                raise
            await self._append_one_by_one(batch)

    async def _append_one_by_one(self, batch: Batch) -> None:
        """Append each reply alone: a text that the database refuses fails only its own reply."""
        for live, entries in batch:
            try:
                await self._append([(live, entries)])
            except Unavailable:
                raise
            except Exception:
                _log.exception("the database refuses the text of reply %d", live.reply.id)
                live.refused = True
                live.cut_short(Status.FAILED)

    async def _append(self, batch: Batch) -> None:
        entries = [entry for _, entries in batch for entry in entries]
        if not await shielded(self._store(self._lease.id, entries)):
            raise Unavailable("This process was taken for dead.")
        for live, written in batch:
            live.logged = written[-1].end

    @retry_on_contention
    async def _store(self, worker_id: WorkerId, entries: Sequence[LogEntry]) -> bool:
        """Return False if this process was taken for dead; nothing is written then."""
        async with self._unit_of_work(urgent=True) as work:
            await work.reply_log.append(entries)
            # Last, so that a renewal never waits for the text.
            alive = self._lease.is_alone or await work.workers.is_alive(worker_id)
            if alive:
                await work.commit()
        return alive

    def _doubt(self) -> None:
        if not self._lease.is_alone:
            self.doubtful_at = 0.0

    def _confirm(self, *, more: bool) -> None:
        doubted = time.monotonic() >= self.doubtful_at
        if not more:
            self.doubtful_at = inf
        if doubted:
            self._on_certainty()


def _batch_of(pending: Sequence[LiveReply]) -> Batch:
    """Take short texts first, so that a long one does not delay them."""
    batch, room = list[tuple[LiveReply, Sequence[LogEntry]]](), _AT_ONCE
    for live in sorted(pending, key=lambda live: live.length - live.logged):
        entries = list[LogEntry]()
        for entry in live.unlogged():
            if room <= 0:
                break
            entries.append(entry)
            room -= len(entry.text)
        if not entries:
            break
        batch.append((live, entries))
    return batch
