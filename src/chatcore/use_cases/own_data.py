"""Import of conversations from an export."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

from chatcore import audit
from chatcore.authority import CHANGING, Owner, acting
from chatcore.entities import MAX_TITLE, ConversationId, Message, MessageId, Scope, Status, storable
from chatcore.errors import Raises, RateLimited, StorageFull, ValidationFailed
from chatcore.ports import AuthorityWork, Clock, ConversationRepo, MessageRepo, UnitsOfWork
from chatcore.rate_limits import UNLIMITED, AtOnce, RateLimits
from chatcore.shielding import retry_on_contention, shielded
from chatcore.use_cases.read_import import OwnConversation, OwnImage, ReadConversation, Refusal

MAX_REFUSALS = 100
"""Refusals that are reported one by one."""
MAX_TAKEN = 10_000
"""Stored conversations that are reported one by one."""
MAX_UNREADABLE = 10_000
"""Unreadable lines after which an import ends."""


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
    thing: OwnConversation | Message | OwnImage | Unreadable | RefusedConversation | EndOfExport


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

    A conversation has at most 10,000 messages and 16 MiB of text, a message at most 7 MiB; of its images 256 MiB are
    stored, and the report counts the others. An import ends after 10,000
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
        """Hold one conversation in memory, its images in a file. `lines` raise `ValidationFailed` if they are no
        export."""
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
                case Message() | OwnImage() as part:
                    read = read or ReadConversation(line.number, None)
                    await read.add(line.number, part)
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
            with closing(read):
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
                images = await read.images_of(message.id)
                ids[message.id] = await work.messages.restore(
                    replace(
                        message,
                        user_id=owner,
                        conversation_id=stored.id,
                        parent_id=None if message.parent_id is None else ids[message.parent_id],
                        created_at=min(message.created_at, now),  # nothing was said that is yet to come
                        status=Status.INTERRUPTED if message.status is Status.WRITING else message.status,
                        images=len(images),
                    ),
                    active=message.id in active,
                    images=images,
                )
            await work.commit()
        return stored.id
