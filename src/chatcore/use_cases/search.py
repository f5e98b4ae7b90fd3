"""Finding again what was said."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from chatcore.entities import Conversation, ConversationId, Message, MessageId, UserId, check, range_rule, text_rule
from chatcore.ports import UnitOfWork, UnitOfWorkFactory

MAX_QUERY = 200


@dataclass(frozen=True, slots=True)
class Hit:
    """A message and its conversation; without a message: the conversation's title."""

    conversation: Conversation
    message: Message | None = None


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
    conversation's first message has the text as well: most titles are its beginning.

    A page looks at no more than so many of one's own titles and messages (`within`). It may therefore have few
    hits or none although more follow: `has_more` and `next_cursor` say so.
    """

    unit_of_work: UnitOfWorkFactory
    within: ClassVar[int] = 5000

    async def __call__(
        self, *, owner: UserId, q: str, cursor: SearchCursor = SearchCursor(), limit: int = 20
    ) -> SearchPage:
        """`q` 1 to 200 characters, not only white space; `limit` 1 to 100. Raises `ValidationFailed`."""
        check(
            text_rule(q, "q", minimum=1, maximum=MAX_QUERY),
            range_rule(limit, "limit", minimum=1, maximum=100),
        )
        async with self.unit_of_work(read_only=True) as work:
            if cursor.messages:
                return await self._messages(work, owner, q, cursor.before, limit)
            titles = await self._titles(work, owner, q, cursor.before, limit)
            if titles.next is not None or len(titles.hits) == limit:
                return SearchPage(titles.hits, titles.next or SearchCursor(messages=True))
            messages = await self._messages(work, owner, q, None, limit - len(titles.hits))
        return SearchPage([*titles.hits, *messages.hits], messages.next)

    async def _titles(self, work: UnitOfWork, owner: UserId, q: str, before: int | None, limit: int) -> SearchPage:
        found = await work.conversations.titled(
            owner, q, before=None if before is None else ConversationId(before), limit=limit + 1, within=self.within
        )
        page = found.items[:limit]
        ids = [conversation.id for conversation in page]
        said = await work.messages.begun_with(owner, q, among=ids) if ids else frozenset[ConversationId]()
        hits = [Hit(conversation) for conversation in page if conversation.id not in said]
        looked_to = page[-1].id if len(found.items) > limit else found.looked_to
        return SearchPage(hits, None if looked_to is None else SearchCursor(before=looked_to))

    async def _messages(self, work: UnitOfWork, owner: UserId, q: str, before: int | None, limit: int) -> SearchPage:
        found = await work.messages.containing(
            owner, q, before=None if before is None else MessageId(before), limit=limit + 1, within=self.within
        )
        hits = [Hit(conversation, message) for conversation, message in found.items[:limit]]
        looked_to = found.items[limit - 1][1].id if len(found.items) > limit else found.looked_to
        return SearchPage(hits, None if looked_to is None else SearchCursor(messages=True, before=looked_to))
