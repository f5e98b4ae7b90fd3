"""What one attacker costs everybody else: how long GET /health and another user's GET /auth/me take meanwhile, beside
what they take while nothing goes on, and how much memory the server takes and gives back.

    python bench/hostile.py [--only A5] [--seconds 10] [--settle 30] [--database mysql://root@127.0.0.1]

Each attack of attacks.py meets a server of its own: `chatcore serve`, a process of one worker with the default
settings, but for the network that models may be in. It is to keep the p99 of both below 100 ms, to take at most 96 MiB,
and to have given that back when it has settled. A database is made on the server that is named; SQLite otherwise.
"""

import argparse
import asyncio
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import aiohttp
import uvloop
from attacks import ATTACKS, Attack, Target
from databases import new_database
from sign_ins import PASSWORD, memory_of, serving

P99_MS, MIB = 100.0, 96.0
_THEIRS = "127.0.0.2"
"""The others' address; the attacker has 127.0.0.1."""

_ROW = "{:50}{:>16}{:>16}{:>16}{:>16}{:>8}{:>8}  {}"
Took = dict[str, list[float]]
"""Seconds of each request, by its path."""


# ---- the others: a process of its own, which waits for nothing but the server ---------------------------------


async def sample(url: str, token: str, every: float) -> Took:
    """Until standard input is closed, each at a fixed pace, whether or not the request before has been answered."""
    took: Took = {"/health": [], "/auth/me": []}
    done = asyncio.create_task(asyncio.to_thread(sys.stdin.read))

    async def ask(session: aiohttp.ClientSession, path: str, due: float) -> None:
        with suppress(aiohttp.ClientError, TimeoutError):
            async with session.get(path) as answer:
                await answer.read()
        took[path].append(time.perf_counter() - due)

    headers, timeout = {"Authorization": f"Bearer {token}"}, aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=0, local_addr=(_THEIRS, 0))
    async with aiohttp.ClientSession(url, headers=headers, connector=connector, timeout=timeout) as session:
        for path in took:
            await ask(session, path, 0)
            took[path].clear()
        print("ready", flush=True)
        due = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            while not done.done():
                for path in took:
                    group.create_task(ask(session, path, due))
                due += every
                await asyncio.sleep(max(0, due - time.perf_counter()))
    return took


async def sampled_during(work: Awaitable[object], url: str, token: str, every: float) -> Took:
    asked = [sys.executable, __file__, "--sample", url, "--token", token, "--every", str(every)]
    sampling = await asyncio.create_subprocess_exec(*asked, stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=2**24)
    assert sampling.stdout
    await sampling.stdout.readline()
    try:
        await work
    finally:
        output, _ = await sampling.communicate(b"")
    took: Took = json.loads(output)
    return took


# ---- one attack ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    idle: Took
    busy: Took
    peak: float
    """MiB above what it had while nothing went on."""
    left: float
    """The same, when it has settled."""
    enough: int
    """So many requests of each kind, or the attack did not last."""

    def verdict(self) -> str:
        if min(map(len, self.busy.values())) < self.enough:
            return "TOO SHORT"
        p99s = [percentile(took, 0.99) for took in self.busy.values()]
        return "" if max(p99s) < P99_MS and max(self.peak, self.left) <= MIB else "FAILS"

    def row(self, name: str) -> str:
        figures = [told(took) for path in self.idle for took in (self.idle[path], self.busy[path])]
        memory = f"{self.peak:.0f}", f"{self.left:.0f}"
        return _ROW.format(name, *figures, *memory, self.verdict())


def percentile(took: list[float], share: float) -> float:
    """Milliseconds."""
    return sorted(took)[math.ceil(len(took) * share) - 1] * 1000


def told(took: list[float]) -> str:
    return f"{percentile(took, 0.5):.1f} / {percentile(took, 0.99):.1f}"


async def watched(process: int, most: list[float]) -> None:
    """The highest memory that was seen, in `most`. The kernel's own mark may be older than the attack."""
    while True:
        most.append(max(memory_of(process)[0], most.pop()))
        await asyncio.sleep(0.05)


async def account(url: str, name: str) -> str:
    """A new one's token."""
    body = {"username": name, "password": PASSWORD}
    async with aiohttp.ClientSession(url) as http, http.post("/auth/register", json=body) as answer:
        answer.raise_for_status()
        token: str = (await answer.json())["access_token"]
        return token


async def measured(attack: Attack, target: Target, process: int, other: str, options: argparse.Namespace) -> Seen:
    idle = await sampled_during(asyncio.sleep(min(3, options.seconds)), target.url, other, options.every)
    before = memory_of(process)[0]
    most = [before]
    watching = asyncio.create_task(watched(process, most))
    try:
        busy = await sampled_during(attack(target), target.url, other, options.every)
        await asyncio.sleep(options.settle)
    finally:
        watching.cancel()
    enough = int(options.seconds / options.every / 2)
    return Seen(idle, busy, most[0] - before, memory_of(process)[0] - before, enough)


@asynccontextmanager
async def database_of(options: argparse.Namespace) -> AsyncIterator[dict[str, str]]:
    """The settings that name it."""
    if options.database is None:
        yield {}
        return
    async with new_database(options.database) as url:
        yield {"DATABASE_URL": url}


async def against(name: str, options: argparse.Namespace) -> Seen:
    """What it prepares is done by a process that has ended when the one starts that is measured."""
    attack, prepare = ATTACKS[name]
    with tempfile.TemporaryDirectory() as folder:
        async with database_of(options) as settings:
            settings["MODEL_URL_ALLOW"] = "http://127.0.0.0/8:*"
            with serving(folder, **settings) as (url, _):
                mallory, ada = await account(url, "mallory"), await account(url, "ada")
                made = await Target(url, mallory, 0, options.seconds).made("/conversations/create")
                if prepare:
                    await prepare(Target(url, mallory, made["id"], options.seconds))
            with serving(folder, **settings) as (url, process):
                target = Target(url, mallory, made["id"], options.seconds)
                return await measured(attack, target, process, ada, options)


async def run(options: argparse.Namespace) -> bool:
    """Whether all of them are held."""
    heads = ("/health idle", "attacked", "/auth/me idle", "attacked")
    print("Milliseconds, p50 / p99; MiB above idle, at most and when it has settled:")
    print(_ROW.format("", *heads, "peak", "after", ""), flush=True)
    held = True
    for name in ATTACKS:
        if name.startswith(tuple(options.only or [""])):
            try:
                seen = await against(name, options)
            except Exception as error:  # the others are still worth a row
                print(f"{name:50}could not be tried: {error!r}", flush=True)
                held = False
                continue
            print(seen.row(name), flush=True)
            held &= not seen.verdict()
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--only", action="append", metavar="A5", help="attacks whose name begins so; several times")
    parser.add_argument("--seconds", type=float, default=10, help="that an attack goes on")
    parser.add_argument("--settle", type=float, default=30, help="seconds after which the memory has to be back")
    parser.add_argument("--database", metavar="URL", help="of a server; SQLite otherwise")
    parser.add_argument("--every", type=float, default=0.02, help="seconds between two requests of the others")
    parser.add_argument("--sample", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--token", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sample:
        print(json.dumps(uvloop.run(sample(options.sample, options.token, options.every))))
        return
    sys.exit(not uvloop.run(run(options)))


if __name__ == "__main__":
    main()
