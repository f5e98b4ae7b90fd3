"""/conversations/{id}: messages and replies."""

from typing import Annotated, Any

from dishka.integrations.litestar import FromDishka
from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, JSONBody, QueryParameter

from chatcore import (
    ConversationId,
    EditMessage,
    FollowReply,
    MessageId,
    Owner,
    RegenerateReply,
    SendMessage,
    SessionWatch,
    StopReply,
)
from chatcore.data_urls import images_of
from chatcore_http import schemas
from chatcore_http.answers import Answers
from chatcore_http.media import STREAM
from chatcore_http.routing import AnyRequest, PathId, answering, described, private_router
from chatcore_http.sse import EventStream

_CHAT: dict[str, Any] = {
    "responses": {200: answering(schemas.Chat, "The ended reply, or the event stream on request.")},
    "answer_content": STREAM,
}
Offset = Annotated[int, QueryParameter(description="Code points of the reply that the client has.")]


@post(
    ["/{conversation_id:int}/chat", "/{conversation_id:int}/messages"],
    status_code=200,
    description=described(SendMessage),
    **_CHAT,
    called={"idempotency_key": "Idempotency-Key"},
)
async def chat(
    conversation_id: PathId,
    data: JSONBody[schemas.Send],
    caller: NamedDependency[Owner],
    request: AnyRequest,
    send_message: FromDishka[SendMessage],
    answers: FromDishka[Answers],
    idempotency_key: Annotated[str | None, HeaderParameter(name="Idempotency-Key")] = None,
) -> Response[Any]:
    sent = await send_message(
        by=caller,
        conversation_id=ConversationId(conversation_id),
        content=data.content,
        images=await images_of(data.images, name="images"),
        options=data.options,
        metadata=data.metadata,
        idempotency_key=idempotency_key,
    )
    return await answers.chat(sent, caller, request, stream=data.stream)


@post(
    "/{conversation_id:int}/regenerate",
    status_code=200,
    description=described(RegenerateReply),
    **_CHAT,
)
async def regenerate(
    conversation_id: PathId,
    caller: NamedDependency[Owner],
    request: AnyRequest,
    regenerate_reply: FromDishka[RegenerateReply],
    answers: FromDishka[Answers],
    data: JSONBody[schemas.Regenerate | None] = None,
) -> Response[Any]:
    asked = data or schemas.Regenerate()
    sent = await regenerate_reply(
        by=caller,
        conversation_id=ConversationId(conversation_id),
        message_id=None if asked.message_id is None else MessageId(asked.message_id),
        options=asked.options,
    )
    return await answers.chat(sent, caller, request, stream=asked.stream)


@post(
    "/{conversation_id:int}/messages/{message_id:int}/edit",
    status_code=200,
    description=described(EditMessage),
    **_CHAT,
)
async def edit(
    conversation_id: PathId,
    message_id: PathId,
    data: JSONBody[schemas.Send],
    caller: NamedDependency[Owner],
    request: AnyRequest,
    edit_message: FromDishka[EditMessage],
    answers: FromDishka[Answers],
) -> Response[Any]:
    sent = await edit_message(
        by=caller,
        conversation_id=ConversationId(conversation_id),
        message_id=MessageId(message_id),
        content=data.content,
        images=await images_of(data.images, name="images"),
        options=data.options,
        metadata=data.metadata,
    )
    return await answers.chat(sent, caller, request, stream=data.stream)


@get(
    "/{conversation_id:int}/reply",
    description=described(FollowReply),
    answer_content=STREAM,
    responses={
        200: answering(str, "The reply's events.", media_type="text/event-stream"),
        204: answering(
            None, "The conversation never had a reply, or the reply ended at `Last-Event-ID`: do not reconnect."
        ),
    },
)
async def reply(
    conversation_id: PathId,
    caller: NamedDependency[Owner],
    follow_reply: FromDishka[FollowReply],
    watch: FromDishka[SessionWatch],
    after: Offset = 0,
    last_event_id: Annotated[str | None, HeaderParameter(name="Last-Event-ID")] = None,
) -> Response[Any]:
    events = follow_reply.resume(
        owner=caller.owner,
        conversation_id=ConversationId(conversation_id),
        last_event_id=last_event_id,
        after=after,
    )
    first = await anext(events, None)
    if first is None:
        return Response(None, status_code=204)
    return EventStream(events, watch.while_valid(caller), first=[first])


@post("/{conversation_id:int}/stop", status_code=200, description=described(StopReply))
async def stop(
    conversation_id: PathId, caller: NamedDependency[Owner], stop_reply: FromDishka[StopReply]
) -> schemas.Message:
    message = await stop_reply(by=caller, conversation_id=ConversationId(conversation_id))
    return schemas.Message.of(message)


def routers(*, max_body_bytes: int) -> list[Router]:
    """`max_body_bytes`: of a message with its images."""
    sending: dict[str, Any] = {"request_max_body_size": max_body_bytes}
    return [
        private_router("/conversations", [chat, edit], tag="chat", keys=True, **sending),
        private_router("/conversations", [regenerate, reply, stop], tag="chat", keys=True),
    ]
