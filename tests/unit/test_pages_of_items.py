"""Lists of a conversation's messages: whatever fits into a page, the pages together have all of them."""

import pytest

from chatcore import Message, Page, Role
from chatcore.entities import MessageId
from chatcore.ports import PAGE_BYTES
from unit.world import Chat, Process


class Lists:
    """Both kinds of list."""

    def __init__(self, chat: Chat, kind: str, *, newest_first: bool) -> None:
        self.chat = chat
        self.kind = kind
        self.newest_first = newest_first

    async def page(self, last: MessageId, after: MessageId | None, limit: int) -> Page[Message]:
        process = self.chat.process
        if self.kind == "items":
            return await process.list_items(
                owner=self.chat.owner,
                conversation_id=self.chat.id,
                after=after,
                limit=limit,
                newest_first=self.newest_first,
            )
        return await process.list_path(
            owner=self.chat.owner,
            conversation_id=self.chat.id,
            message_id=last,
            after=after,
            limit=limit,
            newest_first=self.newest_first,
        )

    async def pages(self, last: MessageId, limit: int) -> list[list[MessageId]]:
        """Ask for the next page as clients do, by the last message of the one before."""
        found, more, after = list[list[MessageId]](), True, None
        while more:
            page = await self.page(last, after, limit)
            found.append([each.id for each in page.items])
            more = page.has_more
            assert page.items or not more
            after = page.items[-1].id if page.items else None
        return found


@pytest.fixture(params=["items", "path"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[True, False], ids=["newest first", "oldest first"])
def lists(request: pytest.FixtureRequest, chat: Chat, kind: str) -> Lists:
    return Lists(chat, kind, newest_first=request.param)


async def ids_of(chat: Chat, texts: list[str], lists: Lists) -> list[MessageId]:
    ids = [(await chat.add(Role.USER, text)).id for text in texts]
    return ids[::-1] if lists.newest_first else ids


async def test_a_page_that_its_bytes_end_is_not_the_last(chat: Chat, lists: Lists) -> None:
    large = "ü" * 200_000
    ids = await ids_of(chat, [large] * 25, lists)
    pages = await lists.pages(max(ids), limit=100)
    assert [each for page in pages for each in page] == ids
    assert max(map(len, pages)) <= PAGE_BYTES // 400_000


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 7])
async def test_pages_of_every_length(chat: Chat, lists: Lists, limit: int) -> None:
    ids = await ids_of(chat, [f"message {number}" for number in range(6)], lists)
    pages = await lists.pages(max(ids), limit)
    assert pages == [ids[start : start + limit] for start in range(0, 6, limit)]


@pytest.mark.parametrize("deleted", [range(5), range(3, 8), range(5, 10), range(10)])
async def test_deleted_messages_leave_no_page_without_a_next_one(
    process: Process, chat: Chat, lists: Lists, deleted: range
) -> None:
    ids = await ids_of(chat, [f"message {number}" for number in range(10)], lists)
    for number in deleted:
        await process.erase_message(by=chat.by, conversation_id=chat.id, message_id=ids[number])
    pages = await lists.pages(max(ids), limit=2)
    assert [each for page in pages for each in page] == [id_ for n, id_ in enumerate(ids) if n not in deleted]
