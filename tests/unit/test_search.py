"""Finding again what was said."""

import asyncio
from typing import Any

import pytest

from chatcore import Role, SearchConversations, SearchCursor, SearchPage, UserId, Vouched
from chatcore.errors import RateLimited, ValidationFailed
from chatcore_memory.conversations import MemoryConversations
from unit.world import World


@pytest.fixture
async def ada(world: World) -> UserId:
    return await world.owner("ada")


@pytest.fixture
def search(world: World, monkeypatch: pytest.MonkeyPatch) -> SearchConversations:
    for bound in ("titles", "within"):
        monkeypatch.setattr(SearchConversations, bound, 5)
    monkeypatch.setattr(SearchConversations, "statements", 1)
    return SearchConversations(unit_of_work=world.storage)


def texts(page: SearchPage) -> list[str]:
    return [hit.excerpt.text for hit in page.hits]


async def filled(world: World, owner: UserId, *, titles: int, messages: int) -> None:
    """Every third message and every title is about unicorns; they are numbered."""
    for number in range(titles):
        await world.create_conversation(by=Vouched(owner), title=f"Unicorns {number}")
    conversation = await world.create_conversation(by=Vouched(owner))
    async with world.storage() as work:
        for number in range(messages):
            await work.messages.add(
                owner,
                conversation.id,
                parent_id=None,
                role=Role.USER,
                content=f"{'unicorn' if number % 3 == 0 else 'horse'} {number}",
                writing=False,
                model=None,
                now=world.clock.now(),
            )
        await work.commit()


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize(("titles", "messages"), [(0, 0), (2, 0), (0, 13), (7, 30), (3, 1)])
async def test_page_by_page_everything_is_found_once_titles_first_and_the_newest_first(
    world: World, ada: UserId, search: SearchConversations, titles: int, messages: int, limit: int
) -> None:
    await filled(world, ada, titles=titles, messages=messages)
    await filled(world, await world.owner("bob"), titles=3, messages=10)
    found, page = list[str](), await search(owner=ada, q="UNICORN", limit=limit)
    for _ in range(100):
        assert len(page.hits) <= limit
        found += texts(page)
        if page.next is None:
            break
        page = await search(owner=ada, q="UNICORN", cursor=page.next, limit=limit)
    assert page.next is None
    assert found == [
        *(f"Unicorns {number}" for number in reversed(range(titles))),
        *(f"unicorn {number}" for number in reversed(range(messages)) if number % 3 == 0),
    ]


async def test_a_page_looks_at_so_many_messages_and_no_further(
    world: World, ada: UserId, search: SearchConversations
) -> None:
    await filled(world, ada, titles=0, messages=30)
    page = await search(owner=ada, q="unicorn 3")
    assert (texts(page), page.next is None) == ([], False)
    page = await search(owner=ada, q="unicorn 27")
    assert texts(page) == ["unicorn 27"]


@pytest.mark.parametrize("q", ["", " ", "\n", "x" * 201, "a\0", "\ud800"])
async def test_a_text_that_cannot_be_searched_for_is_refused(ada: UserId, search: SearchConversations, q: str) -> None:
    with pytest.raises(ValidationFailed) as raised:
        await search(owner=ada, q=q)
    assert [error.field for error in raised.value.errors] == ["q"]


@pytest.mark.parametrize("limit", [0, -1, 101])
async def test_a_page_has_1_to_100_hits(ada: UserId, search: SearchConversations, limit: int) -> None:
    with pytest.raises(ValidationFailed) as raised:
        await search(owner=ada, q="x", limit=limit)
    assert [error.field for error in raised.value.errors] == ["limit"]


async def test_a_cursor_of_nothing_finds_nothing(world: World, ada: UserId, search: SearchConversations) -> None:
    await filled(world, ada, titles=2, messages=3)
    page = await search(owner=ada, q="unicorn", cursor=SearchCursor(messages=True, before=0))
    assert (page.hits, page.next) == ([], None)


# ---- how many at once ----


async def test_a_user_has_two_searches_at_once_and_others_have_theirs(world: World, ada: UserId) -> None:
    search, bob = SearchConversations(unit_of_work=world.storage), await world.owner("bob")
    outcomes = await asyncio.gather(
        *(search(owner=user, q="x") for user in (ada, ada, ada, bob)), return_exceptions=True
    )
    assert [isinstance(outcome, RateLimited) for outcome in outcomes] == [False, False, True, False]
    await search(owner=ada, q="x")


async def test_searches_use_no_more_than_their_share_of_the_connections(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = SearchConversations(unit_of_work=world.storage, connections=asyncio.Semaphore(3))
    users = [await world.owner(f"user{number}") for number in range(8)]
    titled, going_on, most = MemoryConversations.titled, 0, 0

    async def counted(*args: Any, **named: Any) -> Any:
        nonlocal going_on, most
        going_on += 1
        most = max(most, going_on)
        found = await titled(*args, **named)
        going_on -= 1
        return found

    monkeypatch.setattr(MemoryConversations, "titled", counted)
    await asyncio.gather(*(search(owner=user, q="x") for user in users))
    assert most == 3


async def test_a_page_reads_so_many_statements_and_no_longer_than_a_second(
    world: World, ada: UserId, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(world, ada, titles=0, messages=30)
    monkeypatch.setattr(SearchConversations, "within", 2)
    search = SearchConversations(unit_of_work=world.storage)
    page = await search(owner=ada, q="unicorn")
    assert texts(page) == ["unicorn 27", "unicorn 24", "unicorn 21", "unicorn 18", "unicorn 15"]  # of 8 times 2
    monkeypatch.setattr(SearchConversations, "seconds", 0)
    page = await search(owner=ada, q="unicorn")
    assert (texts(page), page.next is None) == ([], False)
