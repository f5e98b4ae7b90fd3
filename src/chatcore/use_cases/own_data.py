"""Export of all that a user owns, as a stream of entities, and import of conversations from one."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar

from chatcore import audit
from chatcore.authority import ANYTIME, CHANGING, Caller, Owner, acting
from chatcore.endings import LoggedWork, with_logged_text
from chatcore.entities import (
    MAX_TITLE,
    ConversationId,
    Message,
    MessageId,
    ModelConfig,
    OwnerId,
    Scope,
    Session,
    Status,
    User,
    UserId,
    storable,
)
from chatcore.errors import InsufficientScope, Raises, RateLimited, StorageFull, ValidationFailed
from chatcore.ports import (
    AuthorityWork,
    Clock,
    ConversationRepo,
    MessageRepo,
    ModelConfigRepo,
    Node,
    TokenStore,
    UnitsOfWork,
)
from chatcore.rate_limits import UNLIMITED, AtOnce, RateLimits
from chatcore.shielding import retry_on_contention, shielded
from chatcore.use_cases.read_import import OwnConversation, ReadConversation, Refusal

T = TypeVar("T")

MAX_REFUSALS = 100
"""Refusals that are reported one by one."""
MAX_TAKEN = 10_000
"""Stored conversations that are reported one by one."""
MAX_UNREADABLE = 10_000
"""Unreadable lines after which an import ends."""

_PAGE = 100


OwnThing: TypeAlias = User | Session | ModelConfig | OwnConversation | Message


class ExportWork(LoggedWork, Protocol):
    tokens: TokenStore
    conversations: ConversationRepo
    model_configs: ModelConfigRepo


@dataclass(frozen=True, kw_only=True)
class ExportOwnData:
    """Export all that the caller owns: the account, the sessions, the model configurations without their keys, and each
    conversation with the messages of all branches."""

    unit_of_work: UnitsOfWork[ExportWork]
    raises: ClassVar[Raises] = (*ANYTIME, InsufficientScope)

    async def __call__(self, *, by: Owner, branches: bool = False) -> AsyncGenerator[OwnThing, None]:
        """`branches`: each conversation has its `children`.

        Read page by page, so that a slow reader holds neither memory nor a database connection. A conversation is
        followed by its messages, each after its parent."""
        by.require(None)
        owner, caller = by.owner, by if isinstance(by, Caller) else None
        audit.record("data_exported", user_id=owner, session_id=caller and caller.session.id)
        parts: list[AsyncGenerator[OwnThing, None]] = [self._configs(owner), self._conversations(owner, branches)]
        if caller is not None:
            yield caller.user
            parts.insert(0, self._sessions(caller.user.id))
        for part in parts:
            async with aclosing(part):
                async for thing in part:
                    yield thing

    def _sessions(self, owner: UserId) -> AsyncGenerator[Session, None]:
        return self._newest_first(
            lambda work, offset: work.tokens.sessions(owner, limit=_PAGE, offset=offset),
            lambda session: (session.login_time, session.id),
        )

    def _configs(self, owner: OwnerId) -> AsyncGenerator[ModelConfig, None]:
        return self._newest_first(
            lambda work, offset: work.model_configs.list(owner, limit=_PAGE, offset=offset), lambda config: config.id
        )

    async def _newest_first(
        self, read: Callable[[ExportWork, int], Awaitable[Sequence[T]]], place: Callable[[T], Any]
    ) -> AsyncGenerator[T, None]:
        """Read page by page; each begins with the last thing of the one before. Where that is missing, a deletion has
        moved the others: read from the beginning again. Yield each thing once."""
        offset, shown, before = 0, None, None
        while True:
            async with self.unit_of_work(read_only=True) as work:
                page = await read(work, offset)
            places = [place(thing) for thing in page]
            if before is not None and before not in places:
                offset, before = 0, None
                continue
            for thing in page:
                if shown is None or place(thing) < shown:
                    shown = place(thing)
                    yield thing
            if len(page) < _PAGE:
                return
            offset, before = offset + len(page) - 1, places[-1]

    async def _conversations(self, owner: OwnerId, branches: bool) -> AsyncGenerator[OwnThing, None]:
        after: ConversationId | None = None
        while True:
            async with self.unit_of_work(read_only=True) as work:
                page = await work.conversations.by_id(owner, after=after, limit=_PAGE)
            for conversation in page:
                async with aclosing(self._conversation(owner, conversation.id, branches)) as things:
                    async for thing in things:
                        yield thing
            if len(page) < _PAGE:
                return
            after = page[-1].id

    async def _conversation(
        self, owner: OwnerId, conversation_id: ConversationId, branches: bool
    ) -> AsyncGenerator[OwnThing, None]:
        """Yield nothing if the conversation was deleted meanwhile."""
        async with self.unit_of_work(read_only=True) as work:
            conversation = await work.conversations.get(owner, conversation_id)
            current = await work.messages.last(owner, conversation_id)
            tree = await work.messages.tree(owner, conversation_id) if branches else ()
        if conversation is not None:
            yield OwnConversation(conversation, current, children=_children(tree))
            async with aclosing(self._messages(owner, conversation_id)) as messages:
                async for message in messages:
                    yield message

    async def _messages(self, owner: OwnerId, conversation_id: ConversationId) -> AsyncGenerator[Message, None]:
        """Leave out what follows a message that was added meanwhile, above those that were read."""
        after, shown = None, set[MessageId | None]([None])
        while True:
            async with self.unit_of_work(read_only=True) as work:
                page = await work.messages.by_depth(owner, conversation_id, after=after, limit=_PAGE)
                page = [await with_logged_text(work, message) for message in page]
            if not page:
                return
            for message in page:
                if message.parent_id in shown:
                    shown.add(message.id)
                    yield message
            after = page[-1].id


def _children(tree: Sequence[Node]) -> Mapping[MessageId | None, Sequence[MessageId]]:
    children = defaultdict[MessageId | None, list[MessageId]](list)
    for node in tree:
        children[node.parent_id].append(node.id)
    return children


# ---- import ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that cannot be imported, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class RefusedConversation:
    """A conversation of another product that cannot be imported, by its title, and why."""

    title: str
    why: str


@dataclass(frozen=True, slots=True)
class EndOfExport:
    """The last line of a complete export."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an export; `number` is None for another product's. Its ids are the export's; its owner is nobody."""

    number: int | None
    thing: OwnConversation | Message | Unreadable | RefusedConversation | EndOfExport


@dataclass(frozen=True, slots=True)
class Taken:
    """A stored conversation. `left_out`: the parts that were not stored, and how often."""

    id: ConversationId
    title: str
    messages: int
    left_out: Mapping[str, int]


@dataclass(slots=True)
class Imported:
    """The report of an import. `refused`: the first hundred refusals, each with the first line that prevented its
    conversation from being stored. `taken`: the first ten thousand stored conversations."""

    conversations: int = 0
    messages: int = 0
    refusals: int = 0
    refused: list[Refusal] = field(default_factory=list[Refusal])
    taken: list[Taken] = field(default_factory=list[Taken])
    read: int | None = field(default=1, repr=False)

    def refuse(self, refusal: Refusal) -> None:
        self.refusals += 1
        if self.refusals <= MAX_REFUSALS:  # the title may be the reason
            self.refused.append(replace(refusal, title=refusal.title and storable(refusal.title)))

    def take(self, taken: Taken) -> None:
        self.conversations += 1
        self.messages += taken.messages
        if self.conversations <= MAX_TAKEN:
            self.taken.append(taken)

    def stop(self, why: str) -> None:
        """Add the last refusal, which is always reported."""
        self.refusals += 1
        self.refused.append(Refusal(self.read, why))


class ImportWork(AuthorityWork, Protocol):
    conversations: ConversationRepo
    messages: MessageRepo


@dataclass(frozen=True, kw_only=True)
class ImportConversations:
    """Import the conversations of an export as new ones, with all branches and the same active branch. Each is stored
    whole or not at all; the report has the line and the reason of each refusal. Accounts, sessions and configurations
    are ignored. Replies that were in progress become `interrupted`. Importing the same export twice makes copies.

    A conversation has at most 10,000 messages and 16 MiB of text, a message at most 7 MiB. An import ends after 10,000
    unreadable lines or 15 minutes, which the last refusal reports. It counts as a message in the rate limits; a user
    may run one at a time, and the server eight.
    """

    unit_of_work: UnitsOfWork[ImportWork]
    clock: Clock
    limits: RateLimits = UNLIMITED
    going_on: AtOnce = field(init=False, default_factory=lambda: AtOnce("imports", 1, in_all=8))
    within: ClassVar[float] = 900.0
    raises: ClassVar[Raises] = (*CHANGING, ValidationFailed, RateLimited, StorageFull)

    async def __call__(self, *, by: Owner, lines: AsyncIterator[Line]) -> Imported:
        """Hold one conversation in memory. `lines` raise `ValidationFailed` if they are no export."""
        by.require(Scope.CHAT)
        await self.limits.try_send(by.owner)
        with self.going_on.one_more(by.owner):
            return await self._imported(by, lines)

    async def _imported(self, by: Owner, lines: AsyncIterator[Line]) -> Imported:
        imported, limit = Imported(), asyncio.timeout(self.within)
        try:
            async with limit:
                await self._read_all(by, lines, imported)
        except TimeoutError:
            if not limit.expired():  # it is the lines' own
                raise
            imported.stop(f"is the last that was read: an import has {self.within:.0f} seconds")
        finally:  # what came before a line that never came is stored
            if imported.conversations:
                stored = {"conversations": imported.conversations, "messages": imported.messages}
                audit.record("data_imported", user_id=by.owner, **stored)
        return imported

    async def _read_all(self, by: Owner, lines: AsyncIterator[Line], imported: Imported) -> None:
        read: ReadConversation | None = None
        ended, unreadable = False, 0
        async for line in lines:
            imported.read = line.number
            match line.thing:
                case OwnConversation() as own:
                    await self._finish(by, read, imported)
                    read = ReadConversation(line.number, own)
                    read.check_conversation()
                case EndOfExport():
                    await self._finish(by, read, imported)
                    read, ended = None, True
                case Message() as message:
                    read = read or ReadConversation(line.number, None)
                    read.add(line.number, message)
                case RefusedConversation(title, why):
                    await self._finish(by, read, imported)
                    read = None
                    imported.refuse(Refusal(line.number, why, title[:MAX_TITLE]))
                    unreadable += 1
                case Unreadable(why):
                    read = read or ReadConversation(line.number, None)
                    read.refuse(line.number, why)
                    unreadable += 1
            if unreadable > MAX_UNREADABLE:
                await self._finish(by, read, imported)
                imported.stop(f"is the last that was read: {MAX_UNREADABLE} before it could not be")
                return
        if read is not None:
            read.refuse(read.line, "may be cut off: neither another conversation nor the end of the export follows")
            await self._finish(by, read, imported)
        elif not ended:
            why = "is that of an export which was cut off: neither a conversation nor its end follows"
            imported.refuse(Refusal(1, why))

    async def _finish(self, by: Owner, read: ReadConversation | None, imported: Imported) -> None:
        if read is not None:
            await shielded(self._store_or_refuse(by, read, imported))

    async def _store_or_refuse(self, by: Owner, read: ReadConversation, imported: Imported) -> None:
        """Run to the end, so that the report is true."""
        if read.refusal is not None or read.own is None:
            imported.refuse(read.refusal or Refusal(read.line, "belongs to no conversation"))
            return
        stored = await self._store(by, read.own, read)
        imported.take(Taken(stored, read.own.conversation.title, read.count, read.left_out))

    @retry_on_contention
    async def _store(self, by: Owner, own: OwnConversation, read: ReadConversation) -> ConversationId:
        owner, ids, active, now = by.owner, dict[MessageId, MessageId](), read.active(), self.clock.now()
        async with acting(self.unit_of_work, by, now=now, scope=Scope.CHAT) as work:
            stored = await work.conversations.restore(
                replace(own.conversation, user_id=owner, updated_at=min(read.used_at, now))
            )
            for message in read.messages():
                ids[message.id] = await work.messages.restore(
                    replace(
                        message,
                        user_id=owner,
                        conversation_id=stored.id,
                        parent_id=None if message.parent_id is None else ids[message.parent_id],
                        created_at=min(message.created_at, now),  # nothing was said that is yet to come
                        status=Status.INTERRUPTED if message.status is Status.WRITING else message.status,
                    ),
                    active=message.id in active,
                )
            await work.commit()
        return stored.id
