"""System C, under /v1: accounts, and chats with uploaded messages of any role."""

from typing import Annotated, Literal
from urllib.parse import parse_qs

import msgspec
from dishka.integrations.litestar import DishkaRouter, FromDishka
from litestar import Router, delete, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, JSONBody, QueryParameter

from chatcore import (
    AddMessage,
    Authenticate,
    Caller,
    ConversationId,
    CreateAccount,
    CreateConversation,
    DeleteConversation,
    ListConversations,
    ReadHistory,
    Role,
    SignIn,
)
from chatcore.bounds import check
from chatcore.errors import FieldError
from chatcore_app import Settings
from chatcore_http import account_schemas, schemas
from chatcore_http.media import FORM, form_of
from chatcore_http.routing import AnyRequest, PathId, client_of, described, private_router

_FORM_BYTES = 32 * 1024  # the longest name and password, each byte of them escaped
_FORM_FIELDS = 100


class Welcome(msgspec.Struct, frozen=True):
    message: Annotated[str, msgspec.Meta(examples=["Welcome to chatcore."])]


class PasswordGrant(msgspec.Struct, frozen=True):
    """The form of RFC 6749 §4.3.2; other fields are ignored."""

    username: Annotated[str, msgspec.Meta(examples=["alice"], description="Or the e-mail address.")]
    password: Annotated[str, msgspec.Meta(examples=["correct horse battery"])]


class BearerToken(msgspec.Struct, frozen=True):
    access_token: Annotated[
        str, msgspec.Meta(examples=["eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiIxIn0.c2ln"])
    ]
    token_type: Literal["bearer"] = "bearer"


class NewChat(msgspec.Struct, frozen=True):
    title: Annotated[str, msgspec.Meta(examples=["My Chat"])]


class ChatHistory(schemas.Conversation, frozen=True):
    """A chat with its newest 50 messages."""

    messages: list[schemas.Message]


class NewMessage(msgspec.Struct, frozen=True):
    role: Literal["system", "user", "assistant"]
    content: Annotated[str, msgspec.Meta(examples=["Hello!"])]


@get("/")
async def welcome(settings: FromDishka[Settings]) -> Welcome:
    """Return a welcome, which shows that the server runs. Needs no token."""
    return Welcome(f"Welcome to {settings.app_name}.")


# ---- /v1/auth --------------------------------------------------------------------------------------------


@post("/register", status_code=201, description=described(CreateAccount))
async def register(
    data: JSONBody[account_schemas.Registration],
    request: AnyRequest,
    create_account: FromDishka[CreateAccount],
) -> account_schemas.User:
    user = await create_account(username=data.username, email=data.email, password=data.password, **client_of(request))
    return account_schemas.User.of(user)


@post(
    "/token",
    status_code=200,
    description=described(SignIn),
    body_content=form_of(PasswordGrant),
    request_max_body_size=_FORM_BYTES,
    response_headers={"Pragma": "no-cache"},
)
async def token(request: AnyRequest, sign_in: FromDishka[SignIn]) -> BearerToken:
    # Not the framework's parser: it keeps the last thousand bodies, and takes UTF-8 that is not escaped for Latin-1.
    text = (await request.body()).decode()
    few = text.count("&") < _FORM_FIELDS
    check(None if few else FieldError("body", f"must be a form of at most {_FORM_FIELDS} fields"))
    form = parse_qs(text, keep_blank_values=True, errors="strict")
    given = {name: form.get(name, [""]) for name in ("username", "password")}
    wrong = [name for name, values in given.items() if len(values) != 1 or not values[0]]
    check(*(FieldError(name, f"is required, once, in a form ({FORM})") for name in wrong))
    ((name,), (password,)) = given.values()
    signed_in = await sign_in(name=name, password=password, **client_of(request))
    return BearerToken(signed_in.access_token)


async def holder(caller: NamedDependency[Caller]) -> account_schemas.User:
    return account_schemas.User.of(caller.user)


test_token: HTTPRouteHandler = get("/test_token", description=described(Authenticate))(holder)
test_token_by_post: HTTPRouteHandler = post(
    "/test_token", status_code=200, description=described(Authenticate), operation_id="v1_auth_test_token_by_post"
)(holder)


# ---- /v1/chats -------------------------------------------------------------------------------------------


@post("/", status_code=201, description=described(CreateConversation))
async def create(
    data: JSONBody[NewChat], caller: NamedDependency[Caller], begin: FromDishka[CreateConversation]
) -> schemas.Conversation:
    return schemas.Conversation.of(await begin(by=caller, title=data.title))


@get("/", description=described(ListConversations), operation_id="v1_chats_list", called={"offset": "skip"})
async def list_all(
    caller: NamedDependency[Caller],
    list_conversations: FromDishka[ListConversations],
    skip: FromQuery[int] = 0,
    limit: FromQuery[int] = 100,
) -> list[schemas.Conversation]:
    page = await list_conversations(owner=caller.owner, limit=limit, offset=skip)
    return [schemas.Conversation.of(conversation) for conversation in page.items]


@get("/{chat_id:int}", description=described(ReadHistory))
async def read(chat_id: PathId, caller: NamedDependency[Caller], read_history: FromDishka[ReadHistory]) -> ChatHistory:
    history = await read_history(owner=caller.owner, conversation_id=ConversationId(chat_id))
    chat = schemas.Conversation.of(history.conversation)
    messages = [schemas.Message.of(message) for message in history.messages]
    return ChatHistory(**msgspec.structs.asdict(chat), messages=messages)


@delete("/{chat_id:int}", status_code=200, description=described(DeleteConversation))
async def remove(
    chat_id: PathId, caller: NamedDependency[Caller], delete_conversation: FromDishka[DeleteConversation]
) -> schemas.Said:
    await delete_conversation(by=caller, conversation_id=ConversationId(chat_id))
    return schemas.Said("The chat is deleted.")


@post("/{chat_id:int}/message", status_code=200, description=described(AddMessage))
async def add_message(
    chat_id: PathId, data: JSONBody[NewMessage], caller: NamedDependency[Caller], add: FromDishka[AddMessage]
) -> schemas.Message:
    message = await add(by=caller, conversation_id=ConversationId(chat_id), role=Role(data.role), content=data.content)
    return schemas.Message.of(message)


@post("/message", status_code=200, description=described(AddMessage), operation_id="v1_chats_message_by_query")
async def add_message_to(
    chat_id: Annotated[int, QueryParameter(ge=1, le=2**63 - 1)],
    data: JSONBody[NewMessage],
    caller: NamedDependency[Caller],
    add: FromDishka[AddMessage],
) -> schemas.Message:
    message = await add(by=caller, conversation_id=ConversationId(chat_id), role=Role(data.role), content=data.content)
    return schemas.Message.of(message)


def routers() -> list[Router]:
    chats = [create, list_all, read, remove, add_message, add_message_to]
    return [
        DishkaRouter(path="/v1", route_handlers=[welcome], tags=["system C"]),
        DishkaRouter(path="/v1/auth", route_handlers=[register, token], tags=["system C"]),
        private_router("/v1/auth", [test_token, test_token_by_post], tag="system C"),
        private_router("/v1/chats", chats, tag="system C", keys=True),
    ]
