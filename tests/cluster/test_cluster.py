"""Three servers of ours on a cluster of three databases, any of which any statement may reach, and one of which dies.

    make cluster                        both kinds
    make cluster ARGS="-k galera"       one of them

SENDS   how many messages go to the one conversation at once, in each half
"""

import asyncio
import itertools
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientError

from cluster.nodes import NODES, Cluster, Galera, GroupReplication, balanced, folder_for_servers
from integration.http_app import Answer, Api
from integration.model_server import ModelServer, chunk, stream
from integration.processes import run, several_serving

SENDS = int(os.environ.get("SENDS", "100"))
SETTLING = 5.0
"""Seconds after a killed node is a member again in which an answer may still be a 5xx: HAProxy asks once a second."""


@dataclass
class Tally:
    """What 3 servers answered. `failures`: when, and with which status, an answer was a 5xx or did not come."""

    acknowledged: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    failures: list[tuple[float, int]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def note(self, status: int) -> None:
        self.answers[status] += 1
        now = time.monotonic()
        if status < 500:
            self.times.append(now)
        else:
            self.failures.append((now, status))

    @property
    def longest_silence(self) -> float:
        return max((later - sooner for sooner, later in itertools.pairwise(sorted(self.times))), default=0.0)


@pytest.fixture(params=[Galera, GroupReplication], ids=["galera", "group"])
def kind(request: pytest.FixtureRequest) -> type[Cluster]:
    cluster: type[Cluster] = request.param
    if problem := cluster.missing():
        pytest.fail(problem)
    return cluster


@pytest_asyncio.fixture
async def cluster(kind: type[Cluster]) -> AsyncIterator[Cluster]:
    with folder_for_servers() as folder:
        cluster = kind(folder)
        try:
            await cluster.up()
            yield cluster
        finally:
            cluster.down()


@pytest.mark.timeout(900)
async def test_nothing_is_lost_doubled_or_out_of_order(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with balanced(cluster) as url:
        migrated = await run(tmp_path, "migrate", DATABASE_URL=url)
        assert migrated.code == 0, migrated.stderr
        async with ModelServer() as model:
            model.always = stream(chunk("Yes."), chunk(finish="stop"))
            environ = {"DATABASE_URL": url, "OPENAI_BASE_URL": model.url}
            async with several_serving(NODES, tmp_path, **environ) as servers:
                token = (await servers[0].api.register("ada"))["access_token"]
                apis = [server.api.with_token(token) for server in servers]
                said = await _all_of_it(cluster, apis, capsys, type(cluster).__name__)
                await asyncio.gather(*(server.stop() for server in servers))
    assert said > 0


async def _all_of_it(cluster: Cluster, apis: list[Api], capsys: pytest.CaptureFixture[str], name: str) -> int:
    conversation, calm, hard = await apis[0].conversation(), Tally(), Tally()
    first = [f"calm {number}" for number in range(SENDS)]
    await asyncio.gather(*(_send(apis, conversation, content, calm) for content in first))
    assert not calm.failures, calm
    second = [f"hard {number}" for number in range(SENDS)]
    sending = [asyncio.create_task(_send(apis, conversation, content, hard)) for content in second]
    await asyncio.sleep(1)
    killed_at = time.monotonic()
    cluster.kill(NODES - 1)
    await asyncio.sleep(5)
    await cluster.start(NODES - 1)
    window = time.monotonic() - killed_at
    await asyncio.gather(*sending)
    late = [f"late {number}" for number in range(10)]
    after = Tally()
    await asyncio.gather(*(_send(apis, conversation, content, after) for content in late))
    assert not after.failures, after
    for api in apis:
        _check(await _history(api, conversation), [*first, *second, *late])
    with capsys.disabled():
        print(
            f"\n{name}: {calm.acknowledged + hard.acknowledged + after.acknowledged} acknowledged, 0 lost, 0 doubled; "
            f"calm {dict(calm.answers)}; with a node killed and, {window:.1f} s later, back {dict(hard.answers)}, the "
            f"longest time without an answer {hard.longest_silence:.1f} s; after it {dict(after.answers)}"
        )
    failed = [(moment - killed_at, status) for moment, status in hard.failures]
    outside = [(moment, status) for moment, status in failed if not 0 <= moment <= window + SETTLING]
    assert not outside, outside
    return hard.acknowledged


async def _send(apis: list[Api], conversation: int, content: str, tally: Tally) -> None:
    """Again and again with the same key, at any of the servers, until one acknowledges it; not sooner than told."""
    while True:
        answer = await _tried(random.choice(apis), conversation, content)
        tally.note(answer.status if answer else 599)
        if answer is not None and answer.status == 200:
            tally.acknowledged += 1
            return
        assert answer is None or answer.status in (409, 503), answer
        told = float(answer.headers["Retry-After"]) if answer and answer.status == 503 else 0
        await asyncio.sleep(told + random.uniform(0.2, 1))


async def _tried(api: Api, conversation: int, content: str) -> Answer | None:
    try:
        return await api.post(
            f"/conversations/{conversation}/chat", {"content": content}, {"Idempotency-Key": f"key of {content}"}
        )
    except (ClientError, ConnectionError, TimeoutError):
        return None


async def _history(api: Api, conversation: int) -> list[dict[str, Any]]:
    messages = list[dict[str, Any]]()
    before = ""
    while True:
        page = (await api.get(f"/conversations/{conversation}?limit=200{before}")).ok()
        messages = [*page["messages"], *messages]
        if not page["has_more"]:
            return messages
        before = f"&before_id={page['next_before_id']}"


def _check(history: list[dict[str, Any]], contents: list[str]) -> None:
    """Each message once, each after the one before it, and a reply to each."""
    assert Counter(one["content"] for one in history if one["role"] == "user") == Counter(contents)
    assert history[0]["parent_id"] is None
    for before, one in itertools.pairwise(history):
        assert one["parent_id"] == before["id"]
    assert [one["role"] for one in history] == ["user", "assistant"] * len(contents)
    assert not [one for one in history if one["status"] == "writing"]
