"""Replies as Server-Sent Events, encoded to bytes here and once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import msgspec
from litestar import Litestar, Request, Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Send

from chatcore import ReplyEnded, ReplyEvent, Silence
from chatcore.errors import Unauthenticated
from chatcore_http.schemas import event_of

_TAKEN_WITHIN = 0.2  # seconds for the last chunk of a stream whose session has ended

_encoder = msgspec.json.Encoder()
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventStream(Response[None]):
    """Until the events are over, the client goes, or `alive`, which is around them, raises `Unauthenticated`."""

    def __init__(self, events: AsyncIterator[ReplyEvent], alive: AbstractAsyncContextManager[None]) -> None:
        super().__init__(None, media_type="text/event-stream", headers=_HEADERS)
        self._events = events
        self._alive = alive

    def to_asgi_response(self, app: Litestar | None, request: Request[Any, Any, Any], **options: Any) -> ASGIResponse:
        options.pop("type_encoders", None)
        headers: dict[str, str] = options.pop("headers", None) or {}
        own: dict[str, Any] = {"headers": headers | self.headers, "media_type": self.media_type, "status_code": 200}
        return _Telling(self._events, self._alive, **options | own)


class _Telling(ASGIResponse):
    """As Litestar's own stream, with less between an event and the server: many times a second that is what counts."""

    __slots__ = ("_alive", "_events")
    _should_set_content_length = False

    def __init__(
        self, events: AsyncIterator[ReplyEvent], alive: AbstractAsyncContextManager[None], **options: Any
    ) -> None:
        super().__init__(**options)
        self._events = events
        self._alive = alive

    async def send_body(self, send: Send, receive: Receive) -> None:
        async with asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(self._tell(send))
            while (await receive())["type"] != "http.disconnect":  # which also comes once everything has been sent
                pass
            telling.cancel()

    async def _tell(self, send: Send) -> None:
        patience, is_over = None, False
        try:
            async with self._alive:
                async for event in self._events:
                    last = isinstance(event, ReplyEnded)
                    await send({"type": "http.response.body", "body": _encoded(event), "more_body": not last})
                    is_over = last
        except Unauthenticated:
            patience = _TAKEN_WITHIN
        if not is_over:
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _encoded(event: ReplyEvent) -> bytes:
    if isinstance(event, Silence):
        return b": still there\n\n"
    shown = event_of(event)
    return b"event: %b\nid: %d:%d\ndata: %b\n\n" % (
        shown.type.encode(),
        shown.reply_id,
        shown.offset,
        _encoder.encode(shown),
    )
