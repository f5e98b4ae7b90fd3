"""Limits counted in this process and in Redis, and what becomes of them while that is lost."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator

import pytest

from chatcore.ports import Rate, RateLimiter
from chatcore_security import CountingLimiter
from chatcore_security import rate_limits as limiting
from contracts.limits import HOUR, THREE, RateLimiterContract
from integration.redis_server import REDIS_URL, redis_address
from integration.tcp_proxy import TcpProxy

LOST = "Redis is lost (ConnectionError): limits are counted in this process alone"
BACK = "Redis is back: limits are counted there again"


class Apart(RateLimiter):
    """Counts apart from all other tests on the same Redis."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter
        self._run = secrets.token_hex(8)

    async def hit(self, rate: Rate, *who: str) -> int | None:
        return await self._limiter.hit(rate, self._run, *who)


class RealTime(RateLimiterContract):
    async def pass_a_second(self) -> None:
        await asyncio.sleep(1.1)


class TestInMemory(RealTime):
    @pytest.fixture
    async def limiter(self) -> AsyncIterator[RateLimiter]:
        async with CountingLimiter() as limiter:
            yield limiter


class TestInRedis(RealTime):
    @pytest.fixture
    async def limiter(self) -> AsyncIterator[RateLimiter]:
        redis_address()
        async with CountingLimiter(REDIS_URL) as limiter:
            yield Apart(limiter)


class TestWithALostRedis(RealTime):
    @pytest.fixture
    async def limiter(self) -> AsyncIterator[RateLimiter]:
        async with TcpProxy("127.0.0.1", 1) as nowhere:
            await nowhere.refuse()
            async with CountingLimiter(f"redis://127.0.0.1:{nowhere.port}") as limiter:
                yield limiter


@pytest.fixture
async def wire() -> AsyncIterator[TcpProxy]:
    async with TcpProxy(*redis_address()) as wire:
        yield wire


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "chatcore.limits"]


async def test_who_names_the_same_redis_counts_together(wire: TcpProxy) -> None:
    who = secrets.token_hex(8)
    async with CountingLimiter(REDIS_URL) as one, CountingLimiter(f"redis://127.0.0.1:{wire.port}/0") as other:
        assert [await limiter.hit(THREE, who) is None for limiter in (one, other, one, other, one)] == [
            *[True] * 3,
            *[False] * 2,
        ]


async def test_a_lost_redis_is_said_once_and_one_that_is_back_is_used_again(
    wire: TcpProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    who = secrets.token_hex(8)
    async with CountingLimiter(f"redis://127.0.0.1:{wire.port}/0") as limiter:
        for _ in range(3):
            await limiter.hit(THREE, who)
        assert await limiter.hit(THREE, who) is not None
        await wire.refuse()
        assert [await limiter.hit(THREE, who) is None for _ in range(5)] == [True] * 3 + [False] * 2
        assert said(caplog) == [LOST]
        await wire.heal()
        while BACK not in said(caplog):
            await asyncio.sleep(0.05)
        assert await limiter.hit(THREE, who) is not None
        assert said(caplog) == [LOST, BACK]


async def test_a_silent_redis_is_lost_too_and_of_many_requests_none_waits_for_it_twice(
    wire: TcpProxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with CountingLimiter(f"redis://127.0.0.1:{wire.port}/0") as limiter:
        await limiter.hit(THREE, "before")
        wire.swallow()
        hits = await asyncio.gather(*(limiter.hit(Rate(100, HOUR), "ada") for _ in range(200)))
        assert hits.count(None) == 100
        assert len(said(caplog)) == 1


async def test_what_is_no_url_of_redis_is_refused() -> None:
    with pytest.raises(ValueError, match="Redis URL"):
        CountingLimiter("http://127.0.0.1")


# ---- memory ----------------------------------------------------------------------------------------------


async def test_counters_in_memory_are_bounded_and_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "MOST_COUNTERS", 1000)
    once = Rate(1, HOUR)
    async with CountingLimiter() as limiter:
        for number in range(5000):
            assert await limiter.hit(once, str(number)) is None
        counters = limiter._memory  # pyright: ignore[reportPrivateUsage]
        assert len(counters.storage) <= 1000
        assert len(counters.expirations) <= 1000
        assert len(counters.locks) <= 1000
        assert await limiter.hit(once, "4999") is not None
        assert await limiter.hit(once, "0") is None


async def test_counters_that_are_over_are_forgotten_even_if_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "_FORGET_EVERY", 1.2)
    async with CountingLimiter() as limiter:
        for number in range(10):
            await limiter.hit(Rate(1, 1), str(number))
        counters = limiter._memory  # pyright: ignore[reportPrivateUsage]
        assert len(counters.storage) == 10
        assert counters.timer
        await counters.timer
        assert not counters.storage
        assert not counters.expirations
        assert not counters.locks
