"""What eight sign-ins at once cost everybody else: how long GET /health takes while they go on, and while nothing does,
and how much memory the server has taken. And whether a wrong password is told from an unknown name by the time.

    python bench/sign_ins.py [--at-once 8] [--rounds 10] [--every 0.02] [--samples 200]
    python bench/sign_ins.py --at-once 500 --rounds 3                      # a flood, most of which is refused

The server is `chatcore serve` on SQLite, a process of its own with one worker and the real Argon2id; no limit holds but
that of the passwords' queue. /health is asked by another process at a fixed pace, whether or not the request before has
been answered.
"""

import argparse
import asyncio
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import aiohttp
import uvloop

COMMAND = Path(sys.executable).with_name("chatcore")
PASSWORD = "correct horse battery"


@contextmanager
def serving(folder: str, **settings: str) -> Iterator[tuple[str, int]]:
    """Its URL, and its process."""
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "PORT": "0",
        **settings,
    }
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen([COMMAND, "serve"], cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            assert process.stdout
            while not (found := re.search(rb"http://[^/\s]+", line := process.stdout.readline())):
                if not line:
                    log.seek(0)
                    sys.exit(f"chatcore did not start:\n{log.read()}")
            yield found[0].decode(), process.pid
        finally:
            process.kill()


async def sign_in(session: aiohttp.ClientSession, name: str) -> float | None:
    """Seconds that it took; None if there was no room in the queue."""
    started = time.perf_counter()
    async with session.post("/auth/login", json={"username": name, "password": PASSWORD}) as answer:
        await answer.read()
        if answer.status == 503:
            return None
        answer.raise_for_status()
    return time.perf_counter() - started


async def sign_in_all(session: aiohttp.ClientSession, names: list[str], rounds: int) -> list[float]:
    """All of them at once, and again."""
    took = list[float | None]()
    for _ in range(rounds):
        took += await asyncio.gather(*(sign_in(session, name) for name in names))
    return [seconds for seconds in took if seconds is not None]


async def poll(url: str, every: float) -> list[float]:
    """Seconds from when each request was due to its answer, until standard input is closed. None waits for another."""
    took = list[float]()
    done = asyncio.create_task(asyncio.to_thread(sys.stdin.read))

    async def ask(session: aiohttp.ClientSession, due: float) -> None:
        async with session.get("/health") as answer:
            await answer.read()
        took.append(time.perf_counter() - due)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, raise_for_status=True, connector=connector) as session:
        due = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            while not done.done():
                group.create_task(ask(session, due))
                due += every
                await asyncio.sleep(max(0, due - time.perf_counter()))
    return took


async def polled_during(url: str, every: float, work: Awaitable[list[float] | None]) -> tuple[list[float], list[float]]:
    """The times of /health, and what the work itself gives. Who asks is a process of its own, which waits for nothing
    but the server."""
    asked = [sys.executable, __file__, "--poll", url, "--every", str(every)]
    polling = await asyncio.create_subprocess_exec(*asked, stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=2**24)
    await asyncio.sleep(1)
    result = await work
    output, _ = await polling.communicate(b"")
    return json.loads(output), result or []


async def failed_sign_ins(url: str, name: str, samples: int) -> tuple[list[float], list[float]]:
    """Seconds that a wrong password took and an unknown name, one after the other and by turns."""
    took: dict[str, list[float]] = {name: [], "nobody-of-that-name": []}
    bodies = set[bytes]()
    async with aiohttp.ClientSession(url) as session:
        for number in range(2 * samples):
            tried = list(took)[number % 2]
            started = time.perf_counter()
            async with session.post("/auth/login", json={"username": tried, "password": "a wrong one"}) as answer:
                bodies.add(await answer.read())
                assert answer.status == 401
            took[tried].append(time.perf_counter() - started)
    assert len(bodies) == 1, bodies
    wrong, unknown = took.values()
    return wrong, unknown


def memory_of(process: int) -> tuple[float, float]:
    """MiB that it has now, and the most that it ever had."""
    status = Path(f"/proc/{process}/status").read_text()
    now, most = (int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return now, most


def told(what: str, took: list[float]) -> str:
    ordered = sorted(took)
    p50, p99 = (ordered[math.ceil(len(ordered) * share) - 1] * 1000 for share in (0.5, 0.99))
    return f"{what:32}{len(took):6}   p50 {p50:8.2f}   p99 {p99:8.2f}   max {ordered[-1] * 1000:8.2f}"


async def measure(url: str, process: int, options: argparse.Namespace) -> None:
    names = [f"user{number}" for number in range(options.at_once)]
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session:
        for name in names:
            async with session.post("/auth/register", json={"username": name, "password": PASSWORD}) as answer:
                answer.raise_for_status()
        await sign_in_all(session, names[:8], 1)
        before, _ = memory_of(process)
        idle, _ = await polled_during(url, options.every, asyncio.sleep(3))
        busy, sign_ins = await polled_during(url, options.every, sign_in_all(session, names, options.rounds))
    print(f"Milliseconds; {options.at_once} sign-ins at once, {os.cpu_count()} cores:")
    print(told("/health, nothing else going on", idle))
    print(told("/health, during sign-ins", busy))
    print(told("sign-in", sign_ins))
    print(f"refused: {options.at_once * options.rounds - len(sign_ins)} of {options.at_once * options.rounds}")
    print("memory, MiB: {:.0f} before, {:.0f} after, {:.0f} at most".format(before, *memory_of(process)))
    wrong, unknown = await failed_sign_ins(url, names[0], options.samples)
    print(told("wrong password", wrong))
    print(told("unknown name", unknown))
    print(f"between the medians: {abs(median(wrong) - median(unknown)) * 1000:.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--at-once", type=int, default=8, help="sign-ins at the same time")
    parser.add_argument("--rounds", type=int, default=10, help="how often")
    parser.add_argument("--samples", type=int, default=200, help="sign-ins that fail, of each kind")
    parser.add_argument("--every", type=float, default=0.02, help="seconds between two requests for /health")
    parser.add_argument("--poll", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.poll:
        print(json.dumps(uvloop.run(poll(options.poll, options.every))))
        return
    with tempfile.TemporaryDirectory() as folder, serving(folder, RATE_LIMIT_SIGN_IN="off") as (url, process):
        uvloop.run(measure(url, process, options))


if __name__ == "__main__":
    main()
