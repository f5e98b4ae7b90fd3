"""A history of any length in bounded memory. In a process of its own, of which the system tells how large it became."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

TESTS = Path(__file__).parents[1]

_READ = """
import asyncio, json, resource, sys
from datetime import UTC, datetime
sys.path.insert(0, {tests!r})
from chatcore.histories import Histories
from histories import chatgpt, joint, node, raw

def largest():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # MiB, on Linux

noise = {{"search_result_groups": [{{"entries": [{{"title": "x" * 90, "url": "y" * 90, "ref": [1, 2]}}] * 20}}] * 10}}
talk = chatgpt(
    joint("n-1", None),
    *(node(f"n{{n}}", f"n{{n - 1}}", "user", "word\\n" * 4000, metadata=noise) for n in range(40)),
)
talk = raw(talk, escaped=True)
sent = 0

async def body():
    global sent
    yield b"["
    while sent < {length}:
        for at in range(0, len(talk), 2**16):
            yield talk[at : at + 2**16]
        sent += len(talk) + 1
        yield b","
    yield talk + b"]"

async def main():
    await asyncio.sleep(0)
    before, lines = largest(), 0
    histories = Histories(now=lambda: datetime.now(UTC))
    async for line in histories.lines(body()):
        lines += 1
    print(json.dumps({{"lines": lines, "bytes": sent, "grown": largest() - before}}))

asyncio.run(main())
"""


def test_200_mb_of_chatgpt_take_no_more_memory_than_a_conversation() -> None:
    program = _READ.format(tests=str(TESTS), length=200_000_000)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    told: dict[str, int] = json.loads(ended.stdout)
    assert told["bytes"] >= 200_000_000
    assert told["lines"] > 1000
    assert told["grown"] < 64, told
