"""/conversations/{id}: talking."""

import re
import sys
from collections.abc import AsyncIterator
from typing import Annotated, Any

from dishka.integrations.litestar import FromDishka
from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, JSONBody, QueryParameter

from chatcore import (
    Caller,
    ChatOptions,
    ConversationId,
    FollowReply,
    Message,
    MessageId,
    ModelConfigId,
    ReplyEnded,
    ReplyEvent,
    SendMessage,
    Status,
    StopReply,
)
from chatcore.entities import check
from chatcore.errors import FieldError
from chatcore_http import schemas
from chatcore_http.errors import failed_reply
from chatcore_http.routes._common import AnyRequest, PathId, described, private_router
from chatcore_http.sse import event_stream

_CURSOR = re.compile(r"(\d{1,18}):(\d{1,18})")
Offset = Annotated[int, QueryParameter(ge=0, le=2**53, description="How many code points of the reply the reader has.")]


@post(
    ["/{conversation_id:int}/chat", "/{conversation_id:int}/messages"],
    status_code=200,
    description=described(SendMessage),
    responses={200: ResponseSpec(schemas.Chat, description="The reply, or a stream of events if that was asked for.")},
)
async def chat(
    conversation_id: PathId,
    data: JSONBody[schemas.Send],
    caller: NamedDependency[Caller],
    request: AnyRequest,
    send_message: FromDishka[SendMessage],
    follow_reply: FromDishka[FollowReply],
    idempotency_key: Annotated[str | None, HeaderParameter(name="Idempotency-Key")] = None,
) -> Response[Any]:
    owner, conversation = caller.user.id, ConversationId(conversation_id)
    options = ChatOptions(
        config_id=None if data.config_id is None else ModelConfigId(data.config_id),
        system=data.system,
        temperature=data.temperature,
        max_tokens=data.max_tokens,
    )
    sent = await send_message(
        owner=owner,
        conversation_id=conversation,
        content=data.content,
        options=options,
        idempotency_key=idempotency_key,
    )
    if data.stream or _wants_events(request):
        return event_stream(follow_reply(owner=owner, conversation_id=conversation, reply_id=sent.reply.id))
    ending = follow_reply(owner=owner, conversation_id=conversation, reply_id=sent.reply.id, after=sys.maxsize)
    reply = await _end_of(ending)
    if reply.status is Status.FAILED:
        return failed_reply(reply)
    return Response(schemas.Chat(schemas.Message.of(sent.message), schemas.Message.of(reply)))


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
    after: Offset = 0,
    last_event_id: Annotated[str | None, HeaderParameter(name="Last-Event-ID")] = None,
) -> Response[Any]:
    reply_id, after = _cursor(last_event_id) if last_event_id else (None, after)
    events = follow_reply(
        owner=caller.user.id, conversation_id=ConversationId(conversation_id), reply_id=reply_id, after=after
    )
    first = await anext(events, None)
    return event_stream(_with(first, events)) if first else Response(None, status_code=204)


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
    return [private_router("/conversations", [chat, reply, stop], tag="chat")]
