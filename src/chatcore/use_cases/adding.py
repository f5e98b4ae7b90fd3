"""Messages that no model is asked about: histories that a client uploads."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from chatcore.authority import CHANGING, Owner, acting
from chatcore.bounds import METADATA, Bounds, Count, check, need
from chatcore.entities import Conversation, ConversationId, Message, MessageId, Role, Scope, title_from
from chatcore.errors import ConversationBusy, FieldError, NotFound, Raises, RateLimited, StorageFull, ValidationFailed
from chatcore.ports import NO_METADATA, AuthorityWork, Clock, ConversationRepo, MessageRepo, UnitsOfWork
from chatcore.rate_limits import UNLIMITED, RateLimits
from chatcore.shielding import retry_on_contention
from chatcore.use_cases.chat_values import CONTENT, Earlier, rules_broken_by, too_many_images

_ITEMS = Count(0, 20)
"""As many as OpenAI takes at once."""


class AddingWork(AuthorityWork, Protocol):
    conversations: ConversationRepo
    messages: MessageRepo


@dataclass(frozen=True, kw_only=True)
class AddItems:
    """Append up to 20 messages to the active branch, each as `AddMessage` does: all of them, or none. They count as one
    message in the rate limit. A user's message may have images; those of all messages have at most 20 MiB."""

    unit_of_work: UnitsOfWork[AddingWork]
    clock: Clock
    limits: RateLimits = UNLIMITED
    bounds: ClassVar[Bounds] = Bounds(items=_ITEMS)
    raises: ClassVar[Raises] = (*CHANGING, ValidationFailed, NotFound, ConversationBusy, RateLimited, StorageFull)

    async def __call__(
        self, *, by: Owner, conversation_id: ConversationId, items: Sequence[Earlier]
    ) -> Sequence[Message]:
        self.bounds.check(items=items)
        check(*_broken(items))
        by.require(Scope.CHAT)
        await self.limits.try_send(by.owner)
        return await self._add(by, conversation_id, items)

    @retry_on_contention
    async def _add(self, by: Owner, conversation_id: ConversationId, items: Sequence[Earlier]) -> Sequence[Message]:
        async with acting(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            conversation = await work.conversations.lock(by.owner, conversation_id)
            if conversation is None:
                raise NotFound("There is no such conversation.")
            if conversation.writing_reply_id is not None:
                raise ConversationBusy
            last = await work.messages.last(by.owner, conversation_id)
            messages = await _append(work, conversation, last, items, self.clock)
            await work.conversations.touch(by.owner, conversation_id, now=self.clock.now())
            await work.commit()
        return messages


@dataclass(frozen=True, kw_only=True)
class AddMessage:
    """Append a message of any role to the active branch, without asking a model, to upload a history message by
    message.

    An assistant's message is then a reply like any other: it can be followed and, where it answers a user's message,
    regenerated. A system message is in the prompt at its place, after the server's own. The first user message gives an
    untitled conversation its title.
    """

    add_items: AddItems
    bounds: ClassVar[Bounds] = Bounds(content=CONTENT)
    raises: ClassVar[Raises] = AddItems.raises

    async def __call__(self, *, by: Owner, conversation_id: ConversationId, role: Role, content: str) -> Message:
        need(content=content)
        self.bounds.check(content=content)
        messages = await self.add_items(by=by, conversation_id=conversation_id, items=[Earlier(role, content)])
        return messages[0]


@dataclass(frozen=True, kw_only=True)
class UploadConversation:
    """Create a conversation with its first messages, which are as `AddItems` has them: all of it, or nothing."""

    unit_of_work: UnitsOfWork[AddingWork]
    clock: Clock
    limits: RateLimits = UNLIMITED
    bounds: ClassVar[Bounds] = Bounds(items=_ITEMS, metadata=METADATA)
    raises: ClassVar[Raises] = (*CHANGING, ValidationFailed, RateLimited, StorageFull)

    async def __call__(
        self, *, by: Owner, items: Sequence[Earlier], metadata: Mapping[str, str] = NO_METADATA
    ) -> Conversation:
        """Without messages it does not count in the rate limit."""
        self.bounds.check(items=items, metadata=metadata)
        check(*_broken(items))
        by.require(Scope.CHAT)
        if items:
            await self.limits.try_send(by.owner)
        return await self._create(by, items, metadata)

    @retry_on_contention
    async def _create(self, by: Owner, items: Sequence[Earlier], metadata: Mapping[str, str]) -> Conversation:
        now = self.clock.now()
        async with acting(self.unit_of_work, by, now=now, scope=Scope.CHAT) as work:
            conversation = await work.conversations.add(by.owner, title="", config_id=None, now=now, metadata=metadata)
            await _append(work, conversation, None, items, self.clock)
            await work.commit()
        return conversation


def _broken(items: Sequence[Earlier]) -> Iterator[FieldError | None]:
    for number, item in enumerate(items):
        yield from rules_broken_by(item, content=f"items[{number}].content", images=f"items[{number}].images")
    yield too_many_images((item.images for item in items), "items")


async def _append(
    work: AddingWork, conversation: Conversation, last: MessageId | None, items: Sequence[Earlier], clock: Clock
) -> Sequence[Message]:
    """Add messages after `last`, with which the active branch ends."""
    owner, added = conversation.user_id, list[Message]()
    for item in items:
        message = await work.messages.add(
            owner,
            conversation.id,
            parent_id=last,
            role=item.role,
            content=item.content,
            writing=False,
            model=None,
            now=clock.now(),
            images=item.images,
        )
        added.append(message)
        last = message.id
    titles = (title_from(item.content) for item in items if item.role is Role.USER)
    if not conversation.title and (title := next(filter(None, titles), "")):
        await work.conversations.set_title(owner, conversation.id, title)
    return added
