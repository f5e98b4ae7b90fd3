"""System A: one route to chat, with a conversation or without one."""

from typing import Annotated, Any, Self

import msgspec
from dishka.integrations.litestar import FromDishka
from litestar import Response, Router, post
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, JSONBody

from chatcore import ConversationId, Message, Owner, SendMessage
from chatcore_http.answers import Answers
from chatcore_http.routing import answering, described, private_router
from chatcore_http.schemas import Id


class Saying(msgspec.Struct, frozen=True):
    """Without `conversation_id` a conversation is created; its title is the first 50 characters of the message."""

    message: Annotated[str, msgspec.Meta(examples=["Why is the sky blue?"])]
    conversation_id: Id | None = None


class Answered(msgspec.Struct, frozen=True):
    """The stored message, and the text of the ended reply."""

    conversation_id: int
    message: str
    response: str

    @classmethod
    def of(cls, message: Message, reply: Message) -> Self:
        return cls(message.conversation_id, message.content, reply.content)


@post(
    "/chat",
    status_code=200,
    description=described(SendMessage),
    responses={200: answering(Answered, "The reply.")},
    called={"content": "message", "idempotency_key": "Idempotency-Key"},
)
async def chat(
    data: JSONBody[Saying],
    caller: NamedDependency[Owner],
    send_message: FromDishka[SendMessage],
    answers: FromDishka[Answers],
    idempotency_key: Annotated[str | None, HeaderParameter(name="Idempotency-Key")] = None,
) -> Response[Any]:
    sent = await send_message(
        by=caller,
        conversation_id=None if data.conversation_id is None else ConversationId(data.conversation_id),
        content=data.message,
        idempotency_key=idempotency_key,
    )
    return await answers.json(sent, caller, Answered.of)


def routers() -> list[Router]:
    return [private_router("", [chat], tag="system A", keys=True)]
