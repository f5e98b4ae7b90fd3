"""Answers that are replies of a conversation: their end, or their events as a protocol numbers them."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from litestar import Response

from chatcore import (
    FollowReply,
    Message,
    Owner,
    ReplyEnded,
    ReplyEvent,
    Requested,
    SessionWatch,
    Status,
    StopReply,
)
from chatcore.use_cases.following import AFTER
from chatcore_http.protocols.broken_streams import Encoder, ending_of
from chatcore_http.streams import Stream

_EVENTS = "text/event-stream"


class Following:
    """An answer stops when the caller's session ends; the reply continues."""

    def __init__(self, follow_reply: FollowReply, stop_reply: StopReply, watch: SessionWatch) -> None:
        self._follow_reply = follow_reply
        self._stop_reply = stop_reply
        self._watch = watch

    async def end(self, reply: Message, caller: Owner) -> Message:
        """Return the reply as it ended."""
        async with self._watch.while_valid(caller), aclosing(self._events(reply, after=int(AFTER.maximum))) as events:
            async for event in events:
                if isinstance(event, ReplyEnded):
                    return event.message
        raise AssertionError("a reply that is there has an end")

    async def stopped(self, found: Requested, caller: Owner) -> Requested:
        """Stop a reply in progress, and wait for its end. One that has ended is as it was."""
        if found.reply.status is not Status.WRITING:
            return found
        await self._stop_reply(by=caller, conversation_id=found.reply.conversation_id, reply_id=found.reply.id)
        return replace(found, reply=await self.end(found.reply, caller))

    def stream(self, reply: Message, caller: Owner, encoder: Encoder) -> Response[Any]:
        """Return the reply's numbered pieces, from the first on."""
        alive = self._watch.while_valid(caller)
        events = self._events(reply, numbered=True)
        failed = partial(ending_of, encoder)
        headers = {"Cache-Control": "no-cache"}
        return Stream(events, alive, encoder.encode, failed=failed, media_type=_EVENTS, headers=headers)

    def _events(self, reply: Message, **place: Any) -> AsyncGenerator[ReplyEvent, None]:
        return self._follow_reply(
            owner=reply.user_id, conversation_id=reply.conversation_id, reply_id=reply.id, **place
        )
