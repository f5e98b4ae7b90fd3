"""A few seconds of bench/writers.py on each database: nobody is refused, nothing is lost."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from integration.databases import execute

pytestmark = pytest.mark.once

BENCH = Path(__file__).parents[2] / "bench" / "writers.py"
TRIGGER = "CREATE TRIGGER loses AFTER UPDATE ON conversations WHEN NEW.writing_reply_id IS NULL BEGIN {} END"


def write(database_url: str, seconds: float, writers: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH), "--seconds", str(seconds), "--writers", str(writers)]
    return subprocess.run(
        command, env={**os.environ, "DATABASE_URL": database_url}, capture_output=True, text=True, check=False
    )


def test_fifty_writers(database_url: str) -> None:
    done = write(database_url, 3, 50)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 errors, 0 lost, 0 connections not given back" in done.stdout


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_burst_waits_for_the_only_writer(database_url: str) -> None:
    done = write(database_url, 0.1, 400)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_what_is_lost_is_noticed(database_url: str) -> None:
    asyncio.run(execute(database_url, TRIGGER.format("DELETE FROM messages WHERE content LIKE '% says 0 %';")))
    try:
        done = write(database_url, 0.5, 5)
    finally:
        asyncio.run(execute(database_url, "DROP TRIGGER loses"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert " 0 lost" not in done.stdout
