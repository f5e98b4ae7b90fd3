"""Conversations, without their messages."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from chatcore.entities import Conversation, ConversationId, MessageId, ModelConfigId, OwnerId, Role, WorkerId
from chatcore.texts import Excerpt

T = TypeVar("T")
NO_METADATA: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Matches(Generic[T]):
    """What a search found so far. `looked_to`: the id up to which it looked; None: to the end."""

    items: Sequence[T]
    looked_to: int | None


@dataclass(frozen=True, slots=True)
class MessageRef:
    """A message without its text."""

    id: MessageId
    role: Role
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Hit:
    """Where a text was found: in a message of this conversation or, without a message, in its title."""

    conversation: Conversation
    excerpt: Excerpt
    message: MessageRef | None = None


class ConversationRepo(Protocol):
    @abstractmethod
    async def add(
        self,
        owner: OwnerId,
        *,
        title: str,
        config_id: ModelConfigId | None,
        now: datetime,
        client_id: str | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> Conversation:
        """A title that is not empty is the user's own.

        Raise `NotFound` if the configuration does not exist; whose it is, the caller has looked up. Raise `Contention`
        if a conversation of the owner's has this `client_id` already.
        """

    @abstractmethod
    async def get(self, owner: OwnerId, conversation_id: ConversationId) -> Conversation | None: ...

    @abstractmethod
    async def named(self, owner: OwnerId, client_id: str) -> Conversation | None:
        """The one with this `client_id`."""

    @abstractmethod
    async def lock(self, owner: OwnerId, conversation_id: ConversationId) -> Conversation | None:
        """As `get`, and nobody else locks or changes it until this unit of work is closed."""

    @abstractmethod
    async def list(self, owner: OwnerId, *, limit: int, offset: int) -> Sequence[Conversation]:
        """Newest `updated_at` first, then highest id first."""

    @abstractmethod
    async def list_below(
        self, owner: OwnerId, *, updated_at: datetime, before: ConversationId, limit: int
    ) -> Sequence[Conversation]:
        """As `list`, those that come after the one with this time and this id."""

    @abstractmethod
    async def used_since(
        self, owner: OwnerId, since: datetime, *, limit: int
    ) -> Sequence[tuple[Conversation, datetime]]:
        """Those that were there at `since` and are used later, in any order, and what their `updated_at` was then: the
        last time at which a message of theirs was added or, being a reply, ended, or that with which they were restored
        or added."""

    @abstractmethod
    async def by_id(self, owner: OwnerId, *, after: ConversationId | None, limit: int) -> Sequence[Conversation]:
        """The lowest id first, those above `after` if given."""

    @abstractmethod
    async def restore(self, conversation: Conversation) -> Conversation:
        """Store a conversation as it is, but for its id, which is new. Its messages are not newer than its
        `updated_at`. No reply is being written there; it has no configuration and no `client_id`."""

    @abstractmethod
    async def titled(
        self, owner: OwnerId, text: str, *, before: ConversationId | None, limit: int, within: int
    ) -> Matches[Conversation]:
        """Those with the text in the title, as `MessageRepo.containing` finds messages."""

    @abstractmethod
    async def set_title(
        self, owner: OwnerId, conversation_id: ConversationId, title: str, *, by_user: bool = False
    ) -> bool:
        """Leave `updated_at` as it is. A title that the user gave gives way to none but another of theirs: one
        conditional UPDATE. False: it was not set, or there is no such conversation."""

    @abstractmethod
    async def set_metadata(
        self, owner: OwnerId, conversation_id: ConversationId, metadata: Mapping[str, str]
    ) -> Conversation | None:
        """The conversation with its new metadata; `updated_at` stays. None: there is no such conversation."""

    @abstractmethod
    async def touch(self, owner: OwnerId, conversation_id: ConversationId, *, now: datetime) -> None:
        """Set `updated_at`, if there is such a conversation."""

    @abstractmethod
    async def delete(self, owner: OwnerId, conversation_id: ConversationId, *, limit: int, now: datetime) -> int:
        """Delete at most `limit` of its messages with what the log holds of them, and itself, if these were all. If
        not, nobody finds it any more, and another call goes on. How many messages and conversations were deleted:
        `limit`, if something may be left; 0 if there is none. Who calls first has its `lock`."""

    @abstractmethod
    async def claim(
        self,
        owner: OwnerId,
        conversation_id: ConversationId,
        reply_id: MessageId,
        worker_id: WorkerId,
        *,
        now: datetime,
    ) -> bool:
        """Make this reply the one being written, by this worker, and set `updated_at`. One conditional UPDATE: False
        if there is no such conversation or another reply is being written in it."""

    @abstractmethod
    async def release(
        self, owner: OwnerId, conversation_id: ConversationId, reply_id: MessageId, *, now: datetime
    ) -> bool:
        """Give the claim back and set `updated_at`. One conditional UPDATE: of any number of callers at once exactly
        one gets True, and may say how the reply ended. False if this reply did not hold it."""

    @abstractmethod
    async def request_stop(self, owner: OwnerId, conversation_id: ConversationId, reply_id: MessageId) -> bool:
        """Ask the worker that writes this reply to stop; it hears of it when it next renews its lease. False: the
        reply is not being written."""
