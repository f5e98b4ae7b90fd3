"""A reply as its reader has it: an open stream of events."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Self

from chatcore import wire
from chatcore.entities import Message
from chatcore.errors import NotFound, Unavailable
from chatcore.events import Cursor, ReplyDelta, ReplyEnded, ReplyEvent, Silence
from chatcore.ports import TextKind


class ReplyStream(AsyncGenerator[ReplyEvent, None]):
    """The events of one reply, from a cursor on: `ReplyStarted`, text, `ReplyEnded`. Read it in one of its forms, once.

    It is open: a refusal was raised before. A program that does not read it to its end closes it (`aclose`, or
    `contextlib.aclosing`); the reply continues without readers. Raise `Unavailable` when the process shuts down: read
    on from `cursor`, from any process.
    """

    def __init__(self, first: ReplyEvent, events: AsyncGenerator[ReplyEvent, None]) -> None:
        self._first: ReplyEvent | None = first
        self._events = events
        self._end: Message | None = None
        self.cursor: Cursor = first.cursor
        """The reader's place after the latest event."""

    @classmethod
    async def opened(cls, events: AsyncGenerator[ReplyEvent, None]) -> Self:
        """Wait for the first event. Raise what the events raise before it, and `NotFound` if there is none."""
        try:
            return cls(await anext(events), events)
        except StopAsyncIteration:
            raise NotFound("No reply was ever written in this conversation.") from None

    async def __anext__(self) -> ReplyEvent:
        if self._first is None:
            event = await anext(self._events)
            self.cursor = event.cursor
            if isinstance(event, ReplyEnded):
                self._end = event.message
            return event
        event, self._first = self._first, None
        return event

    async def asend(self, value: None) -> ReplyEvent:
        return await anext(self)

    async def athrow(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> ReplyEvent:
        error = typ if isinstance(typ, BaseException) else val if isinstance(val, BaseException) else typ()
        return await self._events.athrow(error)

    async def aclose(self) -> None:
        self._first = None
        await self._events.aclose()

    # ---- forms -------------------------------------------------------------------------------------------

    async def sse(self, *, heartbeat: bool = True) -> AsyncGenerator[bytes, None]:
        """Yield Server-Sent Events (`text/event-stream`): chatcore's own wire contract. The `id` of each is its cursor,
        which a browser sends as `Last-Event-ID` (`Cursor.parse`). `heartbeat`: a comment every 15 seconds of silence,
        so that proxies keep the connection. When the process shuts down, the stream ends without a last event, and
        clients read on from their cursor."""
        async with aclosing(self):
            try:
                async for event in self:
                    if heartbeat or not isinstance(event, Silence):
                        yield wire.sse(event)
            except Unavailable:
                yield wire.SHUTTING_DOWN

    async def ndjson(self) -> AsyncGenerator[bytes, None]:
        """Yield a line of JSON for each event (`application/x-ndjson`), and an empty line every 15 seconds of
        silence. It ends as `sse` does."""
        with suppress(Unavailable):
            async with aclosing(self):
                async for event in self:
                    yield wire.ndjson(event)

    async def text(self) -> AsyncGenerator[str, None]:
        """Yield the answer's text, without the reasoning. It does not say how the reply ended; `ended` does."""
        async with aclosing(self):
            async for event in self:
                if isinstance(event, ReplyDelta) and event.kind is TextKind.ANSWER:
                    yield event.text

    async def ended(self) -> Message:
        """Wait for the end, and return the reply as it was stored; also after it has been read in another form. Its
        `status` says how it ended. Raise `RuntimeError` if the stream was closed before."""
        async with aclosing(self):
            async for _ in self:
                pass
        if self._end is None:
            raise RuntimeError("This stream was closed before the reply's end. Open it again from its cursor.")
        return self._end


def place(after: Cursor | int | None) -> tuple[Cursor | None, int]:
    """Return a place as a cursor, if it is one, and as an offset."""
    return (after, after.offset) if isinstance(after, Cursor) else (None, after or 0)
