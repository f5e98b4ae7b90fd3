"""/conversations/{id}/regenerate, /messages/{id}/edit and /branch: a conversation's other ways, and what is refused."""

from typing import Any

import pytest

from chatcore.errors import ModelUnauthorized
from chatcore.ports import Delta
from chatcore_memory import ScriptedModel, Stall
from integration.databases import on_one
from integration.http_app import EVENTS, HISTORY, MESSAGE, Api, check_shape, text_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

ABSURD = [0, -1, 2**63, 2**64, 10**30, 1.5, "one", "1", True, [], {}]
"""In the place of a message's id."""


@pytest.fixture
def counting(model: ScriptedModel) -> ScriptedModel:
    """Counts its answers."""
    for number in range(1, 9):
        model.then(f"answer {number}")
    return model


async def chatted(ada: Api, conversation: int, content: str) -> Any:
    return (await ada.post(f"/conversations/{conversation}/chat", {"content": content})).ok()


async def regenerated(ada: Api, conversation: int, json: object = None) -> Any:
    return (await ada.post(f"/conversations/{conversation}/regenerate", json)).ok()


async def edited(ada: Api, conversation: int, message_id: int, content: str) -> Any:
    path = f"/conversations/{conversation}/messages/{message_id}/edit"
    return (await ada.post(path, {"content": content})).ok()


async def switched(ada: Api, conversation: int, message_id: int) -> Any:
    return (await ada.post(f"/conversations/{conversation}/branch", {"message_id": message_id})).ok()


def shown(messages: Any) -> list[str]:
    return [message["content"] for message in messages]


def asked(model: ScriptedModel) -> list[str]:
    return [message.text for message in model.calls[-1].prompt.messages if message.role != "system"]


# ---- what they answer ------------------------------------------------------------------------------------


async def test_every_message_says_what_it_follows_and_what_is_beside_it(ada: Api, conversation: int) -> None:
    one = await chatted(ada, conversation, "one")
    two = await chatted(ada, conversation, "two")
    again = await regenerated(ada, conversation)
    other = await edited(ada, conversation, one["message"]["id"], "ONE")
    places = [
        (one["message"], None, [one["message"]]),
        (one["reply"], one["message"], [one["reply"]]),
        (two["message"], one["reply"], [two["message"]]),
        (two["reply"], two["message"], [two["reply"]]),
        (again["reply"], two["message"], [two["reply"], again["reply"]]),
        (other["message"], None, [one["message"], other["message"]]),
        (other["reply"], other["message"], [other["reply"]]),
    ]
    for message, parent, siblings in places:
        check_shape(message, MESSAGE)
        assert message["parent_id"] == (parent and parent["id"])
        assert message["siblings"] == [sibling["id"] for sibling in siblings]


async def test_a_reply_is_written_again(ada: Api, counting: ScriptedModel, conversation: int) -> None:
    one = await chatted(ada, conversation, "one")
    again = await regenerated(ada, conversation)
    assert set(again) == {"message", "reply"}
    assert again["message"] == one["message"]
    assert (again["reply"]["content"], again["reply"]["status"], asked(counting)) == ("answer 2", "complete", ["one"])
    assert await ada.messages(conversation) == [one["message"], again["reply"]]
    back = await switched(ada, conversation, one["reply"]["id"])
    siblings = [one["reply"]["id"], again["reply"]["id"]]
    assert back["messages"] == [one["message"], one["reply"] | {"siblings": siblings}]


async def test_an_earlier_reply_is_named_by_its_own_id_or_by_that_of_its_message(
    ada: Api, counting: ScriptedModel, conversation: int
) -> None:
    one = await chatted(ada, conversation, "one")
    await chatted(ada, conversation, "two")
    for number, named in ((3, one["reply"]), (4, one["message"])):
        again = await regenerated(ada, conversation, {"message_id": named["id"]})
        assert (again["reply"]["content"], asked(counting)) == (f"answer {number}", ["one"])
        assert shown(await ada.messages(conversation)) == ["one", f"answer {number}"]
    assert len(again["reply"]["siblings"]) == 3


@pytest.mark.parametrize("body", [None, b"{}", b"null", b' {"message_id": null, "unknown": {"field": [1]}} '])
async def test_what_is_written_again_is_the_last_reply_unless_one_is_named(
    ada: Api, counting: ScriptedModel, conversation: int, body: bytes | None
) -> None:
    await chatted(ada, conversation, "one")
    answer = (await ada.call("POST", f"/conversations/{conversation}/regenerate", body)).ok()
    assert (answer["reply"]["content"], asked(counting)) == ("answer 2", ["one"])


async def test_a_message_is_edited(ada: Api, counting: ScriptedModel, conversation: int) -> None:
    one = await chatted(ada, conversation, "one")
    two = await chatted(ada, conversation, "two")
    other = await edited(ada, conversation, two["message"]["id"], "TWO 🦄")
    assert asked(counting) == ["one", "answer 1", "TWO 🦄"]
    assert await ada.messages(conversation) == [one["message"], one["reply"], other["message"], other["reply"]]
    assert other["message"]["siblings"] == [two["message"]["id"], other["message"]["id"]]


async def test_a_switch_answers_as_the_history_does(ada: Api, counting: ScriptedModel, conversation: int) -> None:
    one = await chatted(ada, conversation, "one")
    await edited(ada, conversation, one["message"]["id"], "ONE")
    answer = await switched(ada, conversation, one["message"]["id"])
    check_shape(answer, HISTORY)
    assert answer == (await ada.get(f"/conversations/{conversation}")).ok()
    assert (shown(answer["messages"]), answer["has_more"], answer["next_before_id"]) == (
        ["one", "answer 1"],
        False,
        None,
    )
    await chatted(ada, conversation, "three")
    assert shown(await ada.messages(conversation)) == ["one", "answer 1", "three", "answer 3"]


async def test_a_branch_is_read_page_by_page(ada: Api, counting: ScriptedModel, conversation: int) -> None:
    chats = [await chatted(ada, conversation, str(number)) for number in range(3)]
    other = await edited(ada, conversation, chats[1]["message"]["id"], "other")
    branches = {
        chats[2]["reply"]["id"]: ["0", "answer 1", "1", "answer 2", "2", "answer 3"],
        other["reply"]["id"]: ["0", "answer 1", "other", "answer 4"],
    }
    for last, branch in branches.items():
        await switched(ada, conversation, last)
        seen, before = list[str](), ""
        while before is not None:
            page = (await ada.get(f"/conversations/{conversation}?limit=3&before_id={before}")).ok()
            seen = [*shown(page["messages"]), *seen]
            before = page["next_before_id"]
            assert page["has_more"] is (before is not None)
        assert seen == branch


# ---- as events -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["header", "field"])
@pytest.mark.parametrize("what", ["regenerate", "edit"])
async def test_a_reply_comes_as_events(
    ada: Api, counting: ScriptedModel, conversation: int, what: str, how: str
) -> None:
    one = await chatted(ada, conversation, "one")
    path = f"/conversations/{conversation}/regenerate"
    body: dict[str, Any] = {}
    if what == "edit":
        path, body = f"/conversations/{conversation}/messages/{one['message']['id']}/edit", {"content": "ONE"}
    headers = EVENTS if how == "header" else None
    async with ada.events(path, body if how == "header" else {**body, "stream": True}, headers) as stream:
        events = await stream.rest()
    assert [event.type for event in events] == ["reply.started", "reply.delta", "reply.completed"]
    assert text_of(events) == "answer 2"
    history = await ada.messages(conversation)
    assert events[-1].data["message"] == history[-1]
    assert events[0].data["message_id"] == history[0]["id"] == history[-1]["parent_id"]
    beside = history[-1 if what == "regenerate" else 0]["siblings"]
    assert len(beside) == 2
    async with ada.events(f"/conversations/{conversation}/reply") as stream:
        assert (await stream.rest())[-1].data["message"] == history[-1]


async def test_a_reply_that_is_written_again_is_resumed_and_stopped(
    ada: Api, model: ScriptedModel, conversation: int
) -> None:
    one = await chatted(ada, conversation, "one")
    stall = Stall()
    model.then(Delta(reasoning="Hm"), "Hel", stall)
    async with ada.events(f"/conversations/{conversation}/regenerate", {}, EVENTS) as stream:
        events = await stream.until("HmHel")
    async with ada.events(f"/conversations/{conversation}/reply", headers={"Last-Event-ID": events[-2].id}) as stream:
        assert (await anext(stream)).type == "reply.started"
        assert (await stream.until("Hel"))[-1].id == events[-1].id
        stopped = (await ada.post(f"/conversations/{conversation}/stop")).ok()
        assert (await stream.rest())[-1].data["message"] == stopped
    check_shape(stopped, MESSAGE)
    assert (stopped["reasoning"], stopped["content"], stopped["status"]) == ("Hm", "Hel", "stopped")
    assert stopped["siblings"] == [one["reply"]["id"], stopped["id"]]
    assert await ada.messages(conversation) == [one["message"], stopped]


async def test_another_branch_is_shown_while_a_reply_is_written(
    ada: Api, model: ScriptedModel, conversation: int
) -> None:
    one = await chatted(ada, conversation, "one")
    stall = Stall()
    model.then("Hel", stall, "lo")
    path = f"/conversations/{conversation}/messages/{one['message']['id']}/edit"
    async with ada.events(path, {"content": "ONE"}, EVENTS) as stream:
        await stream.until("Hel")
        back = await switched(ada, conversation, one["reply"]["id"])
        assert shown(back["messages"]) == ["one", "Hello"]
        await check_busy(ada, conversation, one)
        stall.release()
        ended = (await stream.rest())[-1]
    assert (ended.type, ended.data["message"]["content"]) == ("reply.completed", "Hello")
    assert shown(await ada.messages(conversation)) == ["one", "Hello"]
    there = await switched(ada, conversation, ended.data["reply_id"])
    assert shown(there["messages"]) == ["ONE", "Hello"]


async def check_busy(ada: Api, conversation: int, said: Any) -> None:
    here = f"/conversations/{conversation}"
    message_id = said["message"]["id"]
    for path, body in (
        (f"{here}/regenerate", None),
        (f"{here}/regenerate", {"message_id": message_id}),
        (f"{here}/messages/{message_id}/edit", {"content": "Hi"}),
        (f"{here}/chat", {"content": "Hi"}),
    ):
        (await ada.post(path, body)).problem(409, "conversation_busy")
        (await ada.post(path, body, EVENTS)).problem(409, "conversation_busy")


async def test_a_model_that_fails_is_a_problem_and_can_be_asked_again(
    ada: Api, model: ScriptedModel, conversation: int
) -> None:
    one = await chatted(ada, conversation, "one")
    model.then("Half an ans", ModelUnauthorized())
    problem = await ada.post(f"/conversations/{conversation}/regenerate")
    reply_id = problem.problem(502, "model_unauthorized", more=frozenset({"reply_id"}))["reply_id"]
    assert (await ada.messages(conversation))[-1]["siblings"] == [one["reply"]["id"], reply_id]
    again = await regenerated(ada, conversation)
    assert again["reply"]["siblings"] == [one["reply"]["id"], reply_id, again["reply"]["id"]]


# ---- what is refused -------------------------------------------------------------------------------------


async def test_where_nothing_was_said_there_is_nothing_to_say_again(ada: Api, conversation: int) -> None:
    for body in (None, {"message_id": 1}):
        (await ada.post(f"/conversations/{conversation}/regenerate", body)).problem(404, "not_found")


async def test_a_reply_is_not_edited(ada: Api, conversation: int) -> None:
    one = await chatted(ada, conversation, "one")
    path = f"/conversations/{conversation}/messages/{one['reply']['id']}/edit"
    (await ada.post(path, {"content": "Hi"})).problem(404, "not_found")
    assert await ada.messages(conversation) == [one["message"], one["reply"]]


@on_one
@pytest.mark.parametrize("number", ABSURD, ids=str)
@pytest.mark.parametrize("route", ["regenerate", "branch"])
async def test_a_number_that_is_no_id_is_named(ada: Api, conversation: int, route: str, number: object) -> None:
    await chatted(ada, conversation, "one")
    answer = await ada.post(f"/conversations/{conversation}/{route}", {"message_id": number})
    answer.problem(400, "validation_failed", "message_id")


@pytest.mark.parametrize("body", [None, {}, {"message_id": None}])
async def test_a_branch_is_named_by_a_message(ada: Api, conversation: int, body: object) -> None:
    field = "body" if body is None else "message_id"
    (await ada.post(f"/conversations/{conversation}/branch", body)).problem(400, "validation_failed", field)


@pytest.mark.parametrize("number", [0, -1, 2**63 - 1, 2**63, 10**30, "one", "1.5", "%00"])
async def test_a_path_with_no_message_in_it_is_not_found(ada: Api, conversation: int, number: object) -> None:
    path = f"/conversations/{conversation}/messages/{number}/edit"
    (await ada.post(path, {"content": "Hi"})).problem(404, "not_found")


async def test_what_is_somebody_elses_is_not_there(stranger: Api, ada: Api, conversation: int) -> None:
    one = await chatted(ada, conversation, "one")
    bob = await stranger.user()
    own = await bob.conversation()
    bobs = await chatted(bob, own, "bob's")
    elsewhere = await ada.conversation()
    other = await chatted(ada, elsewhere, "elsewhere")
    for caller, place, message in (
        (bob, conversation, one["message"]),
        (bob, own, one["message"]),
        (ada, conversation, bobs["message"]),
        (ada, conversation, other["message"]),
        (ada, conversation, {"id": 2**63 - 1}),
    ):
        here = f"/conversations/{place}"
        for path, body in (
            (f"{here}/regenerate", {"message_id": message["id"]}),
            (f"{here}/messages/{message['id']}/edit", {"content": "Hi"}),
            (f"{here}/branch", {"message_id": message["id"]}),
        ):
            (await caller.post(path, body)).problem(404, "not_found")
    assert await ada.messages(conversation) == [one["message"], one["reply"]]
    assert await bob.messages(own) == [bobs["message"], bobs["reply"]]


async def test_somebody_elses_configuration_writes_nothing_again(
    stranger: Api, ada: Api, model: ScriptedModel, conversation: int
) -> None:
    one = await chatted(ada, conversation, "one")
    bob = await stranger.user()
    config = {"model_url": "https://own.test/v1", "model_name": "own", "api_key": ""}
    config_id = (await bob.post("/auth/config/create", config)).ok(201)["id"]
    calls = len(model.calls)
    here = f"/conversations/{conversation}"
    (await ada.post(f"{here}/regenerate", {"config_id": config_id})).problem(404, "not_found")
    path = f"{here}/messages/{one['message']['id']}/edit"
    (await ada.post(path, {"content": "Hi", "config_id": config_id})).problem(404, "not_found")
    assert await ada.messages(conversation) == [one["message"], one["reply"]]
    assert len(model.calls) == calls


@pytest.mark.parametrize("what", ["regenerate", "edit"])
async def test_every_broken_rule_is_named(ada: Api, conversation: int, what: str) -> None:
    one = await chatted(ada, conversation, "one")
    wrong = {"system": "\0", "temperature": 3, "max_tokens": 0}
    if what == "regenerate":
        answer = await ada.post(f"/conversations/{conversation}/regenerate", wrong)
        answer.problem(400, "validation_failed", *wrong)
    else:
        path = f"/conversations/{conversation}/messages/{one['message']['id']}/edit"
        (await ada.post(path, {**wrong, "content": ""})).problem(400, "validation_failed", "content", *wrong)
        (await ada.post(path, {})).problem(400, "validation_failed", "content")
    assert await ada.messages(conversation) == [one["message"], one["reply"]]


async def test_unknown_fields_are_ignored(ada: Api, conversation: int) -> None:
    one = await chatted(ada, conversation, "one")
    here, more = f"/conversations/{conversation}", {"unknown": [{}], "parent_id": 1, "role": "assistant"}
    (await ada.post(f"{here}/regenerate", more)).ok()
    other = (await ada.post(f"{here}/messages/{one['message']['id']}/edit", {"content": "ONE", **more})).ok()
    assert (other["message"]["parent_id"], other["message"]["role"]) == (None, "user")
    (await ada.post(f"{here}/branch", {"message_id": one["reply"]["id"], **more})).ok()
