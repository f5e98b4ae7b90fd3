"""The end of a reply: one transaction stores it, and readers see it after the commit."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from chatcore.entities import INTERNAL, Failure, FinishReason, Message, Status, Usage
from chatcore.errors import ModelEmpty, ModelError, ModelRefused, Unavailable
from chatcore.hooks import NO_HOOKS, Hooks, called, in_time
from chatcore.live_reply import LiveReply
from chatcore.ports import (
    NO_METADATA,
    Clock,
    HookWork,
    MessageRepo,
    OwnerRepo,
    Purpose,
    ReplyLog,
    Transaction,
    Turn,
    UnfinishedReplies,
    UnitsOfWork,
)
from chatcore.prompt import PromptLimits
from chatcore.shielding import retry_on_contention, shielded
from chatcore.texts import utf8_length

T = TypeVar("T")
_log = logging.getLogger("chatcore.replies")
_AT_ONCE = 100  # replies of dead processes
_REFUSALS = 3  # so often the database may refuse a text before it is given up
_TOKEN = 4  # bytes, as a rule
_HOOK_TRIES = 3


class LoggedWork(Transaction, Protocol):
    messages: MessageRepo
    reply_log: ReplyLog


class EndingWork(LoggedWork, HookWork, Protocol):
    unfinished: UnfinishedReplies
    owners: OwnerRepo


@dataclass(frozen=True)
class Endings:
    """`pause`: seconds before an end is stored again, the first time, if the database is gone."""

    unit_of_work: UnitsOfWork[EndingWork]
    clock: Clock
    pause: float
    hooks: Hooks = NO_HOOKS
    _afterwards: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    async def store(self, live: LiveReply, status: Status, error: Failure | None) -> Message:
        """All of its text; if the database refuses that, what the log has; if it refuses that too, that there was a
        reply. Try until the database answers."""
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
        ended = _with_usage(ended, live.asked)
        shorter = _failed(ended, *live.before(live.logged))
        for each in (shorter,) if live.refused else (ended, shorter):
            try:
                store = partial(self._store_end, each, live.cuts_to(each.length), live.turn)
                return await self.persist(store, refusals=_REFUSALS)
            except Exception:
                _log.error("reply %d is stored with less text", live.reply.id)
        return await self.persist(partial(self._store_end, _failed(ended, "", ""), (), live.turn))

    async def end_orphans(self) -> None:
        """Several processes may do that at once: of each reply one of them tells the end."""
        count, more = 0, True
        while more:
            async with self.unit_of_work(read_only=True) as work:
                orphans = await work.unfinished.orphans(limit=_AT_ONCE)
            ended = [reply for reply in orphans if await self._try_to_end(reply)]
            count += len(ended)
            more = bool(ended) and len(orphans) == _AT_ONCE
        if count:
            _log.warning("%d replies of dead processes ended as interrupted", count)

    async def _try_to_end(self, reply: Message) -> bool:
        """One that cannot be ended keeps nobody from ending the others. Raise `Unavailable`."""
        try:
            await self.end_orphan(reply)
        except Unavailable:
            raise
        except Exception:
            _log.exception("reply %d of a dead process cannot be ended", reply.id)
            return False
        return True

    async def end_orphan(self, reply: Message) -> Message:
        async with self.unit_of_work(read_only=True) as work:
            reply, cuts = await _logged(work, reply)
            asked = await _asked(work, reply)
        if reply.status is not Status.WRITING:
            return reply
        try:
            return await self._store_end(_with_usage(replace(reply, status=Status.INTERRUPTED), asked), cuts)
        except Unavailable:
            raise
        except Exception:
            _log.exception("the database refuses the text of reply %d", reply.id)
        return await self._store_end(_failed(reply, "", ""), ())

    async def persist(self, operation: Callable[[], Coroutine[Any, Any, T]], *, refusals: int | None = None) -> T:
        """Its result, tried again until the database answers: of other errors the last of so many is raised."""
        pause = self.pause
        while True:
            try:
                return await shielded(operation())
            except Unavailable:
                _log.warning("the database is unavailable; trying again in %.1f s", pause)
            except Exception:
                _log.exception("storing the end of a reply failed")
                refusals = None if refusals is None else refusals - 1
                if refusals == 0:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, 2.0)

    async def _store_end(self, ended: Message, cuts: Sequence[int], turn: Turn | None = None) -> Message:
        """With the hook `ended`, or without it if that fails too often: no error of the embedding program's leaves a
        reply without an end."""
        if self.hooks.overrides(Hooks.ended):
            for _ in range(_HOOK_TRIES):
                try:
                    return await self._store_once(ended, cuts, turn, hooked=True)
                except Exception:
                    await self.stored(ended)  # raises `Unavailable` if it is the database that is gone
                    _log.exception("the hook `ended` failed for reply %d", ended.id)
            _log.error("reply %d ends without the hook `ended`", ended.id)
        return await self._store_once(ended, cuts, turn, hooked=False)

    @retry_on_contention
    async def _store_once(self, ended: Message, cuts: Sequence[int], turn: Turn | None, *, hooked: bool) -> Message:
        async with self.unit_of_work() as work:
            owner, conversation_id, now = ended.user_id, ended.conversation_id, self.clock.now()
            if await work.conversations.release(owner, conversation_id, ended.id, now=now):
                ended = replace(ended, ended_at=now)
                await work.messages.finish(ended, cuts, now=now)
                await work.reply_log.delete(owner, ended.id)
                if hooked:
                    turn = turn or await _turn_of(work, ended)
                    await in_time(self.hooks.ended(work, turn, ended))
                await work.commit()
                self._go_on(turn, ended)
                return ended
            # The claim is gone: an earlier try was committed and its answer lost, or the conversation was deleted.
            await work.reply_log.delete(owner, ended.id)
            stored = await work.messages.get(owner, conversation_id, ended.id)
            await work.commit()
            return stored or ended

    def _go_on(self, turn: Turn | None, ended: Message) -> None:
        if self.hooks.overrides(Hooks.after_end):
            task = asyncio.create_task(self._after_end(turn, ended), name="chatcore hook after_end")
            self._afterwards.add(task)
            task.add_done_callback(self._afterwards.discard)

    async def _after_end(self, turn: Turn | None, ended: Message) -> None:
        try:
            if turn is None:
                async with self.unit_of_work(read_only=True) as work:
                    turn = await _turn_of(work, ended)
            await called(self.hooks.after_end(turn, ended))
        except Exception:
            _log.exception("the hook `after_end` failed for reply %d", ended.id)

    async def settle(self, within: float) -> None:
        """Wait for the hooks `after_end`, and cancel what takes longer."""
        if self._afterwards:
            _, late = await asyncio.wait(self._afterwards, timeout=within)
            for task in late:
                task.cancel()

    async def stored(self, reply: Message) -> Message | None:
        async with self.unit_of_work(read_only=True) as work:
            return await work.messages.get(reply.user_id, reply.conversation_id, reply.id)


async def _turn_of(work: EndingWork, reply: Message) -> Turn:
    """As the process knew it that began the reply."""
    user, tenant = await work.owners.name(reply.user_id)
    message: Message | None = None
    if reply.parent_id is not None:
        message = await work.messages.get(reply.user_id, reply.conversation_id, reply.parent_id)
    return Turn(
        purpose=Purpose.REPLY,
        owner=reply.user_id,
        user=user,
        tenant=tenant,
        conversation_id=reply.conversation_id,
        message_id=reply.parent_id,
        reply_id=reply.id,
        metadata=message.metadata if message else NO_METADATA,
    )


async def with_logged_text(work: LoggedWork, message: Message) -> Message:
    """A reply that is being written, with what of it has reached the log, or as it has ended meanwhile; any other
    message as it is. One that was deleted counts as stopped."""
    return (await _logged(work, message))[0]


async def _logged(work: LoggedWork, message: Message) -> tuple[Message, Sequence[int]]:
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


async def _asked(work: LoggedWork, reply: Message) -> int:
    """Return about how many bytes the prompt of another process's reply had."""
    limits = PromptLimits()
    told = await work.messages.told(
        reply.user_id,
        reply.conversation_id,
        through=reply.parent_id,
        limit=limits.max_messages,
        max_bytes=limits.max_bytes,
    )
    return sum(utf8_length(message.content) for message in told)


def _with_usage(ended: Message, asked: int) -> Message:
    """With an estimate, if its model was cut short before it counted. `asked`: bytes of the prompt."""
    if ended.usage is not None or ended.status is Status.COMPLETE or not ended.length:
        return ended
    said = utf8_length(ended.reasoning or "") + utf8_length(ended.content)
    prompt, completion = -(-asked // _TOKEN), -(-said // _TOKEN)
    usage = Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion, estimated=True)
    return replace(ended, usage=usage)


def _failed(reply: Message, reasoning: str, content: str) -> Message:
    """With as much text as the database takes."""
    return replace(reply, reasoning=reasoning or None, content=content, status=Status.FAILED, error=INTERNAL)


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
