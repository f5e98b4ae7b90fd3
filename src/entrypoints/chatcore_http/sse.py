"""Replies as Server-Sent Events, encoded once."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager

import msgspec

from chatcore import ReplyDelta, ReplyEvent, Silence
from chatcore_http.schemas import TEXT, event_of
from chatcore_http.streams import Stream

_encoder = msgspec.json.Encoder()
_TEXT = {kind: type_.encode() for kind, type_ in TEXT.items()}
_DELTA = b'event: %b\nid: %d:%d\ndata: {"type":"%b","reply_id":%d,"offset":%d,"text":%b}\n\n'


class EventStream(Stream[ReplyEvent]):
    """Streams until the events end, the client leaves, or `alive`, which wraps them, raises `Unauthenticated`."""

    def __init__(
        self,
        events: AsyncGenerator[ReplyEvent, None],
        alive: AbstractAsyncContextManager[None],
        *,
        first: Sequence[ReplyEvent] = (),
    ) -> None:
        super().__init__(events, alive, encoded, first=first, media_type="text/event-stream")


def encoded(event: ReplyEvent) -> bytes:
    if type(event) is ReplyDelta:  # many times a second: the schema's JSON, in a third of the time
        type_, reply_id, offset = _TEXT[event.kind], event.reply_id, event.offset
        return _DELTA % (type_, reply_id, offset, type_, reply_id, offset, _encoder.encode(event.text))
    if isinstance(event, Silence):
        return b": still there\n\n"
    shown = event_of(event)
    return b"event: %b\nid: %d:%d\ndata: %b\n\n" % (
        shown.type.encode(),
        shown.reply_id,
        shown.offset,
        _encoder.encode(shown),
    )
