"""The messages of conversations."""

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from chatcore.entities import Conversation, ConversationId, Image, Message, MessageId, OwnerId, Role
from chatcore.ports.conversations import NO_METADATA, Hit, Matches

PAGE_BYTES = 4 * 1024 * 1024
"""Of text, in UTF-8, on one page of messages."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The client's name for one send, and the SHA-256 of what was sent under it."""

    key: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Node:
    """A message's place in its conversation. `depth`: the number of messages above it. `active`: it is in the branch
    that the history shows."""

    id: MessageId
    parent_id: MessageId | None
    depth: int
    active: bool
    created_at: datetime


class MessageRepo(Protocol):
    @abstractmethod
    async def add(
        self,
        owner: OwnerId,
        conversation_id: ConversationId,
        *,
        parent_id: MessageId | None,
        role: Role,
        content: str,
        writing: bool,
        model: str | None,
        now: datetime,
        idempotency: Idempotency | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
        images: Sequence[Image] = (),
    ) -> Message:
        """Ids need not grow. The message is in the active branch, where `parent_id` has to be the last one. `writing`:
        a reply that is yet to be written. `siblings` are not looked up.

        Raise `NotFound` if there is no such conversation, `IdempotencyKeyReused` if a message of it has this key.
        """

    @abstractmethod
    async def get(self, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId) -> Message | None: ...

    @abstractmethod
    async def sent_with(
        self, owner: OwnerId, conversation_id: ConversationId, key: str, *, since: datetime
    ) -> tuple[Message, Idempotency] | None:
        """The message that was added with this idempotency key at `since` or later."""

    @abstractmethod
    async def forget_key(self, owner: OwnerId, conversation_id: ConversationId, key: str, *, before: datetime) -> None:
        """An idempotency key that a message was added with before then may be used again."""

    @abstractmethod
    async def reply_to(self, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId) -> Message | None:
        """The first reply, by time, whose `parent_id` this is."""

    @abstractmethod
    async def place(self, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId) -> Node | None: ...

    @abstractmethod
    async def last(self, owner: OwnerId, conversation_id: ConversationId) -> MessageId | None:
        """The last message of the active branch."""

    @abstractmethod
    async def history(
        self,
        owner: OwnerId,
        conversation_id: ConversationId,
        *,
        limit: int,
        before: MessageId | None = None,
        max_bytes: int = PAGE_BYTES,
    ) -> tuple[Conversation, Sequence[Message]] | None:
        """The conversation and the last messages of its active branch, those above `before` if given, the topmost
        first: at most `limit`, with at most `max_bytes` of text, but at least one. None of them is above a message of
        another branch; all are, of one that is not there. One query, by key: a deep page costs what the first costs.
        None: there is no such conversation."""

    @abstractmethod
    async def told(
        self,
        owner: OwnerId,
        conversation_id: ConversationId,
        *,
        limit: int,
        max_bytes: int,
        through: MessageId | None = None,
        among: Sequence[MessageId] | None = None,
    ) -> Sequence[Message]:
        """For a prompt: the last `limit` messages of the active branch, down to `through` if given (none, if that is in
        another branch), or of the path `among`; the topmost first, without reasoning and siblings. Content and
        images are left out of those that failed or are being written, and of those from where on, backwards, there are
        more than `max_bytes` of content, which is not read either."""

    @abstractmethod
    async def by_depth(
        self,
        owner: OwnerId,
        conversation_id: ConversationId,
        *,
        after: MessageId | None,
        limit: int,
        max_bytes: int = PAGE_BYTES,
        active_only: bool = False,
    ) -> Sequence[Message]:
        """Messages of all branches, or of the active one only, without their siblings, each after the one that it
        follows, those after `after` if given: at most `limit`, with at most `max_bytes` of text, but at least one."""

    @abstractmethod
    async def restore(self, message: Message, *, active: bool, images: Sequence[Image] = ()) -> MessageId:
        """Store a message as it is, but for its id, which is new and returned. `active`: it is in the active branch.
        `images`: as many as `message.images` says.

        Raise `NotFound` if there is no such conversation; the message that it follows, the caller has stored.
        """

    @abstractmethod
    async def containing(
        self,
        owner: OwnerId,
        text: str,
        *,
        before: MessageId | None,
        limit: int,
        within: int,
        max_bytes: int = PAGE_BYTES,
    ) -> Matches[Hit]:
        """The owner's messages with the text in their content, in whatever branch: the highest id first, those below
        `before` if given. It ends with the message that is number `limit` of those found, or number `within` of those
        looked at, or before these have more than `max_bytes` of text; one is looked at in any case.

        The text is compared code point by code point, in capitals or not (`str.casefold`), and in a time that grows
        with what is looked at alone. The event loop goes on meanwhile.
        """

    @abstractmethod
    async def begun_with(self, owner: OwnerId, text: str, *, among: Collection[ConversationId]) -> Set[ConversationId]:
        """Those among the owner's conversations whose first message, in whatever branch, has the text, compared as in
        `containing`. Of messages longer than 16 KiB, and of more than 200 in all, nothing is said."""

    @abstractmethod
    async def last_reply(self, owner: OwnerId, conversation_id: ConversationId) -> Message | None:
        """The reply that is being written, else the last one of the active branch."""

    @abstractmethod
    async def tree(self, owner: OwnerId, conversation_id: ConversationId) -> Sequence[Node]:
        """All messages of the conversation without their texts, by depth, those of one depth by time. Its cost grows
        with the conversation."""

    @abstractmethod
    async def activate(
        self, owner: OwnerId, conversation_id: ConversationId, *, after: Node | None, path: Sequence[MessageId]
    ) -> None:
        """The active branch is what it was down to the message `after` (None: nothing of it), and then `path`. The
        caller has the conversation's lock."""

    @abstractmethod
    async def finish(self, reply: Message, cuts: Sequence[int] = (), *, now: datetime | None = None) -> None:
        """Overwrite content, reasoning, status, usage, finish reason and error. `cuts`: the lengths of the pieces of
        its reasoning and its answer, each 1 to 10,000 code points. `now`: what `release` was told."""

    @abstractmethod
    async def erase(self, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId) -> bool:
        """Delete what a message says, with its images and its metadata; its place in the tree stays, with the status
        `deleted`. False: there is no such message, it is erased already, or it is being written."""

    @abstractmethod
    async def cuts(self, owner: OwnerId, conversation_id: ConversationId, reply_id: MessageId) -> Sequence[int]:
        """Return those that the reply was finished with; none if none were given."""

    @abstractmethod
    async def image(
        self, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId, number: int
    ) -> Image | None:
        """The message's image of this number, from 0."""

    @abstractmethod
    async def images_of(
        self, owner: OwnerId, conversation_id: ConversationId, message_ids: Sequence[MessageId], *, max_bytes: int
    ) -> Mapping[MessageId, Sequence[Image]]:
        """All images of the first of these messages, as many as have at most `max_bytes` of images together. Messages
        without images are left out."""
