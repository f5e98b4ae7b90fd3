"""Replies in progress and ended: follow, stop."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import ClassVar, Protocol

from chatcore.authority import ANYTIME, CHANGING, Owner, acting, planning
from chatcore.bounds import Bounds, Range
from chatcore.endings import LoggedWork, with_logged_text
from chatcore.entities import ConversationId, Message, MessageId, OwnerId, Scope, Status
from chatcore.errors import NotFound, Raises, RateLimited, ValidationFailed
from chatcore.events import Cursor, ReplyEvent
from chatcore.ports import AuthorityWork, Clock, ConversationRepo, UnitsOfWork
from chatcore.replies import Replies
from chatcore.shielding import retry_on_contention
from chatcore.use_cases.beginning import MISSING

AFTER = Range(0, 2**53)
"""Code points: JavaScript counts no further, and no reply has more."""


@dataclass(frozen=True, kw_only=True)
class FollowReply:
    """Stream a reply from an offset on, in progress or ended."""

    replies: Replies
    bounds: ClassVar[Bounds] = Bounds(after=AFTER)
    raises: ClassVar[Raises] = (*ANYTIME, ValidationFailed, NotFound, RateLimited)

    def __call__(
        self,
        *,
        owner: OwnerId,
        conversation_id: ConversationId,
        reply_id: MessageId | None = None,
        after: int = 0,
        again: bool = False,
        numbered: bool = False,
    ) -> AsyncGenerator[ReplyEvent, None]:
        """As `Replies.follow`."""
        self.bounds.check(after=after)
        return self.replies.follow(
            owner=owner,
            conversation_id=conversation_id,
            reply_id=reply_id,
            after=after,
            again=again,
            numbered=numbered,
        )

    def resume(
        self, *, owner: OwnerId, conversation_id: ConversationId, last_event_id: str | None, after: int = 0
    ) -> AsyncGenerator[ReplyEvent, None]:
        """As a browser's `EventSource` asks: `last_event_id`, of the header `Last-Event-ID`, wins over `after`. There
        are no events if nothing follows it. Raise `ValidationFailed`."""
        cursor = Cursor.parse(last_event_id or None)
        return self(
            owner=owner,
            conversation_id=conversation_id,
            reply_id=cursor and cursor.reply_id,
            after=cursor.offset if cursor else after,
            again=cursor is not None,
        )


class StoppingWork(AuthorityWork, LoggedWork, Protocol):
    conversations: ConversationRepo


@dataclass(frozen=True, kw_only=True)
class StopReply:
    """Stop the reply in progress, and keep its text. Without one, return the last reply unchanged."""

    unit_of_work: UnitsOfWork[StoppingWork]
    replies: Replies
    clock: Clock
    raises: ClassVar[Raises] = (*CHANGING, NotFound)

    async def __call__(
        self, *, by: Owner, conversation_id: ConversationId, reply_id: MessageId | None = None
    ) -> Message:
        """`reply_id`: stop this one, and no other that has begun since."""
        last = await self._last(by, conversation_id, reply_id)
        if last.status is Status.WRITING:
            await self._order(by, last)
        stopped = await self.replies.stop(last)
        if stopped is not None:
            return stopped
        async with self.unit_of_work(read_only=True) as work:
            return await with_logged_text(work, last)

    @retry_on_contention
    async def _last(self, by: Owner, conversation_id: ConversationId, reply_id: MessageId | None) -> Message:
        async with planning(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            if await work.conversations.get(by.owner, conversation_id) is None:
                raise NotFound(MISSING)
            if reply_id is None:
                last = await work.messages.last_reply(by.owner, conversation_id)
            else:
                last = await work.messages.get(by.owner, conversation_id, reply_id)
            if last is None:
                raise NotFound("No reply was ever written in this conversation.")
        return last

    @retry_on_contention
    async def _order(self, by: Owner, reply: Message) -> None:
        """Request the stop on this authority; carrying it out needs none."""
        async with acting(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            await work.conversations.request_stop(by.owner, reply.conversation_id, reply.id)
            await work.commit()
