"""Two servers on one database: a stream that is cut anywhere goes on at either, and a conversation has one order."""

import asyncio
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from integration.databases import only_servers
from integration.http_app import EVENTS, Api, Event, text_of
from integration.model_server import Answer, Gate, ModelServer, chunk, stream
from integration.processes import several_serving
from integration.ws_client import connected

_THOUGHTS = ("Let me\r\nsee", " 🤔")
_WORDS = ("Two 👩‍👩‍👧\r\n", "par", "rots\r\n\r\n", "🦜🦜", "\n")
_SAID = "".join((*_THOUGHTS, *_WORDS))
_SENDS = 100


class Dictation:
    """A model that says one piece each time it is told to."""

    def __init__(self) -> None:
        pieces = [*(chunk(reasoning=thought) for thought in _THOUGHTS), *(chunk(word) for word in _WORDS)]
        self.gates = [Gate() for _ in pieces]
        steps = [step for pair in zip(self.gates, pieces, strict=True) for step in pair]
        self.answer: Answer = stream(*steps, chunk(finish="stop", usage=(3, 7)))

    def go_on(self, pieces: int) -> None:
        """So many have been said then."""
        for gate in self.gates[:pieces]:
            gate.open()


PIECES = len(_THOUGHTS) + len(_WORDS)


# ---- a stream that is cut --------------------------------------------------------------------------------


@only_servers
async def test_events_cut_after_any_of_them_go_on_at_either_server(database_url: str, tmp_path: Path) -> None:
    async with (
        ModelServer() as model,
        several_serving(2, tmp_path, DATABASE_URL=database_url, OPENAI_BASE_URL=model.url) as (one, other),
    ):
        ada = await one.api.user()
        path = f"/conversations/{await ada.conversation()}"
        for cut_after in range(PIECES):
            dictation = Dictation()
            model.script(dictation.answer)
            async with ada.events(f"{path}/chat", {"content": "Hi"}, EVENTS) as events:
                seen = await _some_events(events, dictation, cut_after)
            dictation.go_on(cut_after + 1)  # while nobody is there
            last = {"Last-Event-ID": seen[-1].id}
            async with (
                ada.events(f"{path}/reply", headers=last) as same,
                other.api.with_token(ada.token).events(f"{path}/reply", headers=last) as there,
            ):
                rests = [[await anext(each)] for each in (same, there)]
                dictation.go_on(PIECES)
                for rest, each in zip(rests, (same, there), strict=True):
                    rest += await each.rest()
            for rest in rests:
                _check_whole(seen, rest)
            message = rests[0][-1].data["message"]
            assert rests[1][-1].data["message"] == message == (await ada.messages(int(path.rpartition("/")[2])))[-1]
        for offset in range(len(_SAID) + 1):
            for api in (ada, other.api.with_token(ada.token)):
                async with api.events(f"{path}/reply?after={offset}") as events:
                    assert text_of(await events.rest()) == _SAID[offset:]


async def _some_events(events: Any, dictation: Dictation, number: int) -> list[Event]:
    """The first, which tells that it has started, and so many more, as soon as they can come."""
    seen = [await anext(events)]
    for piece in range(number):
        dictation.go_on(piece + 1)
        seen.append(await anext(events))
    return seen


def _check_whole(before: Sequence[Event], after: Sequence[Event]) -> None:
    """Byte for byte what the model said; and every event says how far that is."""
    assert after[0].type == "reply.started"
    text = ""
    for event in (*before, *after):
        text += event.data.get("text", "")
        assert event.data["offset"] == len(text)
    assert text.encode() == _SAID.encode()
    message = after[-1].data["message"]
    assert (after[-1].type, message["status"]) == ("reply.completed", "complete")
    assert (message["reasoning"], message["content"]) == ("".join(_THOUGHTS), "".join(_WORDS))


@only_servers
async def test_sockets_cut_after_any_event_go_on_at_either_server(database_url: str, tmp_path: Path) -> None:
    async with (
        ModelServer() as model,
        several_serving(2, tmp_path, DATABASE_URL=database_url, OPENAI_BASE_URL=model.url) as (one, other),
    ):
        ada = await one.api.user()
        conversation = await ada.conversation()
        for cut_after in range(PIECES + 2):
            dictation = Dictation()
            model.script(dictation.answer)
            async with connected(ada, conversation) as talk:
                await talk.say("send", content="Hi")
                seen = [await talk.event()]
                for piece in range(cut_after):
                    dictation.go_on(piece + 1)
                    seen.append(await talk.event())
            dictation.go_on(cut_after + 1)
            async with (
                connected(ada, conversation) as same,
                connected(other.api.with_token(ada.token), conversation) as there,
            ):
                rests = list[list[Event]]()
                for talk in (same, there):
                    await talk.say("attach", after=seen[-1].data["offset"])
                    rests.append([await talk.event()])
                dictation.go_on(PIECES)
                for rest, talk in zip(rests, (same, there), strict=True):
                    rest += await talk.rest()
            for rest in rests:
                _check_whole(seen, rest)


# ---- one order -------------------------------------------------------------------------------------------


@only_servers
async def test_a_hundred_sends_at_once_are_answered_one_after_another(database_url: str, tmp_path: Path) -> None:
    """While one reply is written all others are told that the conversation is busy. What they say when they try again
    comes in one order: each reply was asked for with all of the conversation before it."""
    gate, numbers = Gate(), count()
    async with (
        ModelServer() as model,
        several_serving(
            2, tmp_path, DATABASE_URL=database_url, OPENAI_BASE_URL=model.url, PROMPT_MAX_MESSAGES="1000"
        ) as servers,
    ):
        model.script(stream(gate, chunk("Aye"), chunk(finish="stop")))
        model.always = stream(chunk("Aye"), chunk(finish="stop"))
        ada = await servers[0].api.user()
        conversation = await ada.conversation()
        clients = [servers[number % 2].api.with_token(ada.token) for number in range(_SENDS)]
        refused = asyncio.Semaphore(0)

        async def until_acknowledged(client: Api) -> Any:
            number = next(numbers)
            headers = {"Idempotency-Key": f"key {number}"}
            while True:
                answer = await client.post(f"/conversations/{conversation}/chat", {"content": f"{number}"}, headers)
                if answer.status == 200:
                    return answer.json
                answer.problem(409, "conversation_busy")
                refused.release()
                await gate.wait()
                await asyncio.sleep(0.05)

        sending = [asyncio.create_task(until_acknowledged(client)) for client in clients]
        for _ in range(_SENDS - 1):
            await refused.acquire()
        gate.open()
        sent = await asyncio.gather(*sending)
        history = (await ada.get(f"/conversations/{conversation}?limit=200")).ok()["messages"]

    sent.sort(key=lambda each: int(each["message"]["id"]))
    assert [message["id"] for message in history] == sorted(message["id"] for message in history)
    assert history == [message for each in sent for message in (each["message"], each["reply"])]
    assert sorted(int(each["message"]["content"]) for each in sent) == list(range(_SENDS))
    parents = [None, *(message["id"] for message in history)]
    assert [message["parent_id"] for message in history] == parents[:-1]
    assert {each["reply"]["status"] for each in sent} == {"complete"}
    said = [message["content"] for message in history]
    asked = [[message["content"] for message in request.body["messages"]][1:] for request in model.requests]
    assert asked == [said[: 2 * number + 1] for number in range(_SENDS)]
