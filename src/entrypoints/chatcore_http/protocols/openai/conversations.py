"""/v1/conversations: conversations and their items."""

from collections.abc import Sequence
from typing import Any

import msgspec
from dishka.integrations.litestar import FromDishka
from litestar import Router, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from chatcore import (
    AddItems,
    Conversation,
    ConversationId,
    DeleteConversation,
    DescribeConversation,
    Earlier,
    EraseMessage,
    ListConversations,
    ListItems,
    Owner,
    ReadConversation,
    ReadItem,
    UploadConversation,
)
from chatcore.errors import NotFound
from chatcore.use_cases.conversations import ListCursor
from chatcore.wire import Json
from chatcore_http.protocols.openai.ids import ReplyName, conversation_of, message_of_item, shown_conversation_id
from chatcore_http.protocols.openai.input_messages import check_room, heard, is_thought, message_of
from chatcore_http.protocols.openai.items import After, Limit, Listed, Order, item_of, listed, place
from chatcore_http.routing import private_router

_ITEM = "There is no such item."


class NewConversation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    items: list[dict[str, Any]] | None = None
    metadata: dict[str, str] | None = None


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    metadata: dict[str, str]


class NewItems(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    items: list[dict[str, Any]]


def conversation_object(conversation: Conversation) -> Json:
    return {
        "id": shown_conversation_id(conversation.id),
        "object": "conversation",
        "created_at": int(conversation.created_at.timestamp()),
        "metadata": dict(conversation.metadata),
    }


def listed_conversation(conversation: Conversation) -> Json:
    return {**conversation_object(conversation), "title": conversation.title}


@post("/conversations", status_code=200)
async def create(
    caller: NamedDependency[Owner],
    upload_conversation: FromDishka[UploadConversation],
    data: JSONBody[NewConversation | None] = None,
) -> Json:
    new = data or NewConversation()
    items = await _messages_of(new.items or [])
    return conversation_object(await upload_conversation(by=caller, items=items, metadata=new.metadata or {}))


@get("/conversations")
async def list_all(
    caller: NamedDependency[Owner],
    list_conversations: FromDishka[ListConversations],
    after: FromQuery[str | None] = None,
    limit: Limit = 20,
) -> Listed:
    """Beyond OpenAI's own: most recently used first. `after`: `last_id` of the page before."""
    cursor = None if after is None else ListCursor.parse(after)
    page = await list_conversations(owner=caller.owner, limit=limit, cursor=cursor)
    found = Listed.of([listed_conversation(each) for each in page.items], more=page.next is not None)
    return msgspec.structs.replace(found, last_id=str(page.next)) if page.next else found


@get("/conversations/{conversation_id:str}")
async def read(
    conversation_id: FromPath[str], caller: NamedDependency[Owner], read_conversation: FromDishka[ReadConversation]
) -> Json:
    found = await read_conversation(owner=caller.owner, conversation_id=_id(conversation_id))
    return conversation_object(found)


@post("/conversations/{conversation_id:str}", status_code=200)
async def describe(
    conversation_id: FromPath[str],
    data: JSONBody[Description],
    caller: NamedDependency[Owner],
    describe_conversation: FromDishka[DescribeConversation],
) -> Json:
    changed = await describe_conversation(by=caller, conversation_id=_id(conversation_id), metadata=data.metadata)
    return conversation_object(changed)


@delete("/conversations/{conversation_id:str}", status_code=200)
async def remove(
    conversation_id: FromPath[str], caller: NamedDependency[Owner], delete_conversation: FromDishka[DeleteConversation]
) -> Json:
    await delete_conversation(by=caller, conversation_id=_id(conversation_id))
    return {"id": conversation_id, "object": "conversation.deleted", "deleted": True}


@get("/conversations/{conversation_id:str}/items")
async def list_items(
    conversation_id: FromPath[str],
    caller: NamedDependency[Owner],
    list_items: FromDishka[ListItems],
    after: After = None,
    limit: Limit = 20,
    order: Order = "desc",
) -> Listed:
    page = await list_items(
        owner=caller.owner,
        conversation_id=_id(conversation_id),
        after=place(after),
        limit=limit,
        newest_first=order == "desc",
    )
    return listed(page)


@post("/conversations/{conversation_id:str}/items", status_code=200)
async def add_items(
    conversation_id: FromPath[str],
    data: JSONBody[NewItems],
    caller: NamedDependency[Owner],
    add_items: FromDishka[AddItems],
) -> Listed:
    items = await _messages_of(data.items)
    added = await add_items(by=caller, conversation_id=_id(conversation_id), items=items)
    return Listed.of([item_of(each) for each in added], more=False)


@get("/conversations/{conversation_id:str}/items/{item_id:str}")
async def read_item(
    conversation_id: FromPath[str],
    item_id: FromPath[str],
    caller: NamedDependency[Owner],
    read_item: FromDishka[ReadItem],
) -> Json:
    named = _item(conversation_id, item_id)
    return item_of(await read_item(owner=caller.owner, conversation_id=named[0], message_id=named[1]))


@delete("/conversations/{conversation_id:str}/items/{item_id:str}", status_code=200)
async def remove_item(
    conversation_id: FromPath[str],
    item_id: FromPath[str],
    caller: NamedDependency[Owner],
    erase_message: FromDishka[EraseMessage],
    read_conversation: FromDishka[ReadConversation],
) -> Json:
    """Return the conversation."""
    named = _item(conversation_id, item_id)
    await erase_message(by=caller, conversation_id=named[0], message_id=named[1])
    return conversation_object(await read_conversation(owner=caller.owner, conversation_id=named[0]))


def _id(name: str) -> ConversationId:
    found = conversation_of(name)
    if found is None:
        raise NotFound("There is no such conversation.")
    return found


def _item(conversation: str, item: str) -> ReplyName:
    named = message_of_item(item)
    if named is None or named.conversation_id != _id(conversation):
        raise NotFound(_ITEM)
    return named


async def _messages_of(items: Sequence[dict[str, Any]]) -> Sequence[Earlier]:
    """Read all of them before any is stored. Raise `ValidationFailed`."""
    AddItems.bounds.check(items=items)
    said = [message_of(item, f"items[{number}]") for number, item in enumerate(items) if not is_thought(item)]
    check_room(said, "items")
    return [await heard(each) for each in said]


def routers(max_body_bytes: int) -> list[Router]:
    handlers = [create, list_all, read, describe, remove, list_items, add_items, read_item, remove_item]
    return [
        private_router(
            "/v1", handlers, tag="openai", keys=True, include_in_schema=False, request_max_body_size=max_body_bytes
        )
    ]
