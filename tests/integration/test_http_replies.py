"""The life of a reply as a client sees it: leaving, coming back, stopping, meeting another."""

import asyncio
from collections.abc import AsyncIterable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from dishka import Provider, Scope, provide

from chatcore import Replies
from chatcore.ports import Clock, Delta, LLMGateway, UnitOfWorkFactory
from chatcore_memory import ScriptedModel, Stall
from integration.databases import on_one
from integration.http_app import (
    EVENTS,
    MESSAGE,
    Api,
    Event,
    api_of,
    check_shape,
    provided,
    settings_for,
    text_of,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Impatient(Provider):
    """Replies that soon say that nothing was said, and write their log as fast as they can."""

    scope = Scope.APP

    @provide
    async def replies(
        self, unit_of_work: UnitOfWorkFactory, gateway: LLMGateway, clock: Clock
    ) -> AsyncIterable[Replies]:
        async with Replies(
            unit_of_work=unit_of_work, gateway=gateway, clock=clock, flush_every=0.01, silence=0.01
        ) as replies:
            yield replies


@pytest.fixture
def stall() -> Iterator[Stall]:
    stall = Stall()
    yield stall
    stall.release()


@pytest.fixture
def model(stall: Stall) -> ScriptedModel:
    return ScriptedModel("Hel", stall, "lo")


@pytest.fixture
def path(conversation: int) -> str:
    return f"/conversations/{conversation}"


async def ask(api: Api, path: str) -> Any:
    return (await api.post(f"{path}/chat", {"content": "Hi"})).ok()


async def rest_of_reply(api: Api, path: str, after: int = 0, headers: dict[str, str] | None = None) -> list[Event]:
    async with api.events(f"{path}/reply?after={after}", headers=headers) as events:
        return await events.rest()


# ---- leaving and coming back -----------------------------------------------------------------------------


async def test_a_client_that_leaves_in_mid_stream_finds_the_whole_reply_later(
    ada: Api, conversation: int, path: str, stall: Stall
) -> None:
    async with ada.events(f"{path}/chat", {"content": "Hi"}, EVENTS) as events:
        last = (await events.until("Hel"))[-1]
    stall.release()
    rest = await rest_of_reply(ada, path, headers={"Last-Event-ID": last.id})
    assert text_of(rest) == "lo"
    assert rest[-1].type == "reply.completed"
    reply = (await ada.messages(conversation))[-1]
    assert (reply["content"], reply["status"]) == ("Hello", "complete")


async def test_a_client_that_does_not_wait_for_the_json_finds_the_reply_later(
    ada: Api, conversation: int, path: str, stall: Stall
) -> None:
    asking = asyncio.create_task(ask(ada, path))
    await stall.reached()
    asking.cancel()
    stall.release()
    assert text_of(await rest_of_reply(ada, path)) == "Hello"
    assert (await ada.messages(conversation))[-1]["status"] == "complete"


async def test_a_reply_being_written_is_in_the_history_as_far_as_it_has_come(
    tmp_path: Path, model: ScriptedModel, stall: Stall
) -> None:
    async with api_of(settings_for(tmp_path), provided(LLMGateway, model), Impatient()) as api:
        ada = await api.user()
        conversation = await ada.conversation()
        async with ada.events(f"/conversations/{conversation}/chat", {"content": "Hi"}, EVENTS) as events:
            await events.until("Hel")
            while not (reply := (await ada.messages(conversation))[-1])["content"]:
                pass  # until the log has it
            check_shape(reply, MESSAGE)
            assert (reply["content"], reply["status"], reply["usage"], reply["error"]) == ("Hel", "writing", None, None)
            stall.release()
            await events.rest()


async def test_resuming_at_every_offset_gives_exactly_the_rest(
    ada: Api, conversation: int, path: str, model: ScriptedModel
) -> None:
    """While the reply is being written, on as many connections as it has characters, and when it has ended."""
    stall = Stall()
    said, whole = "Hm 🦄 Hé\r\n", "Hm 🦄 Hé\r\nllo 👋"
    model.then(Delta(reasoning="Hm 🦄"), " H", "é\r\n", stall, "llo", " 👋")
    async with ada.events(f"{path}/chat", {"content": "Hi"}, EVENTS) as first, AsyncExitStack() as stack:
        await first.until(said)
        readers = [
            await stack.enter_async_context(ada.events(f"{path}/reply?after={after}")) for after in range(len(said) + 1)
        ]
        seen = [[await anext(reader), *await reader.until(said[after:])] for after, reader in enumerate(readers)]
        stall.release()
        for after, (begin, reader) in enumerate(zip(seen, readers, strict=True)):
            check_resumed(begin + await reader.rest(), after, whole)
    for after in range(len(whole) + 1):
        check_resumed(await rest_of_reply(ada, path, after), after, whole)
    ended = await rest_of_reply(ada, path)
    assert [event.data["text"] for event in ended if event.type == "reply.reasoning"] == ["Hm 🦄"]
    assert ended[-1].data["message"] == (await ada.messages(conversation))[-1]


def check_resumed(events: list[Event], after: int, whole: str) -> None:
    started, *deltas, completed = events
    assert (started.type, started.data["offset"]) == ("reply.started", after)
    assert text_of(deltas) == whole[after:]
    offset = after
    for delta in deltas:
        offset += len(delta.data["text"])
        assert delta.data["offset"] == offset
    assert (completed.type, completed.data["offset"]) == ("reply.completed", len(whole))


async def test_the_last_event_id_wins_over_after(ada: Api, path: str, stall: Stall) -> None:
    stall.release()
    reply_id = (await ask(ada, path))["reply"]["id"]
    assert text_of(await rest_of_reply(ada, path, 1, {"Last-Event-ID": f"{reply_id}:4"})) == "o"
    assert text_of(await rest_of_reply(ada, path, 4, {"Last-Event-ID": f"{reply_id}:0"})) == "Hello"
    assert text_of(await rest_of_reply(ada, path, 4, {"Last-Event-ID": ""})) == "o"


async def test_the_last_event_id_of_an_older_reply_gives_the_rest_of_that_one(
    ada: Api, path: str, model: ScriptedModel, stall: Stall
) -> None:
    stall.release()
    older = (await ask(ada, path))["reply"]
    model.then("Something else")
    await ask(ada, path)
    events = await rest_of_reply(ada, path, headers={"Last-Event-ID": f"{older['id']}:3"})
    assert text_of(events) == "lo"
    assert events[-1].data["message"] == older
    assert text_of(await rest_of_reply(ada, path)) == "Something else"


@on_one
@pytest.mark.parametrize("given", ["x", "1", "1:", ":1", "1:-1", "-1:1", "1:2:3", "1:1, 1:2", "²:1", "1:" + "9" * 19])
async def test_a_last_event_id_that_is_none_is_refused(ada: Api, path: str, given: str) -> None:
    (await ada.get(f"{path}/reply", {"Last-Event-ID": given})).problem(400, "validation_failed", "Last-Event-ID")


async def test_a_last_event_id_of_no_reply_here_is_not_found(ada: Api, path: str, stall: Stall) -> None:
    stall.release()
    chat = await ask(ada, path)
    other = f"/conversations/{await ada.conversation()}"
    foreign = await ada.user()
    for api, where, number in (
        (ada, path, 999),
        (ada, path, chat["message"]["id"]),
        (ada, other, chat["reply"]["id"]),
        (foreign, path, chat["reply"]["id"]),
        (foreign, f"/conversations/{await foreign.conversation()}", chat["reply"]["id"]),
    ):
        (await api.get(f"{where}/reply", {"Last-Event-ID": f"{number}:0"})).problem(404, "not_found")


async def test_without_any_reply_there_is_nothing_to_read(ada: Api, path: str) -> None:
    answer = await ada.get(f"{path}/reply")
    assert (answer.status, answer.body) == (204, b"")
    assert "X-Request-ID" in answer.headers


async def test_silence_is_bridged_by_comments(tmp_path: Path, model: ScriptedModel, stall: Stall) -> None:
    async with api_of(settings_for(tmp_path), provided(LLMGateway, model), Impatient()) as api:
        ada = await api.user()
        path = f"/conversations/{await ada.conversation()}"
        async with ada.events(f"{path}/chat", {"content": "Hi"}, EVENTS) as events:
            await events.until("Hel")
            for _ in range(3):
                comment = await events.block()
                assert comment.startswith(b":")
                assert comment.endswith(b"\n\n")
            stall.release()
            rest = await events.rest()
    assert text_of(rest) == "lo"
    assert rest[-1].type == "reply.completed"


# ---- stopping --------------------------------------------------------------------------------------------


async def test_a_stop_keeps_what_was_written(ada: Api, conversation: int, path: str, model: ScriptedModel) -> None:
    async with ada.events(f"{path}/chat", {"content": "Hi"}, EVENTS) as events:
        await events.until("Hel")
        stopped = (await ada.post(f"{path}/stop")).ok()
        check_shape(stopped, MESSAGE)
        (last,) = await events.rest()
    assert (stopped["content"], stopped["status"], stopped["error"]) == ("Hel", "stopped", None)
    assert last.data == {"type": "reply.stopped", "reply_id": stopped["id"], "offset": 3, "message": stopped}
    assert (await ada.messages(conversation))[-1] == stopped
    assert text_of(await rest_of_reply(ada, path)) == "Hel"
    assert model.calls[0].ending == "closed"


async def test_a_json_chat_that_is_stopped_answers_with_what_was_written(ada: Api, path: str, stall: Stall) -> None:
    asking = asyncio.create_task(ask(ada, path))
    await stall.reached()
    stopped = (await ada.post(f"{path}/stop")).ok()
    assert (await asking)["reply"] == stopped


async def test_stopping_what_has_ended_changes_nothing(ada: Api, path: str, stall: Stall) -> None:
    stall.release()
    reply = (await ask(ada, path))["reply"]
    assert (await ada.post(f"{path}/stop")).ok() == reply
    assert (await ada.post(f"{path}/stop", {"any": "body"})).ok() == reply


async def test_where_nothing_was_ever_written_there_is_nothing_to_stop(ada: Api, path: str) -> None:
    (await ada.post(f"{path}/stop")).problem(404, "not_found")


async def test_two_that_stop_at_once_get_the_same(ada: Api, path: str, stall: Stall) -> None:
    asking = asyncio.create_task(ask(ada, path))
    await stall.reached()
    stops = await asyncio.gather(*(ada.post(f"{path}/stop") for _ in range(3)))
    reply = (await asking)["reply"]
    assert [answer.ok() for answer in stops] == [reply] * 3


# ---- meeting another -------------------------------------------------------------------------------------


async def test_a_conversation_is_busy_while_a_reply_is_being_written(
    ada: Api, conversation: int, path: str, stall: Stall
) -> None:
    async with ada.events(f"{path}/chat", {"content": "Hi"}, EVENTS) as events:
        await events.until("Hel")
        for headers in ({}, EVENTS):
            (await ada.post(f"{path}/chat", {"content": "Me too"}, headers)).problem(409, "conversation_busy")
        other = f"/conversations/{await ada.conversation()}"
        stall.release()
        assert (await ask(ada, other))["reply"]["content"] == "Hello"
        assert text_of(await events.rest()) == "lo"
    assert [message["content"] for message in await ada.messages(conversation)] == ["Hi", "Hello"]
    await ask(ada, path)


async def test_of_many_at_once_one_is_answered(ada: Api, conversation: int, path: str, stall: Stall) -> None:
    asking = [asyncio.create_task(ada.post(f"{path}/chat", {"content": str(number)})) for number in range(5)]
    pending = set(asking)
    while len(pending) > 1:
        refused, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for loser in refused:
            loser.result().problem(409, "conversation_busy")
    stall.release()
    winner = (await pending.pop()).ok()
    assert await ada.messages(conversation) == [winner["message"], winner["reply"]]


async def test_a_conversation_deleted_in_mid_stream(ada: Api, path: str, model: ScriptedModel) -> None:
    async with ada.events(f"{path}/chat", {"content": "Hi"}, EVENTS) as events:
        await events.until("Hel")
        (await ada.post(f"{path}/delete")).ok()
        (last,) = await events.rest()
    assert (last.type, last.data["message"]["content"]) == ("reply.stopped", "Hel")
    assert model.calls[0].ending == "closed"
    (await ada.get(path)).problem(404, "not_found")
    (await ada.get(f"{path}/reply", {"Last-Event-ID": last.id})).problem(404, "not_found")
    (await ada.post(f"{path}/stop")).problem(404, "not_found")


# ---- coming back to what has ended -----------------------------------------------------------------------


async def test_an_event_source_that_has_seen_the_end_is_told_not_to_come_back(
    ada: Api, path: str, stall: Stall
) -> None:
    """It connects again after each end; 204 is what stops it (HTML §9.2.3)."""
    async with ada.events(f"{path}/chat", {"content": "Hi"}, EVENTS) as events:
        stall.release()
        seen = await events.rest()
    assert seen[-1].type == "reply.completed"
    for after in ("", "?after=0"):
        again = await ada.get(f"{path}/reply{after}", {"Last-Event-ID": seen[-1].id})
        assert (again.status, again.body) == (204, b"")
    assert text_of(await rest_of_reply(ada, path, headers={"Last-Event-ID": seen[0].id})) == "Hello"
    assert [event.type for event in await rest_of_reply(ada, path, 5)] == ["reply.started", "reply.completed"]
