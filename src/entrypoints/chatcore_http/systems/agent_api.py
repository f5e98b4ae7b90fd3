"""System D: the chat of system A, and the user's conversations, under /agent."""

from dishka.integrations.litestar import FromDishka
from litestar import Router, delete, get
from litestar.di import NamedDependency
from litestar.params import FromQuery

from chatcore import ConversationId, DeleteConversation, ListConversations, Owner
from chatcore_http import schemas
from chatcore_http.routing import PathId, described, private_router
from chatcore_http.systems.rag_api import chat


@get("/conversations", description=described(ListConversations))
async def list_conversations(
    caller: NamedDependency[Owner],
    conversations: FromDishka[ListConversations],
    limit: FromQuery[int] = 100,
    offset: FromQuery[int] = 0,
) -> list[schemas.Conversation]:
    """An array that is shorter than `limit` is the last one."""
    page = await conversations(owner=caller.owner, limit=limit, offset=offset)
    return [schemas.Conversation.of(conversation) for conversation in page.items]


@delete("/conversations/{conversation_id:int}", status_code=200, description=described(DeleteConversation))
async def delete_conversation(
    conversation_id: PathId, caller: NamedDependency[Owner], delete_it: FromDishka[DeleteConversation]
) -> schemas.Said:
    await delete_it(by=caller, conversation_id=ConversationId(conversation_id))
    return schemas.Said("The conversation is deleted.")


def routers() -> list[Router]:
    return [private_router("/agent", [chat, list_conversations, delete_conversation], tag="system D", keys=True)]
