"""Search in titles and messages."""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, Self

from chatcore.authority import ANYTIME
from chatcore.bounds import PAGE, Bounds, Text, check
from chatcore.entities import ConversationId, MessageId, OwnerId
from chatcore.errors import FieldError, Raises, RateLimited, ValidationFailed
from chatcore.ports import ConversationRepo, Hit, MessageRepo, Transaction, UnitsOfWork
from chatcore.rate_limits import UNLIMITED, AtOnce, RateLimits
from chatcore.texts import Needle, excerpt_of

_CURSOR = re.compile("([tm][0-9]{0,19})?")


@dataclass(frozen=True, slots=True)
class SearchCursor:
    """How far a search is: in the titles, or in the messages, which follow all titles. `before`: the id of the last one
    that was searched; None: none yet."""

    messages: bool = False
    before: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote; an empty text is the beginning. Raise `ValidationFailed`."""
        check(None if _CURSOR.fullmatch(text) else FieldError("cursor", "must be a next_cursor"))
        return cls(text.startswith("m"), int(text[1:]) if text[1:] else None)

    def __str__(self) -> str:
        """Write `t` for titles or `m` for messages, and the id of the last one that was searched."""
        return f"{'m' if self.messages else 't'}{self.before or ''}"


@dataclass(frozen=True, slots=True)
class SearchPage:
    """`next`: where the search continues; None at the end. A page may have few hits, or none, before the end."""

    hits: Sequence[Hit]
    next: SearchCursor | None


class SearchWork(Transaction, Protocol):
    conversations: ConversationRepo
    messages: MessageRepo


@dataclass(frozen=True, kw_only=True)
class SearchConversations:
    """Search a text in the user's titles, then in the messages of all branches, regardless of case, newest first. A
    title is left out if the first message of its conversation has the text too: most titles are its beginning. Each
    hit shows at most 240 characters around the text.

    A page searches at most 5,000 titles, 5,000 messages and 8 MiB, in about a second. It may have few hits, or none,
    while `has_more` is true: `next_cursor` continues.
    """

    unit_of_work: UnitsOfWork[SearchWork]
    limits: RateLimits = UNLIMITED
    searches: AtOnce = field(default_factory=lambda: AtOnce("searches", 2, in_all=50))
    connections: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """Database connections that all searches may use at once."""
    titles: ClassVar[int] = 5000
    """Titles that are searched for a page."""
    within: ClassVar[int] = 625
    """Messages that one statement searches."""
    max_bytes: ClassVar[int] = 1024 * 1024
    """Text that one statement searches."""
    statements: ClassVar[int] = 8
    """Statements for a page."""
    seconds: ClassVar[float] = 1.0
    """Seconds after which no other statement begins."""
    bounds: ClassVar[Bounds] = Bounds(q=Text(1, 200), limit=PAGE["limit"])
    raises: ClassVar[Raises] = (*ANYTIME, ValidationFailed, RateLimited)

    async def __call__(
        self, *, owner: OwnerId, q: str, cursor: SearchCursor = SearchCursor(), limit: int = 20
    ) -> SearchPage:
        """Raise `Unavailable` also while too many others search."""
        self.bounds.check(q=q, limit=limit)
        await self.limits.try_search(owner)
        with self.searches.one_more(owner):
            async with self.connections, self.unit_of_work(read_only=True) as work:
                return await self._page(work, owner, q, cursor, limit)

    async def _page(self, work: SearchWork, owner: OwnerId, q: str, cursor: SearchCursor, limit: int) -> SearchPage:
        if cursor.messages:
            return await self._messages(work, owner, q, cursor.before, limit)
        titles = await self._titles(work, owner, q, cursor.before, limit)
        if titles.next is not None or len(titles.hits) == limit:
            return SearchPage(titles.hits, titles.next or SearchCursor(messages=True))
        messages = await self._messages(work, owner, q, None, limit - len(titles.hits))
        return SearchPage([*titles.hits, *messages.hits], messages.next)

    async def _titles(self, work: SearchWork, owner: OwnerId, q: str, before: int | None, limit: int) -> SearchPage:
        found = await work.conversations.titled(
            owner, q, before=None if before is None else ConversationId(before), limit=limit, within=self.titles
        )
        said = await work.messages.begun_with(owner, q, among=[conversation.id for conversation in found.items])
        needle = Needle(q)
        hits = [
            Hit(conversation, excerpt_of(conversation.title, needle.place_in(conversation.title) or 0))
            for conversation in found.items
            if conversation.id not in said
        ]
        return SearchPage(hits, None if found.looked_to is None else SearchCursor(before=found.looked_to))

    async def _messages(self, work: SearchWork, owner: OwnerId, q: str, before: int | None, limit: int) -> SearchPage:
        begun, hits = time.monotonic(), list[Hit]()
        for _ in range(self.statements):
            found = await work.messages.containing(
                owner,
                q,
                before=None if before is None else MessageId(before),
                limit=limit - len(hits),
                within=self.within,
                max_bytes=self.max_bytes,
            )
            hits += found.items
            before = found.looked_to
            if before is None or len(hits) == limit or time.monotonic() - begun > self.seconds:
                break
        return SearchPage(hits, None if before is None else SearchCursor(messages=True, before=before))
