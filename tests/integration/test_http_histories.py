"""POST /conversations/import of other products' exports, and GET /auth/me/export in their formats."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from histories import SHOWN, TALK, TALKS, chatgpt, chatgpt_talk, hidden, image, joint, node, raw, sharded
from integration.http_app import Answer, Api
from integration.test_http_own_data import END, HEADER, jsonl

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def imported(api: Api, content: bytes, query: str = "") -> Answer:
    async def body() -> AsyncIterator[bytes]:
        for at in range(0, len(content), 1000):
            yield content[at : at + 1000]

    headers = {"Authorization": f"Bearer {api.token}"}
    async with api.http.post(f"/conversations/import{query}", data=body(), headers=headers) as response:
        return Answer(response.status, response.headers, await response.read())


async def tree_of(api: Api) -> dict[str, str | None]:
    """All messages that the owner has, and what each follows."""
    lines = [json.loads(line) for line in (await api.get("/auth/me/export")).body.splitlines()]
    messages = {line["id"]: line for line in lines if line["kind"] == "message"}
    return {m["content"]: m["parent_id"] and messages[m["parent_id"]]["content"] for m in messages.values()}


@pytest.mark.parametrize("name", TALKS)
async def test_a_history_is_recognised_and_goes_on(ada: Api, name: str) -> None:
    report = (await imported(ada, TALKS[name])).ok()
    (conversation,) = (await ada.get("/conversations")).ok()["items"]
    assert (report["conversations"], report["messages"], report["refusals"], report["refused"]) == (1, 7, 0, [])
    assert [(taken["id"], taken["title"], taken["messages"]) for taken in report["taken"]] == [
        (conversation["id"], "Paris", 7)
    ]
    assert await tree_of(ada) == TALK
    shown = await ada.messages(conversation["id"])
    assert [message["content"] for message in shown] == SHOWN
    said = (await ada.post(f"/conversations/{conversation['id']}/chat", {"content": "More"})).ok()
    assert said["message"]["parent_id"] == shown[-1]["id"]


@pytest.mark.parametrize("name", ["chatgpt", "openwebui", "librechat"])
async def test_in_and_out_and_in_again_it_is_the_same(stranger: Api, ada: Api, name: str) -> None:
    """Our own export, and the one as ChatGPT's."""
    (await imported(ada, TALKS[name], f"?format={name}")).ok()
    for query in ("", "?format=chatcore", "?format=openai"):
        answer = await ada.get(f"/auth/me/export{query}")
        other = await stranger.user()
        report = (await imported(other, b"\xef\xbb\xbf" + answer.body)).ok()
        assert (report["conversations"], report["messages"], report["refusals"]) == (1, 7, 0)
        assert await tree_of(other) == TALK
        (conversation,) = (await other.get("/conversations")).ok()["items"]
        assert [message["content"] for message in await other.messages(conversation["id"])] == SHOWN


async def test_what_is_left_out_and_what_is_refused_is_reported(ada: Api) -> None:
    parts = {"content_type": "multimodal_text", "parts": [image(), "Look"]}
    talk = chatgpt(joint("root", None), hidden("s", "root", text="x"), node("q", "s", content=parts), title="Cats")
    report = (await imported(ada, sharded([talk], [{"title": "Corrupted"}, chatgpt_talk()]))).ok()
    assert [(taken["title"], taken["messages"], taken["left_out"]) for taken in report["taken"]] == [
        ("Cats", 1, {"hidden message": 1, "image": 1}),
        ("Paris", 7, {"empty message": 1}),
    ]
    (refusal,) = report["refused"]
    assert (refusal["title"], refusal["line"]) == ("Corrupted", None)
    assert refusal["reason"] == "has no messages: mapping is no object"
    assert await tree_of(ada) == {**TALK, "[Image: sediment://file_0001, 708×1536]\nLook": None}


async def test_our_own_lines_are_refused_by_number_and_title(ada: Api) -> None:
    then = "2025-05-04T03:02:01Z"
    own = {"kind": "conversation", "id": 1, "title": "Plans", "created_at": then, "updated_at": then}
    report = (await imported(ada, jsonl(HEADER, own, b"nonsense", END))).ok()
    assert [(each["line"], each["title"], each["reason"]) for each in report["refused"]] == [(3, "Plans", "is no JSON")]


@pytest.mark.parametrize(
    ("content", "query", "field"),
    [
        (raw([{"uuid": 1}]), "", "body"),
        (b"PK\x03\x04 and no archive", "", "body"),
        (raw([chatgpt_talk()]), "?format=chatcore", "body"),
        (raw([chatgpt_talk()]), "?format=something", "format"),
    ],
    ids=["another's", "no archive", "not ours", "no format"],
)
async def test_what_is_no_history_is_refused(ada: Api, content: bytes, query: str, field: str) -> None:
    (await imported(ada, content, query)).problem(400, "validation_failed", field)
    assert (await ada.get("/conversations")).ok()["items"] == []


@pytest.mark.parametrize(
    ("query", "media_type", "name"),
    [
        ("openai", "application/json", "conversations.json"),
        ("markdown", "text/markdown; charset=utf-8", "chatcore-export.md"),
        ("chatcore", "application/jsonl", "chatcore-export.jsonl"),
    ],
)
async def test_an_export_says_what_it_is(ada: Api, query: str, media_type: str, name: str) -> None:
    answer = await ada.get(f"/auth/me/export?format={query}")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == media_type
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'


async def test_markdown_has_all_that_was_said(ada: Api) -> None:
    (await imported(ada, TALKS["chatgpt"])).ok()
    text = (await ada.get("/auth/me/export?format=markdown")).body.decode()
    assert all(text.count(f"\n{said}\n") == 1 for said in TALK)


async def test_an_unknown_format_of_an_export_is_refused(ada: Api) -> None:
    (await ada.get("/auth/me/export?format=pdf")).problem(400, "validation_failed", "format")


async def test_nothing_of_a_foreign_file_but_its_words_is_taken(stranger: Api, ada: Api) -> None:
    """No owner, no id, no role of an account."""
    (await imported(ada, TALKS["chatgpt"])).ok()
    bob: Any = await stranger.user()
    before = await tree_of(ada)
    sly = chatgpt(node("q", None, text="Sly"), user_id=1, owner=1, config_id=1, writing_reply_id=1)
    (await imported(bob, raw([sly]))).ok()
    assert await tree_of(bob) == {"Sly": None}
    assert await tree_of(ada) == before
    (conversation,) = (await bob.get("/conversations")).ok()["items"]
    assert conversation["config_id"] is None
