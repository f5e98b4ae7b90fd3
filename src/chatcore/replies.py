"""The life of a reply: a task of the process writes it, and readers follow it at any time.

A reply belongs to its conversation, not to the connection that asked for it. `Replies` is opened once per process, with
the application, and owns the replies in progress there:

- a task per reply consumes the model's stream, without holding a database connection;
- readers in this process see text at once. A reader is a cursor into the reply's one text, so that a slow reader costs
  no memory and does not slow the writer;
- about every `flush_every` seconds one transaction takes the new text of all replies to the log, and another renews the
  process's lease and reads the stop requests of other processes;
- while the lease, or the text's way to the log, is in doubt, readers get only logged text, so that nothing shown is
  withdrawn when others end the reply. Text shown before the doubt may be lost, as when a process is killed: as a rule
  that of the last `flush_every` seconds;
- readers of another process's reply have a mirror, which follows the log;
- the end is one transaction; readers see it after its commit;
- a process whose lease has expired is dead: others end its replies as `interrupted`, with the text that reached the
  log. A process that was only paused finds its lease gone, and writes nothing more of them;
- closing drains: no new reply, those in progress get `grace` seconds, the rest become `interrupted`.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine, Generator, Set
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from chatcore import audit
from chatcore.endings import Endings
from chatcore.entities import INTERNAL, ConversationId, Failure, Message, MessageId, OwnerId, Status, WorkerId
from chatcore.errors import ChatcoreError, ModelUnauthorized, Unavailable
from chatcore.events import ReplyEvent
from chatcore.hooks import NO_HOOKS, Hooks, stream
from chatcore.lease import Lease, LeasedWork
from chatcore.live_reply import LiveReply
from chatcore.log_writer import LogWriter
from chatcore.mirrors import Mirrors
from chatcore.periodic import forever
from chatcore.ports import Clock, Delta, LLMGateway, ModelEndpoint, Prompt, Transaction, Turn, UnitOfWorkFactory
from chatcore.readers import Readers
from chatcore.shielding import ended, retry_on_contention
from chatcore.titles import Titles

_log = logging.getLogger("chatcore.replies")
STOP_BEFORE_DELETION = 2.0
"""Seconds for another process to stop a reply before its conversation or account is deleted."""

_STOP_TIMEOUT = 15.0  # how long to wait for another process, or for its end
_END_TIMEOUT = 5.0  # how long a drain waits, after the grace, for the last transactions


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyJob:
    """A stored reply with status `writing`, claimed for a worker, with its endpoint, prompt and turn.

    `title_prompt`: the prompt for the conversation's title, if it needs one.
    """

    reply: Message
    worker_id: WorkerId
    endpoint: ModelEndpoint
    prompt: Prompt
    turn: Turn
    title_prompt: Prompt | None = None


class Replies(LeasedWork):
    """The process's writer of replies. `async with Replies(...) as replies:` around everything that uses it."""

    def __init__(
        self,
        *,
        unit_of_work: UnitOfWorkFactory,
        gateway: LLMGateway,
        clock: Clock,
        flush_every: float = 0.2,
        silence: float = 15.0,
        grace: float = 20.0,
        lease: float | None = 5.0,
        hooks: Hooks = NO_HOOKS,
    ) -> None:
        """All times are in seconds. `silence`: how long without text until readers get a `Silence`.

        `lease`: how long this process may be silent before others take it for dead; the same in all of them. None:
        there are no others, and replies of an earlier process are ended at once.
        """
        self._unit_of_work = unit_of_work
        self._gateway = gateway
        self._hooks = hooks
        self._flush_every = flush_every
        self._silence = silence
        self._grace = grace
        self._live: dict[MessageId, LiveReply] = {}
        self._lease = Lease(unit_of_work, seconds=lease, every=flush_every)
        self._lease.cover(self)
        self._log = LogWriter(unit_of_work, self._lease, self._live, on_certainty=self.certain)
        self._mirrors = Mirrors(unit_of_work, every=flush_every)
        self._endings = Endings(unit_of_work, clock, flush_every, hooks)
        self._readers = Readers(unit_of_work, self._live, self._lease, self._log, self._mirrors, silence)
        self._titles = Titles(unit_of_work, gateway, hooks)
        self._passing = Counter[OwnerId]()
        self._tasks: set[asyncio.Task[None]] = set()
        self._titling: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        self._draining = False

    async def __aenter__(self) -> Self:
        """End the replies of dead processes, with the text that reached the log."""
        self._draining = False
        self._readers.open()
        await self._lease.open()
        self._keep()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain()
        await self._close(_END_TIMEOUT)

    async def _close(self, within: float) -> None:
        for task in (*self._tasks, *self._titling, *filter(None, (self._keeper,))):
            await ended(task)
        self._live.clear()
        await self._endings.settle(within)
        await self._mirrors.close()
        await self._lease.close()

    async def abandon(self) -> None:
        """Stop here and now, as a killed process does: nothing more is stored of the replies in progress, and the lease
        is over, so that others end them."""
        self._draining = True
        self.close_readers()
        await self._close(0)

    async def drain(self) -> None:
        """Accept no new reply, let those in progress end within `grace`, and interrupt the rest."""
        self._draining = True
        for task in self._titling:
            task.cancel()
        await self._wait_for_tasks(self._grace)
        for live in list(self._live.values()):
            live.cut_short(Status.INTERRUPTED)
        await self._wait_for_tasks(_END_TIMEOUT)

    def _keep(self) -> None:
        keeper = forever(self._log.write, every=self._flush_every, name="reply log")
        self._keeper = asyncio.create_task(keeper, name="chatcore replies")
        self._lease.keep()

    @property
    def writing_now(self) -> int:
        """Return how many replies this process is writing."""
        return len(self._live)

    def written_for(self, owner: OwnerId) -> int:
        """Return how many replies this process is writing, or passing on unstored, for one user."""
        return sum(live.reply.user_id == owner for live in self._live.values()) + self._passing[owner]

    @contextmanager
    def passing(self, owner: OwnerId) -> Generator[None, None, None]:
        """Count an answer that is passed on, unstored, among the user's replies in progress. Raise `Unavailable` if the
        process is shutting down."""
        self._check_open()
        self._passing[owner] += 1
        try:
            yield
        finally:
            self._passing[owner] -= 1
            self._passing += Counter()  # forgets who has none

    async def claimant(self) -> WorkerId:
        """Return the worker for which a reply that this process shall write is claimed."""
        return await self._lease.confirmed()

    # ---- writing -----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def writing(self, job: ReplyJob, work: Transaction) -> AsyncGenerator[None, None]:
        """Wrap the commit that acknowledges a reply, so that a stored reply is always in progress here. It begins once
        the commit is durable (`Transaction.then`).

        Raise `Unavailable` before that commit if the process is shutting down. If the commit fails, it may still have
        taken place; if the reply turns out to be stored, it is ended as interrupted.
        """
        self._check_open()
        live = self._live[job.reply.id] = LiveReply(job.reply, job.worker_id, job.turn)
        try:
            yield
        except BaseException:
            self._forget(live)
            self._spawn(self._disown(live), self._tasks)
            raise
        work.then(partial(self._settle, live, job))

    def _check_open(self) -> None:
        if self._draining:
            raise Unavailable("The server is shutting down. Try again shortly.")

    def _settle(self, live: LiveReply, job: ReplyJob, durable: bool | None) -> None:
        """Begin a reply that is stored, and forget one that is not."""
        if self._live.get(live.reply.id) is not live:  # closed meanwhile
            return
        if durable is None:
            self._spawn(self._settle_as_stored(live, job), self._tasks)
        elif durable:
            self._begin(live, job)
        else:
            self._forget(live)
            live.end(replace(live.reply, status=Status.INTERRUPTED))

    async def _settle_as_stored(self, live: LiveReply, job: ReplyJob) -> None:
        self._settle(live, job, await self._is_stored(live))

    def _forget(self, live: LiveReply) -> None:
        if self._live.get(live.reply.id) is live:  # a rolled-back id may be another's by now
            del self._live[live.reply.id]

    def _begin(self, live: LiveReply, job: ReplyJob) -> None:
        if live.worker_id != self._lease.id:
            _mark_lost(live)
        self._spawn(self._write(live, job), self._tasks)
        if job.title_prompt is not None:
            self._spawn(self._titles.give(live, job.endpoint, job.title_prompt, job.turn), self._titling)

    async def _write(self, live: LiveReply, job: ReplyJob) -> None:
        status, error, lease, log = Status.COMPLETE, None, self._lease, self._log
        live.writer = asyncio.current_task()  # from here on: a task that is cancelled before it runs does nothing
        try:
            if live.verdict is None:
                async with aclosing(self._deltas(live, job)) as deltas:
                    async for delta in deltas:
                        if live.verdict is not None:
                            break
                        live.add(delta, wake=lease.doubtful_at > monotonic() < log.doubtful_at)
        except asyncio.CancelledError:
            if live.verdict is None or _uncancel():  # not by us alone: the event loop is being torn down
                raise
        except ChatcoreError as failure:
            status, error = Status.FAILED, _noted(job, failure)
        except Exception:
            _log.exception("reply %d failed: internal error, not the model's", live.reply.id)
            status, error = Status.FAILED, INTERNAL
        live.writer = None
        if live.verdict is not None:
            status, error = live.verdict, INTERNAL if live.verdict is Status.FAILED else None
        await self._end(live, status, error)

    def _deltas(self, live: LiveReply, job: ReplyJob) -> AsyncGenerator[Delta, None]:
        def note(prompt: Prompt) -> None:
            live.asked = prompt.size

        return stream(self._hooks, self._gateway, job.endpoint, job.prompt, job.turn, asked=note)

    async def _is_stored(self, live: LiveReply) -> bool:
        """Another message may get a rolled-back id later, so compare the time of creation too."""
        stored = await self._endings.persist(lambda: self._endings.stored(live.reply))
        return stored is not None and stored.created_at == live.reply.created_at

    async def _disown(self, live: LiveReply) -> None:
        """End the reply if the failed commit took place after all, so that nobody waits for it."""
        if await self._is_stored(live):
            await self._end(live, Status.INTERRUPTED, None)
        else:
            live.end(replace(live.reply, status=Status.INTERRUPTED))

    async def _end(self, live: LiveReply, status: Status, error: Failure | None) -> None:
        """Store the end of the reply, trying until it succeeds, and then tell its readers."""
        live.ending = True
        await self._log.settle()
        if live.lost:
            stored = await self._endings.persist(lambda: self._endings.end_orphan(live.reply))
        else:
            stored = await self._endings.store(live, status, error)
        self._live.pop(stored.id, None)
        live.end_as(stored, live.cuts_to(stored.length))

    # ---- stopping and reading ----------------------------------------------------------------------------

    async def stop(self, reply: Message, *, within: float = _STOP_TIMEOUT) -> Message | None:
        """Stop the reply, whichever process writes it, and wait until that is stored. Return None if it is not in
        progress, or if another process has not answered `within` so many seconds."""
        live = self._live.get(reply.id)
        if live is None:
            return await self._stop_elsewhere(reply, within) if reply.status is Status.WRITING else None
        live.cut_short(Status.STOPPED)
        with suppress(TimeoutError):  # as when the caller's own transaction keeps the end from being stored
            async with asyncio.timeout(within):
                return await self._end_of(live)
        return None

    async def stop_all(self, owner: OwnerId, *, within: float = _STOP_TIMEOUT) -> None:
        """Stop all of a user's replies, and wait until that is stored."""
        async with self._unit_of_work(read_only=True) as work:
            replies = {reply.id: reply for reply in await work.unfinished.of(owner)}
        replies |= {live.reply.id: live.reply for live in self._live.values() if live.reply.user_id == owner}
        await asyncio.gather(*(self.stop(reply, within=within) for reply in replies.values()))

    async def _stop_elsewhere(self, reply: Message, within: float) -> Message | None:
        if not await self._request_stop(reply):
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(within), self._mirrors.of(reply) as mirror:
                return await self._end_of(mirror)
        return None

    @retry_on_contention
    async def _request_stop(self, reply: Message) -> bool:
        async with self._unit_of_work() as work:
            asked = await work.conversations.request_stop(reply.user_id, reply.conversation_id, reply.id)
            await work.commit()
        return asked

    async def _end_of(self, live: LiveReply) -> Message:
        while live.ended is None:
            await live.changed(self._silence)
        return live.ended

    def follow(
        self,
        *,
        owner: OwnerId,
        conversation_id: ConversationId,
        reply_id: MessageId | None = None,
        after: int = 0,
        again: bool = False,
        numbered: bool = False,
    ) -> AsyncGenerator[ReplyEvent, None]:
        """Yield the reply from code point `after` on, until it has ended: the conversation's last one, or `reply_id`.
        `numbered`: piece by piece, as the model sent it, and `after` counts pieces.

        Yield nothing if there never was a reply or, with `again`, if it has ended at `after`. Raise `NotFound` for a
        missing conversation or reply. Another process's reply has a short delay, and no conversation title.
        """
        return self._readers.follow(owner, conversation_id, reply_id, after, again=again, numbered=numbered)

    def close_readers(self) -> None:
        """Make every reader, also those that come later, raise `Unavailable`."""
        self._readers.close()
        for live in self._live.values():
            live.wake()
        self._mirrors.wake()

    # ---- what the lease asks for -------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        return bool(self._live)

    def stop_these(self, these: Set[MessageId]) -> None:
        for reply_id in these & self._live.keys():
            self._live[reply_id].cut_short(Status.STOPPED)

    def certain(self) -> None:
        for live in self._live.values():
            live.wake()

    def lost(self) -> None:
        for live in self._live.values():
            if live.worker_id != self._lease.id:
                _mark_lost(live)

    async def end_orphans(self) -> None:
        await self._endings.end_orphans()

    # ---- tasks -------------------------------------------------------------------------------------------

    @staticmethod
    def _spawn(work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    async def _wait_for_tasks(self, timeout: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._tasks or self._live or self._passing:
                    if self._tasks:
                        await asyncio.wait(self._tasks)
                    else:  # an answer passes on, or a commit acknowledges a reply, whose task comes after it
                        await asyncio.sleep(self._flush_every)


def _uncancel() -> bool:
    """Take one cancellation back. Return whether there is another one."""
    task = asyncio.current_task()
    return task is not None and task.uncancel() > 0


def _noted(job: ReplyJob, failure: ChatcoreError) -> Failure:
    _log.warning("reply %d failed: %s", job.reply.id, failure.code)
    if isinstance(failure, ModelUnauthorized):
        audit.record("model_key_refused", user_id=job.reply.user_id, model_host=urlsplit(job.endpoint.url).hostname)
    return Failure(code=failure.code, detail=failure.detail)


def _mark_lost(live: LiveReply) -> None:
    live.lost = True
    live.cut_short(Status.INTERRUPTED)
