"""Conversations as lists of items, as clients of other protocols know them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias

from chatcore.authority import ANYTIME, CHANGING, Owner, acting
from chatcore.bounds import METADATA, Bounds, Range, need
from chatcore.branches import ancestors
from chatcore.endings import LoggedWork, with_logged_text
from chatcore.entities import Conversation, ConversationId, Image, Message, MessageId, OwnerId, Page, Scope, Status
from chatcore.errors import NotFound, Raises, StorageFull, ValidationFailed
from chatcore.ports import PAGE_BYTES, AuthorityWork, Clock, ConversationRepo, UnitsOfWork
from chatcore.shielding import retry_on_contention
from chatcore.texts import bytes_of

_MISSING = "There is no such conversation."
_Place: TypeAlias = tuple[OwnerId, ConversationId]


class ItemsWork(LoggedWork, Protocol):
    conversations: ConversationRepo


class DescribingWork(AuthorityWork, Protocol):
    conversations: ConversationRepo


@dataclass(frozen=True, kw_only=True)
class ReadConversation:
    """Return a conversation without its messages, by its id or by the name that its client gave it."""

    unit_of_work: UnitsOfWork[ItemsWork]
    raises: ClassVar[Raises] = (*ANYTIME, NotFound)

    async def __call__(self, *, owner: OwnerId, conversation_id: ConversationId | str) -> Conversation:
        async with self.unit_of_work(read_only=True) as work:
            if isinstance(conversation_id, str):
                found = await work.conversations.named(owner, conversation_id)
            else:
                found = await work.conversations.get(owner, conversation_id)
        if found is None:
            raise NotFound(_MISSING)
        return found


@dataclass(frozen=True, kw_only=True)
class DescribeConversation:
    """Replace the metadata of a conversation."""

    unit_of_work: UnitsOfWork[DescribingWork]
    clock: Clock
    bounds: ClassVar[Bounds] = Bounds(metadata=METADATA)
    raises: ClassVar[Raises] = (*CHANGING, ValidationFailed, NotFound, StorageFull)

    @retry_on_contention
    async def __call__(
        self, *, by: Owner, conversation_id: ConversationId, metadata: Mapping[str, str]
    ) -> Conversation:
        need(metadata=metadata)
        self.bounds.check(metadata=metadata)
        async with acting(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            conversation = await work.conversations.set_metadata(by.owner, conversation_id, metadata)
            if conversation is None:
                raise NotFound(_MISSING)
            await work.commit()
        return conversation


@dataclass(frozen=True, kw_only=True)
class ListItems:
    """List the messages of the active branch, from its end or from its beginning. `after`: the last message of the page
    before. A page has at most 4 MiB of text, but at least one message, and none that was deleted."""

    unit_of_work: UnitsOfWork[ItemsWork]
    bounds: ClassVar[Bounds] = Bounds(limit=Range(1, 100))
    raises: ClassVar[Raises] = (*ANYTIME, ValidationFailed, NotFound)

    async def __call__(
        self,
        *,
        owner: OwnerId,
        conversation_id: ConversationId,
        after: MessageId | None = None,
        limit: int = 20,
        newest_first: bool = True,
    ) -> Page[Message]:
        self.bounds.check(limit=limit)
        async with self.unit_of_work(read_only=True) as work:
            read = self._newest if newest_first else self._oldest
            while True:
                found = await read(work, (owner, conversation_id), after, limit)
                shown = [each for each in found.items if each.status is not Status.DELETED]
                if shown or not found.has_more:  # of a page without messages nobody could ask for the next one
                    return Page([await with_logged_text(work, each) for each in shown], found.has_more)
                after = found.items[-1].id

    async def _newest(self, work: ItemsWork, this: _Place, after: MessageId | None, limit: int) -> Page[Message]:
        found = await work.messages.history(*this, limit=limit, before=after)
        if found is None:
            raise NotFound(_MISSING)
        page = found[1][::-1]
        return Page(page, bool(page) and page[-1].parent_id is not None)

    async def _oldest(self, work: ItemsWork, this: _Place, after: MessageId | None, limit: int) -> Page[Message]:
        if await work.conversations.get(*this) is None:
            raise NotFound(_MISSING)
        page = await work.messages.by_depth(*this, after=after, limit=limit, active_only=True)
        return Page(page, bool(page) and page[-1].id != await work.messages.last(*this))


@dataclass(frozen=True, kw_only=True)
class ListPath:
    """List the messages from the top of the conversation down to one of them, or back up from it: what a reply to that
    one continues. `after`: the last message of the page before. A page has at most 4 MiB of text, but at least one
    message, and none that was deleted."""

    unit_of_work: UnitsOfWork[ItemsWork]
    bounds: ClassVar[Bounds] = Bounds(limit=Range(1, 100))
    raises: ClassVar[Raises] = (*ANYTIME, ValidationFailed, NotFound)

    async def __call__(
        self,
        *,
        owner: OwnerId,
        conversation_id: ConversationId,
        message_id: MessageId,
        after: MessageId | None = None,
        limit: int = 20,
        newest_first: bool = True,
    ) -> Page[Message]:
        self.bounds.check(limit=limit)
        async with self.unit_of_work(read_only=True) as work:
            path = [*ancestors(await work.messages.tree(owner, conversation_id), message_id)]
            if not path:
                raise NotFound("There is no such message.")
            path = path[::-1] if newest_first else path
            path = path if after is None or after not in path else path[path.index(after) + 1 :]
            shown, size = list[Message](), 0
            for each in path:
                message = await work.messages.get(owner, conversation_id, each)
                if message is None or message.status is Status.DELETED:
                    continue
                size += bytes_of(message)
                if len(shown) == limit or (shown and size > PAGE_BYTES):
                    return Page(shown, has_more=True)
                shown.append(await with_logged_text(work, message))
            return Page(shown, has_more=False)


@dataclass(frozen=True, kw_only=True)
class ReadItem:
    """Return one message of a conversation, of whatever branch."""

    unit_of_work: UnitsOfWork[ItemsWork]
    raises: ClassVar[Raises] = (*ANYTIME, NotFound)

    async def __call__(self, *, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId) -> Message:
        async with self.unit_of_work(read_only=True) as work:
            message = await work.messages.get(owner, conversation_id, message_id)
            if message is None or message.status is Status.DELETED:
                raise NotFound("There is no such message.")
            return await with_logged_text(work, message)


@dataclass(frozen=True, kw_only=True)
class ReadImage:
    """Return an image of a message. Images are numbered from 0."""

    unit_of_work: UnitsOfWork[ItemsWork]
    raises: ClassVar[Raises] = (*ANYTIME, NotFound)

    async def __call__(
        self, *, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId, number: int
    ) -> Image:
        async with self.unit_of_work(read_only=True) as work:
            image = await work.messages.image(owner, conversation_id, message_id, number)
        if image is None:
            raise NotFound("There is no such image.")
        return image
