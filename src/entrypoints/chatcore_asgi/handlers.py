"""Each route as one call of `Mine` (docs/wire.md)."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from chatcore import ListCursor, Mine, ReplyStream, SearchCursor, Sent, wire
from chatcore.bounds import check
from chatcore.data_urls import images_of
from chatcore.errors import FieldError
from chatcore.ports import Hit
from chatcore.use_cases.conversations import History
from chatcore_asgi.requests import Fields, Request

MAX_BODY_BYTES = 3 * 1024 * 1024
"""A message as long as it may be, all of it written as \\u escapes."""
MAX_MESSAGE_BYTES = 15 * 1024 * 1024
"""A message with its images."""


@dataclass(frozen=True, slots=True)
class Json:
    """A whole answer."""

    data: wire.Json | None
    status: int = 200
    media_type: ClassVar[str] = "application/json"
    headers: ClassVar[Mapping[str, str]] = {}

    @property
    def body(self) -> bytes:
        return b"" if self.data is None else wire.encoded(self.data)


@dataclass(frozen=True, slots=True)
class File:
    """A whole answer, to be saved."""

    name: str
    media_type: str
    body: bytes
    status: int = 200

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Content-Disposition": f'attachment; filename="{self.name}"', "X-Content-Type-Options": "nosniff"}


Answer: TypeAlias = Json | File | Sent | ReplyStream
"""`Sent`: JSON, once the reply has ended."""
Handler: TypeAlias = Callable[..., Awaitable[Answer]]


async def list_all(me: Mine, request: Request, _: Fields) -> Answer:
    limit, offset, cursor = request.integer("limit", 20), request.integer("offset", 0), request.text("cursor")
    page = await me.conversations(limit=limit, offset=offset, cursor=ListCursor.parse(cursor) if cursor else None)
    items = [wire.conversation_data(each) for each in page.items]
    following = None if page.next is None else str(page.next)
    return Json({"items": items, "has_more": page.has_more, "limit": limit, "offset": offset, "next_cursor": following})


async def search(me: Mine, request: Request, _: Fields) -> Answer:
    limit = request.integer("limit", 20)
    page = await me.search(request.text("q"), limit=limit, cursor=SearchCursor.parse(request.text("cursor")))
    following = None if page.next is None else str(page.next)
    items = [_hit(each) for each in page.hits]
    return Json({"items": items, "has_more": following is not None, "next_cursor": following, "limit": limit})


async def create(me: Mine, _: Request, body: Fields) -> Answer:
    created = await me.create(title=body.text("title"), config=body.id("config_id"))
    return Json(wire.conversation_data(created), 201)


async def history(me: Mine, request: Request, _: Fields, conversation: int) -> Answer:
    limit, before = request.integer("limit", 50), request.integer("before_id", 0)
    check(FieldError("before_id", "must be the id of a message") if request.text("before_id") and before < 1 else None)
    return _history(await me.history(conversation, limit=limit, before=before or None))


async def rename(me: Mine, _: Request, body: Fields, conversation: int) -> Answer:
    return Json(wire.conversation_data(await me.rename(conversation, body.required_text("title"))))


async def delete(me: Mine, _: Request, __: Fields, conversation: int) -> Answer:
    await me.delete(conversation)
    return Json({"message": "The conversation is deleted."})


async def switch(me: Mine, _: Request, body: Fields, conversation: int) -> Answer:
    return _history(await me.switch(conversation, body.required_id("message_id")))


async def send(me: Mine, request: Request, body: Fields, conversation: int) -> Answer:
    content, options, streamed = body.required_text("content"), body.options(), _streamed(request, body)
    key, metadata = request.header("Idempotency-Key"), body.pairs("metadata")
    images = await images_of(body.texts("images"), name="images")
    sent = await me.send(content, to=conversation, key=key, images=images, options=options, metadata=metadata)
    return await _reply_to(me, sent) if streamed else sent


async def regenerate(me: Mine, request: Request, body: Fields, conversation: int) -> Answer:
    options, streamed = body.options(), _streamed(request, body)
    sent = await me.regenerate(conversation, body.id("message_id"), options=options)
    return await _reply_to(me, sent) if streamed else sent


async def edit(me: Mine, request: Request, body: Fields, conversation: int, message: int) -> Answer:
    content, options, streamed = body.required_text("content"), body.options(), _streamed(request, body)
    images, metadata = await images_of(body.texts("images"), name="images"), body.pairs("metadata")
    sent = await me.edit(conversation, message, content, images=images, options=options, metadata=metadata)
    return await _reply_to(me, sent) if streamed else sent


async def image(me: Mine, _: Request, __: Fields, conversation: int, message: int, number: int) -> Answer:
    found = await me.image(conversation, message, number)
    return File(f"{message}-{number}.{found.media_type.removeprefix('image/')}", found.media_type, found.data)


async def reply(me: Mine, request: Request, _: Fields, conversation: int) -> Answer:
    stream = await me.resume(conversation, request.header("Last-Event-ID"), after=request.integer("after", 0))
    return stream or Json(None, 204)


async def stop(me: Mine, _: Request, __: Fields, conversation: int) -> Answer:
    return Json(wire.message_data(await me.stop(conversation)))


def _streamed(request: Request, body: Fields) -> bool:
    """Whether the body or the header `Accept` asks for a stream."""
    return body.flag("stream") or "text/event-stream" in (request.header("Accept") or "")


async def _reply_to(me: Mine, sent: Sent) -> ReplyStream:
    return await me.reply(sent.conversation_id, after=sent.beginning)


def _history(page: History) -> Json:
    return Json(
        {
            "conversation": wire.conversation_data(page.conversation),
            "messages": [wire.message_data(each) for each in page.messages],
            "has_more": page.has_more,
            "next_before_id": page.next_before_id,
        }
    )


def _hit(hit: Hit) -> wire.Json:
    message = hit.message and {
        "id": hit.message.id,
        "role": hit.message.role,
        "created_at": wire.moment(hit.message.created_at),
    }
    return {
        "conversation": wire.conversation_data(hit.conversation),
        "message": message,
        "excerpt": hit.excerpt.text,
        "excerpt_start": hit.excerpt.start,
        "hit_start": hit.excerpt.hit,
        "score": None,
    }


_ALL, _ONE = "/conversations", "/conversations/([0-9]{1,19})"

ROUTES: Mapping[str, Mapping[str, Handler]] = {
    f"{_ALL}/?": {"GET": list_all},
    f"{_ALL}/search": {"GET": search},
    f"{_ALL}/create": {"POST": create},
    _ONE: {"GET": history},
    f"{_ONE}/rename": {"POST": rename},
    f"{_ONE}/delete": {"POST": delete},
    f"{_ONE}/branch": {"POST": switch},
    f"{_ONE}/(?:chat|messages)": {"POST": send},
    f"{_ONE}/regenerate": {"POST": regenerate},
    f"{_ONE}/messages/([0-9]{{1,19}})/edit": {"POST": edit},
    f"{_ONE}/messages/([0-9]{{1,19}})/images/([0-9]{{1,19}})": {"GET": image},
    f"{_ONE}/reply": {"GET": reply},
    f"{_ONE}/stop": {"POST": stop},
}
"""By a regular expression of the whole path, whose groups are ids."""
WITH_IMAGES = frozenset[Handler]({send, edit})
"""Those whose bodies may be larger."""
