"""Two servers on one database, when one of them is held for long, or both lose the database for a while.

PAUSE   seconds for which the first is held; `make chaos` makes it half a minute
"""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from integration.databases import execute, only_servers
from integration.http_app import EVENTS, Api, Event, EventStream, text_of
from integration.model_server import STALL, Gate, ModelServer, chunk, stream
from integration.processes import serving, several_serving
from integration.tcp_proxy import TcpProxy
from integration.ws_client import connected

PAUSE = float(os.environ.get("PAUSE", "8"))
OUTAGE = 10.0  # seconds
BURIED_WITHIN = 10.0

_PORTS = {"mysql": 3306, "postgresql": 5432}


# ---- one that is held ------------------------------------------------------------------------------------


@only_servers
async def test_a_server_that_was_held_writes_nothing_of_what_it_has_lost(database_url: str, tmp_path: Path) -> None:
    """Its model has gone on talking meanwhile, to the end even, and its conversations have gone on elsewhere."""
    gates = [Gate() for _ in range(3)]
    async with (
        ModelServer() as model,
        several_serving(2, tmp_path, DATABASE_URL=database_url, OPENAI_BASE_URL=model.url) as (held, other),
    ):
        ada = await held.api.user()
        ada_there = other.api.with_token(ada.token)
        half, whole, idle = [await ada.conversation() for _ in range(3)]
        model.script(
            stream(chunk(reasoning="Hm"), chunk("Hel"), gates[0], chunk("lo"), gates[1]),
            stream(chunk("Hel"), gates[0], chunk("lo"), chunk(finish="stop")),
        )
        async with (
            ada.events(f"/conversations/{half}/chat", {"content": "Hi"}, EVENTS) as of_half,
            connected(ada, whole) as of_whole,
        ):
            await of_half.until("HmHel")
            await of_whole.say("send", content="Hi")
            await of_whole.until("Hel")
            async with (
                ada_there.events(f"/conversations/{half}/reply") as half_there,
                ada_there.events(f"/conversations/{whole}/reply") as whole_there,
            ):
                await half_there.until("HmHel")
                await whole_there.until("Hel")
                held.send(signal.SIGSTOP)
                paused_at = time.monotonic()
                gates[0].open()
                async with asyncio.timeout(BURIED_WITHIN):
                    (end_of_half,) = await half_there.rest()
                    (end_of_whole,) = await whole_there.rest()
            for end, text in ((end_of_half, ("Hm", "Hel")), (end_of_whole, (None, "Hel"))):
                message = end.data["message"]
                assert (end.type, message["reasoning"], message["content"]) == ("reply.interrupted", *text)

            model.script(stream(chunk("Who"), gates[2], chunk("le"), chunk(finish="stop")))
            async with ada_there.events(f"/conversations/{whole}/chat", {"content": "Again"}, EVENTS) as again:
                await again.until("Who")
                await asyncio.sleep(max(0.0, paused_at + PAUSE - time.monotonic()))
                held.send(signal.SIGCONT)
                assert _ends(await of_half.rest()) == _ends([end_of_half])
                assert _ends(await of_whole.rest()) == _ends([end_of_whole])
                gates[1].open()
                await asyncio.sleep(1)  # some beats of its heart
                logged = await execute(database_url, "SELECT DISTINCT reply_id FROM reply_log")
                assert [row[0] for row in logged] == [again_id(await ada.messages(whole))]
                gates[2].open()
                assert text_of(await again.rest()) == "le"

        assert (await ada.messages(half))[-1] == end_of_half.data["message"]
        assert (await ada.messages(whole))[1] == end_of_whole.data["message"]
        for api, conversation in ((ada, half), (ada, idle), (ada_there, half), (ada, whole)):
            reply = (await api.post(f"/conversations/{conversation}/chat", {"content": "Hi"})).ok()["reply"]
            assert (reply["content"], reply["status"]) == ("Hello", "complete")
        assert await execute(database_url, "SELECT * FROM reply_log") == []
        for server in (held, other):
            ended = await server.stop()
            assert (ended.code, "Traceback" in ended.stderr) == (0, False), ended.stderr


def again_id(messages: list[dict[str, Any]]) -> int:
    assert messages[-1]["status"] == "writing"
    number: int = messages[-1]["id"]
    return number


def _ends(events: list[Event]) -> list[tuple[str, Any]]:
    """Without text: nobody is told what nobody keeps."""
    return [(event.type, event.data.get("text") or event.data["message"]) for event in events]


# ---- a database that goes and comes back -----------------------------------------------------------------


@only_servers
@pytest.mark.parametrize("silent", [False, True], ids=["it refuses", "it says nothing"])
async def test_replies_outlast_their_database(database_url: str, tmp_path: Path, silent: bool) -> None:
    """Requests are told to come again, replies in flight go on in memory, where what they say is held back, and
    afterwards nobody has been taken for dead."""
    words = [f"{number} 🦜\r\n" for number in range(60)]
    talk = [step for word in words for step in (0.25, chunk(word))]
    parsed = make_url(database_url)
    async with (
        TcpProxy(parsed.host or "", parsed.port or _PORTS[parsed.get_backend_name()]) as wire,
        ModelServer() as model,
    ):
        url = parsed.set(port=wire.port).render_as_string(hide_password=False)
        model.always = stream(*talk, chunk(finish="stop"))
        async with several_serving(2, tmp_path, DATABASE_URL=url, OPENAI_BASE_URL=model.url) as servers:
            ada = await servers[0].api.user()
            users = [server.api.with_token(ada.token) for server in servers]
            conversations = [await ada.conversation() for _ in users]
            await asyncio.sleep(6)  # both have lived for a whole lease, and could take each other for dead
            reading = [
                await _listening(user, f"/conversations/{conversation}/chat", {"content": "Hi"})
                for user, conversation in zip(users, conversations, strict=True)
            ]
            mirrored = await _listening(users[1], f"/conversations/{conversations[0]}/reply")
            gone_at = time.monotonic()
            if silent:
                wire.swallow()
                await asyncio.sleep(OUTAGE)
            else:
                await wire.refuse()
                until = time.monotonic() + OUTAGE
                while time.monotonic() < until:
                    await _refused(users)
                    await asyncio.sleep(0.5)
            heard_at = time.monotonic()
            await wire.heal()
            told = await asyncio.gather(*reading, mirrored)
            for user, conversation in zip(users, conversations, strict=True):
                (_, reply) = await user.messages(conversation)
                assert (reply["content"], reply["status"]) == ("".join(words), "complete")
                answer = await user.post(f"/conversations/{await user.conversation()}/stop")
                answer.problem(404, "not_found")
            for events in told:
                assert events[-1][1].type == "reply.completed"
                assert text_of([event for _, event in events]) == "".join(words)
            for events in told[:2]:
                during = [at for at, event in events if event.type == "reply.delta" and gone_at + 2 < at < heard_at]
                assert during == [], "nothing is shown that others could withdraw"
            for server in servers:
                ended = await server.stop()
                assert (ended.code, "taken for dead" in ended.stderr) == (0, False), ended.stderr


@only_servers
@pytest.mark.parametrize("silent", [False, True], ids=["it refuses", "it says nothing"])
async def test_what_a_server_showed_is_kept_when_it_alone_loses_the_database(
    database_url: str, tmp_path: Path, silent: bool
) -> None:
    """Of a reply that goes on talking, what was on its way to the log in that moment may be lost, and no more."""
    parsed = make_url(database_url)
    gate, words = Gate(), [f"{number} 🦜\r\n" for number in range(200)]
    async with (
        TcpProxy(parsed.host or "", parsed.port or _PORTS[parsed.get_backend_name()]) as wire,
        ModelServer() as model,
        serving(tmp_path, DATABASE_URL=database_url, OPENAI_BASE_URL=model.url) as other,
        serving(
            tmp_path,
            DATABASE_URL=parsed.set(port=wire.port).render_as_string(hide_password=False),
            OPENAI_BASE_URL=model.url,
        ) as cut_off,
    ):
        ada_there = await other.api.user()
        ada = cut_off.api.with_token(ada_there.token)
        quiet, talkative = await ada.conversation(), await ada.conversation()
        await asyncio.sleep(6)  # the other one has lived for a whole lease, and may take this one for dead
        model.script(
            stream(chunk(reasoning="Hm"), chunk("Hel"), gate, *[chunk(word) for word in words], STALL),
            stream(*[step for word in words for step in (chunk(word), 0.1)]),
        )
        async with (
            ada.events(f"/conversations/{quiet}/chat", {"content": "Hi"}, EVENTS) as of_quiet,
            ada_there.events(f"/conversations/{quiet}/reply") as quiet_there,
        ):
            await of_quiet.until("HmHel")
            await quiet_there.until("HmHel")
            talking = asyncio.create_task(_told(ada, f"/conversations/{talkative}/chat", {"content": "Hi"}))
            await asyncio.sleep(2)
            if silent:
                wire.swallow()
            else:
                await wire.refuse()
            await asyncio.sleep(1)
            gate.open()
            async with asyncio.timeout(BURIED_WITHIN):
                (end,) = await quiet_there.rest()
            await wire.heal()
            (shown,) = await of_quiet.rest()
            assert (shown.type, shown.data) == ("reply.interrupted", end.data)
            told = [event for _, event in await talking]
        for conversation, said in ((quiet, "HmHel"), (talkative, text_of(told))):
            reply = (await ada_there.messages(conversation))[-1]
            stored = (reply["reasoning"] or "") + reply["content"]
            assert reply["status"] == "interrupted"
            assert "".join(words).startswith(said) or conversation == quiet
            lost = said.removeprefix(stored)
            assert len(lost) <= (0 if conversation == quiet else 10 * len(words[-1])), (said, stored)


async def _told(
    api: Api, path: str, json: object = None, begun: asyncio.Event | None = None
) -> list[tuple[float, Event]]:
    """All events, and when they came. `begun`: set by the first text."""
    stream: EventStream
    told = list[tuple[float, Event]]()
    async with api.events(path, json, EVENTS) as stream:
        async for event in stream:
            told.append((time.monotonic(), event))
            if begun is not None and event.type == "reply.delta":
                begun.set()
    return told


async def _listening(api: Api, path: str, json: object = None) -> asyncio.Task[list[tuple[float, Event]]]:
    """As `_told`, in a task that has heard the first text."""
    begun = asyncio.Event()
    task = asyncio.create_task(_told(api, path, json, begun))
    first = asyncio.create_task(begun.wait())
    await asyncio.wait((task, first), return_when=asyncio.FIRST_COMPLETED)
    first.cancel()
    assert begun.is_set(), await task
    return task


async def _refused(users: list[Api]) -> None:
    for user in users:
        for answer in (
            await user.get("/auth/me"),
            await user.get("/ready"),
            await user.post("/conversations/create", {}),
        ):
            answer.problem(503, "unavailable")
            assert int(answer.headers["Retry-After"]) >= 1
        assert (await user.get("/health")).status == 200
