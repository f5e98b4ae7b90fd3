"""The chat of systems A and D, and D's conversations: what they answer, and that they keep the rules of the house."""

import asyncio
from typing import Any

import pytest

from chatcore.errors import ModelTimeout, ModelUnauthorized
from chatcore_memory import ScriptedModel, Stall
from integration.databases import on_one
from integration.http_app import CONVERSATION, PASSWORD, Api, check_shape

pytestmark = pytest.mark.asyncio(loop_scope="module")

both = pytest.mark.parametrize("path", ["/chat", "/agent/chat"])


async def listed(ada: Api, query: str = "") -> list[dict[str, Any]]:
    """The array that D answers."""
    items: list[dict[str, Any]] = (await ada.get(f"/agent/conversations{query}")).ok()
    return items


async def ask(ada: Api, path: str, message: str = "Hello?", **more: object) -> Any:
    return (await ada.post(path, {"message": message, **more})).ok()


# ---- what is answered ------------------------------------------------------------------------------------


@both
async def test_a_message_begins_a_conversation(ada: Api, path: str) -> None:
    message = "  What is\nthis? " + "x" * 100
    answer = await ask(ada, path, message)
    (conversation,) = await listed(ada)
    assert answer == {"conversation_id": conversation["id"], "message": message, "response": "Hello"}
    assert conversation["title"] == "What is this? " + "x" * 36


@both
async def test_and_goes_on_in_it(ada: Api, model: ScriptedModel, path: str) -> None:
    begun = (await ask(ada, path))["conversation_id"]
    model.then("And", " hello again")
    assert await ask(ada, path, "And then?", conversation_id=begun) == {
        "conversation_id": begun,
        "message": "And then?",
        "response": "And hello again",
    }
    assert [message.content for message in model.calls[-1].prompt.messages[-3:]] == ["Hello?", "Hello", "And then?"]
    history = (await ada.get(f"/conversations/{begun}")).ok()
    assert [message["content"] for message in history["messages"]] == [
        "Hello?",
        "Hello",
        "And then?",
        "And hello again",
    ]
    assert len(await listed(ada)) == 1


@both
async def test_no_conversation_is_none(ada: Api, path: str) -> None:
    assert (await ask(ada, path, conversation_id=None))["response"] == "Hello"


@both
async def test_a_message_under_a_key_is_sent_once(ada: Api, model: ScriptedModel, path: str) -> None:
    begun = (await ask(ada, path))["conversation_id"]
    body, key = {"message": "Once", "conversation_id": begun}, {"Idempotency-Key": "key"}
    answers = [(await ada.post(path, body, key)).ok() for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(model.calls) == 2


# ---- what is refused -------------------------------------------------------------------------------------


@both
@on_one
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "message"),
        ({"message": ""}, "message"),
        ({"message": "x" * 200_001}, "message"),
        ({"message": 1}, "message"),
        ({"content": "Hello"}, "message"),
        ({"message": "Hello", "conversation_id": 0}, "conversation_id"),
        ({"message": "Hello", "conversation_id": "1"}, "conversation_id"),
    ],
)
async def test_a_body_that_does_not_hold(ada: Api, path: str, body: dict[str, object], field: str) -> None:
    (await ada.post(path, body)).problem(400, "validation_failed", field)
    assert await listed(ada) == []


@both
async def test_a_key_needs_a_conversation(ada: Api, path: str) -> None:
    answer = await ada.post(path, {"message": "Hello"}, {"Idempotency-Key": "key"})
    answer.problem(400, "validation_failed", "Idempotency-Key")
    assert await listed(ada) == []


@both
async def test_somebody_elses_conversation_and_a_missing_one_are_not_found(stranger: Api, ada: Api, path: str) -> None:
    theirs = await (await stranger.user()).conversation()
    for conversation_id in (theirs, 10**9):
        (await ada.post(path, {"message": "Hello", "conversation_id": conversation_id})).problem(404, "not_found")
    assert await listed(ada) == []


@both
async def test_one_reply_at_a_time(ada: Api, model: ScriptedModel, path: str) -> None:
    begun = (await ask(ada, path))["conversation_id"]
    stall = Stall()
    model.then(stall, "late")
    first = asyncio.create_task(ask(ada, path, "One", conversation_id=begun))
    await stall.reached()
    (await ada.post(path, {"message": "Two", "conversation_id": begun})).problem(409, "conversation_busy")
    stall.release()
    assert (await first)["response"] == "late"
    assert len(await listed(ada)) == 1


@both
@pytest.mark.parametrize(("error", "status"), [(ModelUnauthorized(), 502), (ModelTimeout(), 504)])
async def test_a_model_that_fails_is_the_usual_problem(
    ada: Api, model: ScriptedModel, path: str, error: ModelUnauthorized | ModelTimeout, status: int
) -> None:
    model.then("Hel", error)
    answer = await ada.post(path, {"message": "Hello?"})
    problem = answer.problem(status, error.code, more=frozenset({"reply_id"}))
    (conversation,) = await listed(ada)
    history = (await ada.get(f"/conversations/{conversation['id']}")).ok()
    failed = history["messages"][-1]
    assert (failed["id"], failed["content"], failed["status"]) == (problem["reply_id"], "Hel", "failed")
    assert (await ask(ada, path, "Again?", conversation_id=conversation["id"]))["response"] == "Hello"


@both
async def test_a_session_that_ends_is_answered_at_once(ada: Api, model: ScriptedModel, path: str) -> None:
    name = (await ada.get("/auth/me")).ok()["username"]
    stall = Stall()
    model.then("Hel", stall, "lo")
    waiting = asyncio.create_task(ada.post(path, {"message": "Hello?"}))
    await stall.reached()
    (await ada.post("/auth/logout")).ok()
    (await waiting).problem(401, "unauthenticated")
    stall.release()
    again = await signed_in_again(ada, name)
    (conversation,) = await listed(again)
    async with again.events(f"/conversations/{conversation['id']}/reply") as events:
        ended = (await events.rest())[-1]
    assert (ended.type, ended.data["message"]["content"]) == ("reply.completed", "Hello")


async def signed_in_again(ada: Api, name: str) -> Api:
    tokens = (await ada.post("/auth/login", {"username": name, "password": PASSWORD})).ok()
    return ada.with_token(tokens["access_token"])


# ---- D's conversations -----------------------------------------------------------------------------------


async def test_an_array_of_the_newest_first(ada: Api) -> None:
    ids = [(await ask(ada, "/agent/chat", f"Number {number}"))["conversation_id"] for number in range(3)]
    await ask(ada, "/agent/chat", "Once more", conversation_id=ids[0])
    found = await listed(ada)
    assert [conversation["id"] for conversation in found] == [ids[0], ids[2], ids[1]]
    for conversation in found:
        check_shape(conversation, CONVERSATION)


async def test_of_very_many_the_newest_hundred_and_the_rest_by_page(ada: Api) -> None:
    ids = [await ada.conversation() for _ in range(103)]
    newest = ids[::-1]
    assert [found["id"] for found in await listed(ada)] == newest[:100]
    assert [found["id"] for found in await listed(ada, "?offset=100")] == newest[100:]
    assert [found["id"] for found in await listed(ada, "?limit=2&offset=1")] == newest[1:3]
    (await ada.get("/agent/conversations?limit=101")).problem(400, "validation_failed", "limit")
    (await ada.get("/agent/conversations?offset=-1")).problem(400, "validation_failed", "offset")


async def test_one_is_deleted_once_and_by_its_owner(stranger: Api, ada: Api) -> None:
    begun = (await ask(ada, "/agent/chat"))["conversation_id"]
    path = f"/agent/conversations/{begun}"
    (await (await stranger.user()).call("DELETE", path)).problem(404, "not_found")
    assert len(await listed(ada)) == 1
    assert set((await ada.call("DELETE", path)).ok()) == {"message"}
    assert await listed(ada) == []
    (await ada.call("DELETE", path)).problem(404, "not_found")
    (await ada.post("/agent/chat", {"message": "Hello", "conversation_id": begun})).problem(404, "not_found")
