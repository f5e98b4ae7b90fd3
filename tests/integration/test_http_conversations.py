"""/conversations: begin, list, read, delete."""

from typing import Any

import pytest

from integration.http_app import CONVERSATION, HISTORY, MESSAGE, Api, check_shape

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def say(api: Api, conversation_id: int, content: str) -> Any:
    return (await api.post(f"/conversations/{conversation_id}/chat", {"content": content})).ok()


async def test_a_new_conversation(ada: Api) -> None:
    conversation = (await ada.post("/conversations/create", {"title": "Travel plans 🏝️"})).ok(201)
    check_shape(conversation, CONVERSATION)
    assert (conversation["title"], conversation["config_id"]) == ("Travel plans 🏝️", None)
    assert conversation["created_at"] == conversation["updated_at"]
    listed = (await ada.get("/conversations")).ok()
    assert listed == {"items": [conversation], "has_more": False, "limit": 20, "offset": 0, "next_cursor": None}
    history = (await ada.get(f"/conversations/{conversation['id']}")).ok()
    assert history == {"conversation": conversation, "messages": [], "has_more": False, "next_before_id": None}


@pytest.mark.parametrize("title", ["", " ", "a\0b", "x" * 201])
async def test_a_title_keeps_the_rules(ada: Api, title: str) -> None:
    (await ada.post("/conversations/create", {"title": title})).problem(400, "validation_failed", "title")


async def test_without_a_title_it_takes_the_first_50_characters_of_its_first_message(ada: Api) -> None:
    named, unnamed = await ada.conversation("Mine"), await ada.conversation()
    for conversation in (named, unnamed):
        await say(ada, conversation, "🦄" * 60)
        await say(ada, conversation, "And something else")
    titles = {item["id"]: item["title"] for item in (await ada.get("/conversations")).ok()["items"]}
    assert titles == {named: "Mine", unnamed: "🦄" * 50}


async def test_the_most_recently_used_comes_first_page_by_page(ada: Api) -> None:
    ids = [await ada.conversation(str(number)) for number in range(5)]
    await say(ada, ids[2], "This one is used")
    order = [ids[2], ids[4], ids[3], ids[1], ids[0]]
    pages = [(await ada.get(f"/conversations?limit=2&offset={offset}")).ok() for offset in (0, 2, 4, 6)]
    assert [[item["id"] for item in page["items"]] for page in pages] == [order[:2], order[2:4], order[4:], []]
    assert [page["has_more"] for page in pages] == [True, True, False, False]
    assert [(page["limit"], page["offset"]) for page in pages] == [(2, 0), (2, 2), (2, 4), (2, 6)]
    assert (await ada.get("/conversations?limit=5")).ok()["has_more"] is False


async def test_a_history_is_read_backwards_by_key(ada: Api) -> None:
    conversation = await ada.conversation()
    for number in range(4):
        await say(ada, conversation, str(number))
    whole = (await ada.get(f"/conversations/{conversation}")).ok()
    check_shape(whole, HISTORY)
    check_shape(whole["conversation"], CONVERSATION)
    for message in whole["messages"]:
        check_shape(message, MESSAGE)
    assert [message["content"] for message in whole["messages"]] == [
        "0",
        "Hello",
        "1",
        "Hello",
        "2",
        "Hello",
        "3",
        "Hello",
    ]
    assert [message["role"] for message in whole["messages"]] == ["user", "assistant"] * 4
    assert (whole["has_more"], whole["next_before_id"]) == (False, None)

    read: list[Any] = []
    query = "limit=3"
    while query:
        page = (await ada.get(f"/conversations/{conversation}?{query}")).ok()
        read = page["messages"] + read
        assert page["has_more"] is (page["next_before_id"] is not None)
        query = f"limit=3&before_id={page['next_before_id']}" if page["has_more"] else ""
    assert read == whole["messages"]
    exact = (await ada.get(f"/conversations/{conversation}?limit=8")).ok()
    assert (exact["has_more"], exact["next_before_id"]) == (False, None)


async def test_a_deleted_one_is_gone(ada: Api) -> None:
    conversation, other = await ada.conversation(), await ada.conversation()
    await say(ada, conversation, "Hi")
    said = (await ada.post(f"/conversations/{conversation}/delete")).ok()
    assert set(said) == {"message"}
    (await ada.get(f"/conversations/{conversation}")).problem(404, "not_found")
    (await ada.get(f"/conversations/{conversation}/reply")).problem(404, "not_found")
    (await ada.post(f"/conversations/{conversation}/delete")).problem(404, "not_found")
    assert [item["id"] for item in (await ada.get("/conversations")).ok()["items"]] == [other]


async def test_everybody_sees_their_own(ada: Api) -> None:
    await ada.conversation("Ada's")
    bob = await ada.user()
    assert (await bob.get("/conversations")).ok()["items"] == []
    await bob.conversation("Bob's")
    assert [item["title"] for item in (await ada.get("/conversations")).ok()["items"]] == ["Ada's"]


async def test_pages_by_cursor_have_each_conversation_once_whatever_is_used_meanwhile(ada: Api) -> None:
    made = [await ada.conversation(str(number)) for number in range(5)]
    for number in (3, 0):
        (await ada.post(f"/conversations/{made[number]}/chat", {"content": "Hi"})).ok()
    seen, query = list[str](), ""
    for used in (1, 4, 0):
        page = (await ada.get(f"/conversations?limit=2{query}")).ok()
        seen += [item["title"] for item in page["items"]]
        (await ada.post(f"/conversations/{made[used]}/chat", {"content": "More"})).ok()
        query = f"&cursor={page['next_cursor']}"
    assert seen == ["0", "3", "4", "2", "1"]
    assert (page["has_more"], page["next_cursor"]) == (False, None)


@pytest.mark.parametrize("cursor", ["x", "1", "1-2", "1-2-3-4", "1-1-9999999999999999999", "-1-1-1"])
async def test_a_cursor_that_is_none_is_refused(ada: Api, cursor: str) -> None:
    (await ada.get(f"/conversations?cursor={cursor}")).problem(400, "validation_failed", "cursor")
