"""The life of a reply: written by a task of the process, read by whoever asks, whenever they ask.

A reply belongs to its conversation, not to the connection that asked for it. `Replies` is opened once per process,
with the application, and owns every reply that is being written there:

- a task per reply consumes the model's stream; it holds no database connection while the model talks;
- what the model said is at once visible to readers in this process. A reader is only a cursor into the one text of
  the reply, so that a slow one costs no memory and never slows the writer;
- about every `flush_every` seconds one transaction, whatever the number of replies, takes new text to the log, and
  another renews the process's lease and learns which replies somebody elsewhere wants stopped;
- while it is in doubt whether the process still has its lease, or its text a way to the log, readers get only what is
  in the log: what was shown is not taken back when others end the reply. What was shown before the doubt may be lost,
  as of a process that is killed: as a rule the last `flush_every` seconds;
- readers of a reply that another process writes have a mirror of it, which follows the log;
- the end is one transaction, and only after its commit do readers see it;
- whose lease has run out is dead: the others end its replies as `interrupted`, with the text that reached the log. If
  it was only paused, it finds its lease gone, and writes nothing more of them;
- leaving drains: no new reply, those in flight get `grace` seconds, the rest become `interrupted`.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from chatcore import audit
from chatcore.entities import (
    INTERNAL,
    MAX_TITLE,
    ConversationId,
    Failure,
    FinishReason,
    Message,
    MessageId,
    Role,
    Status,
    UserId,
    WorkerId,
    title_of,
)
from chatcore.errors import ModelEmpty, ModelError, ModelRefused, ModelUnauthorized, NotFound, Unavailable
from chatcore.events import ConversationTitled, ReplyDelta, ReplyEnded, ReplyEvent, ReplyStarted, Silence
from chatcore.live_reply import LiveReply, ends_of, parts_of
from chatcore.log_writer import LogWriter
from chatcore.mirrors import Mirrors
from chatcore.ports import (
    Clock,
    LLMGateway,
    ModelEndpoint,
    Prompt,
    TextKind,
    UnitOfWork,
    UnitOfWorkFactory,
)
from chatcore.rate_limits import AtOnce
from chatcore.shielding import ended, repeatable, settled
from chatcore.worker import Worker

T = TypeVar("T")

_log = logging.getLogger("chatcore.replies")
_TITLE_TIMEOUT = 30.0  # seconds
STOP_BEFORE_DELETION = 2.0
"""Seconds for another process to stop a reply before what it belongs to is deleted under it."""

_STOP_TIMEOUT = 15.0  # how long to wait for another process, or for its end
_READING_AT_ONCE = 32 * 1024 * 1024  # bytes of ended replies that are held for the readers of one user
_SWEEP_EVERY = 1.0
_SWEEP_AT_ONCE = 100  # replies
_END_TIMEOUT = 5.0  # how long a drain waits, after the grace, for the last transactions
_REFUSALS = 3  # so often the database may refuse a text before it is given up


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
        self._live: dict[MessageId, LiveReply] = {}
        self._worker = Worker(unit_of_work, lease=lease, on_certainty=self._wake_readers)
        self._log = LogWriter(unit_of_work, self._worker, self._live, on_certainty=self._wake_readers)
        self._mirrors = Mirrors(unit_of_work, every=flush_every)
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading = AtOnce("readers of long replies", _READING_AT_ONCE)
        self._titling: set[asyncio.Task[None]] = set()
        self._renewing = asyncio.Lock()
        self._keepers: list[asyncio.Task[None]] = []
        self._draining = False

    async def __aenter__(self) -> Self:
        """Ends what dead processes left unfinished, keeping the text that reached the log."""
        await self._worker.join()
        await self._end_orphans()
        self._keep_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain()
        for task in (*self._tasks, *self._titling, *self._keepers):
            await ended(task)
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
            await self._renew()
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
        status, error, worker, log = Status.COMPLETE, None, self._worker, self._log
        live.writer = asyncio.current_task()  # from here on: a task that is cancelled before it runs does nothing
        try:
            if live.verdict is None:
                async with aclosing(self._gateway.stream(job.endpoint, job.prompt)) as deltas:
                    async for delta in deltas:
                        if live.verdict is not None:
                            break
                        live.add(delta, wake=worker.doubtful_at > monotonic() < log.doubtful_at)
        except asyncio.CancelledError:
            if live.verdict is None or _uncancel():  # not by us alone: the event loop is being torn down
                raise
        except ModelError as failure:
            status, error = Status.FAILED, _noted(job, failure)
        except Exception:
            _log.exception("reply %d failed for a reason that is not the model's", live.reply.id)
            status, error = Status.FAILED, INTERNAL
        live.writer = None
        if live.verdict is not None:
            status, error = live.verdict, INTERNAL if live.verdict is Status.FAILED else None
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
        async with aclosing(self._gateway.stream(endpoint, prompt)) as deltas:
            async for delta in deltas:
                if delta.reasoned:
                    answer = ""
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
        self,
        *,
        owner: UserId,
        conversation_id: ConversationId,
        reply_id: MessageId | None = None,
        after: int = 0,
        again: bool = False,
        numbered: bool = False,
    ) -> AsyncGenerator[ReplyEvent, None]:
        """The reply from code point `after` on, until it has ended: the last one of the conversation, or `reply_id`.
        `numbered`: piece by piece, as the model said it, and `after` counts pieces.

        Nothing at all if there never was a reply, or, for a reader who comes `again`, if it has ended at `after`.
        Raises `NotFound` for a conversation or reply that is not there. A reply that another process writes comes a
        little later, and without the conversation's title.
        """
        live = self._live_of(owner, conversation_id, reply_id)
        if live:
            return self._follow_live(live, after, again, numbered)
        return self._follow_found(owner, conversation_id, reply_id, after, again, numbered)

    async def _follow_found(
        self,
        owner: UserId,
        conversation_id: ConversationId,
        reply_id: MessageId | None,
        after: int,
        again: bool,
        numbered: bool,
    ) -> AsyncGenerator[ReplyEvent, None]:
        reply = await self._find(owner, conversation_id, reply_id)
        if reply is None:
            return
        if live := self._live.get(reply.id):
            async with aclosing(self._follow_live(live, after, again, numbered)) as events:
                async for event in events:
                    yield event
        elif reply.status is Status.WRITING:
            async with (
                self._mirrors.of(reply) as mirror,
                aclosing(self._follow_live(mirror, after, again, numbered)) as events,
            ):
                async for event in events:
                    yield event
        else:
            with self._reading.one_more(owner, weight=_memory_of(reply)):
                events_of = await self._pieces_of(reply, after) if numbered else (after, parts_of(reply, after), 0)
                for event in _all_of(reply, *events_of, again=again):
                    yield event

    async def _pieces_of(self, reply: Message, after: int) -> tuple[int, Sequence[int], int]:
        async with self._unit_of_work(read_only=True) as work:
            cuts = await work.messages.cuts(reply.user_id, reply.conversation_id, reply.id)
        ends = ends_of(reply, cuts)
        return ends[min(after, len(ends)) - 1] if after and ends else 0, ends[after:], after + 1

    async def _follow_live(
        self, live: LiveReply, after: int, again: bool, numbered: bool
    ) -> AsyncGenerator[ReplyEvent, None]:
        offset = await live.start_of(after) if numbered else after
        if again and live.ended is not None and offset >= live.ended.length:
            return
        yield _started(live.reply, offset)
        reply_id, told, worker, log = live.reply.id, False, self._worker, self._log
        while True:
            certain = worker.doubtful_at > monotonic() < log.doubtful_at and not live.lost
            end = live.length if certain else live.logged
            if numbered:
                end = live.end_of_piece(offset, end)
            if live.title is not None and not told:
                told = True
                yield ConversationTitled(reply_id, offset, live.title)
            elif end > offset:
                kind, text = live.next(offset, end)
                offset += len(text)
                yield ReplyDelta(reply_id, offset, kind, text, live.number_at(offset) if numbered else 0)
            elif live.ended is not None:
                yield ReplyEnded(reply_id, live.ended.length, live.ended)
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

    def _keep_all(self) -> None:
        keepers = [self._beat_forever(self._log.write, "reply log")]
        if not self._worker.is_alone:
            keepers += [self._beat_forever(self._renew_if_due, "lease"), self._sweep_forever()]
        self._keepers += [asyncio.create_task(keeper, name="chatcore replies") for keeper in keepers]

    async def _beat_forever(self, beat: Callable[[], Awaitable[None]], name: str) -> None:
        reachable = True
        while True:
            await asyncio.sleep(self._flush_every)
            try:
                await beat()
                reachable = True
            except Unavailable:
                if reachable:
                    _log.warning("%s: the database is gone; %d replies go on in memory", name, len(self._live))
                reachable = False
            except Exception:
                _log.exception("%s failed", name)

    async def _renew_if_due(self) -> None:
        if self._live or self._worker.is_due:  # somebody may want a live reply stopped
            await self._renew()

    async def _renew(self) -> None:
        async with self._renewing:
            pulse = await self._worker.renew()
            if pulse is None:
                await self._start_anew()
                return
        for reply_id in pulse.stops:
            if reply_id in self._live:
                self._live[reply_id].cut_short(Status.STOPPED)

    async def _start_anew(self) -> None:
        await self._worker.join()
        lost = [live for live in self._live.values() if live.worker_id != self._worker.id]
        _log.warning("this process was taken for dead; it has lost %d replies and goes on as a new worker", len(lost))
        for live in lost:
            _lose(live)

    def _wake_readers(self) -> None:
        for live in self._live.values():
            live.wake()

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
        count, more = 0, True
        while more:
            async with self._unit_of_work(read_only=True) as work:
                orphans = await work.unfinished.orphans(limit=_SWEEP_AT_ONCE)
            for reply in orphans:
                await self._end_orphan(reply)
            count += len(orphans)
            more = len(orphans) == _SWEEP_AT_ONCE
        if count:
            _log.warning("%d replies of dead processes ended as interrupted", count)

    async def _end_orphan(self, reply: Message) -> Message:
        async with self._unit_of_work(read_only=True) as work:
            reply, cuts = await _logged(work, reply)
        if reply.status is not Status.WRITING:
            return reply
        try:
            return await self._store_end(replace(reply, status=Status.INTERRUPTED), cuts)
        except Unavailable:
            raise
        except Exception:
            _log.exception("the database refuses the text of reply %d", reply.id)
        return await self._store_end(_failed(reply, "", ""), ())

    # ---- the end -----------------------------------------------------------------------------------------

    async def _end(self, live: LiveReply, status: Status, error: Failure | None) -> None:
        """Stores how the reply ended, as often as it takes, and only then tells its readers."""
        live.ending = True
        await self._log.settle()
        if live.lost:
            stored = await self._persist(lambda: self._end_orphan(live.reply))
        else:
            stored = await self._store_what_fits(live, status, error)
        self._live.pop(stored.id, None)
        live.end_as(stored, live.cuts_to(stored.length))

    async def _store_what_fits(self, live: LiveReply, status: Status, error: Failure | None) -> Message:
        """All of it; if the database refuses that, what the log has; if it refuses that too, that there was a reply."""
        reasoning, content = live.since(0)
        if status is Status.COMPLETE and not content.strip():
            status, error = Status.FAILED, _no_answer(live)
        ended = replace(
            live.reply,
            content=content,
            reasoning=reasoning or None,
            status=status,
            usage=live.usage,
            finish_reason=live.finish_reason,
            error=error,
        )
        shorter = _failed(ended, *live.before(live.logged))
        for each in (shorter,) if live.refused else (ended, shorter):
            try:
                store = partial(self._store_end, each, live.cuts_to(each.length))
                return await self._persist(store, refusals=_REFUSALS)
            except Exception:
                _log.error("reply %d is stored with less text", live.reply.id)
        return await self._persist(partial(self._store_end, _failed(ended, "", ""), ()))

    async def _persist(self, operation: Callable[[], Coroutine[Any, Any, T]], *, refusals: int | None = None) -> T:
        """Its result, tried again until the database answers: of other errors the last of so many is raised."""
        pause = self._flush_every
        while True:
            try:
                return await settled(operation())
            except Unavailable:
                _log.warning("the database is unavailable; trying again in %.1f s", pause)
            except Exception:
                _log.exception("storing the end of a reply failed")
                refusals = None if refusals is None else refusals - 1
                if refusals == 0:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, 2.0)

    @repeatable
    async def _store_end(self, ended: Message, cuts: Sequence[int]) -> Message:
        async with self._unit_of_work() as work:
            owner, conversation_id, now = ended.user_id, ended.conversation_id, self._clock.now()
            if await work.conversations.release(owner, conversation_id, ended.id, now=now):
                await work.messages.finish(ended, cuts, now=now)
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


def _uncancel() -> bool:
    """Takes one cancellation back. Whether there is another one."""
    task = asyncio.current_task()
    return task is not None and task.uncancel() > 0


def _failed(reply: Message, reasoning: str, content: str) -> Message:
    """With as much text as the database takes."""
    return replace(reply, reasoning=reasoning or None, content=content, status=Status.FAILED, error=INTERNAL)


async def with_logged_text(work: UnitOfWork, message: Message) -> Message:
    """A reply that is being written, with what of it has reached the log, or as it has ended meanwhile; any other
    message as it is. One that was deleted counts as stopped."""
    return (await _logged(work, message))[0]


async def _logged(work: UnitOfWork, message: Message) -> tuple[Message, Sequence[int]]:
    """And the cuts, if it is still being written."""
    if message.status is not Status.WRITING:
        return message, ()
    # The log first: if the reply ends in between, the message has all of the text.
    entries = await work.reply_log.read(message.user_id, message.id)
    stored = await work.messages.get(message.user_id, message.conversation_id, message.id)
    if stored is not None and stored.status is not Status.WRITING:
        return stored, ()
    mirror = LiveReply(message)
    for entry in entries:
        mirror.extend(entry)
    reasoning, content = mirror.since(0)
    status = Status.WRITING if stored else Status.STOPPED
    logged = replace(message, content=content, reasoning=reasoning or None, status=status)
    return logged, mirror.cuts_to(mirror.length)


def _noted(job: ReplyJob, failure: ModelError) -> Failure:
    _log.warning("reply %d failed: %s", job.reply.id, failure.code)
    if isinstance(failure, ModelUnauthorized):
        audit.record("model_key_refused", user_id=job.reply.user_id, model_host=urlsplit(job.endpoint.url).hostname)
    return Failure(code=failure.code, detail=failure.detail)


def _no_answer(live: LiveReply) -> Failure:
    match live.finish_reason:
        case FinishReason.CONTENT_FILTER:
            failure: ModelError = ModelRefused("A filter of the model endpoint withheld the answer.")
        case FinishReason.LENGTH:
            failure = ModelEmpty("The model had used up its tokens before it answered.")
        case FinishReason.TOOL_CALLS:
            failure = ModelEmpty("The model called for a tool instead of answering.")
        case _:
            failure = ModelEmpty()
    _log.warning("reply %d has no answer: %s", live.reply.id, live.finish_reason)
    return Failure(code=failure.code, detail=failure.detail)


def _started(reply: Message, offset: int) -> ReplyStarted:
    return ReplyStarted(reply.id, offset, reply.conversation_id, reply.parent_id, reply.model)


def _lose(live: LiveReply) -> None:
    live.lost = True
    live.cut_short(Status.INTERRUPTED)


def _memory_of(reply: Message) -> int:
    """Bytes. A reader holds the text of a reply that has ended until it has taken it."""
    return sys.getsizeof(reply.content) + sys.getsizeof(reply.reasoning)


def _all_of(reply: Message, start: int, ends: Sequence[int], number: int, *, again: bool) -> Iterator[ReplyEvent]:
    """What a reader gets of a reply that has ended: from `start` on, cut at `ends`. `number`: of the first piece, or 0
    for no numbers."""
    if again and not ends:
        return
    yield _started(reply, start)
    reasoning = reply.reasoning or ""
    for piece, end in enumerate(ends):
        if end <= len(reasoning):
            kind, text = TextKind.REASONING, reasoning[start:end]
        else:
            kind, text = TextKind.ANSWER, reply.content[start - len(reasoning) : end - len(reasoning)]
        yield ReplyDelta(reply.id, end, kind, text, number and number + piece)
        start = end
    yield ReplyEnded(reply.id, reply.length, reply)
