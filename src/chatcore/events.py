"""What the reader of a reply sees, in order: started, deltas, ended.

`offset` is the reader's cursor after the event: how many code points of the reply (its reasoning, then its
answer) it has by then. Reading again from there gives exactly the rest.
"""

from dataclasses import dataclass

from chatcore.entities import ConversationId, Message, MessageId
from chatcore.ports import TextKind


@dataclass(frozen=True, slots=True)
class ReplyStarted:
    """First on every attach. `message_id` is the user's message that the reply answers."""

    reply_id: MessageId
    offset: int
    conversation_id: ConversationId
    message_id: MessageId | None
    model: str | None


@dataclass(slots=True)  # and not frozen, which makes it three times as dear to make: there are thousands a second
class ReplyDelta:
    """The next text, never empty. `number`: it is this piece of the reply, from 1 on; 0 if pieces may be joined."""

    reply_id: MessageId
    offset: int
    kind: TextKind
    text: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class ConversationTitled:
    """The model has found a title for the conversation. Only if that is known before the reply's end."""

    reply_id: MessageId
    offset: int
    title: str


@dataclass(frozen=True, slots=True)
class ReplyEnded:
    """Last, once the end is committed. `message.status` says how it ended."""

    reply_id: MessageId
    offset: int
    message: Message


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing was said for a while; the reply goes on. For an edge that must keep its connection alive."""

    reply_id: MessageId
    offset: int


ReplyEvent = ReplyStarted | ReplyDelta | ConversationTitled | ReplyEnded | Silence
