"""Replies that other processes write, for the readers in this one."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from chatcore.entities import Message, MessageId, Status
from chatcore.errors import Unavailable
from chatcore.live_reply import LiveReply
from chatcore.ports import LogCursor, LogEntry, UnitOfWork, UnitOfWorkFactory
from chatcore.shielding import ended

_log = logging.getLogger("chatcore.replies")
_AT_ONCE = 128  # replies to ask about with one statement
_TEXT = 128 * 1024
"""Code points that one statement asks for, in equal parts of all its replies; of each at most one entry more comes."""


class Mirrors:
    """One task reads what is new of all replies, every `every` seconds."""

    def __init__(self, unit_of_work: UnitOfWorkFactory, *, every: float) -> None:
        self._unit_of_work = unit_of_work
        self._every = every
        self._followed: dict[MessageId, LiveReply] = {}
        self._readers: dict[LiveReply, int] = {}
        self._poller: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def of(self, reply: Message) -> AsyncGenerator[LiveReply, None]:
        """Yield the reply as its own process has it, about `every` seconds later, while the block runs."""
        mirror = self._followed.setdefault(reply.id, LiveReply(reply))
        self._readers[mirror] = self._readers.get(mirror, 0) + 1
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll_forever(), name="chatcore mirrors")
        try:
            yield mirror
        finally:
            self._readers[mirror] -= 1
            if not self._readers[mirror]:
                del self._readers[mirror]
                self._forget(mirror)

    def wake(self) -> None:
        for mirror in self._readers:
            mirror.wake()

    async def close(self) -> None:
        if self._poller is not None:
            await ended(self._poller)

    def _forget(self, mirror: LiveReply) -> None:
        if self._followed.get(mirror.reply.id) is mirror:
            del self._followed[mirror.reply.id]

    async def _poll_forever(self) -> None:
        while self._followed:
            try:
                await self._poll()
            except Unavailable:
                pass  # the readers wait for the database, as the reply's own process does
            except Exception:
                _log.exception("reading the log of other processes' replies failed")
            await asyncio.sleep(self._every)

    async def _poll(self) -> None:
        """In parts: those that have more to catch up on come again after all others."""
        waiting = deque(self._followed.values())
        while waiting:
            some = [waiting.popleft() for _ in range(min(_AT_ONCE, len(waiting)))]
            part, before = max(1, _TEXT // len(some)), [mirror.length for mirror in some]
            async with self._unit_of_work(read_only=True) as work:
                await self._bring_up_to_date(work, some, part)
            grown = zip(some, before, strict=True)
            waiting += [mirror for mirror, length in grown if not mirror.ended and mirror.length >= length + part]

    async def _bring_up_to_date(self, work: UnitOfWork, mirrors: Sequence[LiveReply], part: int) -> None:
        cursors = [LogCursor(mirror.reply.user_id, mirror.reply.id, mirror.length) for mirror in mirrors]
        entries = await work.reply_log.since(cursors, within=part)
        # After the log: a reply that ends in between has all of its text in its message.
        writing = await work.unfinished.still([mirror.reply.id for mirror in mirrors])
        said: dict[MessageId, list[LogEntry]] = {mirror.reply.id: [] for mirror in mirrors}
        for entry in entries:
            said[entry.reply_id].append(entry)
        for mirror in mirrors:
            if mirror.reply.id not in writing:
                await self._end(work, mirror)
            elif not _continue(mirror, said[mirror.reply.id]):
                # An entry grew after it had been read: the answer to its commit was lost, and it was written again.
                _continue(mirror, await work.reply_log.read(mirror.reply.user_id, mirror.reply.id))

    async def _end(self, work: UnitOfWork, mirror: LiveReply) -> None:
        reply = mirror.reply
        stored = await work.messages.get(reply.user_id, reply.conversation_id, reply.id)
        cuts = await work.messages.cuts(reply.user_id, reply.conversation_id, reply.id)
        self._forget(mirror)
        if stored is None:  # deleted with its conversation
            reasoning, content = mirror.since(0)
            stored = replace(reply, reasoning=reasoning or None, content=content, status=Status.STOPPED)
            cuts = mirror.cuts_to(mirror.length)
        mirror.end_as(stored, cuts)


def _continue(mirror: LiveReply, entries: Sequence[LogEntry]) -> bool:
    """Add what is new in these. Return False if something is missing before them."""
    complete = all(mirror.extend(entry) for entry in entries)
    if entries:
        mirror.wake()
    return complete
