"""Limits counted in this process and in Redis, and what becomes of them while that is lost."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator

import pytest

from chatcore.ports import Rate, RateLimiter
from chatcore_security import CountingLimiter
from chatcore_security import rate_limits as limiting
from chatcore_security.redis_url import normal_redis_url
from chatcore_testing import RateLimiterContract
from chatcore_testing.contracts.limits import HOUR, THREE
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


class TestInMemory(RateLimiterContract):
    def limiter(self) -> CountingLimiter:
        return CountingLimiter()


class TestInRedis(RateLimiterContract):
    async def limiter(self) -> AsyncIterator[RateLimiter]:
        redis_address()
        async with CountingLimiter(REDIS_URL) as limiter:
            yield Apart(limiter)


class TestWithALostRedis(RateLimiterContract):
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


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        (' "redis://default:p%40ss@h:6379/0" ', "redis://default:p%40ss@h:6379/0"),
        ("rediss://:p@h:6379?ssl_cert_reqs=CERT_NONE", "rediss://:p@h:6379?ssl_cert_reqs=none&ssl_check_hostname=no"),
        ("redis://h?family=0&db=2", "redis://h?db=2"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
    ],
)
async def test_a_url_as_providers_print_it(url: str, normal: str) -> None:
    assert normal_redis_url(url) == normal
    async with CountingLimiter(url):
        pass


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://h", "starts with redis://, rediss:// (TLS) or unix://"),
        ("redis://:s3cret/x@h", "not a Redis URL; write for example rediss://user:password@host:6379/0"),
        ("redis://:6379/s3cret@h", "has one @"),
        ("redis://u:s3cret#x@h", "not a Redis URL; write for example"),
        ("redis://:s3cret@a:1,b:2", "not a Redis URL; write for example"),
        ("redis://h?decode_responses=true", "'decode_responses' is not known; it may have db, protocol, "),
        ("redis://h?ssl_cert_reqs=none", "ssl_cert_reqs goes with rediss://"),
        ("rediss://h?ssl_cert_reqs=s3cret", "must be none or optional or required"),
        ("redis://h?db=s3cret", "db does not hold; it must be a whole number"),
    ],
)
def test_what_of_a_url_does_not_hold_is_said_without_the_password(url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        CountingLimiter(url)
    assert sentence in str(refused.value)
    assert "s3cret" not in str(refused.value)


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
