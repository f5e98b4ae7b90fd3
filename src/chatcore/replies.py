"""The life of a reply: written by a task of the process, read by whoever asks, whenever they ask.

A reply belongs to its conversation, not to the connection that asked for it. `Replies` is opened once per process,
with the application, and owns every reply that is being written there:

- a task per reply consumes the model's stream; it holds no database connection while the model talks;
- what the model said is at once visible to readers in this process. A reader is only a cursor into the one text of
  the reply, so that a slow one costs no memory and never slows the writer;
- about every `flush_every` seconds one transaction, whatever the number of replies, renews the process's lease, takes
  all new text to the log and learns which replies somebody elsewhere wants stopped;
- readers of a reply that another process writes have a mirror of it, which follows the log;
- the end is one transaction, and only after its commit do readers see it;
- whose lease has run out is dead: the others end its replies as `interrupted`, with the text that reached the log. If
  it was only paused, it finds its lease gone, and writes nothing more of them;
- leaving drains: no new reply, those in flight get `grace` seconds, the rest become `interrupted`.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from chatcore import audit
from chatcore.entities import (
    MAX_TITLE,
    ConversationId,
    Failure,
    Message,
    MessageId,
    Role,
    Status,
    UserId,
    WorkerId,
    title_of,
)
from chatcore.errors import ModelError, ModelUnauthorized, ModelUnavailable, NotFound, Unavailable
from chatcore.events import ConversationTitled, ReplyDelta, ReplyEnded, ReplyEvent, ReplyStarted, Silence
from chatcore.live_reply import LiveReply
from chatcore.mirrors import Mirrors
from chatcore.ports import (
    Clock,
    LLMGateway,
    ModelEndpoint,
    Prompt,
    Pulse,
    TextKind,
    UnitOfWork,
    UnitOfWorkFactory,
)
from chatcore.shielding import repeatable, settled
from chatcore.worker import Worker

T = TypeVar("T")

_log = logging.getLogger("chatcore.replies")
_TITLE_TIMEOUT = 30.0  # seconds
STOP_BEFORE_DELETION = 2.0
"""Seconds for another process to stop a reply before what it belongs to is deleted under it."""

_STOP_TIMEOUT = 15.0  # how long to wait for another process, or for its end
_SWEEP_EVERY = 1.0
_SWEEP_AT_ONCE = 100  # replies
_END_TIMEOUT = 5.0  # how long a drain waits, after the grace, for the last transactions


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyJob:
    """A stored reply with status `writing`, claimed for a worker, and what to ask which model for it.

    `title_prompt`: what to ask it for a title of the conversation beside that, if it wants one.
    """

    reply: Message
    worker_id: WorkerId
    endpoint: ModelEndpoint
    prompt: Prompt
    title_prompt: Prompt | None = None


class Replies:
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
    ) -> None:
        """All times are in seconds. `silence`: after how long without text a reader is told that nothing came.

        `lease`: after how long without a sign of life other processes take this one for dead; the same in all of them.
        None: there are no others, and whatever an earlier one left is ended at once.
        """
        self._unit_of_work = unit_of_work
        self._gateway = gateway
        self._clock = clock
        self._flush_every = flush_every
        self._silence = silence
        self._grace = grace
        self._worker = Worker(unit_of_work, lease=lease)
        self._mirrors = Mirrors(unit_of_work, every=flush_every)
        self._live: dict[MessageId, LiveReply] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._titling: set[asyncio.Task[None]] = set()
        self._flushing = asyncio.Lock()
        self._doubting = asyncio.Lock()
        self._keepers: list[asyncio.Task[None]] = []
        self._draining = False

    async def __aenter__(self) -> Self:
        """Ends what dead processes left unfinished, keeping the text that reached the log."""
        await self._worker.join()
        await self._end_orphans()
        self._keepers.append(asyncio.create_task(self._beat_forever(), name="chatcore reply log"))
        if not self._worker.is_alone:
            self._keepers.append(asyncio.create_task(self._sweep_forever(), name="chatcore orphans"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain()
        for task in (*self._tasks, *self._titling, *self._keepers):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await self._mirrors.close()
        await self._worker.leave()

    async def drain(self) -> None:
        """Takes nothing new, lets replies in flight come to their end within `grace`, and interrupts the rest."""
        self._draining = True
        for task in self._titling:
            task.cancel()
        await self._wait_for_tasks(self._grace)
        for live in list(self._live.values()):
            live.cut_short(Status.INTERRUPTED)
        await self._wait_for_tasks(_END_TIMEOUT)

    @property
    def writing_now(self) -> int:
        """How many replies this process is writing."""
        return len(self._live)

    def written_for(self, owner: UserId) -> int:
        """How many replies this process is writing for one user."""
        return sum(live.reply.user_id == owner for live in self._live.values())

    async def claimant(self) -> WorkerId:
        """In whose name a reply that is to be written here is claimed."""
        if self._worker.in_doubt:
            await self._beat()
        return self._worker.id

    # ---- writing -----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def writing(self, job: ReplyJob) -> AsyncGenerator[None, None]:
        """Around the commit that acknowledges a reply: whoever sees it stored finds it being written here.

        Raises `Unavailable` before that commit if the process is shutting down. If the commit fails, nobody knows
        whether it took place; should the reply turn out to be stored, it is ended as interrupted.
        """
        if self._draining:
            raise Unavailable("The server is shutting down. Try again shortly.")
        live = self._live[job.reply.id] = LiveReply(job.reply, job.worker_id)
        try:
            yield
        except BaseException:
            del self._live[job.reply.id]
            self._spawn(self._disown(live), self._tasks)
            raise
        if live.worker_id != self._worker.id:
            _lose(live)
        self._spawn(self._write(live, job), self._tasks)
        if job.title_prompt is not None:
            self._spawn(self._give_title(live, job.endpoint, job.title_prompt), self._titling)

    async def _write(self, live: LiveReply, job: ReplyJob) -> None:
        status, error, worker = Status.COMPLETE, None, self._worker
        live.writer = asyncio.current_task()  # from here on: a task that is cancelled before it runs does nothing
        try:
            if live.verdict is None:
                async for delta in self._gateway.stream(job.endpoint, job.prompt):
                    if monotonic() >= worker.doubtful_at:  # which is `in_doubt`, without a call for each delta
                        await self._make_sure()
                    if live.verdict is not None:
                        break
                    live.add(delta)
        except asyncio.CancelledError:
            if live.verdict is None:  # not by us: the event loop is being torn down
                raise
            _uncancel()
        except ModelError as failure:
            status, error = Status.FAILED, _noted(job, failure)
        except Exception:
            _log.exception("reply %d failed for a reason that is not the model's", live.reply.id)
            status, error = Status.FAILED, Failure(code=ModelUnavailable.code, detail=ModelUnavailable.default_detail)
        live.writer = None
        if live.verdict is not None:
            status, error = live.verdict, None
        await self._end(live, status, error)

    async def _give_title(self, live: LiveReply, endpoint: ModelEndpoint, prompt: Prompt) -> None:
        """One short call beside the reply. Whatever goes wrong with it, the conversation has a title already."""
        try:
            async with asyncio.timeout(_TITLE_TIMEOUT):
                title = await self._short_answer(endpoint, prompt)
            if title:
                await settled(self._store_title(live, title))
        except (ModelError, TimeoutError, Unavailable) as failure:
            _log.info("no title for conversation %d: %s", live.reply.conversation_id, type(failure).__name__)
        except Exception:
            _log.exception("no title for conversation %d, and not for the model's sake", live.reply.conversation_id)

    async def _short_answer(self, endpoint: ModelEndpoint, prompt: Prompt) -> str:
        answer = ""
        async for delta in self._gateway.stream(endpoint, prompt):
            if len(answer) < MAX_TITLE:  # a model that chats on is heard out, but not remembered
                answer += delta.text
        return title_of(answer)

    @repeatable
    async def _store_title(self, live: LiveReply, title: str) -> None:
        async with self._unit_of_work() as work:
            stored = await work.conversations.set_title(live.reply.user_id, live.reply.conversation_id, title)
            await work.commit()
        if stored:
            live.titled(title)

    async def _disown(self, live: LiveReply) -> None:
        """If the commit that failed took place after all, nobody shall wait for this reply for ever.

        A rolled-back id may be given to another message later, so it is the time of creation that tells.
        """
        stored = await self._persist(lambda: self._stored(live.reply))
        if stored is not None and stored.created_at == live.reply.created_at:
            await self._end(live, Status.INTERRUPTED, None)
        else:
            live.end(replace(live.reply, status=Status.INTERRUPTED))

    async def stop(self, reply: Message, *, within: float = _STOP_TIMEOUT) -> Message | None:
        """Cuts the reply short, whichever process writes it, and waits until that is stored. None: it is not being
        written, or another process has not answered `within` so many seconds."""
        live = self._live.get(reply.id)
        if live is None:
            return await self._stop_elsewhere(reply, within) if reply.status is Status.WRITING else None
        live.cut_short(Status.STOPPED)
        return await self._end_of(live)

    async def stop_all(self, owner: UserId, *, within: float = _STOP_TIMEOUT) -> None:
        """Cuts all of a user's replies short and waits until that is stored."""
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

    @repeatable
    async def _request_stop(self, reply: Message) -> bool:
        async with self._unit_of_work() as work:
            asked = await work.conversations.request_stop(reply.user_id, reply.conversation_id, reply.id)
            await work.commit()
        return asked

    async def _end_of(self, live: LiveReply) -> Message:
        while live.ended is None:
            await live.changed(self._silence)
        return live.ended

    # ---- reading -----------------------------------------------------------------------------------------

    def follow(
        self, *, owner: UserId, conversation_id: ConversationId, reply_id: MessageId | None = None, after: int = 0
    ) -> AsyncIterator[ReplyEvent]:
        """The reply from code point `after` on, until it has ended: the last one of the conversation, or `reply_id`.

        Nothing at all if there never was a reply. Raises `NotFound` for a conversation or reply that is not there.
        A reply that another process writes comes a little later, and without the conversation's title.
        """
        live = self._live_of(owner, conversation_id, reply_id)
        return self._follow_live(live, after) if live else self._follow_found(owner, conversation_id, reply_id, after)

    async def _follow_found(
        self, owner: UserId, conversation_id: ConversationId, reply_id: MessageId | None, after: int
    ) -> AsyncIterator[ReplyEvent]:
        reply = await self._find(owner, conversation_id, reply_id)
        if reply is None:
            return
        if live := self._live.get(reply.id):
            async for event in self._follow_live(live, after):
                yield event
        elif reply.status is Status.WRITING:
            async with self._mirrors.of(reply) as mirror:
                async for event in self._follow_live(mirror, after):
                    yield event
        else:
            yield _started(reply, after)
            for event in _events_of(reply, after):
                yield event

    async def _follow_live(self, live: LiveReply, offset: int) -> AsyncIterator[ReplyEvent]:
        yield _started(live.reply, offset)
        reply_id, told = live.reply.id, False
        while True:
            if live.title is not None and not told:
                told = True
                yield ConversationTitled(reply_id, offset, live.title)
            elif live.length > offset:
                reasoning, answer = live.since(offset)
                if reasoning:
                    offset += len(reasoning)
                    yield ReplyDelta(reply_id, offset, TextKind.REASONING, reasoning)
                if answer:
                    offset += len(answer)
                    yield ReplyDelta(reply_id, offset, TextKind.ANSWER, answer)
            elif live.ended is not None:
                yield ReplyEnded(reply_id, _length(live.ended), live.ended)
                return
            elif not await live.changed(self._silence):
                yield Silence(reply_id, offset)

    def _live_of(self, owner: UserId, conversation_id: ConversationId, reply_id: MessageId | None) -> LiveReply | None:
        live = self._live.get(reply_id) if reply_id is not None else None
        if live and live.reply.user_id == owner and live.reply.conversation_id == conversation_id:
            return live
        return None

    async def _find(self, owner: UserId, conversation_id: ConversationId, reply_id: MessageId | None) -> Message | None:
        async with self._unit_of_work(read_only=True) as work:
            if await work.conversations.get(owner, conversation_id) is None:
                raise NotFound("There is no such conversation.")
            if reply_id is None:
                reply = await work.messages.last_reply(owner, conversation_id)
            else:
                reply = await work.messages.get(owner, conversation_id, reply_id)
                if reply is None or reply.role is not Role.ASSISTANT:
                    raise NotFound("There is no such reply.")
            return reply

    # ---- the log and the lease ---------------------------------------------------------------------------

    async def _beat_forever(self) -> None:
        reachable = True
        while True:
            await asyncio.sleep(self._flush_every)
            try:
                await self._beat()
                reachable = True
            except Unavailable:
                if reachable:
                    _log.warning("the reply log cannot be written; %d replies go on in memory", len(self._live))
                reachable = False
            except Exception:
                _log.exception("writing the reply log failed")

    async def _beat(self) -> None:
        async with self._flushing:
            pending = [live for live in self._live.values() if live.logged < live.length and not live.ending]
            listening = bool(self._live) and not self._worker.is_alone  # somebody may want one of them stopped
            if not (pending or listening or self._worker.is_due):
                return
            try:
                pulse = await settled(self._flush(pending))
            except BaseException:
                self._worker.missed()
                raise
            if pulse is None:
                await self._start_anew()
                return
            self._worker.renewed(pulse)
        for reply_id in pulse.stops:
            if reply_id in self._live:
                self._live[reply_id].cut_short(Status.STOPPED)

    @repeatable
    async def _flush(self, pending: Sequence[LiveReply]) -> Pulse | None:
        """One short transaction. None: this process was taken for dead, and nothing was written."""
        entries = [entry for live in pending for entry in live.unlogged()]
        lengths = [live.length for live in pending]
        async with self._unit_of_work(urgent=True) as work:
            pulse = await self._worker.renew(work)
            if pulse is not None:
                await work.reply_log.append(entries)
                await work.commit()
                for live, length in zip(pending, lengths, strict=True):
                    live.logged = length
        return pulse

    async def _start_anew(self) -> None:
        await self._worker.join()
        lost = [live for live in self._live.values() if live.worker_id != self._worker.id]
        _log.warning("this process was taken for dead; it has lost %d replies and goes on as a new worker", len(lost))
        for live in lost:
            _lose(live)

    async def _make_sure(self) -> None:
        """Returns when it is known whether this process still has its lease."""
        async with self._doubting:
            while self._worker.in_doubt:
                try:
                    await settled(self._beat())  # in a task of its own: it may cut short the one that asks
                except Unavailable:
                    await asyncio.sleep(self._flush_every)

    # ---- what the dead have left -------------------------------------------------------------------------

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_EVERY)
            try:
                await self._worker.bury_the_dead()
                await self._end_orphans()
            except Unavailable:
                continue  # whether anybody has died cannot be known before the database is back
            except Exception:
                _log.exception("ending the replies of dead processes failed")

    async def _end_orphans(self) -> None:
        """Several processes may do that at once: of each reply one of them tells the end."""
        count = 0
        while True:
            async with self._unit_of_work(read_only=True) as work:
                orphans = await work.unfinished.orphans(limit=_SWEEP_AT_ONCE)
            for reply in orphans:
                await self._end_orphan(reply)
            count += len(orphans)
            if len(orphans) < _SWEEP_AT_ONCE:
                break
        if count:
            _log.warning("%d replies of dead processes ended as interrupted", count)

    async def _end_orphan(self, reply: Message) -> Message:
        async with self._unit_of_work(read_only=True) as work:
            reply = await with_logged_text(work, reply)
        if reply.status is not Status.WRITING:
            return reply
        return await self._store_end(replace(reply, status=Status.INTERRUPTED))

    # ---- the end -----------------------------------------------------------------------------------------

    async def _end(self, live: LiveReply, status: Status, error: Failure | None) -> None:
        """Stores how the reply ended, as often as it takes, and only then tells its readers."""
        live.ending = True
        async with self._flushing:
            pass  # a flush under way may carry text of this reply; its rows must not come after their deletion
        reasoning, content = live.since(0)
        ended = replace(
            live.reply, content=content, reasoning=reasoning or None, status=status, usage=live.usage, error=error
        )
        stored = await self._persist(lambda: self._end_orphan(live.reply) if live.lost else self._store_end(ended))
        self._live.pop(stored.id, None)
        live.end_as(stored)

    async def _persist(self, operation: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Its result, tried again until the database answers."""
        pause = self._flush_every
        while True:
            try:
                return await settled(operation())
            except Unavailable:
                _log.warning("the database is unavailable; trying again in %.1f s", pause)
            except Exception:
                _log.exception("storing the end of a reply failed; trying again in %.1f s", pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, 2.0)

    @repeatable
    async def _store_end(self, ended: Message) -> Message:
        async with self._unit_of_work() as work:
            owner, conversation_id = ended.user_id, ended.conversation_id
            if await work.conversations.release(owner, conversation_id, ended.id, now=self._clock.now()):
                await work.messages.finish(ended)
                await work.reply_log.delete(owner, ended.id)
                await work.commit()
                return ended
            # The claim is gone: an earlier try was committed and its answer lost, or the conversation was deleted.
            await work.reply_log.delete(owner, ended.id)
            stored = await work.messages.get(owner, conversation_id, ended.id)
            await work.commit()
            return stored or ended

    async def _stored(self, reply: Message) -> Message | None:
        async with self._unit_of_work(read_only=True) as work:
            return await work.messages.get(reply.user_id, reply.conversation_id, reply.id)

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
                while self._tasks or self._live:
                    if self._tasks:
                        await asyncio.wait(self._tasks)
                    else:  # the commit that acknowledges a reply is under way; its task comes after it
                        await asyncio.sleep(self._flush_every)


def _uncancel() -> None:
    if task := asyncio.current_task():
        task.uncancel()


async def with_logged_text(work: UnitOfWork, message: Message) -> Message:
    """A reply that is being written, with what of it has reached the log, or as it has ended meanwhile; any other
    message as it is. One that was deleted counts as stopped."""
    if message.status is not Status.WRITING:
        return message
    # The log first: if the reply ends in between, the message has all of the text.
    entries = await work.reply_log.read(message.user_id, message.id)
    stored = await work.messages.get(message.user_id, message.conversation_id, message.id)
    if stored is not None and stored.status is not Status.WRITING:
        return stored
    reasoning = "".join(entry.text for entry in entries if entry.kind is TextKind.REASONING)
    content = "".join(entry.text for entry in entries if entry.kind is TextKind.ANSWER)
    status = Status.WRITING if stored else Status.STOPPED
    return replace(message, content=content, reasoning=reasoning or None, status=status)


def _noted(job: ReplyJob, failure: ModelError) -> Failure:
    _log.warning("reply %d failed: %s", job.reply.id, failure.code)
    if isinstance(failure, ModelUnauthorized):
        audit.record("model_key_refused", user_id=job.reply.user_id, model_host=urlsplit(job.endpoint.url).hostname)
    return Failure(code=failure.code, detail=failure.detail)


def _started(reply: Message, offset: int) -> ReplyStarted:
    return ReplyStarted(reply.id, offset, reply.conversation_id, reply.parent_id, reply.model)


def _length(reply: Message) -> int:
    return len(reply.reasoning or "") + len(reply.content)


def _lose(live: LiveReply) -> None:
    live.lost = True
    live.cut_short(Status.INTERRUPTED)


def _events_of(reply: Message, offset: int) -> Iterator[ReplyEvent]:
    """What is left of a reply that has ended."""
    reasoning = reply.reasoning or ""
    if rest := reasoning[offset:]:
        yield ReplyDelta(reply.id, len(reasoning), TextKind.REASONING, rest)
    if rest := reply.content[max(0, offset - len(reasoning)) :]:
        yield ReplyDelta(reply.id, _length(reply), TextKind.ANSWER, rest)
    yield ReplyEnded(reply.id, _length(reply), reply)
