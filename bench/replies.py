"""What live replies and idle connections cost: transactions, database connections, memory, CPU.

    python bench/replies.py [--live 10 100 500 1000] [--more 500] [--streams 500] [--seconds 15] [--talk 30]
                            [--databases mysql://root@127.0.0.1:3306 postgresql://postgres@127.0.0.1:5432/postgres]

- Step by step there are more live replies, each with a reader, and at each step the database is looked at: the
  transactions and statements that it has counted itself, and the worker's connections that are in use. Neither may
  grow with the replies.
- Memory, as what the worker's process has more after so many more: live replies whose clients have gone, clients that
  come back to read them, WebSockets that say nothing.
- CPU per 1,000 deltas of streams at a model's pace, beside the bare relay of `bench/relay.py`.

It exits with 1 if an aim is missed. The databases are made on these servers, and dropped; memory and CPU are measured
on the first of them. Memory is told on Linux. Needs chatcore's development packages.
"""

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from math import nan
from typing import Any

import aiohttp
import uvicorn
import uvloop
from databases import new_database
from processes import Child, Figures, child, tell
from relay import NO_TIMEOUT, RATE, Call, chatcore_calls, cost, plain_calls, serve_bare, serve_model
from sqlalchemy import Connection, make_url
from sqlalchemy.util import greenlet_spawn

from chatcore import SendMessage
from chatcore_app import Settings
from chatcore_app.logs import configure_logging
from chatcore_cli.server import _Server, uvicorn_options
from chatcore_http import create_app
from chatcore_sql import Database
from chatcore_sql.database import URGENT
from chatcore_sql.pool import Pool

POOL = 10
PACE = 2  # deltas a second of the replies that are counted
ENDLESS = 100_000  # deltas
AT_ONCE = 20  # requests, while more and more are made
FIRST = 100  # replies, readers or sockets, with which comes what all of them share
SETTLED = 3  # seconds

# At most:
TRANSACTIONS = 15  # a second: five of the log, five of the lease, and on PostgreSQL every statement outside of them
GROWTH = 1.25  # times those of the first step, at the last one
IN_USE = 1.0  # connections on average
MEMORY = 40  # KiB
BESIDE_BARE = 2.0  # times its CPU


# ---- the process that is measured --------------------------------------------------------------------------


def serve(model_url: str, database_url: str, data_dir: str) -> None:
    environ = {
        "DATABASE_URL": database_url,
        "DATABASE_POOL_SIZE": str(POOL),
        "OPENAI_BASE_URL": model_url,
        "AUTO_TITLE": "first-message",
        "PORT": "0",
        "DATA_DIR": data_dir,
        "MAX_REPLIES_PER_USER": "100000",
    }
    settings = Settings.load(environ, env_file="/dev/null")
    configure_logging(settings)
    uvloop.run(serve_and_tell(settings))


async def serve_and_tell(settings: Settings) -> None:
    """As `chatcore serve`, but that it tells what its database has to do."""
    app = create_app(settings)
    container = app.state.dishka_container
    await container.get(SendMessage)
    database = await container.get(Database)
    loop, uses = asyncio.get_running_loop(), list[int]()

    def figures() -> Figures:
        used = [*uses]
        counted = asyncio.run_coroutine_threadsafe(count(database), loop).result()
        uses.clear()
        return counted | {"in use": sum(used) / max(len(used), 1), "most in use": max(used, default=0)}

    async def look_at_the_pool() -> None:
        while True:
            uses.append(database.connections_in_use)
            await asyncio.sleep(0.02)

    looking = asyncio.create_task(look_at_the_pool())
    tell(figures)
    config = uvicorn.Config(app, **uvicorn_options(settings))
    await _Server(config, settings, container, lambda port: print(f"http://127.0.0.1:{port}/", flush=True)).serve()
    looking.cancel()


_COUNT_OF_POSTGRESQL = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
_COUNTS_OF_MYSQL = "SHOW SESSION STATUS WHERE Variable_name IN ('Com_commit', 'Questions')"


async def count(database: Database) -> Figures:
    """As the server has counted: MySQL in each of this process's sessions, PostgreSQL in the database, once each
    session has handed in what it has counted itself. The asking is counted, too."""
    if database._writing.engine.dialect.name == "postgresql":
        await told_by_all(database, "SELECT pg_stat_force_next_flush()")
        ((transactions,),) = await told(database._writing, 1, _COUNT_OF_POSTGRESQL)
        return {"transactions": transactions}
    rows = await told_by_all(database, _COUNTS_OF_MYSQL)
    sums = {name: sum(int(value) for each, value in rows if each == name) for name in ("Com_commit", "Questions")}
    return {"transactions": sums["Com_commit"], "statements": sums["Questions"]}


async def told_by_all(database: Database, statement: str) -> list[Any]:
    """The reply log and the lease have connections of their own."""
    return [*await told(database._writing, POOL, statement), *await told(database._urgent, URGENT, statement)]


async def told(pool: Pool, number: int, statement: str) -> list[Any]:
    """What so many connections answer, which are all taken for a moment."""
    connections = [await pool.take() for _ in range(number)]
    try:
        return [row for each in connections for row in await greenlet_spawn(answer, each, statement)]
    finally:
        for connection in connections:
            pool.give(connection)


def answer(connection: Connection, statement: str) -> Any:
    return connection.exec_driver_sql(statement).all()


@contextmanager
def worker_on(url: str) -> Iterator[Child]:
    with (
        tempfile.TemporaryDirectory() as folder,
        child("model") as model,
        child("chatcore", f"{model.url}/v1", url, folder) as worker,
    ):
        yield worker


@contextmanager
def bare() -> Iterator[Child]:
    with child("model") as model, child("bare", f"{model.url}/v1") as relay:
        yield relay


@asynccontextmanager
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2)  # the servers close idle ones after five seconds
    async with aiohttp.ClientSession(connector=connector, timeout=NO_TIMEOUT) as session:
        yield session


def held(what: str, found: float, most: float) -> bool:
    good = found <= most
    print(f"  {found:8.2f} {what}; at most {most:g} {'is' if good else 'was'} asked for{'' if good else ': MISSED'}")
    return good


# ---- live replies ------------------------------------------------------------------------------------------


class Readers:
    """Clients of replies that do not end."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._reading = list[asyncio.Task[None]]()

    async def send(self, calls: Sequence[Call]) -> None:
        """Begins these replies and reads them; returns when each has said something."""
        for some in batched(calls):
            await self._begun(
                [self._session.post(it.url, json=it.body(f"{ENDLESS} {PACE}"), headers=it.headers) for it in some]
            )

    async def attach(self, calls: Sequence[Call]) -> None:
        """The same with replies that are being written."""
        for some in batched(calls):
            urls = [(it.url.replace("/chat", "/reply"), it.headers) for it in some]
            await self._begun([self._session.get(url, headers=headers) for url, headers in urls])

    def check(self) -> None:
        """All of them are still reading."""
        assert not any(task.done() for task in self._reading)

    async def leave(self) -> None:
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        self._reading.clear()

    async def _begun(self, requests: Sequence[Any]) -> None:
        began = [asyncio.Event() for _ in requests]
        for request, event in zip(requests, began, strict=True):
            self._reading.append(asyncio.create_task(self._read(request, event)))
        await asyncio.gather(*(event.wait() for event in began))

    async def _read(self, request: Any, began: asyncio.Event) -> None:
        try:
            async with request as answer:
                async for line in answer.content:
                    if line.startswith(b"event: reply.delta"):
                        began.set()
        finally:
            began.set()


def batched(calls: Sequence[Call]) -> Iterator[Sequence[Call]]:
    return (calls[first : first + AT_ONCE] for first in range(0, len(calls), AT_ONCE))


@dataclass(frozen=True)
class Step:
    """What there is to do with so many live replies. Times are in seconds per second."""

    live: int
    transactions: float
    statements: float
    in_use: float
    most_in_use: float
    cpu: float


async def steps_of(worker: Child, live: Sequence[int], seconds: int) -> AsyncIterator[Step]:
    async with client() as session:
        calls = await chatcore_calls(session, worker.url, live[-1])
        readers, begun = Readers(session), 0
        for number in live:
            await readers.send(calls[begun:number])
            begun = number
            await asyncio.sleep(SETTLED)
            before, began = worker.figures(), time.monotonic()
            await asyncio.sleep(seconds)
            readers.check()
            after, took = worker.figures(), time.monotonic() - began
            rates = {name: (after[name] - before[name]) / took for name in before}
            yield Step(
                live=number,
                transactions=rates["transactions"],
                statements=rates.get("statements", nan),
                in_use=after["in use"],
                most_in_use=after["most in use"],
                cpu=rates["cpu"],
            )
        await readers.leave()


async def flat(url: str, options: argparse.Namespace) -> bool:
    """Whether the database has no more to do for many replies than for few."""
    kind, steps = make_url(url).get_backend_name(), list[Step]()
    print(f"\nLive replies on {kind}, {PACE} deltas a second of each, each with a reader")
    print("      live   transactions/s   statements/s   connections in use   at most   CPU")
    with worker_on(url) as worker:
        async for step in steps_of(worker, options.live, options.seconds):
            steps.append(step)
            print(
                f"  {step.live:8} {step.transactions:16.1f} {step.statements:14.1f} {step.in_use:20.2f} "
                f"{step.most_in_use:9.0f} {step.cpu:5.2f}",
                flush=True,
            )
    first, last = steps[0], steps[-1]
    aims = [
        held("transactions a second", last.transactions, TRANSACTIONS),
        held(f"times those of {first.live} live replies", last.transactions / first.transactions, GROWTH),
        held("connections in use on average", last.in_use, IN_USE),
    ]
    return all(aims)


# ---- memory ------------------------------------------------------------------------------------------------


async def small(url: str, options: argparse.Namespace) -> bool:
    number: int = options.more
    print(f"\nMemory, after {number} more of each")
    with worker_on(url) as worker:
        async with client() as session:
            calls = await chatcore_calls(session, worker.url, FIRST + number)
            readers, sockets = Readers(session), Sockets(session, calls[0])

            async def write(some: Sequence[Call]) -> None:
                await readers.send(some)
                await readers.leave()

            kinds = {
                "live reply": (write, MEMORY),
                "reader of one": (readers.attach, MEMORY),
                "idle WebSocket": (sockets.open, MEMORY),
            }
            aims = list[bool]()
            for kind, (begin, most) in kinds.items():
                for some in batched(calls[:FIRST]):
                    await begin(some)
                before = await memory_of(worker)
                for some in batched(calls[FIRST:]):
                    await begin(some)
                took = (await memory_of(worker) - before) / number / 1024
                aims.append(held(f"KiB for each {kind}", took, most))
            await readers.leave()
            await sockets.leave()
    return all(aims)


async def memory_of(worker: Child) -> float:
    await asyncio.sleep(SETTLED)
    return worker.figures()["memory"]


class Sockets:
    """WebSockets that are signed in and say nothing."""

    def __init__(self, session: aiohttp.ClientSession, call: Call) -> None:
        self._session = session
        self._token = call.headers["Authorization"].removeprefix("Bearer ")
        self._open = list[aiohttp.ClientWebSocketResponse]()

    async def open(self, calls: Sequence[Call]) -> None:
        for call in calls:
            url = call.url.replace("/conversations/", "/conversations/ws/").removesuffix("/chat")
            socket = await self._session.ws_connect(url)
            await socket.send_json({"type": "auth", "token": self._token})
            assert await socket.receive_json() == {"type": "ready"}
            self._open.append(socket)

    async def leave(self) -> None:
        await asyncio.gather(*(socket.close() for socket in self._open))


# ---- CPU ---------------------------------------------------------------------------------------------------


async def relayed(url: str, options: argparse.Namespace) -> bool:
    print(f"\n{options.streams} streams of {RATE} deltas a second, {options.talk} s each: CPU per 1,000 deltas")
    before = await least_cost(options)
    with worker_on(url) as worker:
        ours = await cost_of(worker, chatcore_calls, options)
    after = await least_cost(options)
    least = (before + after) / 2  # of a machine that may become slower or faster meanwhile
    print(f"  {before * 1000:8.1f} ms of the bare relay before, {after * 1000:.1f} ms after")
    print(f"  {ours * 1000:8.1f} ms of chatcore")
    return held("times the bare relay's CPU", ours / least, BESIDE_BARE)


async def least_cost(options: argparse.Namespace) -> float:
    with bare() as relay:
        return await cost_of(relay, plain_calls, options)


async def cost_of(relay: Child, make_calls: Any, options: argparse.Namespace) -> float:
    async with client() as session:
        calls = await make_calls(session, relay.url, options.streams)
        await cost(relay, calls[:1], session, 100, 0)  # imports and caches
        return await cost(relay, calls, session, options.talk * RATE, RATE)


# ------------------------------------------------------------------------------------------------------------


async def measure(options: argparse.Namespace) -> bool:
    first = options.databases[0]
    aims = list[bool]()
    for part, server in (*((flat, each) for each in options.databases), (small, first), (relayed, first)):
        async with new_database(server) as url:
            aims.append(await part(url, options))
    return all(aims)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    servers = ["mysql://root@127.0.0.1:3306", "postgresql://postgres@127.0.0.1:5432/postgres"]
    parser.add_argument("--databases", nargs="+", default=servers, help="servers")
    parser.add_argument("--live", type=int, nargs="+", default=[10, 100, 500, 1000], help="replies, step by step")
    parser.add_argument(
        "--more", type=int, default=500, help="replies, readers and WebSockets whose memory is measured"
    )
    parser.add_argument("--streams", type=int, default=500, help="whose CPU is measured")
    parser.add_argument("--talk", type=int, default=30, help="seconds of each of them, beginning and end included")
    parser.add_argument("--seconds", type=int, default=15, help="of each measurement of the database")
    options = parser.parse_args()
    sys.exit(0 if uvloop.run(measure(options)) else 1)


def allow_many_files() -> None:
    """A live reply has two: the model's connection and the reader's."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    allow_many_files()
    match sys.argv[1:]:
        case ["model"]:
            tell()
            uvloop.run(serve_model())
        case ["bare", model_url]:
            tell()
            serve_bare(model_url)
        case ["chatcore", model_url, database_url, data_dir]:
            serve(model_url, database_url, data_dir)
        case _:
            main()
