"""/conversations/{id}: talking."""

import re
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Annotated, Any

from dishka.integrations.litestar import FromDishka
from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, JSONBody, QueryParameter

from chatcore import (
    Caller,
    ConversationId,
    EditMessage,
    FollowReply,
    Message,
    MessageId,
    RegenerateReply,
    ReplyEnded,
    ReplyEvent,
    SendMessage,
    Sent,
    SessionWatch,
    Status,
    StopReply,
)
from chatcore.entities import check
from chatcore.errors import FieldError
from chatcore_http import schemas
from chatcore_http.errors import failed_reply
from chatcore_http.routes._common import AnyRequest, PathId, described, private_router
from chatcore_http.sse import EventStream

_CHAT = {200: ResponseSpec(schemas.Chat, description="The reply, or a stream of events if that was asked for.")}
_CURSOR = re.compile(r"(\d{1,18}):(\d{1,18})")
Offset = Annotated[int, QueryParameter(ge=0, le=2**53, description="How many code points of the reply the reader has.")]


@post(
    ["/{conversation_id:int}/chat", "/{conversation_id:int}/messages"],
    status_code=200,
    description=described(SendMessage),
    responses=_CHAT,
)
async def chat(
    conversation_id: PathId,
    data: JSONBody[schemas.Send],
    caller: NamedDependency[Caller],
    request: AnyRequest,
    send_message: FromDishka[SendMessage],
    follow_reply: FromDishka[FollowReply],
    watch: FromDishka[SessionWatch],
    idempotency_key: Annotated[str | None, HeaderParameter(name="Idempotency-Key")] = None,
) -> Response[Any]:
    sent = await send_message(
        owner=caller.user.id,
        conversation_id=ConversationId(conversation_id),
        content=data.content,
        options=data.options,
        idempotency_key=idempotency_key,
    )
    alive = watch.while_alive(caller.session.id)
    return await _answer(sent, follow_reply, alive, as_events=data.stream or _wants_events(request))


@post(
    "/{conversation_id:int}/regenerate",
    status_code=200,
    description=described(RegenerateReply),
    responses=_CHAT,
)
async def regenerate(
    conversation_id: PathId,
    caller: NamedDependency[Caller],
    request: AnyRequest,
    regenerate_reply: FromDishka[RegenerateReply],
    follow_reply: FromDishka[FollowReply],
    watch: FromDishka[SessionWatch],
    data: JSONBody[schemas.Regenerate | None] = None,
) -> Response[Any]:
    asked = data or schemas.Regenerate()
    sent = await regenerate_reply(
        owner=caller.user.id,
        conversation_id=ConversationId(conversation_id),
        message_id=None if asked.message_id is None else MessageId(asked.message_id),
        options=asked.options,
    )
    alive = watch.while_alive(caller.session.id)
    return await _answer(sent, follow_reply, alive, as_events=asked.stream or _wants_events(request))


@post(
    "/{conversation_id:int}/messages/{message_id:int}/edit",
    status_code=200,
    description=described(EditMessage),
    responses=_CHAT,
)
async def edit(
    conversation_id: PathId,
    message_id: PathId,
    data: JSONBody[schemas.Send],
    caller: NamedDependency[Caller],
    request: AnyRequest,
    edit_message: FromDishka[EditMessage],
    follow_reply: FromDishka[FollowReply],
    watch: FromDishka[SessionWatch],
) -> Response[Any]:
    sent = await edit_message(
        owner=caller.user.id,
        conversation_id=ConversationId(conversation_id),
        message_id=MessageId(message_id),
        content=data.content,
        options=data.options,
    )
    alive = watch.while_alive(caller.session.id)
    return await _answer(sent, follow_reply, alive, as_events=data.stream or _wants_events(request))


@get(
    "/{conversation_id:int}/reply",
    description=described(FollowReply),
    responses={
        200: ResponseSpec(str, media_type="text/event-stream", description="The reply's events."),
        204: ResponseSpec(None, description="There never was a reply.", generate_examples=False),
    },
)
async def reply(
    conversation_id: PathId,
    caller: NamedDependency[Caller],
    follow_reply: FromDishka[FollowReply],
    watch: FromDishka[SessionWatch],
    after: Offset = 0,
    last_event_id: Annotated[str | None, HeaderParameter(name="Last-Event-ID")] = None,
) -> Response[Any]:
    reply_id, after = _cursor(last_event_id) if last_event_id else (None, after)
    events = follow_reply(
        owner=caller.user.id, conversation_id=ConversationId(conversation_id), reply_id=reply_id, after=after
    )
    first = await anext(events, None)
    if first is None:
        return Response(None, status_code=204)
    return EventStream(_with(first, events), watch.while_alive(caller.session.id))


@post("/{conversation_id:int}/stop", status_code=200, description=described(StopReply))
async def stop(
    conversation_id: PathId, caller: NamedDependency[Caller], stop_reply: FromDishka[StopReply]
) -> schemas.Message:
    message = await stop_reply(owner=caller.user.id, conversation_id=ConversationId(conversation_id))
    return schemas.Message.of(message)


def _wants_events(request: AnyRequest) -> bool:
    return "text/event-stream" in request.headers.get("accept", "")


def _cursor(last_event_id: str) -> tuple[MessageId, int]:
    """The `id` of the last event that a client has seen: the reply and the offset after that event."""
    found = _CURSOR.fullmatch(last_event_id)
    check(None if found else FieldError("Last-Event-ID", "must be the id of an event, such as 12:345"))
    assert found is not None  # noqa: S101 - checked above
    return MessageId(int(found[1])), int(found[2])


async def _answer(
    sent: Sent, follow_reply: FollowReply, alive: AbstractAsyncContextManager[None], *, as_events: bool
) -> Response[Any]:
    """What goes out while the session is `alive`; the reply is written to its end in any case."""
    owner, conversation_id, reply_id = sent.reply.user_id, sent.reply.conversation_id, sent.reply.id
    follow = partial(follow_reply, owner=owner, conversation_id=conversation_id, reply_id=reply_id)
    if as_events:
        return EventStream(follow(), alive)
    async with alive:
        reply = await _end_of(follow(after=sys.maxsize))
    if reply.status is Status.FAILED:
        return failed_reply(reply)
    return Response(schemas.Chat(schemas.Message.of(sent.message), schemas.Message.of(reply)))


async def _end_of(events: AsyncIterator[ReplyEvent]) -> Message:
    async for event in events:
        if isinstance(event, ReplyEnded):
            return event.message
    raise AssertionError("a reply that was sent for has an end")


async def _with(first: ReplyEvent, rest: AsyncIterator[ReplyEvent]) -> AsyncIterator[ReplyEvent]:
    yield first
    async for event in rest:
        yield event


def routers() -> list[Router]:
    return [private_router("/conversations", [chat, regenerate, edit, reply, stop], tag="chat")]
