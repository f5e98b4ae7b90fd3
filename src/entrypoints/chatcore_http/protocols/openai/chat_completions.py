"""/v1/chat/completions: what passes through, and what is stored as a reply of a conversation."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from dishka.integrations.litestar import FromDishka
from litestar import Response, Router, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody, QueryParameter

from chatcore import (
    Asked as AskedFor,
)
from chatcore import (
    DescribeRequest,
    EraseMessage,
    FindModel,
    ListPath,
    ListRequests,
    Message,
    MessageId,
    Owner,
    ReadRequest,
    Requested,
    SendMessage,
)
from chatcore.errors import FieldError, NotFound, ValidationFailed
from chatcore.json_values import MOST_STORED, check_values
from chatcore.wire import Json
from chatcore_http.protocols.openai.asked import Asked
from chatcore_http.protocols.openai.completion_requests import (
    CreateCompletion,
    completion_echo,
    completion_options,
    continued_by,
    read_completion,
    said_in,
)
from chatcore_http.protocols.openai.errors import told
from chatcore_http.protocols.openai.fields import read_fields
from chatcore_http.protocols.openai.following import Following
from chatcore_http.protocols.openai.ids import conversation_of, message_item_id, name_of_key, reply_of_completion
from chatcore_http.protocols.openai.input_messages import spoken
from chatcore_http.protocols.openai.items import After, Limit, Listed, Order, place
from chatcore_http.protocols.openai.models import with_model
from chatcore_http.protocols.openai.relaying import Relaying, body_of
from chatcore_http.protocols.openai.stored_completions import CompletionChunks, completion_object, problem_of
from chatcore_http.routing import AnyRequest, private_router

KIND = "chat.completion"
_FILTER = re.compile(r"metadata\[(.{1,64})\]", re.DOTALL)
_LONGEST_NAME = 200  # bytes of JSON
_FILTERS = 16


class Completions:
    """What the routes of stored completions share."""

    def __init__(
        self, send_message: SendMessage, find_model: FindModel, read_request: ReadRequest, following: Following
    ) -> None:
        self._send_message = send_message
        self._find_model = find_model
        self._read_request = read_request
        self._following = following

    async def create(self, caller: Owner, fields: Mapping[str, Any], *, idempotency_key: str | None) -> Response[Any]:
        asked = read_completion(fields)
        echo = completion_echo(asked)
        reply = await self._send(caller, asked, fields, echo, idempotency_key)
        if asked.stream:
            return self.stream(reply, caller, echo)
        return _answer(await self._following.end(reply, caller), echo)

    async def _send(
        self, caller: Owner, asked: CreateCompletion, fields: Any, echo: Any, idempotency_key: str | None
    ) -> Message:
        conversation_id = continued_by(asked)
        said = await spoken(said_in(asked, last_only=conversation_id is not None), "messages")
        begun = name_of_key(KIND, idempotency_key) if conversation_id is None else None
        sent = await self._send_message(
            by=caller,
            conversation_id=conversation_id,
            client_id=begun,
            begins=begun is not None,
            content=said.content,
            images=said.images,
            earlier=said.earlier,
            options=await with_model(self._find_model, caller, asked.model, completion_options(asked, fields)),
            metadata=asked.metadata or {},
            idempotency_key=idempotency_key,
            asked=AskedFor(KIND, echo),
        )
        return sent.reply

    def stream(self, reply: Message, caller: Owner, echo: Mapping[str, Any], *, after: int = 0) -> Response[Any]:
        chunks = CompletionChunks(reply, include_usage=echo["include_usage"], after=after)
        return self._following.stream(reply, caller, chunks)

    async def find(self, caller: Owner, name: str) -> Requested:
        """Raise `NotFound`."""
        named = reply_of_completion(name)
        if named is None:
            raise NotFound("There is no such completion.")
        return await self._read_request(
            owner=caller.owner, conversation_id=named.conversation_id, reply_id=named.message_id, kind=KIND
        )

    async def stopped(self, caller: Owner, name: str) -> Requested:
        """Return the completion, ended. Raise `NotFound`."""
        return await self._following.stopped(await self.find(caller, name), caller)


def _answer(reply: Message, echo: Mapping[str, Any]) -> Response[Any]:
    """A failed reply is an error. Another try would be stored beside it."""
    problem = problem_of(reply)
    if problem is None:
        return Response(completion_object(reply, echo))
    error = told(problem)
    headers = {**error.headers, "X-Should-Retry": "false"}
    return Response(error.body, status_code=error.status, media_type=error.media_type, headers=headers)


class _Metadata(msgspec.Struct, frozen=True):
    """What is looked at before it is known whether the rest is for us."""

    conversation_id: msgspec.Raw = msgspec.Raw()

    @property
    def names_ours(self) -> bool:
        if not 0 < len(self.conversation_id) <= _LONGEST_NAME:
            return False
        return conversation_of(str(msgspec.json.decode(self.conversation_id))) is not None


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    metadata: dict[str, str] | None


_CALLED = {
    "content": "messages",
    "images": "messages",
    "earlier": "messages",
    "system": "messages",
    "idempotency_key": "Idempotency-Key",
    "client_id": "Idempotency-Key",
}


@post("/chat/completions", status_code=200, called=_CALLED)
async def complete(
    request: AnyRequest,
    caller: NamedDependency[Owner],
    relaying: FromDishka[Relaying],
    completions: FromDishka[Completions],
    idempotency_key: Annotated[str | None, HeaderParameter(name="Idempotency-Key")] = None,
) -> Response[Any]:
    asked = Asked.of(await body_of(request))
    if is_stored(asked):
        await check_values(asked.body, most=MOST_STORED)
        return await completions.create(caller, read_fields(asked.body), idempotency_key=idempotency_key)
    return await relaying.answer(request, caller, "/chat/completions", asked)


def is_stored(asked: Asked) -> bool:
    """Return whether the answer is to be a reply of a conversation: it is so where the metadata have the id of one of
    ours, while another program's name for its own passes through. Raise `ValidationFailed`."""
    if asked.value("store", bool | None, "must be true or false"):
        return True
    metadata = asked.value("metadata", _Metadata | None, "must be an object")
    return metadata is not None and metadata.names_ours


@get("/chat/completions/{completion_id:str}")
async def read(
    completion_id: FromPath[str],
    caller: NamedDependency[Owner],
    completions: FromDishka[Completions],
    stream: FromQuery[bool] = False,
    starting_after: Annotated[int, QueryParameter(ge=0, le=2**53)] = 0,
) -> Response[Any]:
    """Beyond OpenAI's own: `stream`, and `starting_after`, the number of chunks that the client has."""
    found = await completions.find(caller, completion_id)
    if stream:
        return completions.stream(found.reply, caller, found.request.body, after=starting_after)
    return Response(completion_object(found.reply, found.request.body))


@get("/chat/completions")
async def list_all(
    request: AnyRequest,
    caller: NamedDependency[Owner],
    list_requests: FromDishka[ListRequests],
    model: FromQuery[str | None] = None,
    after: After = None,
    limit: Limit = 20,
    order: Order = "asc",
) -> Listed:
    page = await list_requests(
        owner=caller.owner,
        kind=KIND,
        model=model,
        metadata=_wanted_metadata(request),
        after=_place(after),
        limit=limit,
        newest_first=order == "desc",
    )
    return Listed.of([completion_object(each.reply, each.request.body) for each in page.items], more=page.has_more)


@get("/chat/completions/{completion_id:str}/messages")
async def messages(
    completion_id: FromPath[str],
    caller: NamedDependency[Owner],
    completions: FromDishka[Completions],
    list_path: FromDishka[ListPath],
    after: After = None,
    limit: Limit = 20,
    order: Order = "asc",
) -> Listed:
    question = (await completions.find(caller, completion_id)).question
    page = await list_path(
        owner=caller.owner,
        conversation_id=question.conversation_id,
        message_id=question.id,
        after=place(after),
        limit=limit,
        newest_first=order == "desc",
    )
    return Listed.of([_message(each) for each in page.items], more=page.has_more)


@post("/chat/completions/{completion_id:str}", status_code=200)
async def describe(
    completion_id: FromPath[str],
    data: JSONBody[Description],
    caller: NamedDependency[Owner],
    completions: FromDishka[Completions],
    describe_request: FromDishka[DescribeRequest],
) -> Json:
    found, metadata = await completions.find(caller, completion_id), data.metadata or {}
    await describe_request(by=caller, reply_id=found.reply.id, kind=KIND, metadata=metadata)
    return completion_object(found.reply, {**found.request.body, "metadata": metadata})


@delete("/chat/completions/{completion_id:str}", status_code=200)
async def remove(
    completion_id: FromPath[str],
    caller: NamedDependency[Owner],
    completions: FromDishka[Completions],
    erase_message: FromDishka[EraseMessage],
) -> Json:
    reply = (await completions.stopped(caller, completion_id)).reply
    await erase_message(by=caller, conversation_id=reply.conversation_id, message_id=reply.id, with_question=True)
    return {"id": completion_id, "object": "chat.completion.deleted", "deleted": True}


def _message(message: Message) -> Json:
    name = message_item_id(message.conversation_id, message.id)
    return {"id": name, "role": message.role, "content": message.content, "content_parts": _parts_of(message)}


def _parts_of(message: Message) -> list[Json] | None:
    """Return the text and the images of a message that has images, each with the path of its bytes."""
    if not message.images:
        return None
    path = f"/conversations/{message.conversation_id}/messages/{message.id}/images"
    images = [{"type": "image_url", "image_url": {"url": f"{path}/{number}"}} for number in range(message.images)]
    return [*([{"type": "text", "text": message.content}] if message.content else []), *images]


def _place(after: str | None) -> MessageId | None:
    if after is None:
        return None
    named = reply_of_completion(after)
    if named is None:
        raise ValidationFailed([FieldError("after", "must be the id of a completion")])
    return named.message_id


def _wanted_metadata(request: AnyRequest) -> Mapping[str, str]:
    """Return the pairs of `?metadata[key]=value`. Raise `ValidationFailed`."""
    pairs = {found[1]: value for name, value in request.query_params.items() if (found := _FILTER.fullmatch(name))}
    if len(pairs) > _FILTERS:
        raise ValidationFailed([FieldError("metadata", f"must be at most {_FILTERS}")])
    return pairs


def routers(max_body_bytes: int) -> list[Router]:
    handlers = [complete, list_all, read, messages, describe, remove]
    return [
        private_router(
            "/v1", handlers, tag="openai", keys=True, include_in_schema=False, request_max_body_size=max_body_bytes
        )
    ]
