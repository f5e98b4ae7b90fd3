"""One conversation, three ways to hold it: JSON, Server-Sent Events, WebSocket. And sending the same thing twice."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Any

import pytest
import pytest_asyncio

from chatcore import Usage
from chatcore.errors import ModelProtocolError, ModelRateLimited
from chatcore.ports import Clock, Delta, LLMGateway
from chatcore_memory import ScriptedModel, Stall
from integration.http_app import EVENTS, PASSWORD, Api, Event, provided, settings_for
from integration.ws_client import Served, Tomorrow, connected, served

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = ScriptedModel("Hello")


CLOCK = Tomorrow()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    settings = settings_for(tmp_path_factory.mktemp("data"), DATABASE_URL=database_url, SHUTDOWN_GRACE="1")
    async with served(settings, provided(LLMGateway, MODEL), provided(Clock, CLOCK)) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def ada(house: Served) -> Api:
    return await house.stranger.user()


@pytest_asyncio.fixture(loop_scope="module")
async def conversation(ada: Api) -> int:
    return await ada.conversation()


@pytest.fixture
def path(conversation: int) -> str:
    return f"/conversations/{conversation}/chat"


@pytest.fixture
def stall() -> Iterator[Stall]:
    """In the middle of the next answer: "Hel", silence, "lo"."""
    stall = Stall()
    MODEL.then("Hel", stall, "lo")
    yield stall
    stall.release()


# ---- a long reply ----------------------------------------------------------------------------------------

LONG = [Delta(reasoning="\x01" * 25_000), Delta(text="🦄" * 25_000), Delta(text="x" * 1_000_000)]
SAID = ("\x01" * 25_000, "🦄" * 25_000 + "x" * 1_000_000)


async def test_a_long_reply_goes_out_in_parts_and_once(ada: Api, conversation: int) -> None:
    """Live, and once it is stored; as Server-Sent Events and over the socket. JSON has all of it."""
    stall = Stall()
    MODEL.then(*LONG, stall)
    path = f"/conversations/{conversation}"
    async with (
        ada.events(f"{path}/chat", {"content": "Hi"}, EVENTS) as first,
        connected(ada, conversation) as socket,
        ada.events(f"{path}/reply") as second,
    ):
        await socket.say("attach")
        await stall.reached()
        stall.release()
        heard = [await first.rest(), await second.rest(), await socket.rest()]
    async with ada.events(f"{path}/reply") as third, connected(ada, conversation) as socket:
        await socket.say("attach")
        heard += [await third.rest(), await socket.rest()]
    for events in heard:
        assert max(len(json.dumps(event.data, ensure_ascii=False).encode()) for event in events) < 65_536
        assert tuple(_said(events, kind) for kind in ("reply.reasoning", "reply.delta")) == SAID
        assert (events[-1].data["message"]["content"], events[-1].data["message"]["reasoning"]) == (None, None)
        assert events[-1].data["offset"] == sum(map(len, SAID))
    stored = (await ada.messages(conversation))[-1]
    assert (stored["reasoning"], stored["content"]) == SAID


def _said(events: list[Event], kind: str) -> str:
    return "".join(event.data["text"] for event in events if event.type == kind)


async def test_the_end_of_a_short_reply_has_its_text(ada: Api, conversation: int) -> None:
    for length in (10_000, 10_001):
        MODEL.then("x" * length)
        async with ada.events(f"/conversations/{conversation}/chat", {"content": "Hi"}, EVENTS) as events:
            end = (await events.rest())[-1]
        assert end.data["message"]["content"] == ("x" * length if length == 10_000 else None)


# ---- the same conversation -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Turn:
    """What the user says, what the model answers, and how that ends."""

    question: str
    answer: tuple[str | Delta | Exception, ...]
    reasoning: str | None
    text: str
    end: str = "reply.completed"


def turn(question: str, *pieces: str) -> Turn:
    return Turn(question, pieces, None, "".join(pieces))


USAGE = Usage(prompt_tokens=5, completion_tokens=2, total_tokens=7)
TALK = [
    turn("Emoji? 🦄", "Hé 👨‍👩‍👧‍👦", " 🏴󠁧󠁢󠁳󠁣󠁴󠁿 e\u0301 \u200f", "\U0010ffff\ufeff"),
    turn("Lines?\r\n\r\n", "a\r\nb\rc\n\n", "\r", "\n", "\u2028\u2029\x85\x0b\x0c", "\r\n"),
    turn("data: a\n\nevent: b\n\n", 'data: {"type": "reply.completed"}\n\n', "event: x\nid: 1:1\n: y\n\n", "[DONE]"),
    turn("Quotes?", "\"\\'</script>", "\x01\x1f\x7f", "%s {0} ${x} \\ud800"),
    turn("Much?", "x" * 2**16),
    turn("Much more?", "🦄" * 2**14, "y"),
    turn("Bit by bit?", *(f"{number} " for number in range(1000))),
    turn("Letter by letter?", *"🦄\r\n" * 300),
    Turn("Nothing?", (), None, "", "reply.failed"),
    Turn(
        "Think!",
        (Delta(reasoning="Hm 🦄"), Delta(reasoning="\r\n"), "Yes", Delta(text=".", usage=USAGE)),
        "Hm 🦄\r\n",
        "Yes.",
    ),
    Turn("Fail!", (Delta(reasoning="Hm"), "Hel", ModelRateLimited()), "Hm", "Hel", "reply.failed"),
    Turn("Fail at once!", (ModelProtocolError(),), None, "", "reply.failed"),
    turn("And now?", "Fine"),
]


@dataclass(frozen=True, slots=True)
class Heard:
    """What one way told of a reply: its events in order (those of one kind that follow each other as one), its text,
    the last event's offset, the code of a failure, and the message."""

    types: list[str]
    reasoning: str
    text: str
    offset: int
    code: str | None
    message: dict[str, Any]


def heard_in(events: list[Event]) -> Heard:
    offset = 0
    for event in events:
        offset += len(event.data.get("text", ""))
        assert event.data["offset"] == offset
    said = {
        kind: "".join(event.data["text"] for event in events if event.type == kind)
        for kind in ("reply.reasoning", "reply.delta")
    }
    last = events[-1].data
    if last["message"]["content"] is None:  # which has been said
        assert offset > 10_000
        text = {"content": said["reply.delta"], "reasoning": said["reply.reasoning"] or None}
        last = {**last, "message": last["message"] | text}
    return Heard(
        [kind for kind, _ in groupby(event.type for event in events)],
        said["reply.reasoning"],
        said["reply.delta"],
        last["offset"],
        last.get("code"),
        last["message"],
    )


Way = Callable[[Api, int, str], Awaitable[Heard]]


async def sse(ada: Api, conversation: int, question: str) -> Heard:
    async with ada.events(f"/conversations/{conversation}/chat", {"content": question}, EVENTS) as events:
        return heard_in(await events.rest())


async def sse_by_field(ada: Api, conversation: int, question: str) -> Heard:
    body = {"content": question, "stream": True}
    async with ada.events(f"/conversations/{conversation}/messages", body) as events:
        return heard_in(await events.rest())


async def websocket(ada: Api, conversation: int, question: str) -> Heard:
    async with connected(ada, conversation) as socket:
        return heard_in(await socket.ask(question))


async def json_and_then_sse(ada: Api, conversation: int, question: str) -> Heard:
    """The answer in one piece, and its events when it is over."""
    message = await json_answer(ada, conversation, question)
    async with ada.events(f"/conversations/{conversation}/reply") as events:
        heard = heard_in(await events.rest())
    assert heard.message == message
    return heard


async def json_and_then_websocket(ada: Api, conversation: int, question: str) -> Heard:
    message = await json_answer(ada, conversation, question)
    async with connected(ada, conversation) as socket:
        await socket.say("attach")
        heard = heard_in(await socket.rest())
    assert heard.message == message
    return heard


async def json_answer(ada: Api, conversation: int, question: str) -> dict[str, Any]:
    answer = await ada.post(f"/conversations/{conversation}/chat", {"content": question})
    reply = (await ada.messages(conversation))[-1]
    if reply["error"]:
        problem = answer.problem(502, reply["error"]["code"], more=frozenset({"reply_id"}))
        assert (problem["reply_id"], problem["detail"]) == (reply["id"], reply["error"]["detail"])
    else:
        assert answer.ok() == {"message": (await ada.messages(conversation))[-2], "reply": reply}
    return reply


WAYS: list[Way] = [sse, sse_by_field, websocket, json_and_then_sse, json_and_then_websocket]


@pytest.mark.parametrize("way", WAYS)
async def test_whichever_way_a_conversation_is_held_all_of_it_is_heard(ada: Api, conversation: int, way: Way) -> None:
    for turn in TALK:
        MODEL.then(*turn.answer)
        heard = await way(ada, conversation, turn.question)
        kinds = ["reply.reasoning"] * bool(turn.reasoning) + ["reply.delta"] * bool(turn.text)
        assert heard.types == ["reply.started", *kinds, turn.end]
        assert (heard.reasoning or None, heard.text) == (turn.reasoning, turn.text)
        assert heard.offset == len(turn.reasoning or "") + len(turn.text)
        assert heard.code == (heard.message["error"] or {}).get("code")
        question, reply = (await ada.messages(conversation))[-2:]
        assert question["content"] == turn.question
        assert (reply["content"], reply["reasoning"]) == (turn.text, turn.reasoning)
        assert heard.message == reply


async def test_what_is_stored_and_what_the_model_is_asked_is_the_same(ada: Api) -> None:
    """Also when each turn is held another way."""
    ways = [*[[way] for way in WAYS], WAYS]
    transcripts, prompts = list[Any](), list[Any]()
    for chosen in ways:
        conversation, calls = await ada.conversation(), len(MODEL.calls)
        for number, turn in enumerate(TALK):
            MODEL.then(*turn.answer)
            await chosen[number % len(chosen)](ada, conversation, turn.question)
        transcripts.append(await transcript(ada, conversation))
        prompts.append([call.prompt for call in MODEL.calls[calls:]])
    assert len(transcripts[0]) == 2 * len(prompts[0]) == 2 * len(TALK)
    assert transcripts == [transcripts[0]] * len(ways)
    assert prompts == [prompts[0]] * len(ways)


async def transcript(ada: Api, conversation: int) -> list[dict[str, Any]]:
    """The messages as they are stored, without what makes each one itself, and with places for numbers."""
    messages = (await ada.get(f"/conversations/{conversation}?limit=200")).ok()["messages"]
    own = {"id", "conversation_id", "created_at"}
    places = {message["id"]: place for place, message in enumerate(messages)}
    for message in messages:
        message["parent_id"] = places.get(message["parent_id"])
        message["siblings"] = [places[sibling] for sibling in message["siblings"]]
    return [{name: value for name, value in message.items() if name not in own} for message in messages]


# ---- sending twice ---------------------------------------------------------------------------------------


def keyed(key: str = "a") -> dict[str, str]:
    return {"Idempotency-Key": key}


async def test_sent_again_when_it_is_over_it_gets_the_same_answer(ada: Api, conversation: int, path: str) -> None:
    calls, body = len(MODEL.calls), {"content": "Hi 🦄"}
    first = await ada.post(path, body, keyed())
    for where in (path, f"/conversations/{conversation}/messages"):
        again = await ada.post(where, body, keyed())
        assert (again.status, again.body) == (200, first.body)
    async with ada.events(path, body, {**EVENTS, **keyed()}) as events:
        heard = heard_in(await events.rest())
    assert (heard.text, heard.message) == ("Hello", first.ok()["reply"])
    assert [first.ok()["message"], first.ok()["reply"]] == await ada.messages(conversation)
    assert len(MODEL.calls) == calls + 1


async def test_sent_again_while_it_is_written_it_is_followed(
    ada: Api, conversation: int, path: str, stall: Stall
) -> None:
    calls, body = len(MODEL.calls), {"content": "Hi"}
    async with (
        ada.events(path, body, {**EVENTS, **keyed()}) as first,
        ada.events(path, body, {**EVENTS, **keyed()}) as second,
    ):
        begun = await first.until("Hel")
        assert await second.until("Hel") == begun
        waiting = asyncio.create_task(ada.post(path, body, keyed()))
        (await ada.post(path, body, keyed("b"))).problem(409, "conversation_busy")
        (await ada.post(path, body)).problem(409, "conversation_busy")
        stall.release()
        end = await first.rest()
        assert await second.rest() == end
        assert (await waiting).ok()["reply"] == end[-1].data["message"]
    assert len(await ada.messages(conversation)) == 2
    assert len(MODEL.calls) == calls + 1


async def test_who_lost_the_answer_sends_again_and_gets_it(
    ada: Api, conversation: int, path: str, stall: Stall
) -> None:
    asking = asyncio.create_task(ada.post(path, {"content": "Hi"}, keyed()))
    await stall.reached()
    asking.cancel()
    again = asyncio.create_task(ada.post(path, {"content": "Hi"}, keyed()))
    stall.release()
    chat = (await again).ok()
    assert chat["reply"]["content"] == "Hello"
    assert await ada.messages(conversation) == [chat["message"], chat["reply"]]


@pytest.mark.parametrize(
    "other",
    [
        {"content": "Hi!"},
        {"content": "Hi "},
        {"config_id": 1},
        {"system": "Be brief."},
        {"temperature": 0},
        {"max_tokens": 5},
    ],
)
async def test_another_body_under_the_same_key_is_refused(
    ada: Api, conversation: int, path: str, other: dict[str, Any]
) -> None:
    chat = (await ada.post(path, {"content": "Hi"}, keyed())).ok()
    for headers in (keyed(), {**EVENTS, **keyed()}):
        (await ada.post(path, {"content": "Hi", **other}, headers)).problem(422, "idempotency_key_reused")
    assert await ada.messages(conversation) == [chat["message"], chat["reply"]]


async def test_how_the_answer_is_wanted_makes_no_other_body(ada: Api, path: str) -> None:
    chat = (await ada.post(path, {"content": "Hi", "temperature": None, "unknown": 1}, keyed())).ok()
    async with ada.events(path, {"content": "Hi", "stream": True}, keyed()) as events:
        assert heard_in(await events.rest()).message == chat["reply"]


async def test_a_reply_that_failed_has_failed_for_ever(ada: Api, conversation: int, path: str) -> None:
    MODEL.then("Hel", ModelRateLimited())
    first = await ada.post(path, {"content": "Hi"}, keyed())
    again = await ada.post(path, {"content": "Hi"}, keyed())
    for answer in (first, again):
        answer.problem(502, "model_rate_limited", more=frozenset({"reply_id"}))
    assert again.body == first.body
    assert len(await ada.messages(conversation)) == 2
    assert (await ada.post(path, {"content": "Hi"}, keyed("b"))).ok()["reply"]["content"] == "Hello"


async def test_a_reply_that_was_stopped_stays_stopped(ada: Api, conversation: int, path: str, stall: Stall) -> None:
    asking = asyncio.create_task(ada.post(path, {"content": "Hi"}, keyed()))
    await stall.reached()
    stopped = (await ada.post(f"/conversations/{conversation}/stop")).ok()
    assert (await asking).ok()["reply"] == stopped
    assert (await ada.post(path, {"content": "Hi"}, keyed())).ok()["reply"] == stopped


async def test_a_refusal_uses_no_key_up(ada: Api, conversation: int, path: str, stall: Stall) -> None:
    asking = asyncio.create_task(ada.post(path, {"content": "Hi"}))
    await stall.reached()
    (await ada.post(path, {"content": "Hi"}, keyed())).problem(409, "conversation_busy")
    (await ada.post(path, {"content": ""}, keyed())).problem(400, "validation_failed", "content")
    stall.release()
    first = (await asking).ok()
    second = (await ada.post(path, {"content": "Hi"}, keyed())).ok()
    assert second["message"]["id"] != first["message"]["id"]
    assert len(await ada.messages(conversation)) == 4


async def test_each_conversation_and_each_user_has_keys_of_its_own(house: Served, ada: Api) -> None:
    bob = await house.stranger.user()
    replies = set[int]()
    for api in (ada, ada, bob):
        path = f"/conversations/{await api.conversation()}/chat"
        replies.add((await api.post(path, {"content": f"Hi {len(replies)}"}, keyed())).ok()["reply"]["id"])
    assert len(replies) == 3


@pytest.mark.parametrize("key", ["", " ", "x" * 256])
async def test_a_key_that_is_none_is_refused(ada: Api, conversation: int, path: str, key: str) -> None:
    (await ada.post(path, {"content": "Hi"}, keyed(key))).problem(400, "validation_failed", "Idempotency-Key")
    assert await ada.messages(conversation) == []


@pytest.mark.parametrize("key", ["x", "x" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "a b, c;d", "ключ"])
async def test_any_other_is_as_good_as_the_next(ada: Api, conversation: int, path: str, key: str) -> None:
    first = await ada.post(path, {"content": "Hi"}, keyed(key))
    assert (await ada.post(path, {"content": "Hi"}, keyed(key))).body == first.body
    assert len(await ada.messages(conversation)) == 2


async def test_a_key_is_forgotten_after_24_hours(house: Served) -> None:
    tokens = await house.stranger.register("patient")
    ada = house.stranger.with_token(tokens["access_token"])
    conversation = await ada.conversation()
    for hours, messages in ((0, 2), (23, 2), (2, 4), (0, 4)):
        CLOCK.later += timedelta(hours=hours)
        ada = await signed_in_again(house.stranger, "patient")
        (await ada.post(f"/conversations/{conversation}/chat", {"content": "Hi"}, keyed())).ok()
        assert len(await ada.messages(conversation)) == messages


async def signed_in_again(stranger: Api, username: str) -> Api:
    tokens = (await stranger.post("/auth/login", {"username": username, "password": PASSWORD})).ok()
    return stranger.with_token(tokens["access_token"])
