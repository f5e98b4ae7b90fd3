"""The answers to a chat: the event stream, or JSON once the reply has ended."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, ClassVar

from litestar import Response

from chatcore import FollowReply, Message, Owner, ReplyEnded, ReplyEvent, Sent, SessionWatch, Status
from chatcore.errors import ModelError, Raises
from chatcore.use_cases.following import AFTER
from chatcore_http import schemas
from chatcore_http.errors import failed_reply
from chatcore_http.routing import AnyRequest
from chatcore_http.sse import EventStream


class Answers:
    """An answer stops when the caller's session ends; the reply continues."""

    raises: ClassVar[Raises] = (ModelError, *ModelError.__subclasses__())

    def __init__(self, follow_reply: FollowReply, watch: SessionWatch) -> None:
        self._follow_reply = follow_reply
        self._watch = watch

    async def chat(self, sent: Sent, caller: Owner, request: AnyRequest, *, stream: bool) -> Response[Any]:
        """Return a stream if the body or the header `Accept` asks for one."""
        if stream or "text/event-stream" in request.headers.get("accept", ""):
            return EventStream(self._follow(sent)(), self._watch.while_valid(caller))
        return await self.json(sent, caller, schemas.Chat.of)

    async def json(self, sent: Sent, caller: Owner, shape: Callable[[Message, Message], object]) -> Response[Any]:
        """`shape` makes the JSON of the message and its reply. A failed reply is a problem."""
        async with self._watch.while_valid(caller):
            reply = await _end_of(self._follow(sent)(after=int(AFTER.maximum)))
        return failed_reply(reply) if reply.status is Status.FAILED else Response(shape(sent.message, reply))

    def _follow(self, sent: Sent) -> Callable[..., AsyncGenerator[ReplyEvent, None]]:
        reply = sent.reply
        return partial(
            self._follow_reply, owner=reply.user_id, conversation_id=reply.conversation_id, reply_id=reply.id
        )


async def _end_of(events: AsyncGenerator[ReplyEvent, None]) -> Message:
    async with aclosing(events):
        async for event in events:
            if isinstance(event, ReplyEnded):
                return event.message
    raise AssertionError("a reply that was sent for has an end")
