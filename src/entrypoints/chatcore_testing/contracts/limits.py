"""The contract of `RateLimiter`. Real ones count by the real clock, so that periods here are either long or awaited."""

import asyncio
from abc import abstractmethod

from chatcore.ports import Rate, RateLimiter
from chatcore_testing.contract import Checks, Contract, Made

HOUR = 3600
THREE = Rate(3, HOUR)


class RateLimiterChecks(Checks):
    async def test_so_many_times_and_no_more(self, limiter: RateLimiter) -> None:
        assert [await limiter.hit(THREE, "ada") for _ in range(3)] == [None] * 3
        for _ in range(3):
            left = await limiter.hit(THREE, "ada")
            assert left is not None
            assert HOUR - 60 < left <= HOUR

    async def test_of_many_at_once_exactly_so_many(self, limiter: RateLimiter) -> None:
        hits = await asyncio.gather(*(limiter.hit(THREE, "ada") for _ in range(40)))
        assert hits.count(None) == 3

    async def test_each_is_counted_by_itself(self, limiter: RateLimiter) -> None:
        for who in (("ada",), ("bob",), ("ada", "192.0.2.1"), ("sign-in", "ada"), ("ada", "2001:db8::/64"), ("",)):
            assert [await limiter.hit(THREE, *who) is None for _ in range(4)] == [True] * 3 + [False]

    async def test_each_rate_is_counted_by_itself(self, limiter: RateLimiter) -> None:
        assert [await limiter.hit(Rate(1, HOUR), "ada") is None for _ in range(2)] == [True, False]
        assert await limiter.hit(THREE, "ada") is None

    async def test_after_the_period_it_begins_anew(self, limiter: RateLimiter) -> None:
        once = Rate(1, 1)
        assert await limiter.hit(once, "ada") is None
        assert await limiter.hit(once, "ada") == 1
        await self.contract.pass_a_second()
        assert await limiter.hit(once, "ada") is None

    async def test_what_is_refused_does_not_make_it_longer(self, limiter: RateLimiter) -> None:
        once = Rate(1, 2)
        await limiter.hit(once, "ada")
        await self.contract.pass_a_second()
        assert await limiter.hit(once, "ada") is not None
        await self.contract.pass_a_second()
        assert await limiter.hit(once, "ada") is None


class RateLimiterContract(Contract, checks=(RateLimiterChecks,)):
    """What `RateLimiter` promises."""

    @abstractmethod
    def limiter(self) -> Made[RateLimiter]:
        """Make one that has counted nothing yet."""

    async def pass_a_second(self) -> None:
        """Return a second later, by the limiter's clock."""
        await asyncio.sleep(1.1)
