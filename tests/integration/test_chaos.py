"""Servers that are killed at random moments: a few times here, and as often as one likes with `make chaos RUNS=200`.

CHAOS_RUNS   how often, on each database
"""

import os
from pathlib import Path

import pytest

from integration.chaos import LANES, READY_WITHIN, survive

pytestmark = pytest.mark.once

RUNS = int(os.environ.get("CHAOS_RUNS", str(LANES)))


@pytest.mark.timeout(120 + 20 * RUNS)
async def test_what_was_promised_outlives_the_server(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = await survive(database_url, RUNS, tmp_path)
    with capsys.disabled():
        print(f"\n{database_url.partition(':')[0]}: {tally}")
    assert tally.kills == RUNS
    assert tally.interrupted > 0
    if RUNS > LANES:  # else other tests have the machine as well
        assert tally.usual_start < READY_WITHIN
