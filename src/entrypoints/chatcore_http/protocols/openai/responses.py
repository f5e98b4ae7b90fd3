"""/v1/responses: durable replies, each event with its number for ever."""

from collections.abc import Mapping
from typing import Annotated, Any

from dishka.integrations.litestar import FromDishka
from litestar import Response, Router, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, HeaderParameter, QueryParameter

from chatcore import (
    Asked,
    EraseMessage,
    FindModel,
    ListPath,
    Message,
    Owner,
    ReadRequest,
    Requested,
    SendMessage,
    Sent,
)
from chatcore.errors import FieldError, NotFound, ValidationFailed
from chatcore.json_values import MOST_STORED, check_values
from chatcore_http.protocols.openai.asked import Asked as Body
from chatcore_http.protocols.openai.fields import read_fields
from chatcore_http.protocols.openai.following import Following
from chatcore_http.protocols.openai.ids import name_of_key, reply_of_response
from chatcore_http.protocols.openai.input_messages import Spoken, spoken
from chatcore_http.protocols.openai.items import After, Limit, Listed, Order, listed, place
from chatcore_http.protocols.openai.models import with_model
from chatcore_http.protocols.openai.references import References
from chatcore_http.protocols.openai.relaying import Relaying, body_of
from chatcore_http.protocols.openai.response_events import ResponseEvents
from chatcore_http.protocols.openai.response_objects import response_object
from chatcore_http.protocols.openai.response_requests import (
    Continued,
    CreateResponse,
    check_request,
    check_stored,
    continued_of,
    echo_of,
    options_of,
    read_request,
)
from chatcore_http.protocols.openai.unstored_responses import (
    COMPACT,
    RESPONSES,
    ResponsesForm,
    check_compacted,
    check_unstored,
    is_unstored,
    passed,
)
from chatcore_http.routing import AnyRequest, private_router

KIND = "response"
_KEY = "Idempotency-Key"
_CALLED = {
    **dict.fromkeys(("content", "images", "earlier"), "input"),
    **dict.fromkeys(("idempotency_key", "client_id"), _KEY),
    "asked": "text",
}
"""What a client calls what breaks a rule."""


class Responses:
    """What the routes share."""

    def __init__(
        self,
        send_message: SendMessage,
        find_model: FindModel,
        read_request: ReadRequest,
        references: References,
        following: Following,
    ) -> None:
        self._references = references
        self._send_message = send_message
        self._find_model = find_model
        self._read_request = read_request
        self._following = following

    async def send(
        self, caller: Owner, asked: CreateResponse, fields: Mapping[str, Any], *, idempotency_key: str | None
    ) -> Sent:
        continued = continued_of(asked)
        said = await self._spoken(caller, asked)
        await self._check_there(caller, continued)
        begun = name_of_key(KIND, idempotency_key) if continued.conversation_id is None else None
        return await self._send_message(
            by=caller,
            conversation_id=continued.conversation_id,
            client_id=begun,
            begins=begun is not None,
            after=continued.after,
            content=said.content,
            images=said.images,
            earlier=said.earlier,
            options=await with_model(self._find_model, caller, asked.model, options_of(asked, fields)),
            metadata=asked.metadata or {},
            idempotency_key=idempotency_key,
            asked=Asked(KIND, echo_of(fields)),
        )

    async def _spoken(self, caller: Owner, asked: CreateResponse) -> Spoken:
        if isinstance(asked.input, str):
            return Spoken(asked.input)
        if not asked.input:
            raise ValidationFailed([FieldError("input", "is required")])
        return await spoken(await self._references.resolved(caller, asked.input), "input")

    async def _check_there(self, caller: Owner, continued: Continued) -> None:
        if continued.conversation_id is None or continued.after is None:
            return
        try:
            await self._read_request(
                owner=caller.owner, conversation_id=continued.conversation_id, reply_id=continued.after, kind=KIND
            )
        except NotFound:
            raise ValidationFailed([FieldError("previous_response_id", "names no response")]) from None

    async def find(self, caller: Owner, name: str) -> Requested:
        """Raise `NotFound`."""
        named = reply_of_response(name)
        if named is None:
            raise NotFound("There is no such response.")
        return await self._read_request(
            owner=caller.owner, conversation_id=named.conversation_id, reply_id=named.message_id, kind=KIND
        )

    async def answer(self, reply: Message, echo: Any, caller: Owner, *, stream: bool, after: int = -1) -> Response[Any]:
        """Return the events, or the response as it is."""
        if stream:
            return self._following.stream(reply, caller, ResponseEvents(reply, echo, after=after))
        return Response(response_object(reply, echo))

    async def stopped(self, caller: Owner, name: str) -> Requested:
        """Return the response, ended. Raise `NotFound`."""
        return await self._following.stopped(await self.find(caller, name), caller)

    async def end(self, reply: Message, caller: Owner) -> Message:
        return await self._following.end(reply, caller)


@post("/responses", status_code=200, called=_CALLED)
async def create(
    request: AnyRequest,
    caller: NamedDependency[Owner],
    responses: FromDishka[Responses],
    relaying: FromDishka[Relaying],
    idempotency_key: Annotated[str | None, HeaderParameter(name=_KEY)] = None,
) -> Response[Any]:
    body = Body.of(await body_of(request))
    if is_unstored(body):
        await check_unstored(body)
        return await _passed(relaying, request, caller, RESPONSES, body)
    await check_values(body.body, most=MOST_STORED)
    fields = read_fields(body.body)
    asked = read_request(fields)
    check_request(asked)
    check_stored(asked)
    sent = await responses.send(caller, asked, fields, idempotency_key=idempotency_key)
    reply = sent.reply
    if not (asked.stream or asked.background):
        reply = await responses.end(reply, caller)
    return await responses.answer(reply, echo_of(fields), caller, stream=bool(asked.stream))


@post("/responses/compact", status_code=200)
async def compact(request: AnyRequest, caller: NamedDependency[Owner], relaying: FromDishka[Relaying]) -> Response[Any]:
    body = Body.of(await body_of(request))
    check_compacted(body)
    await check_unstored(body)
    return await _passed(relaying, request, caller, COMPACT, body)


async def _passed(relaying: Relaying, request: AnyRequest, caller: Owner, path: str, body: Body) -> Response[Any]:
    return await passed(relaying.answer(request, caller, path, body, ResponsesForm(path)), path)


@get("/responses/{response_id:str}")
async def read(
    response_id: FromPath[str],
    caller: NamedDependency[Owner],
    responses: FromDishka[Responses],
    stream: FromQuery[bool] = False,
    starting_after: Annotated[int, QueryParameter(ge=-1, le=2**53)] = -1,
) -> Response[Any]:
    found = await responses.find(caller, response_id)
    return await responses.answer(found.reply, found.request.body, caller, stream=stream, after=starting_after)


@post("/responses/{response_id:str}/cancel", status_code=200)
async def cancel(
    response_id: FromPath[str],
    caller: NamedDependency[Owner],
    responses: FromDishka[Responses],
) -> Response[Any]:
    found = await responses.stopped(caller, response_id)
    return await responses.answer(found.reply, found.request.body, caller, stream=False)


@delete("/responses/{response_id:str}", status_code=200)
async def remove(
    response_id: FromPath[str],
    caller: NamedDependency[Owner],
    responses: FromDishka[Responses],
    erase_message: FromDishka[EraseMessage],
) -> Response[Any]:
    found = await responses.stopped(caller, response_id)
    await erase_message(
        by=caller, conversation_id=found.reply.conversation_id, message_id=found.reply.id, with_question=True
    )
    return Response({"id": response_id, "object": "response", "deleted": True})


@get("/responses/{response_id:str}/input_items")
async def input_items(
    response_id: FromPath[str],
    caller: NamedDependency[Owner],
    responses: FromDishka[Responses],
    list_path: FromDishka[ListPath],
    after: After = None,
    limit: Limit = 20,
    order: Order = "desc",
) -> Listed:
    question = (await responses.find(caller, response_id)).question
    return listed(
        await list_path(
            owner=caller.owner,
            conversation_id=question.conversation_id,
            message_id=question.id,
            after=place(after),
            limit=limit,
            newest_first=order == "desc",
        )
    )


def routers(max_body_bytes: int) -> list[Router]:
    handlers = [create, compact, read, cancel, remove, input_items]
    return [
        private_router(
            "/v1", handlers, tag="openai", keys=True, include_in_schema=False, request_max_body_size=max_body_bytes
        )
    ]
