"""Replies as Server-Sent Events, encoded to bytes here and once."""

from collections.abc import AsyncIterator

import msgspec
from litestar.response import Stream

from chatcore import ReplyEvent, Silence
from chatcore_http.schemas import event_of

_encoder = msgspec.json.Encoder()
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def event_stream(events: AsyncIterator[ReplyEvent]) -> Stream:
    return Stream(_encoded(events), media_type="text/event-stream", headers=_HEADERS, status_code=200)


async def _encoded(events: AsyncIterator[ReplyEvent]) -> AsyncIterator[bytes]:
    async for event in events:
        if isinstance(event, Silence):
            yield b": still there\n\n"
        else:
            shown = event_of(event)
            head = f"event: {shown.type}\nid: {shown.reply_id}:{shown.offset}\ndata: "
            yield b"%b%b\n\n" % (head.encode(), _encoder.encode(shown))
