"""Replies as Server-Sent Events, encoded to bytes here and once."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import msgspec

from chatcore import ReplyEvent, Silence
from chatcore_http.schemas import event_of
from chatcore_http.streams import Stream

_encoder = msgspec.json.Encoder()


class EventStream(Stream[ReplyEvent]):
    """Until the events are over, the client goes, or `alive`, which is around them, raises `Unauthenticated`."""

    def __init__(self, events: AsyncIterator[ReplyEvent], alive: AbstractAsyncContextManager[None]) -> None:
        super().__init__(events, alive, encoded, media_type="text/event-stream")


def encoded(event: ReplyEvent) -> bytes:
    if isinstance(event, Silence):
        return b": still there\n\n"
    shown = event_of(event)
    return b"event: %b\nid: %d:%d\ndata: %b\n\n" % (
        shown.type.encode(),
        shown.reply_id,
        shown.offset,
        _encoder.encode(shown),
    )
