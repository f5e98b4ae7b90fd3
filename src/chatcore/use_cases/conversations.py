"""Conversations and their history."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Protocol, Self

from chatcore.authority import ANYTIME, CHANGING, Owner, acting
from chatcore.bounds import METADATA, PAGE, Bounds, Range, Text, check, need
from chatcore.branches import newest_below, path_to
from chatcore.endings import LoggedWork, with_logged_text
from chatcore.entities import (
    MAX_TITLE,
    Conversation,
    ConversationId,
    Message,
    MessageId,
    ModelConfigId,
    OwnerId,
    Page,
    Scope,
)
from chatcore.errors import (
    Contention,
    FieldError,
    NotFound,
    Raises,
    RateLimited,
    StorageFull,
    Unavailable,
    ValidationFailed,
)
from chatcore.ports import (
    NO_METADATA,
    PAGE_BYTES,
    AuthorityWork,
    Clock,
    ConversationRepo,
    MessageRepo,
    ModelConfigRepo,
    Transaction,
    UnitsOfWork,
)
from chatcore.rate_limits import AtOnce
from chatcore.removal import REMOVE_WITHIN, Removal, RemovalWork
from chatcore.replies import STOP_BEFORE_DELETION, Replies
from chatcore.shielding import retry_on_contention
from chatcore.texts import newest_that_fit

_MISSING = "There is no such conversation."
_CURSOR = re.compile(r"[0-9]{1,17}-[0-9]{1,17}-[0-9]{1,19}")
_NO_CURSOR = FieldError("cursor", "must be a next_cursor")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TITLE = Bounds(title=Text(1, MAX_TITLE))


MOST_USED = 1000
"""How many conversations may be used between two pages of a list without any being missed."""


@dataclass(frozen=True, slots=True)
class ListCursor:
    """A place in the list as it was at `since`: after the conversation `id`, last used at `updated_at`."""

    since: datetime
    updated_at: datetime
    id: ConversationId

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote. Raise `ValidationFailed`."""
        check(None if _CURSOR.fullmatch(text) else _NO_CURSOR)
        since, updated_at, id_ = (int(part) for part in text.split("-"))
        check(None if id_ < 2**63 else _NO_CURSOR)
        moments = [_EPOCH + timedelta(microseconds=each) for each in (since, updated_at)]
        return cls(moments[0], moments[1], ConversationId(id_))

    def __str__(self) -> str:
        """Write microseconds since 1970, and the id."""
        since, updated_at = ((each - _EPOCH) // timedelta(microseconds=1) for each in (self.since, self.updated_at))
        return f"{since}-{updated_at}-{self.id}"


@dataclass(frozen=True, slots=True)
class ListPage(Page[Conversation]):
    """`next`: the cursor of the next page, in the order of the first page; None at the end."""

    next: ListCursor | None


class ListingWork(Transaction, Protocol):
    conversations: ConversationRepo


@dataclass(frozen=True, kw_only=True)
class ListConversations:
    """List the user's conversations, most recently used first. With `cursor`, a conversation that is used between two
    pages is neither missed nor repeated, and one that is created meanwhile is left out."""

    unit_of_work: UnitsOfWork[ListingWork]
    walks: AtOnce = field(init=False, default_factory=lambda: AtOnce("pages by cursor", 4))
    """For an old cursor the database reads all conversations that were used since."""
    bounds: ClassVar[Bounds] = PAGE
    raises: ClassVar[Raises] = (*ANYTIME, ValidationFailed, RateLimited)

    async def __call__(
        self, *, owner: OwnerId, limit: int = 20, offset: int = 0, cursor: ListCursor | None = None
    ) -> ListPage:
        self.bounds.check(limit=limit, offset=offset)
        if cursor is not None:
            with self.walks.one_more(owner):
                async with self.unit_of_work(read_only=True) as work:
                    return _list_page(await self._below(work, owner, cursor, limit + 1), limit, cursor.since)
        async with self.unit_of_work(read_only=True) as work:
            found = await work.conversations.list(owner, limit=limit + 1, offset=offset)
        placed = [(each, each.updated_at) for each in found]
        return _list_page(placed, limit, found[0].updated_at if found else None)

    async def _below(
        self, work: ListingWork, owner: OwnerId, cursor: ListCursor, limit: int
    ) -> list[tuple[Conversation, datetime]]:
        """Return those that kept their place, and those that were below the cursor and have been used since."""
        place = (cursor.updated_at, cursor.id)
        stayed = await work.conversations.list_below(owner, updated_at=place[0], before=place[1], limit=limit)
        used = await work.conversations.used_since(owner, cursor.since, limit=MOST_USED)
        found = {each.id: (each, each.updated_at) for each in stayed}
        found |= {each.id: (each, last) for each, last in used if (last, each.id) < place}  # also used in between
        return sorted(found.values(), key=lambda each: (each[1], each[0].id), reverse=True)[:limit]


def _list_page(placed: list[tuple[Conversation, datetime]], limit: int, since: datetime | None) -> ListPage:
    shown, more = placed[:limit], len(placed) > limit
    following = ListCursor(since, shown[-1][1], shown[-1][0].id) if more and since is not None else None
    return ListPage([each for each, _ in shown], more, following)


class CreationWork(AuthorityWork, Protocol):
    conversations: ConversationRepo
    model_configs: ModelConfigRepo


@dataclass(frozen=True, kw_only=True)
class CreateConversation:
    """Create a conversation. Without a title it gets one from its first message."""

    unit_of_work: UnitsOfWork[CreationWork]
    clock: Clock
    bounds: ClassVar[Bounds] = Bounds(title=Text(1, MAX_TITLE), metadata=METADATA)
    raises: ClassVar[Raises] = (*CHANGING, ValidationFailed, NotFound, StorageFull)

    @retry_on_contention
    async def __call__(
        self,
        *,
        by: Owner,
        title: str | None = None,
        config_id: ModelConfigId | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> Conversation:
        self.bounds.check(title=title, metadata=metadata)
        now = self.clock.now()
        async with acting(self.unit_of_work, by, now=now, scope=Scope.CHAT) as work:
            if config_id is not None and await work.model_configs.get(by.owner, config_id) is None:
                raise NotFound("There is no such model configuration.")
            conversation = await work.conversations.add(
                by.owner, title=title or "", config_id=config_id, now=now, metadata=metadata
            )
            await work.commit()
        return conversation


class RenamingWork(AuthorityWork, Protocol):
    conversations: ConversationRepo


@dataclass(frozen=True, kw_only=True)
class RenameConversation:
    """Set a conversation's title, which only another rename changes."""

    unit_of_work: UnitsOfWork[RenamingWork]
    clock: Clock
    bounds: ClassVar[Bounds] = _TITLE
    raises: ClassVar[Raises] = (*CHANGING, ValidationFailed, NotFound)

    @retry_on_contention
    async def __call__(self, *, by: Owner, conversation_id: ConversationId, title: str) -> Conversation:
        need(title=title)
        self.bounds.check(title=title)
        async with acting(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            await work.conversations.set_title(by.owner, conversation_id, title, by_user=True)
            conversation = await work.conversations.get(by.owner, conversation_id)
            if conversation is None:
                raise NotFound(_MISSING)
            await work.commit()
        return conversation


class DeletionWork(AuthorityWork, RemovalWork, Protocol):
    messages: MessageRepo


@dataclass(frozen=True, kw_only=True)
class DeleteConversation:
    """Delete a conversation with its messages. A reply in progress is stopped first."""

    unit_of_work: UnitsOfWork[DeletionWork]
    replies: Replies
    clock: Clock
    raises: ClassVar[Raises] = (*CHANGING, NotFound)

    async def __call__(self, *, by: Owner, conversation_id: ConversationId) -> None:
        """The rest of a long conversation is deleted later, and is not visible until then."""
        stopped: MessageId | None = None
        while isinstance(done := await self._delete(by, conversation_id, stopped), Message):
            stopped = done.id
            await self.replies.stop(done, within=STOP_BEFORE_DELETION)
        if done == Removal.batch:
            with suppress(Unavailable, Contention):
                removal = Removal(self.unit_of_work, self.clock)
                await removal.conversation(by.owner, conversation_id, within=REMOVE_WITHIN)

    @retry_on_contention
    async def _delete(self, by: Owner, conversation_id: ConversationId, stopped: MessageId | None) -> Message | int:
        """Return how many rows are deleted, or a reply that must stop first, whose stop is requested."""
        async with acting(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            conversation = await work.conversations.lock(by.owner, conversation_id)
            if conversation is None:
                raise NotFound(_MISSING)
            reply_id = conversation.writing_reply_id  # under the lock: none begins between this and the deletion
            reply: Message | None = None
            if reply_id is not None and reply_id != stopped:
                reply = await work.messages.get(by.owner, conversation_id, reply_id)
            if reply is None:
                done: Message | int = await work.conversations.delete(
                    by.owner, conversation_id, limit=Removal.batch, now=self.clock.now()
                )
            else:
                await work.conversations.request_stop(by.owner, conversation_id, reply.id)
                done = reply
            await work.commit()
        return done


@dataclass(frozen=True, slots=True)
class History:
    """`messages` are oldest first. `next_before_id`: the cursor of the page before them, None if there is none."""

    conversation: Conversation
    messages: Sequence[Message]
    next_before_id: MessageId | None

    @property
    def has_more(self) -> bool:
        return self.next_before_id is not None


@dataclass(frozen=True, kw_only=True)
class ReadHistory:
    """Return the newest messages of the active branch, or those before `before_id`, oldest first. Before a message of
    another branch are those that both branches have. A page has at most 4 MiB of text, but at least one message. A
    reply in progress has the text that has reached the log."""

    unit_of_work: UnitsOfWork[LoggedWork]
    bounds: ClassVar[Bounds] = Bounds(limit=Range(1, 200))
    raises: ClassVar[Raises] = (*ANYTIME, ValidationFailed, NotFound)

    async def __call__(
        self, *, owner: OwnerId, conversation_id: ConversationId, limit: int = 50, before: MessageId | None = None
    ) -> History:
        self.bounds.check(limit=limit)
        async with self.unit_of_work(read_only=True) as work:
            found = await work.messages.history(owner, conversation_id, limit=limit + 1, before=before)
            if found is None:
                raise NotFound(_MISSING)
            conversation, messages = found
            if before is not None and not messages:
                parting = await self._parting(work, owner, conversation_id, before)
                if parting is not None:
                    found = await work.messages.history(owner, conversation_id, limit=limit + 1, before=parting)
                    messages = found[1] if found else ()
            shown = [await with_logged_text(work, message) for message in messages[-limit:]]
        page = newest_that_fit(shown, PAGE_BYTES)
        has_more = len(messages) > limit or (bool(page) and page[0].parent_id is not None)
        return History(conversation, page, page[0].id if has_more else None)

    async def _parting(
        self, work: LoggedWork, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId
    ) -> MessageId | None:
        """Return the first message of the active branch that is not on the way to this one; None if this one is in the
        active branch."""
        tree = await work.messages.tree(owner, conversation_id)
        fork, path = path_to(tree, message_id)
        if not path:
            return None
        after = fork and fork.id
        return next((node.id for node in tree if node.active and node.parent_id == after), None)


class BranchWork(AuthorityWork, Protocol):
    conversations: ConversationRepo
    messages: MessageRepo


@dataclass(frozen=True, kw_only=True)
class SwitchBranch:
    """Make another branch of a conversation the active one: the branch through `message_id` to the newest message below
    it. The next message is added there. Nothing is deleted, and a reply in progress continues."""

    unit_of_work: UnitsOfWork[BranchWork]
    read_history: ReadHistory
    clock: Clock
    raises: ClassVar[Raises] = (*CHANGING, NotFound)

    async def __call__(self, *, by: Owner, conversation_id: ConversationId, message_id: MessageId) -> History:
        """Return the newest messages of that branch."""
        await self._switch(by, conversation_id, message_id)
        return await self.read_history(owner=by.owner, conversation_id=conversation_id)

    @retry_on_contention
    async def _switch(self, by: Owner, conversation_id: ConversationId, message_id: MessageId) -> None:
        owner = by.owner
        async with acting(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            if await work.conversations.lock(owner, conversation_id) is None:
                raise NotFound(_MISSING)
            tree = await work.messages.tree(owner, conversation_id)
            if all(node.id != message_id for node in tree):
                raise NotFound("There is no such message.")
            fork, path = path_to(tree, newest_below(tree, message_id))
            await work.messages.activate(owner, conversation_id, after=fork, path=path)
            await work.commit()
