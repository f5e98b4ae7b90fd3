"""What is said over a WebSocket: sending, stopping, attaching, and everything that no client should say."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import WSMsgType
from dishka import Provider, Scope, provide

from chatcore import Replies
from chatcore.errors import ModelRateLimited
from chatcore.ports import Clock, Delta, ImagePart, LLMGateway, UnitOfWorkFactory
from chatcore_memory import ScriptedModel, Stall
from integration.databases import on_one
from integration.http_app import EVENTS, MESSAGE, Api, Event, check_shape, provided, settings_for, text_of
from integration.ws_client import Served, Socket, connected, knocking, served

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAX_BODY = 50_000
MODEL = ScriptedModel("Hello")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    environ = {"DATABASE_URL": database_url, "MAX_BODY_BYTES": str(MAX_BODY), "SHUTDOWN_GRACE": "1"}
    settings = settings_for(tmp_path_factory.mktemp("data"), **environ)
    async with served(settings, provided(LLMGateway, MODEL)) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def ada(house: Served) -> Api:
    return await house.stranger.user()


@pytest_asyncio.fixture(loop_scope="module")
async def conversation(ada: Api) -> int:
    return await ada.conversation()


@pytest_asyncio.fixture(loop_scope="module")
async def socket(ada: Api, conversation: int) -> AsyncIterator[Socket]:
    async with connected(ada, conversation) as socket:
        yield socket


@pytest.fixture
def stall() -> Iterator[Stall]:
    """In the middle of the next answer: "Hel", silence, "lo"."""
    stall = Stall()
    MODEL.then("Hel", stall, "lo")
    yield stall
    stall.release()


def types(events: list[Event]) -> list[str]:
    return [event.type for event in events]


# ---- sending ---------------------------------------------------------------------------------------------


async def test_images_are_sent(ada: Api, conversation: int, socket: Socket) -> None:
    url = "data:image/png;base64,iVBORw=="
    await socket.say("send", content="", images=[url])
    await socket.rest()
    question, _ = await ada.messages(conversation)
    assert question["images"] == 1
    assert MODEL.calls[-1].prompt.messages[-1].content == [ImagePart(url)]
    await socket.say("send", content="Which?", images=["https://example.org/cat.png"])
    refused = await socket.hear()
    assert (refused["type"], refused["code"]) == ("error", "validation_failed")
    assert refused["detail"].startswith("images[0]: ")
    await socket.say("send", content="Which?", images=url)
    assert (await socket.hear())["code"] == "validation_failed"
    assert len(await ada.messages(conversation)) == 2


async def test_a_reply_is_told_as_it_is_written(ada: Api, conversation: int, socket: Socket, stall: Stall) -> None:
    await socket.say("send", content="Hi")
    started, delta = await socket.until("Hel")
    stall.release()
    last_delta, completed = await socket.rest()
    question, reply = await ada.messages(conversation)
    check_shape(reply, MESSAGE)
    head = {"reply_id": reply["id"]}
    assert [event.data for event in (started, delta, last_delta, completed)] == [
        {
            **head,
            "type": "reply.started",
            "offset": 0,
            "conversation_id": conversation,
            "message_id": question["id"],
            "model": reply["model"],
        },
        {**head, "type": "reply.delta", "offset": 3, "text": "Hel"},
        {**head, "type": "reply.delta", "offset": 5, "text": "lo"},
        {**head, "type": "reply.completed", "offset": 5, "message": reply},
    ]
    assert (question["content"], reply["content"], reply["status"]) == ("Hi", "Hello", "complete")


async def test_any_number_of_messages_go_over_one_connection(ada: Api, conversation: int, socket: Socket) -> None:
    replies = [(await socket.ask(f"No. {number} 🦄"))[-1].data["message"] for number in range(20)]
    messages = await ada.messages(conversation)
    assert [message["content"] for message in messages[::2]] == [f"No. {number} 🦄" for number in range(20)]
    assert messages[1::2] == replies


async def test_the_chosen_configuration_answers(ada: Api, socket: Socket) -> None:
    for name in ("first", "second"):
        config = {"model_url": "http://127.0.0.1:9/v1", "model_name": name, "api_key": ""}
        config_id = (await ada.post("/auth/config/create", config)).ok(201)["id"]
        assert (await socket.ask(config_id=config_id))[0].data["model"] == name
    assert (await socket.ask(config_id=config_id - 1))[0].data["model"] == "first"
    assert (await socket.ask(config_id=None))[0].data["model"] == "second"


async def test_a_configuration_of_somebody_else_does_not(house: Served, socket: Socket) -> None:
    bob = await house.stranger.user()
    config = {"model_url": "http://127.0.0.1:9/v1", "model_name": "bobs", "api_key": "sk-bobs"}
    bobs = (await bob.post("/auth/config/create", config)).ok(201)["id"]
    for config_id in (bobs, 999_999):
        await socket.say("send", content="Hi", config_id=config_id)
        assert await socket.refusal() == "not_found"
    assert (await socket.ask())[-1].type == "reply.completed"


async def test_a_model_that_fails_is_told_with_what_it_had_said(ada: Api, conversation: int, socket: Socket) -> None:
    MODEL.then(Delta(reasoning="Hm"), "Hel", ModelRateLimited())
    events = await socket.ask()
    assert text_of(events) == "HmHel"
    assert "reply.reasoning" in types(events)
    failed = events[-1].data
    assert (failed["type"], failed["code"], failed["offset"]) == ("reply.failed", "model_rate_limited", 5)
    assert failed["message"] == (await ada.messages(conversation))[-1]
    assert types(await socket.ask())[-1] == "reply.completed"


async def test_a_title_found_in_time_is_told(tmp_path: Path) -> None:
    stall, model = Stall(), ScriptedModel("A title")
    model.then("Hel", stall, "lo")
    async with served(settings_for(tmp_path, AUTO_TITLE="model"), provided(LLMGateway, model)) as house:
        ada = await house.stranger.user()
        async with connected(ada, await ada.conversation()) as socket:
            await socket.say("send", content="Hi")
            while (event := await socket.event()).type != "conversation.titled":
                assert event.type in ("reply.started", "reply.delta")
            stall.release()
            assert event.data["title"] == "A title"
            assert text_of(await socket.rest()) == "lo"


async def test_a_message_that_comes_while_one_is_answered_is_refused(
    ada: Api, conversation: int, socket: Socket, stall: Stall
) -> None:
    """And the answer goes on being told."""
    await socket.say("send", content="Hi")
    await socket.until("Hel")
    for _ in range(3):
        await socket.say("send", content="And?")
        assert await socket.refusal() == "conversation_busy"
    stall.release()
    assert text_of(await socket.rest()) == "lo"
    assert len(await ada.messages(conversation)) == 2


# ---- stopping --------------------------------------------------------------------------------------------


async def test_a_stop_keeps_what_was_written(ada: Api, conversation: int, socket: Socket, stall: Stall) -> None:
    await socket.say("send", content="Hi")
    await socket.until("Hel")
    await socket.say("stop")
    (stopped,) = await socket.rest()
    assert (stopped.type, stopped.data["offset"]) == ("reply.stopped", 3)
    reply = (await ada.messages(conversation))[-1]
    assert stopped.data["message"] == reply
    assert (reply["content"], reply["status"]) == ("Hel", "stopped")


async def test_a_stop_by_anybody_is_told(ada: Api, conversation: int, socket: Socket, stall: Stall) -> None:
    async with connected(ada, conversation) as other:
        await socket.say("send", content="Hi")
        await socket.until("Hel")
        await other.say("stop")
        assert types(await socket.rest()) == ["reply.stopped"]


async def test_a_late_stop_changes_nothing_and_is_not_answered(socket: Socket) -> None:
    await socket.say("stop")
    assert await socket.refusal() == "not_found"
    reply = (await socket.ask())[-1].data["message"]
    await socket.say("stop")
    await socket.say("attach", after=99)
    assert (await socket.rest())[-1].data["message"] == reply


# ---- attaching -------------------------------------------------------------------------------------------


async def test_a_reply_is_read_from_any_offset_on(ada: Api, conversation: int, stall: Stall) -> None:
    """While it is being written, by two at once, and when it has ended: by both the same."""
    async with connected(ada, conversation) as first, connected(ada, conversation) as second:
        await first.say("send", content="Hi")
        begun = await first.until("Hel")
        await second.say("attach")
        assert await second.until("Hel") == begun
        await second.say("attach", after=1)
        assert (await second.event()).data == {**begun[0].data, "offset": 1}
        assert text_of(await second.until("el")) == "el"
        stall.release()
        end = await first.rest()
        assert await second.rest() == end
        for after in range(7):
            await second.say("attach", after=after)
            started, *deltas, completed = await second.rest()
            assert (started.type, started.data["offset"]) == ("reply.started", after)
            assert text_of(deltas) == "Hello"[after:]
            assert (completed.type, completed.data["offset"]) == ("reply.completed", 5)


async def test_a_newer_wish_takes_the_place_of_an_older_one(socket: Socket, stall: Stall) -> None:
    await socket.say("send", content="Hi")
    await socket.until("Hel")
    for _ in range(5):
        await socket.say("attach", after=3)
        assert (await socket.event()).type == "reply.started"
    stall.release()
    assert text_of(await socket.rest()) == "lo"
    await socket.say("attach", after=5)
    assert types(await socket.rest()) == ["reply.started", "reply.completed"]


async def test_a_reply_that_another_way_asked_for_is_told_too(ada: Api, conversation: int, socket: Socket) -> None:
    stall = Stall()
    MODEL.then("Hel", stall, "lo")
    async with ada.events(f"/conversations/{conversation}/chat", {"content": "Hi"}, EVENTS) as events:
        begun = await events.until("Hel")
        await socket.say("attach", after=0)
        assert [event.data for event in await socket.until("Hel")] == [event.data for event in begun]
        stall.release()
        assert [event.data for event in await socket.rest()] == [event.data for event in await events.rest()]


async def test_without_any_reply_there_is_nothing_to_attach_to(socket: Socket) -> None:
    await socket.say("attach")
    assert await socket.refusal() == "not_found"
    assert (await socket.ask())[-1].type == "reply.completed"


async def test_silence_is_not_told(tmp_path: Path) -> None:
    """The server's pings bridge it; a stream of events, which has none, has its comments."""
    stall = Stall()
    model = provided(LLMGateway, ScriptedModel("Hel", stall, "lo"))
    async with served(settings_for(tmp_path, AUTO_TITLE="first-message"), model, Impatient()) as house:
        ada = await house.stranger.user()
        conversation = await ada.conversation()
        async with connected(ada, conversation) as socket:
            await socket.say("send", content="Hi")
            await socket.until("Hel")
            async with ada.events(f"/conversations/{conversation}/reply") as events:
                await events.until("Hel")
                for _ in range(3):
                    assert (await events.block()).startswith(b":")
            stall.release()
            assert types(await socket.rest()) == ["reply.delta", "reply.completed"]


class Impatient(Provider):
    """Replies that soon say that nothing was said."""

    scope = Scope.APP

    @provide
    async def replies(
        self, unit_of_work: UnitOfWorkFactory, gateway: LLMGateway, clock: Clock
    ) -> AsyncIterable[Replies]:
        async with Replies(unit_of_work=unit_of_work, gateway=gateway, clock=clock, silence=0.01) as replies:
            yield replies


# ---- sending again ---------------------------------------------------------------------------------------


async def test_a_message_sent_again_is_not_sent_twice(
    ada: Api, conversation: int, socket: Socket, stall: Stall
) -> None:
    calls = len(MODEL.calls)
    await socket.say("send", content="Hi", client_id="a")
    begun = await socket.until("Hel")
    await socket.say("send", content="Hi", client_id="a")
    assert [event.data for event in await socket.until("Hel")] == [event.data for event in begun]
    stall.release()
    end = await socket.rest()
    again = await socket.ask(client_id="a")
    assert (again[0], again[-1]) == (begun[0], end[-1])
    assert text_of(again) == "Hello"
    assert len(await ada.messages(conversation)) == 2
    assert len(MODEL.calls) == calls + 1


async def test_an_older_message_sent_again_gets_its_own_reply(socket: Socket) -> None:
    older = (await socket.ask(client_id="a"))[-1]
    MODEL.then("Something else")
    await socket.ask(client_id="b")
    assert (await socket.ask(client_id="a"))[-1] == older


async def test_a_key_that_was_used_for_something_else_is_refused(ada: Api, conversation: int, socket: Socket) -> None:
    config = {"model_url": "http://127.0.0.1:9/v1", "model_name": "own", "api_key": ""}
    config_id = (await ada.post("/auth/config/create", config)).ok(201)["id"]
    await socket.ask("Hi", client_id="a")
    for other in ({"content": "Hi!"}, {"content": "Hi", "config_id": config_id}):
        await socket.say("send", client_id="a", **other)
        assert await socket.refusal() == "idempotency_key_reused"
    assert (await socket.ask("Hi!", client_id="b"))[-1].type == "reply.completed"
    assert len(await ada.messages(conversation)) == 4


async def test_a_key_counts_in_its_conversation_only(ada: Api, conversation: int) -> None:
    replies = set()
    for number in (conversation, await ada.conversation()):
        async with connected(ada, number) as socket:
            replies.add((await socket.ask(f"Hi {number}", client_id="a"))[-1].data["reply_id"])
    assert len(replies) == 2


@pytest.mark.parametrize("over", [False, True])
async def test_ten_at_once_with_one_key_get_one_answer(ada: Api, conversation: int, stall: Stall, over: bool) -> None:
    """Five over as many sockets, three as JSON, two as event streams; all anew, or when the reply is over."""
    calls = len(MODEL.calls)
    if over:
        stall.release()
        await over_http(ada, conversation, "a")
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(connected(ada, conversation)) for _ in range(5)]
        asking = [
            *(socket.ask(client_id="a") for socket in sockets),
            *(over_http(ada, conversation, "a") for _ in range(3)),
            *(over_sse(ada, conversation, "a") for _ in range(2)),
        ]
        answers = [asyncio.create_task(one) for one in asking]
        await stall.reached()
        stall.release()
        ends = [await answer for answer in answers]
    question, reply = await ada.messages(conversation)
    assert (question["content"], reply["content"]) == ("Hi", "Hello")
    for events in ends[:5] + ends[8:]:
        assert (events[0].data["message_id"], text_of(events)) == (question["id"], "Hello")
        assert events[-1].data["message"] == reply
    assert ends[5:8] == [{"message": question, "reply": reply}] * 3
    assert len(MODEL.calls) == calls + 1


async def over_http(ada: Api, conversation: int, key: str) -> Any:
    answer = await ada.post(f"/conversations/{conversation}/chat", {"content": "Hi"}, {"Idempotency-Key": key})
    return answer.ok()


async def over_sse(ada: Api, conversation: int, key: str) -> Any:
    headers = {**EVENTS, "Idempotency-Key": key}
    async with ada.events(f"/conversations/{conversation}/chat", {"content": "Hi"}, headers) as events:
        return await events.rest()


async def test_ten_at_once_without_a_key_are_one_message_and_nine_refusals(ada: Api, conversation: int) -> None:
    stall = Stall()
    MODEL.then(stall)
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(connected(ada, conversation)) for _ in range(10)]
        await asyncio.gather(*(socket.say("send", content="Hi") for socket in sockets))
        first = [await socket.hear() for socket in sockets]
        stall.release()
    assert Counter(frame.get("code", frame["type"]) for frame in first) == {"reply.started": 1, "conversation_busy": 9}
    assert len(await ada.messages(conversation)) == 2


# ---- what no client should say ---------------------------------------------------------------------------

NONSENSE = [
    "",
    "garbage",
    "null",
    "[]",
    '"send"',
    "1",
    "NaN",
    "{",
    "{}",
    "[" * 200_00,
    '{"type": "send", "content": "Hi", "x": ' + "[" * 20_000 + "]" * 20_000 + "}",
    '{"type": "send", "content": "Hi", "x": ' + '[{"":' * 6_900 + "1" + "}]" * 6_900 + "}",
    '{"type": "send", "content": "Hi"} {"type": "stop"}',
    '\ufeff{"type": "stop"}',
    '{"type": "nonsense"}',
    '{"type": null}',
    '{"type": 1}',
    '{"type": ["send"], "content": "Hi"}',
    '{"type": "SEND", "content": "Hi"}',
    '{"content": "Hi"}',
    '{"type": "send"}',
    '{"type": "send", "content": null}',
    '{"type": "send", "content": 1}',
    '{"type": "send", "content": ["Hi"]}',
    '{"type": "send", "content": ""}',
    '{"type": "send", "content": " \\n"}',
    '{"type": "send", "content": "\\u0000"}',
    '{"type": "send", "content": "\\ud800"}',
    '{"type": "send", "content": "\\udc00 and more"}',
    '{"type": "send", "content": "Hi", "config_id": "1"}',
    '{"type": "send", "content": "Hi", "config_id": 0}',
    '{"type": "send", "content": "Hi", "config_id": -1}',
    '{"type": "send", "content": "Hi", "config_id": 1.5}',
    '{"type": "send", "content": "Hi", "config_id": true}',
    '{"type": "send", "content": "Hi", "config_id": 9223372036854775808}',
    '{"type": "send", "content": "Hi", "client_id": ""}',
    '{"type": "send", "content": "Hi", "client_id": " "}',
    '{"type": "send", "content": "Hi", "client_id": 1}',
    '{"type": "send", "content": "Hi", "client_id": "\\u0000"}',
    '{"type": "send", "content": "Hi", "client_id": "' + "x" * 256 + '"}',
    '{"type": "attach", "after": -1}',
    '{"type": "attach", "after": "1"}',
    '{"type": "attach", "after": null}',
    '{"type": "attach", "after": 1.5}',
    '{"type": "attach", "after": 9007199254740993}',
    '{"type": "attach", "after": 1e400}',
    '{"type": "auth", "token": "x"}',
    b"",
    b'{"type": "send", "content": "Hi"}',
    b"\xff\x00",
]


@on_one
@pytest.mark.parametrize("frame", NONSENSE)
async def test_nonsense_is_answered_and_forgotten(
    ada: Api, conversation: int, socket: Socket, frame: str | bytes
) -> None:
    await (socket.connection.send_str(frame) if isinstance(frame, str) else socket.connection.send_bytes(frame))
    assert await socket.refusal() == "validation_failed"
    assert text_of(await socket.ask()) == "Hello"
    assert len(await ada.messages(conversation)) == 2


async def test_nonsense_does_not_disturb_the_reply_that_is_told(socket: Socket, stall: Stall) -> None:
    await socket.say("send", content="Hi")
    await socket.until("Hel")
    for frame in ("garbage", '{"type": "nonsense"}'):
        await socket.connection.send_str(frame)
        assert await socket.refusal() == "validation_failed"
    stall.release()
    assert text_of(await socket.rest()) == "lo"


async def test_what_is_wrong_is_said_without_what_was_sent(socket: Socket) -> None:
    secret = "sk-0123456789"
    for frame in ({"type": "send", "content": [secret]}, {"type": "auth", "token": secret}, {"token": secret}):
        await socket.connection.send_json(frame)
        assert secret not in json.dumps(await socket.hear())
    await socket.say("send", content="Hi", config_id="1")
    assert "config_id" in (await socket.hear())["detail"]


async def test_what_is_wrong_is_said_briefly(socket: Socket) -> None:
    await socket.connection.send_json({"type": "x" * 40_000})
    assert len((await socket.hear())["detail"]) <= 200


async def test_fields_that_nobody_named_are_ignored(socket: Socket) -> None:
    assert text_of(await socket.ask(stream=True, user_id=1, x={"type": "stop"})) == "Hello"


# ---- frames that are too large ---------------------------------------------------------------------------


def frame_of(size: int, filler: str = "x") -> str:
    """A message to send whose frame has so many bytes."""
    frame = json.dumps({"type": "send", "content": ""}, ensure_ascii=False)
    content, rest = divmod(size - len(frame), len(filler.encode()))
    return frame.replace('""', f'"{filler * content}{"x" * rest}"')


@pytest.mark.parametrize("filler", ["x", "🦄"])
async def test_a_frame_may_have_as_many_bytes_as_a_body(
    ada: Api, conversation: int, socket: Socket, filler: str
) -> None:
    frame = frame_of(MAX_BODY, filler)
    assert len(frame.encode()) == MAX_BODY
    await socket.connection.send_str(frame)
    assert text_of(await socket.rest()) == "Hello"
    assert (await ada.messages(conversation))[0]["content"] == json.loads(frame)["content"]


@pytest.mark.parametrize("filler", ["x", "🦄"])
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("limit", [None, 2 * MAX_BODY])
async def test_a_larger_one_closes_the_connection(tmp_path: Path, binary: bool, filler: str, limit: int | None) -> None:
    """Whether the server has a limit of its own or not, and in mid-stream too."""
    stall = Stall()
    options = {} if limit is None else {"ws_max_size": limit}
    settings = settings_for(tmp_path, MAX_BODY_BYTES=str(MAX_BODY), AUTO_TITLE="first-message")
    async with served(settings, provided(LLMGateway, ScriptedModel("Hel", stall, "lo")), **options) as house:
        ada = await house.stranger.user()
        conversation = await ada.conversation()
        async with connected(ada, conversation) as socket, connected(ada, conversation) as other:
            await socket.say("send", content="Hi")
            await socket.until("Hel")
            frame = frame_of(MAX_BODY + 1, filler)
            await (socket.connection.send_bytes(frame.encode()) if binary else socket.connection.send_str(frame))
            assert await socket.close_code() == 1009
            await other.say("attach", after=3)
            stall.release()
            assert text_of(await other.rest()) == "lo"
        async with knocking(ada, conversation) as socket:
            await socket.connection.send_str(frame)
            assert await socket.close_code() == 1009
        assert len(await ada.messages(conversation)) == 2


# ---- the conversation goes -------------------------------------------------------------------------------


async def test_a_conversation_that_is_deleted_meanwhile_is_not_found(
    ada: Api, conversation: int, socket: Socket, stall: Stall
) -> None:
    await socket.say("send", content="Hi")
    await socket.until("Hel")
    (await ada.post(f"/conversations/{conversation}/delete")).ok()
    (stopped,) = await socket.rest()
    assert (stopped.type, stopped.data["message"]["content"]) == ("reply.stopped", "Hel")
    for frame in ({"type": "send", "content": "Hi"}, {"type": "stop"}, {"type": "attach"}):
        await socket.connection.send_json(frame)
        assert await socket.refusal() == "not_found"
    await socket.connection.ping()
    await socket.connection.close()
    assert socket.connection.close_code == 1000


async def test_a_client_that_says_goodbye_gets_its_goodbye(socket: Socket) -> None:
    await socket.connection.close(code=4000, message=b"enough")
    assert socket.connection.close_code == 4000
    assert (await socket.connection.receive()).type is WSMsgType.CLOSED
