"""Replies as Server-Sent Events."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager

from chatcore import ReplyEvent
from chatcore.errors import ChatcoreError, Unavailable
from chatcore.wire import SHUTTING_DOWN, sse
from chatcore_http.streams import Stream, cut_off


class EventStream(Stream[ReplyEvent]):
    """Streams until the events end, the client leaves, or `alive`, which wraps them, raises `Unauthenticated`."""

    def __init__(
        self,
        events: AsyncGenerator[ReplyEvent, None],
        alive: AbstractAsyncContextManager[None],
        *,
        first: Sequence[ReplyEvent] = (),
    ) -> None:
        super().__init__(events, alive, sse, first=first, failed=_failed, media_type="text/event-stream")


def _failed(error: ChatcoreError) -> bytes | None:
    return SHUTTING_DOWN if isinstance(error, Unavailable) else cut_off(error)
