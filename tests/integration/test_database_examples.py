"""The examples of a program with a database of its own; and a billing outbox whose processes are killed."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sqlalchemy import inspect

from billing import TABLE  # examples/billing.py
from chatcore_sql.tables import metadata
from chatcore_sql.url import engine_url
from integration.billing_process import AT_ONCE
from integration.databases import KINDS, execute, new_database, only_servers
from integration.test_examples import blocks
from integration.test_sql_migrations import looked_at

pytestmark = pytest.mark.once

EXAMPLES = Path(__file__).parents[2] / "examples"
KILLED, REPLIES = 60, 200


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with new_database(request.param, tmp_path) as url:
        yield url


def run(url: str, *command: str | Path, folder: Path = EXAMPLES, fails: bool = False) -> str:
    environ = {**os.environ, "DATABASE_URL": engine_url(url).render_as_string(hide_password=False)}
    done = subprocess.run(
        [sys.executable, *command], env=environ, cwd=folder, capture_output=True, text=True, timeout=100
    )
    assert bool(done.returncode) is fails, done.stderr
    return done.stdout + done.stderr


def alembic(url: str, *command: str, fails: bool = False) -> str:
    return run(url, "-m", "alembic", *command, folder=EXAMPLES / "own_alembic", fails=fails)


def lines_of(*files: Path) -> int:
    return sum(len(file.read_text().splitlines()) for file in files)


def test_the_examples_are_short() -> None:
    assert lines_of(EXAMPLES / "one_transaction.py") <= 45
    assert lines_of(EXAMPLES / "billing.py") <= 40
    own = EXAMPLES / "own_alembic"
    assert lines_of(own / "chat.py", own / "migrations/env.py", own / "migrations/versions/0003_chat.py") <= 80


@pytest.mark.parametrize(
    ("part", "said"), [("<!-- one transaction -->", "complete\n"), ("<!-- hooks -->", "bills: {run}\n")]
)
def test_what_the_documentation_shows(part: str, said: str, tmp_path: Path) -> None:
    example = blocks(EXAMPLES.parent / "docs/embedding.md", "python", part)[0]
    for number in (1, 2):
        done = subprocess.run(
            [sys.executable, "-"], input=example, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert (done.stdout, done.stderr) == (said.format(run=number), "")


def test_one_transaction(url: str) -> None:
    said = run(url, "one_transaction.py")
    assert "You asked: “My printer is on fire.”" in said
    assert "\n1 conversation\n" in said


def test_billing(url: str) -> None:
    assert "[('alice', " in run(url, "billing.py")


async def tables(url: str) -> set[str]:
    found: set[str] = await looked_at(url, lambda connection: set(inspect(connection).get_table_names()))
    return found


async def test_an_alembic_of_ones_own(url: str) -> None:
    alembic(url, "upgrade", "0002")
    alembic(url, "upgrade", "head")
    ours = {f"chat_{name}" for name in (*metadata.tables, "chatcore_version")}
    assert await tables(url) == {"alembic_version", "users", "sessions"} | ours
    assert [tuple(row) for row in await execute(url, "SELECT version_num FROM alembic_version")] == [("0003",)]
    assert [tuple(row) for row in await execute(url, "SELECT name FROM users")] == [("alice",)]
    assert "No new upgrade operations detected." in alembic(url, "check")
    alembic(url, "downgrade", "base")
    assert await tables(url) == {"alembic_version", "chat_chatcore_version"}
    alembic(url, "upgrade", "head")
    assert "You asked: “Hello from a project with migrations of its own”" in run(url, "own_alembic/chat.py")


@only_servers
async def test_billed_once_though_processes_are_killed(database_url: str) -> None:
    url = database_url
    await execute(url, TABLE)
    async with AsyncExitStack() as stack:
        lasting = await _process(stack, url, REPLIES - KILLED, 0.001)
        acknowledged = list[int]()
        for _ in range(KILLED // AT_ONCE):
            killed = await _process(stack, url, AT_ONCE, 0.03)
            acknowledged += [await _reply(killed) for _ in range(AT_ONCE)]
            await asyncio.sleep(random.uniform(0, 2.5))
            killed.send_signal(signal.SIGKILL)
            assert await killed.wait() == -signal.SIGKILL
        acknowledged += [await _reply(lasting) for _ in range(REPLIES - KILLED)]
        assert await _line(lasting) == "all"
        async with asyncio.timeout(30):
            while await execute(url, "SELECT id FROM messages WHERE status = 'writing'"):
                await asyncio.sleep(0.1)
        assert lasting.stdin is not None
        lasting.stdin.close()
        assert await lasting.wait() == 0
    bills = Counter(int(row[0]) for row in await execute(url, "SELECT reply FROM bills"))
    ends = await execute(url, "SELECT id, status FROM messages WHERE role = 'assistant'")
    counted = Counter(row[1] for row in ends)
    print(f"{url.partition(':')[0]}: {counted}")
    assert len(acknowledged) == REPLIES
    assert set(acknowledged) == {int(row[0]) for row in ends}
    assert bills == Counter(acknowledged)
    assert counted["interrupted"] > 0
    assert counted["complete"] >= REPLIES - KILLED
    wrong = (
        "SELECT COUNT(*) FROM bills JOIN messages ON messages.id = bills.reply "
        "WHERE bills.letters <> CHAR_LENGTH(messages.content)"
    )
    assert (await execute(url, wrong))[0][0] == 0


async def _process(stack: AsyncExitStack, url: str, replies: int, pause: float) -> asyncio.subprocess.Process:
    script = str(Path(__file__).with_name("billing_process.py"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, script, url, str(replies), str(pause)),
        env={**os.environ, "PYTHONPATH": str(EXAMPLES)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )

    async def end() -> None:
        if process.returncode is None:
            process.kill()
            await process.wait()

    stack.push_async_callback(end)
    return process


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return (await process.stdout.readline()).decode().strip()


async def _reply(process: asyncio.subprocess.Process) -> int:
    return int(await _line(process))
