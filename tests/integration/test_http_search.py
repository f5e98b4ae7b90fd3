"""GET /conversations/search."""

from typing import Any

import pytest

from integration.databases import on_one
from integration.http_app import CONVERSATION, Api, check_shape

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def say(api: Api, conversation_id: int, content: str) -> Any:
    return (await api.post(f"/conversations/{conversation_id}/chat", {"content": content})).ok()


async def search(api: Api, **query: str | int) -> Any:
    async with api.http.get(
        "/conversations/search", params=query, headers={"Authorization": f"Bearer {api.token}"}
    ) as response:
        assert response.status == 200, await response.read()
        return await response.json()


async def test_titles_and_messages_are_found(ada: Api) -> None:
    titled, other = await ada.conversation("巴黎之行 100%"), await ada.conversation("Other")
    said = await say(ada, other, "我想去巴黎旅行 🦄 C:\\new_100%")
    found = await search(ada, q="巴黎")
    assert set(found) == {"items", "has_more", "next_cursor", "limit"}
    assert (found["has_more"], found["next_cursor"], found["limit"]) == (False, None, 20)
    for item in found["items"]:
        assert set(item) == {"conversation", "message", "excerpt", "excerpt_start", "hit_start", "score"}
        check_shape(item["conversation"], CONVERSATION)
    assert [item["conversation"]["id"] for item in found["items"]] == [titled, other]
    assert found["items"][0]["message"] is None
    assert found["items"][0]["excerpt"] == "巴黎之行 100%"
    found_in, said = found["items"][1], said["message"]
    assert found_in["message"] == {name: said[name] for name in ("id", "role", "created_at")}
    assert (found_in["excerpt"], found_in["excerpt_start"], found_in["hit_start"]) == (said["content"], 0, 3)
    for q, count in {
        "🦄": 1,
        "100%": 2,
        "w_1": 1,
        "\\NEW": 1,
        "%": 2,
        "_": 1,
        "1_0": 0,
        "hello": 1,
        "' OR 1=1 -- ": 0,
    }.items():
        assert len((await search(ada, q=q))["items"]) == count, q


async def test_a_cursor_leads_on(ada: Api) -> None:
    conversation = await ada.conversation("Unicorns")
    for number in range(3):
        await say(ada, conversation, f"unicorn {number}")
    found, page = list[Any](), await search(ada, q="unicorn", limit=2)
    while page["has_more"]:
        found += page["items"]
        page = await search(ada, q="unicorn", limit=2, cursor=page["next_cursor"])
    assert page["next_cursor"] is None
    contents = [item["message"] and item["excerpt"] for item in [*found, *page["items"]]]
    assert contents == ["unicorn 2", "unicorn 1", "unicorn 0"]


async def test_a_title_that_a_message_says_too_is_left_out(ada: Api) -> None:
    said, titled = await ada.conversation(), await ada.conversation("Unicorns, all of them")
    await say(ada, said, "unicorns, please")
    await say(ada, titled, "horses, please")
    items = (await search(ada, q="unicorns"))["items"]
    assert [(item["conversation"]["id"], item["message"] is None) for item in items] == [(titled, True), (said, False)]


async def test_a_hit_is_an_excerpt_however_long_the_message_is(ada: Api) -> None:
    text = "x" * 150_000 + "Unicorn" + "y" * 40_000
    await say(ada, await ada.conversation("x"), text)
    (item,) = (await search(ada, q="unicorn"))["items"]
    assert len(item["excerpt"]) == 240
    assert text[item["excerpt_start"] :].startswith(item["excerpt"])
    assert item["excerpt"][item["hit_start"] :].startswith("Unicorn")


async def test_what_is_in_another_branch_is_found(ada: Api) -> None:
    conversation = await ada.conversation("x")
    first = await say(ada, conversation, "unicorn")
    await ada.post(f"/conversations/{conversation}/messages/{first['message']['id']}/edit", {"content": "horse"})
    assert [item["excerpt"] for item in (await search(ada, q="unicorn"))["items"]] == ["unicorn"]


async def test_others_things_are_not_found(stranger: Api, ada: Api) -> None:
    conversation = await ada.conversation("zanzibar")
    await say(ada, conversation, "zanzibar")
    bob = await stranger.user()
    assert (await search(bob, q="zanzibar")) == {"items": [], "has_more": False, "next_cursor": None, "limit": 20}


@on_one
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "q"),
        ("?q=", "q"),
        ("?q=%20", "q"),
        ("?q=%00", "q"),
        ("?q=" + "x" * 201, "q"),
        ("?q=x&limit=0", "limit"),
        ("?q=x&limit=101", "limit"),
        ("?q=x&cursor=1", "cursor"),
        ("?q=x&cursor=x1", "cursor"),
        ("?q=x&cursor=m1.5", "cursor"),
        ("?q=x&cursor=m" + "9" * 30, "cursor"),
    ],
)
async def test_a_search_that_makes_no_sense_is_refused(ada: Api, query: str, field: str) -> None:
    (await ada.get(f"/conversations/search{query}")).problem(400, "validation_failed", field)


@pytest.mark.parametrize("cursor", ["", "t", "m", "t0", "m0", "t9999999999999999999", "m9999999999999999999"])
async def test_any_cursor_of_the_form_does_no_harm(ada: Api, cursor: str) -> None:
    await search(ada, q="x", cursor=cursor)
