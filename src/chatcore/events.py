"""The events of a reply, in order: started, deltas, ended.

Each has a cursor: how much of the reply its reader has after it. Reading again from there gives exactly the rest.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple, Self

from chatcore.bounds import check
from chatcore.entities import ConversationId, Message, MessageId
from chatcore.errors import FieldError
from chatcore.ports import TextKind

_CURSOR = re.compile(r"(\d{1,18}):(\d{1,18})", re.ASCII)


class Cursor(NamedTuple):
    """A reader's place: it has the first `offset` code points of the reply, its reasoning before its answer."""

    reply_id: MessageId
    offset: int

    @classmethod
    def parse(cls, text: str | None, *, field: str = "Last-Event-ID") -> Self | None:
        """Read the `id` of an event, such as `64:72`: what a browser sends as `Last-Event-ID`. None gives None.

        Raise `ValidationFailed`, which names `field`, for any other text.
        """
        if text is None:
            return None
        found = _CURSOR.fullmatch(text.strip()) if len(text) < 100 else None
        if found is None:
            check(FieldError(field, "must be the id of an event, such as 12:345"))
            raise AssertionError
        return cls(MessageId(int(found[1])), int(found[2]))

    def __str__(self) -> str:
        return f"{self.reply_id}:{self.offset}"


class _Placed:
    """`offset`: the code points of the reply that a reader has after this event."""

    __slots__ = ()
    reply_id: MessageId
    offset: int

    @property
    def cursor(self) -> Cursor:
        """The reader's place after this event: read again from here for exactly the rest."""
        return Cursor(self.reply_id, self.offset)


@dataclass(frozen=True, slots=True)
class ReplyStarted(_Placed):
    """The first event of every reader. `message_id` is the user's message that the reply answers."""

    reply_id: MessageId
    offset: int
    conversation_id: ConversationId
    message_id: MessageId | None
    model: str | None


@dataclass(slots=True)  # not frozen, which would triple the cost of making one: there are thousands a second
class ReplyDelta(_Placed):
    """The next text, never empty, which ends at `offset`. `number`: the number of this piece, from 1; 0 if pieces may
    be joined."""

    reply_id: MessageId
    offset: int
    kind: TextKind
    text: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class ConversationTitled(_Placed):
    """The model's title for the conversation, if it is known before the reply's end."""

    reply_id: MessageId
    offset: int
    title: str


@dataclass(frozen=True, slots=True)
class ReplyEnded(_Placed):
    """The last event, after the commit of the end. `message.status` says how it ended."""

    reply_id: MessageId
    offset: int
    message: Message


@dataclass(frozen=True, slots=True)
class Silence(_Placed):
    """No text for a while; the reply continues. For an edge that must keep its connection alive."""

    reply_id: MessageId
    offset: int


ReplyEvent = ReplyStarted | ReplyDelta | ConversationTitled | ReplyEnded | Silence
