"""WORKERS: several processes on one port and one database, without Redis and without sticky sessions."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientConnectorError

from chatcore_sql import Database
from integration.databases import KINDS, execute, new_database, on_one_server, only_servers
from integration.http_app import EVENTS, Api, EventStream, client_of, text_of
from integration.model_server import STALL, Gate, ModelServer, chunk, stream
from integration.processes import Server, children_of, run, serving, start
from integration.test_http_command import check_sentence
from integration.ws_client import connected

pytestmark = pytest.mark.once

WORKERS = 4
STOPPED_WITHIN = 1.0  # seconds
BURIED_WITHIN = 10.0


class Workers:
    """A server of several processes, a user, and what she says to each of them."""

    def __init__(self, server: Server, ada: Api, stack: AsyncExitStack) -> None:
        self.server = server
        self.ada = ada
        self.all = self.server.workers
        self._stack = stack

    async def at(self, worker: int) -> Api:
        """Her client, the first connection of which is to this worker."""
        with self.server.only(worker):
            api = await self._stack.enter_async_context(client_of(self.server.url))
            assert (await api.get("/health")).status == 200
        return api.with_token(self.ada.token)

    async def follow(self, worker: int, conversation: int, after: int = 0) -> EventStream:
        api = await self.at(worker)
        return await self._stack.enter_async_context(api.events(f"/conversations/{conversation}/reply?after={after}"))

    async def send(self, worker: int, conversation: int) -> EventStream:
        api = await self.at(worker)
        sent = api.events(f"/conversations/{conversation}/chat", {"content": "Hi"}, EVENTS)
        return await self._stack.enter_async_context(sent)

    async def stop(self, worker: int, conversation: int) -> Any:
        api = await self.at(worker)
        async with asyncio.timeout(STOPPED_WITHIN):
            return (await api.post(f"/conversations/{conversation}/stop")).ok()


@asynccontextmanager
async def working(folder: Path, url: str, model: ModelServer, **environ: str) -> AsyncIterator[Workers]:
    given = {"DATABASE_URL": url, "OPENAI_BASE_URL": model.url, "WORKERS": str(WORKERS), **environ}
    async with serving(folder, **given) as server, AsyncExitStack() as stack:
        yield Workers(server, await server.api.user(), stack)


async def gone(pids: Sequence[int]) -> None:
    """Returns when none of these processes runs any more."""
    async with asyncio.timeout(30):
        while any(_runs(pid) for pid in pids):
            await asyncio.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in ("Z", "X")  # dead, though its new parent has not asked yet


# ---- as one ----------------------------------------------------------------------------------------------


@only_servers
async def test_a_reply_of_one_worker_is_followed_resumed_and_stopped_at_all(database_url: str, tmp_path: Path) -> None:
    gate = Gate()
    async with ModelServer() as model, working(tmp_path, database_url, model) as workers:
        assert len(workers.all) == WORKERS
        assert (await execute(database_url, "SELECT COUNT(*) FROM workers"))[0][0] == WORKERS
        conversation = await workers.ada.conversation()
        model.script(stream(chunk(reasoning="Hm"), chunk("Hel"), gate, chunk("lo"), chunk(finish="stop")))
        streams = [await workers.send(workers.all[0], conversation)]
        await streams[0].until("HmHel")
        for worker in workers.all:
            streams += [await workers.follow(worker, conversation), await workers.follow(worker, conversation, 3)]
        for number, events in enumerate(streams[1:]):
            await events.until("el" if number % 2 else "HmHel")
        async with connected(await workers.at(workers.all[1]), conversation) as talk:
            await talk.say("attach", after=2)
            await talk.until("Hel")
            gate.open()
            rests = [*[await events.rest() for events in streams], await talk.rest()]
        assert {text_of(rest) for rest in rests} == {"lo"}
        (message,) = [each for each in await workers.ada.messages(conversation) if each["role"] == "assistant"]
        for rest in rests:
            assert (rest[-1].type, rest[-1].data["message"]) == ("reply.completed", message)
        assert await workers.stop(workers.all[3], conversation) == message, "a late stop changes nothing"

        for writer in workers.all[:2]:
            model.script(stream(chunk("Hel"), STALL))
            reading = await workers.send(writer, conversation)
            await reading.until("Hel")
            stops = [await workers.stop(worker, conversation) for worker in reversed(workers.all)]
            assert [(stop["content"], stop["status"]) for stop in stops] == [("Hel", "stopped")] * WORKERS
            (ended,) = await reading.rest()
            assert (ended.type, ended.data["message"]) == ("reply.stopped", stops[0])
            async with asyncio.timeout(5):
                await model.requests[-1].ended()
            assert model.requests[-1].ending == "left"
        assert (await workers.server.stop()).code == 0


# ---- one dies --------------------------------------------------------------------------------------------


@only_servers
async def test_when_a_worker_dies_its_replies_end_and_another_one_comes(database_url: str, tmp_path: Path) -> None:
    async with ModelServer() as model, working(tmp_path, database_url, model) as workers:
        first, second, *_ = workers.all
        conversation, other = await workers.ada.conversation(), await workers.ada.conversation()
        gate = Gate()
        model.script(
            stream(chunk(reasoning="Hm"), chunk("Hel"), STALL),
            stream(chunk("Hel"), gate, chunk("lo"), chunk(finish="stop")),
        )
        await (await workers.send(first, conversation)).until("HmHel")
        reading_other = await workers.send(second, other)
        reading = await workers.follow(second, conversation)
        await reading.until("HmHel")
        await asyncio.sleep(1)
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(BURIED_WITHIN):
            (ended,) = await reading.rest()
        message = ended.data["message"]
        assert (ended.type, message["reasoning"], message["content"]) == ("reply.interrupted", "Hm", "Hel")
        assert (await workers.ada.messages(conversation))[-1] == message
        gate.open()
        assert (await reading_other.rest())[-1].type == "reply.completed", "the living are left alone"

        await gone([first])
        async with asyncio.timeout(BURIED_WITHIN):
            while len(workers.server.workers) < WORKERS:
                await asyncio.sleep(0.05)
        (new,) = set(workers.server.workers) - set(workers.all)
        events = await (await workers.send(new, conversation)).rest()
        assert (events[-1].type, text_of(events)) == ("reply.completed", "Hello")
        ended_all = await workers.server.stop()
        assert ended_all.code == 0
        assert f"worker {first} has died" in ended_all.stderr


@on_one_server
async def test_without_their_supervisor_workers_finish_what_they_write_and_leave(
    database_url: str, tmp_path: Path
) -> None:
    gate = Gate()
    async with ModelServer() as model, working(tmp_path, database_url, model) as workers:
        model.script(stream(chunk("Hel"), gate, chunk("lo"), chunk(finish="stop")))
        conversation = await workers.ada.conversation()
        reading = await workers.send(workers.all[0], conversation)
        await reading.until("Hel")
        workers.server.send(signal.SIGKILL)
        await gone(workers.all[1:])
        gate.open()
        assert (await reading.rest())[-1].type == "reply.completed"
        await gone(workers.all)
        with pytest.raises(ClientConnectorError):
            await workers.server.api.get("/health")
        assert (await workers.server.ended()).code == -signal.SIGKILL
    assert (await execute(database_url, "SELECT COUNT(*) FROM workers"))[0][0] == 0


# ---- all leave -------------------------------------------------------------------------------------------


@on_one_server
@pytest.mark.parametrize("to_all", [False, True], ids=["SIGTERM", "SIGINT to each, as a terminal sends it"])
async def test_all_workers_drain(database_url: str, tmp_path: Path, to_all: bool) -> None:
    gate = Gate()
    async with ModelServer() as model, working(tmp_path, database_url, model, SHUTDOWN_GRACE="2") as workers:
        finishing = stream(chunk("Hel"), gate, chunk("lo"), chunk(finish="stop"))
        model.script(finishing, finishing, stream(chunk("Hel"), STALL))
        streams = list[EventStream]()
        for worker in workers.all[:3]:
            streams.append(await workers.send(worker, await workers.ada.conversation()))
            await streams[-1].until("Hel")
        if to_all:
            for worker in workers.all:
                os.kill(worker, signal.SIGINT)
        workers.server.send(signal.SIGINT if to_all else signal.SIGTERM)
        gate.open()
        rests = [await events.rest() for events in streams]
        ended = await workers.server.ended()
    assert [rest[-1].type for rest in rests] == ["reply.completed", "reply.completed", "reply.interrupted"]
    assert (ended.code, "Traceback" in ended.stderr) == (0, False), ended.stderr
    assert (await execute(database_url, "SELECT COUNT(*) FROM workers"))[0][0] == 0


# ---- a start that cannot succeed -------------------------------------------------------------------------


async def test_a_sqlite_file_is_served_by_one_process(tmp_path: Path) -> None:
    check_sentence(await run(tmp_path, "serve", WORKERS="2"), "WORKERS must be 1 with SQLite")


@pytest.mark.parametrize("kind", KINDS[1:2])
def test_what_prevents_a_start_is_said_once(kind: str, tmp_path: Path) -> None:
    async def refused() -> None:
        given = {"DATABASE_URL": url, "WORKERS": str(WORKERS), "PORT": "0"}
        check_sentence(await run(tmp_path, "serve", **given), "Run: chatcore migrate")
        missing = {**given, "DATABASE_URL": f"{url}x"}
        check_sentence(await run(tmp_path, "serve", **missing), "DATABASE_URL", f"{url}x"[-9:])
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            check_sentence(await run(tmp_path, "serve", **{**given, "PORT": port}), port, "is taken")

    with new_database(kind, tmp_path) as url:
        asyncio.run(refused())


@on_one_server
async def test_who_interrupts_a_start_is_told_nothing(database_url: str, tmp_path: Path) -> None:
    for pause in (0.0, 0.2, 0.5, 1.0):
        process = await start(tmp_path, "serve", DATABASE_URL=database_url, WORKERS="2", PORT="0")
        while len(children := children_of(process.pid)) < 2 and process.returncode is None:
            await asyncio.sleep(0.01)
        await asyncio.sleep(pause)
        for pid in (process.pid, *children):
            os.kill(pid, signal.SIGINT)
        _, stderr = await process.communicate()
        assert (process.returncode, stderr.decode()) == (0, ""), pause


@on_one_server
async def test_a_worker_that_cannot_be_started_again_is_tried_until_it_can(database_url: str, tmp_path: Path) -> None:
    """An operator's mistake while the others serve: it is said in the log, and nothing else ends."""
    async with ModelServer() as model, working(tmp_path, database_url, model, WORKERS="2") as workers:
        async with Database(database_url) as database:
            await database.downgrade("0002")
            os.kill(workers.all[0], signal.SIGKILL)
            await asyncio.sleep(4)
            assert (await workers.server.api.get("/health")).status == 200
            await database.migrate()
        async with asyncio.timeout(20):
            while (await execute(database_url, "SELECT COUNT(*) FROM workers"))[0][0] < 2:
                await asyncio.sleep(0.1)
        assert (await workers.server.stop()).code == 0
