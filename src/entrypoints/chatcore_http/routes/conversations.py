"""/conversations: lists, histories, search."""

from typing import Annotated, Any

from dishka.integrations.litestar import FromDishka
from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody

from chatcore import (
    ConversationId,
    CreateConversation,
    DeleteConversation,
    ListConversations,
    ListCursor,
    MessageId,
    ModelConfigId,
    Owner,
    ReadHistory,
    ReadImage,
    RenameConversation,
    SearchConversations,
    SearchCursor,
    SwitchBranch,
)
from chatcore.bounds import check
from chatcore.errors import FieldError
from chatcore_http import schemas
from chatcore_http.routing import PathId, answering, described, matching, private_router

_ID: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1, "pattern": None, "one_of": None}
BeforeId = Annotated[
    str | None, matching("[0-9]{0,19}", "The page has messages older than this one.", schema_extra=_ID)
]
ListCursorText = Annotated[
    str, matching("([0-9]{1,17}-[0-9]{1,17}-[0-9]{1,19})?", "Instead of `offset`: the previous page's `next_cursor`.")
]
Cursor = Annotated[str, matching("([tm][0-9]{0,19})?", "The `next_cursor` of the previous page.")]


@get("/", description=described(ListConversations))
async def list_all(
    caller: NamedDependency[Owner],
    list_conversations: FromDishka[ListConversations],
    limit: FromQuery[int] = 20,
    offset: FromQuery[int] = 0,
    cursor: ListCursorText = "",
) -> schemas.Conversations:
    place = ListCursor.parse(cursor) if cursor else None
    page = await list_conversations(owner=caller.owner, limit=limit, offset=offset, cursor=place)
    return schemas.Conversations.of(page, limit=limit, offset=offset)


@get("/search", description=described(SearchConversations))
async def search(
    caller: NamedDependency[Owner],
    search_conversations: FromDishka[SearchConversations],
    q: FromQuery[str | None] = None,
    cursor: Cursor = "",
    limit: FromQuery[int] = 20,
) -> schemas.Hits:
    page = await search_conversations(owner=caller.owner, q=q or "", cursor=SearchCursor.parse(cursor), limit=limit)
    return schemas.Hits.of(page, limit=limit)


@post("/create", status_code=201, description=described(CreateConversation))
async def create(
    caller: NamedDependency[Owner],
    create_conversation: FromDishka[CreateConversation],
    data: JSONBody[schemas.NewConversation | None] = None,
) -> schemas.Conversation:
    new = data or schemas.NewConversation()
    conversation = await create_conversation(
        by=caller,
        title=new.title,
        config_id=None if new.config_id is None else ModelConfigId(new.config_id),
        metadata=new.metadata,
    )
    return schemas.Conversation.of(conversation)


@post("/{conversation_id:int}/rename", status_code=200, description=described(RenameConversation))
async def rename(
    conversation_id: PathId,
    data: JSONBody[schemas.Rename],
    caller: NamedDependency[Owner],
    rename_conversation: FromDishka[RenameConversation],
) -> schemas.Conversation:
    conversation = await rename_conversation(
        by=caller, conversation_id=ConversationId(conversation_id), title=data.title
    )
    return schemas.Conversation.of(conversation)


@post("/{conversation_id:int}/delete", status_code=200, description=described(DeleteConversation))
async def delete(
    conversation_id: PathId, caller: NamedDependency[Owner], delete_conversation: FromDishka[DeleteConversation]
) -> schemas.Said:
    await delete_conversation(by=caller, conversation_id=ConversationId(conversation_id))
    return schemas.Said("The conversation is deleted.")


@get("/{conversation_id:int}", description=described(ReadHistory))
async def history(
    conversation_id: PathId,
    caller: NamedDependency[Owner],
    read_history: FromDishka[ReadHistory],
    limit: FromQuery[int] = 50,
    before_id: BeforeId = None,
) -> schemas.History:
    page = await read_history(
        owner=caller.owner,
        conversation_id=ConversationId(conversation_id),
        limit=limit,
        before=_message_id(before_id) if before_id else None,
    )
    return schemas.History.of(page)


@post("/{conversation_id:int}/branch", status_code=200, description=described(SwitchBranch))
async def branch(
    conversation_id: PathId,
    data: JSONBody[schemas.Branch],
    caller: NamedDependency[Owner],
    switch_branch: FromDishka[SwitchBranch],
) -> schemas.History:
    page = await switch_branch(
        by=caller, conversation_id=ConversationId(conversation_id), message_id=MessageId(data.message_id)
    )
    return schemas.History.of(page)


@get(
    "/{conversation_id:int}/messages/{message_id:int}/images/{number:int}",
    description=described(ReadImage),
    responses={200: answering(bytes, "The image.", media_type="image/*")},
)
async def image(
    conversation_id: PathId,
    message_id: PathId,
    number: PathId,
    caller: NamedDependency[Owner],
    read_image: FromDishka[ReadImage],
) -> Response[bytes]:
    found = await read_image(
        owner=caller.owner,
        conversation_id=ConversationId(conversation_id),
        message_id=MessageId(message_id),
        number=number,
    )
    name = f"{message_id}-{number}.{found.media_type.removeprefix('image/')}"
    saved = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(found.data, media_type=found.media_type, headers=saved)


def _message_id(number: str) -> MessageId:
    """Read an id that may be empty in the query (`?before_id=`), and is therefore text."""
    check(None if 1 <= int(number) < 2**63 else FieldError("before_id", "must be the id of a message"))
    return MessageId(int(number))


def routers() -> list[Router]:
    handlers: list[Any] = [list_all, search, create, rename, delete, history, branch, image]
    return [private_router("/conversations", handlers, tag="conversations", keys=True)]
