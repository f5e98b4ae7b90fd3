"""The events of a reply, in order: started, deltas, ended.

`offset` is the reader's cursor after the event: how many code points of the reply (its reasoning, then its answer) the
reader has. Reading again from there gives exactly the rest.
"""

from dataclasses import dataclass

from chatcore.entities import ConversationId, Message, MessageId
from chatcore.ports import TextKind


@dataclass(frozen=True, slots=True)
class ReplyStarted:
    """The first event of every reader. `message_id` is the user's message that the reply answers."""

    reply_id: MessageId
    offset: int
    conversation_id: ConversationId
    message_id: MessageId | None
    model: str | None


@dataclass(slots=True)  # not frozen, which would triple the cost of making one: there are thousands a second
class ReplyDelta:
    """The next text, never empty. `number`: the number of this piece, from 1; 0 if pieces may be joined."""

    reply_id: MessageId
    offset: int
    kind: TextKind
    text: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class ConversationTitled:
    """The model's title for the conversation, if it is known before the reply's end."""

    reply_id: MessageId
    offset: int
    title: str


@dataclass(frozen=True, slots=True)
class ReplyEnded:
    """The last event, after the commit of the end. `message.status` says how it ended."""

    reply_id: MessageId
    offset: int
    message: Message


@dataclass(frozen=True, slots=True)
class Silence:
    """No text for a while; the reply continues. For an edge that must keep its connection alive."""

    reply_id: MessageId
    offset: int


ReplyEvent = ReplyStarted | ReplyDelta | ConversationTitled | ReplyEnded | Silence
