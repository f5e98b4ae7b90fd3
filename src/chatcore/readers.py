"""Readers of replies: from any offset on, in progress here or in another process, or ended."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from weakref import WeakValueDictionary

from chatcore.entities import ConversationId, Message, MessageId, OwnerId, Role, Status
from chatcore.errors import NotFound, Unavailable
from chatcore.events import ConversationTitled, ReplyDelta, ReplyEnded, ReplyEvent, ReplyStarted, Silence
from chatcore.lease import Lease
from chatcore.live_reply import LiveReply, ends_of, parts_of
from chatcore.log_writer import LogWriter
from chatcore.mirrors import Mirrors
from chatcore.ports import TextKind, UnitOfWorkFactory
from chatcore.rate_limits import AtOnce

_AT_ONCE = 32 * 1024 * 1024  # bytes of ended replies that are held for the readers of one user


@dataclass(frozen=True)
class Readers:
    """`live`: the replies of this process. `silence`: seconds without text until readers get a `Silence`."""

    unit_of_work: UnitOfWorkFactory
    live: Mapping[MessageId, LiveReply]
    lease: Lease
    log: LogWriter
    mirrors: Mirrors
    silence: float
    _holding: AtOnce = field(default_factory=lambda: AtOnce("readers of long replies", _AT_ONCE))
    _finding: WeakValueDictionary[OwnerId, asyncio.Lock] = field(
        default_factory=WeakValueDictionary[OwnerId, asyncio.Lock]
    )

    _closed: asyncio.Event = field(default_factory=asyncio.Event)

    def open(self) -> None:
        self._closed.clear()

    def close(self) -> None:
        self._closed.set()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise Unavailable("This server shuts down. Read on elsewhere, from where you are.", retry_after=1)

    def follow(
        self,
        owner: OwnerId,
        conversation_id: ConversationId,
        reply_id: MessageId | None,
        after: int,
        *,
        again: bool,
        numbered: bool,
    ) -> AsyncGenerator[ReplyEvent, None]:
        """As `Replies.follow`."""
        live = self._here(owner, conversation_id, reply_id)
        if live:
            return self._follow_live(live, after, again, numbered)
        find = partial(self._find, owner, conversation_id, reply_id)
        return self._follow_found(owner, find, after, again, numbered)

    async def _follow_found(
        self,
        owner: OwnerId,
        find: Callable[[], Awaitable[Message | None]],
        after: int,
        again: bool,
        numbered: bool,
    ) -> AsyncGenerator[ReplyEvent, None]:
        turn = self._finding.setdefault(owner, asyncio.Lock())
        async with turn:  # the text of one is counted before the next is read
            reply = await find()
        if reply is None:
            return
        here = self.live.get(reply.id)
        if here or reply.status is Status.WRITING:
            async with (
                nullcontext(here) if here else self.mirrors.of(reply) as live,
                aclosing(self._follow_live(live, after, again, numbered)) as events,
            ):
                async for event in events:
                    yield event
        else:
            with self._holding.one_more(owner, weight=_memory_of(reply)):
                events_of = await self._pieces_of(reply, after) if numbered else (after, parts_of(reply, after), 0)
                for event in _all_of(reply, *events_of, again=again):
                    self._check_open()
                    yield event

    async def _pieces_of(self, reply: Message, after: int) -> tuple[int, Sequence[int], int]:
        async with self.unit_of_work(read_only=True) as work:
            cuts = await work.messages.cuts(reply.user_id, reply.conversation_id, reply.id)
        ends = ends_of(reply, cuts)
        return ends[min(after, len(ends)) - 1] if after and ends else 0, ends[after:], after + 1

    async def _follow_live(
        self, live: LiveReply, after: int, again: bool, numbered: bool
    ) -> AsyncGenerator[ReplyEvent, None]:
        self._check_open()
        offset = await live.start_of(after) if numbered else after
        if again and live.ended is not None and offset >= live.ended.length:
            return
        yield _started(live.reply, offset)
        reply_id, told, lease, log = live.reply.id, False, self.lease, self.log
        while True:
            self._check_open()
            certain = lease.doubtful_at > monotonic() < log.doubtful_at and not live.lost
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
            elif not await live.changed(self.silence):
                yield Silence(reply_id, offset)

    def _here(self, owner: OwnerId, conversation_id: ConversationId, reply_id: MessageId | None) -> LiveReply | None:
        live = self.live.get(reply_id) if reply_id is not None else None
        if live and live.reply.user_id == owner and live.reply.conversation_id == conversation_id:
            return live
        return None

    async def _find(
        self, owner: OwnerId, conversation_id: ConversationId, reply_id: MessageId | None
    ) -> Message | None:
        async with self.unit_of_work(read_only=True) as work:
            if await work.conversations.get(owner, conversation_id) is None:
                raise NotFound("There is no such conversation.")
            if reply_id is None:
                reply = await work.messages.last_reply(owner, conversation_id)
            else:
                reply = await work.messages.get(owner, conversation_id, reply_id)
                if reply is None or reply.role is not Role.ASSISTANT:
                    raise NotFound("There is no such reply.")
            return reply


def _started(reply: Message, offset: int) -> ReplyStarted:
    return ReplyStarted(reply.id, offset, reply.conversation_id, reply.parent_id, reply.model)


def _memory_of(reply: Message) -> int:
    """Bytes. A reader holds the text of an ended reply until it has read it."""
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
