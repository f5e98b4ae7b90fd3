"""/ai/chat: the AI SDK's UI message stream over HTTP."""

from collections.abc import AsyncGenerator
from functools import partial
from typing import Annotated, Any

from dishka.integrations.litestar import FromDishka
from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from chatcore import Owner, ReplyEvent, SessionWatch
from chatcore_http.protocols.ai_chats import CALLED, AiChats
from chatcore_http.protocols.ai_sdk import HEADERS, Chat, Chunks
from chatcore_http.protocols.broken_streams import ending_of
from chatcore_http.routing import private_router
from chatcore_http.streams import Stream


@post("", status_code=200, called=CALLED)
async def chat(
    data: JSONBody[Chat], caller: NamedDependency[Owner], chats: FromDishka[AiChats], watch: FromDishka[SessionWatch]
) -> Response[Any]:
    return _stream(chats.events_of(await chats.ask(data, caller)), caller, watch)


@get("/{chat_id:str}/stream")
async def resume(
    chat_id: FromPath[str],
    caller: NamedDependency[Owner],
    chats: FromDishka[AiChats],
    watch: FromDishka[SessionWatch],
) -> Response[Any]:
    events = await chats.active(chat_id, caller.owner)
    return Response(None, status_code=204) if events is None else _stream(events, caller, watch)


@post("/{chat_id:str}/stop", status_code=200)
async def stop(chat_id: FromPath[str], caller: NamedDependency[Owner], chats: FromDishka[AiChats]) -> dict[str, Any]:
    return await chats.stop(chat_id, caller)


@get("/{chat_id:str}/messages")
async def messages(
    chat_id: FromPath[str],
    caller: NamedDependency[Owner],
    chats: FromDishka[AiChats],
    limit: Annotated[int, QueryParameter(description="Messages of a page, 1 to 100.")] = 50,
    before: Annotated[
        str | None, QueryParameter(description="The id of the oldest message that the client has.")
    ] = None,
) -> dict[str, Any]:
    return await chats.messages(chat_id, caller.owner, limit=limit, before=before)


def _stream(events: AsyncGenerator[ReplyEvent, None], caller: Owner, watch: SessionWatch) -> Stream[ReplyEvent]:
    chunks, alive = Chunks(), watch.while_valid(caller)
    failed = partial(ending_of, chunks)
    return Stream(events, alive, chunks.encode, failed=failed, media_type="text/event-stream", headers=HEADERS)


def routers(max_body_bytes: int) -> list[Router]:
    handlers = [chat, resume, stop, messages]
    return [
        private_router(
            "/ai/chat",
            handlers,
            tag="ai",
            keys=True,
            include_in_schema=False,
            request_max_body_size=max_body_bytes,
        )
    ]
