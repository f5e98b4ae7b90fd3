"""Finding again what was said."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from chatcore.authority import ANYTIME
from chatcore.bounds import PAGE, Bounds, Text
from chatcore.entities import ConversationId, MessageId, UserId
from chatcore.errors import Raises, RateLimited, ValidationFailed
from chatcore.ports import Hit, UnitOfWork, UnitOfWorkFactory
from chatcore.rate_limits import UNLIMITED, AtOnce, RateLimits
from chatcore.texts import Needle, excerpt_of


@dataclass(frozen=True, slots=True)
class SearchCursor:
    """How far a search is: among the titles, or among the messages, which come after all titles. `before`: the id of
    the last one that was looked at; None: none of them was."""

    messages: bool = False
    before: int | None = None


@dataclass(frozen=True, slots=True)
class SearchPage:
    """`next`: where the search goes on; None: it is over. There may be few hits on a page, or none, and more after."""

    hits: Sequence[Hit]
    next: SearchCursor | None


@dataclass(frozen=True, kw_only=True)
class SearchConversations:
    """The owner: what has a text in it, of the titles of one's conversations and then of one's messages in all their
    branches, the newest first. The text is found wherever it stands, in capitals or not. A title is left out where the
    conversation's first message has the text as well: most titles are its beginning. Each hit shows at most 240
    characters around the text.

    A page looks at no more than some thousand of one's own titles and messages, and at most 8 MiB of them, and takes
    about a second. It may therefore have few hits or none although more follow: `has_more` and `next_cursor` say so.
    """

    unit_of_work: UnitOfWorkFactory
    limits: RateLimits = UNLIMITED
    searches: AtOnce = field(default_factory=lambda: AtOnce("searches", 2, in_all=50))
    connections: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """To the database, that searches use at once: so many of the pool's, for which the other searches wait."""
    titles: ClassVar[int] = 5000
    """That are looked at for a page."""
    within: ClassVar[int] = 625
    """Messages that are looked at with one statement."""
    max_bytes: ClassVar[int] = 1024 * 1024
    """Of text, likewise."""
    statements: ClassVar[int] = 8
    """For a page."""
    seconds: ClassVar[float] = 1.0
    """After which no other statement begins."""
    bounds: ClassVar[Bounds] = Bounds(q=Text(1, 200), limit=PAGE["limit"])
    raises: ClassVar[Raises] = (*ANYTIME, ValidationFailed, RateLimited)

    async def __call__(
        self, *, owner: UserId, q: str, cursor: SearchCursor = SearchCursor(), limit: int = 20
    ) -> SearchPage:
        """`Unavailable` also while too many others search."""
        self.bounds.check(q=q, limit=limit)
        await self.limits.try_search(owner)
        with self.searches.one_more(owner):
            async with self.connections, self.unit_of_work(read_only=True) as work:
                return await self._page(work, owner, q, cursor, limit)

    async def _page(self, work: UnitOfWork, owner: UserId, q: str, cursor: SearchCursor, limit: int) -> SearchPage:
        if cursor.messages:
            return await self._messages(work, owner, q, cursor.before, limit)
        titles = await self._titles(work, owner, q, cursor.before, limit)
        if titles.next is not None or len(titles.hits) == limit:
            return SearchPage(titles.hits, titles.next or SearchCursor(messages=True))
        messages = await self._messages(work, owner, q, None, limit - len(titles.hits))
        return SearchPage([*titles.hits, *messages.hits], messages.next)

    async def _titles(self, work: UnitOfWork, owner: UserId, q: str, before: int | None, limit: int) -> SearchPage:
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

    async def _messages(self, work: UnitOfWork, owner: UserId, q: str, before: int | None, limit: int) -> SearchPage:
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
