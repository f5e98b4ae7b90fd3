"""The life of a reply: written by a task of the process, read by whoever asks, whenever they ask.

A reply belongs to its conversation, not to the connection that asked for it. `Replies` is opened once per process,
with the application, and owns every reply that is being written there:

- a task per reply consumes the model's stream; it holds no database connection while the model talks;
- what the model said is at once visible to readers in this process. A reader is only a cursor into the one text of
  the reply, so that a slow one costs no memory and never slows the writer;
- about every `flush_every` seconds all new text goes to the log in one transaction, whatever the number of replies;
- the end is one transaction, and only after its commit do readers see it;
- leaving drains: no new reply, those in flight get `grace` seconds, the rest become `interrupted`.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self, TypeVar

from chatcore.entities import (
    MAX_TITLE,
    ConversationId,
    Failure,
    Message,
    MessageId,
    Role,
    Status,
    UserId,
    title_of,
)
from chatcore.errors import ModelError, ModelUnavailable, NotFound, Unavailable
from chatcore.events import ConversationTitled, ReplyDelta, ReplyEnded, ReplyEvent, ReplyStarted, Silence
from chatcore.live_reply import LiveReply
from chatcore.ports import (
    Clock,
    LLMGateway,
    ModelEndpoint,
    Prompt,
    TextKind,
    UnitOfWork,
    UnitOfWorkFactory,
)
from chatcore.shielding import settled

T = TypeVar("T")

_log = logging.getLogger("chatcore.replies")
_TITLE_TIMEOUT = 30.0  # seconds
_END_TIMEOUT = 5.0  # how long a drain waits, after the grace, for the last transactions


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyJob:
    """A stored reply with status `writing`, and what to ask which model for it.

    `title_prompt`: what to ask it for a title of the conversation beside that, if it wants one.
    """

    reply: Message
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
    ) -> None:
        """All times are in seconds. `silence`: after how long without text a reader is told that nothing came."""
        self._unit_of_work = unit_of_work
        self._gateway = gateway
        self._clock = clock
        self._flush_every = flush_every
        self._silence = silence
        self._grace = grace
        self._live: dict[MessageId, LiveReply] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._titling: set[asyncio.Task[None]] = set()
        self._flushing = asyncio.Lock()
        self._flusher: asyncio.Task[None] | None = None
        self._draining = False

    async def __aenter__(self) -> Self:
        """Ends what an earlier process left unfinished, keeping the text that reached the log."""
        await self._end_orphans()
        self._flusher = asyncio.create_task(self._flush_forever(), name="chatcore reply log")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain()
        for task in (*self._tasks, *self._titling, *filter(None, [self._flusher])):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

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

    # ---- writing -----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def writing(self, job: ReplyJob) -> AsyncGenerator[None, None]:
        """Around the commit that acknowledges a reply: whoever sees it stored finds it being written here.

        Raises `Unavailable` before that commit if the process is shutting down. If the commit fails, nobody knows
        whether it took place; should the reply turn out to be stored, it is ended as interrupted.
        """
        if self._draining:
            raise Unavailable("The server is shutting down. Try again shortly.")
        live = self._live[job.reply.id] = LiveReply(job.reply)
        try:
            yield
        except BaseException:
            del self._live[job.reply.id]
            self._spawn(self._disown(live), self._tasks)
            raise
        self._spawn(self._write(live, job), self._tasks)
        if job.title_prompt is not None:
            self._spawn(self._give_title(live, job.endpoint, job.title_prompt), self._titling)

    async def _write(self, live: LiveReply, job: ReplyJob) -> None:
        status, error = Status.COMPLETE, None
        live.writer = asyncio.current_task()  # from here on: a task that is cancelled before it runs does nothing
        try:
            if live.verdict is None:
                async for delta in self._gateway.stream(job.endpoint, job.prompt):
                    live.add(delta)
        except asyncio.CancelledError:
            if live.verdict is None:  # not by us: the event loop is being torn down
                raise
            _uncancel()
        except ModelError as failure:
            _log.warning("reply %d failed: %s", live.reply.id, failure.code)
            status, error = Status.FAILED, Failure(code=failure.code, detail=failure.detail)
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

    async def stop(self, reply_id: MessageId) -> Message | None:
        """Cuts the reply short and waits until that is stored. None: it is not being written here."""
        live = self._live.get(reply_id)
        if live is None:
            return None
        live.cut_short(Status.STOPPED)
        while live.ended is None:
            await live.changed(self._silence)
        return live.ended

    async def stop_all(self, owner: UserId) -> None:
        """Cuts all of a user's replies short and waits until that is stored."""
        await asyncio.gather(*(self.stop(live.reply.id) for live in self._live.values() if live.reply.user_id == owner))

    # ---- reading -----------------------------------------------------------------------------------------

    async def follow(
        self, *, owner: UserId, conversation_id: ConversationId, reply_id: MessageId | None = None, after: int = 0
    ) -> AsyncIterator[ReplyEvent]:
        """The reply from code point `after` on, until it has ended: the last one of the conversation, or `reply_id`.

        Nothing at all if there never was a reply. Raises `NotFound` for a conversation or reply that is not there.
        A reply written by another process is read from the log.
        """
        live = self._live_of(owner, conversation_id, reply_id)
        reply = live.reply if live else await self._find(owner, conversation_id, reply_id)
        if reply is None:
            return
        yield ReplyStarted(reply.id, after, conversation_id, reply.parent_id, reply.model)
        live = live or self._live.get(reply.id)
        async for event in self._follow_live(live, after) if live else self._follow_log(reply, after):
            yield event

    async def _follow_log(self, reply: Message, offset: int) -> AsyncIterator[ReplyEvent]:
        """A reply that has ended, or that another process writes."""
        silent = 0.0
        while True:
            said = list(_events_of(reply, offset))
            for event in said:
                offset = event.offset
                yield event
            if reply.status is not Status.WRITING:
                yield ReplyEnded(reply.id, _length(reply), reply)
                return
            silent = 0.0 if said else silent + self._flush_every
            if silent >= self._silence:
                silent = 0.0
                yield Silence(reply.id, offset)
            await asyncio.sleep(self._flush_every)
            reply = await self._reread(reply)

    async def _follow_live(self, live: LiveReply, offset: int) -> AsyncIterator[ReplyEvent]:
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
            return await with_logged_text(work, reply) if reply else None

    async def _reread(self, reply: Message) -> Message:
        async with self._unit_of_work(read_only=True) as work:
            return await with_logged_text(work, reply)

    # ---- the log -----------------------------------------------------------------------------------------

    async def _flush_forever(self) -> None:
        reachable = True
        while True:
            await asyncio.sleep(self._flush_every)
            try:
                await self._flush()
                reachable = True
            except Unavailable:
                if reachable:
                    _log.warning("the reply log cannot be written; %d replies go on in memory", len(self._live))
                reachable = False
            except Exception:
                _log.exception("writing the reply log failed")

    async def _flush(self) -> None:
        async with self._flushing:
            pending = [live for live in self._live.values() if live.logged < live.length and not live.ending]
            if not pending:
                return
            entries = [entry for live in pending for entry in live.unlogged()]
            lengths = [live.length for live in pending]
            async with self._unit_of_work() as work:
                await work.reply_log.append(entries)
                await work.commit()
            for live, length in zip(pending, lengths, strict=True):
                live.logged = length

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
        ended = await self._persist(lambda: self._store_end(ended))
        self._live.pop(ended.id, None)
        live.end(ended)

    async def _persist(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Its result, tried again until the database answers."""
        pause = self._flush_every
        while True:
            try:
                return await operation()
            except Unavailable:
                _log.warning("the database is unavailable; trying again in %.1f s", pause)
            except Exception:
                _log.exception("storing the end of a reply failed; trying again in %.1f s", pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, 2.0)

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

    async def _end_orphans(self) -> None:
        async with self._unit_of_work(read_only=True) as work:
            orphans = [await with_logged_text(work, reply) for reply in await work.unfinished.list()]
        for reply in orphans:
            await self._store_end(replace(reply, status=Status.INTERRUPTED))
        if orphans:
            _log.warning("%d replies of an earlier process ended as interrupted", len(orphans))

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


def _length(reply: Message) -> int:
    return len(reply.reasoning or "") + len(reply.content)


def _events_of(reply: Message, offset: int) -> Iterator[ReplyDelta]:
    reasoning = reply.reasoning or ""
    if rest := reasoning[offset:]:
        yield ReplyDelta(reply.id, len(reasoning), TextKind.REASONING, rest)
    if rest := reply.content[max(0, offset - len(reasoning)) :]:
        yield ReplyDelta(reply.id, _length(reply), TextKind.ANSWER, rest)
