"""What all encodings of a reply have in common: reasoning, then the answer, each opened before its text and closed
after it."""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from chatcore import ConversationTitled, Message, ReplyDelta, ReplyEnded, ReplyEvent, ReplyStarted, Silence, TextKind


class Opened(NamedTuple):
    """The first text of this kind follows."""

    kind: TextKind


class Closed(NamedTuple):
    """The text of this kind is complete. `ended`: the reply, if it ended with it."""

    kind: TextKind
    ended: Message | None


Part: TypeAlias = ReplyStarted | Opened | ReplyDelta | Closed | ReplyEnded | Silence


class Spans:
    """Splits the events of one reply, read from its beginning, into parts."""

    def __init__(self) -> None:
        self._open: TextKind | None = None

    def of(self, event: ReplyEvent) -> Iterator[Part]:
        """Yield the parts of the next event; none for a title, whose moment depends on the reader."""
        match event:
            case ReplyDelta():
                if event.kind is not self._open:
                    yield from self._close(None)
                    self._open = event.kind
                    yield Opened(event.kind)
                yield event
            case ReplyEnded():
                yield from self._close(event.message)
                yield event
            case ReplyStarted() | Silence():
                yield event
            case ConversationTitled():
                pass

    def _close(self, ended: Message | None) -> Iterator[Part]:
        if self._open is not None:
            yield Closed(self._open, ended)
            self._open = None
