"""How often somebody has tried, counted by the library `limits`: in Redis, or in this process."""

import asyncio
import logging
import time
from contextlib import suppress
from itertools import islice
from types import TracebackType
from typing import Self

import redis.asyncio
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from chatcore.ports import Rate, RateLimiter
from chatcore.shielding import ended
from chatcore_security.redis_url import normal_redis_url

MOST_COUNTERS = 100_000
"""In memory; some 50 MB. The oldest are forgotten beyond that."""

_CONNECTIONS = 20
_ANSWER_WITHIN = 0.5  # seconds; a limiter that is slower than what it guards is no use
_LOOK_EVERY = 1.0  # seconds, whether a lost Redis is back
_FORGET_EVERY = 10.0  # seconds

_log = logging.getLogger("chatcore.limits")


class CountingLimiter(RateLimiter):
    """`async with` it. Without `redis_url` each process counts by itself, and with one all that name the same Redis
    count together. While that is lost each counts by itself, and no request waits for it; the log says so once, and
    once when it is back.

    Raise `ValueError` for a URL that is none of Redis.
    """

    def __init__(self, redis_url: str = "") -> None:
        self._memory = _Memory()
        self._here = FixedWindowRateLimiter(self._memory)
        self._pool = _pool(normal_redis_url(redis_url)) if redis_url else None
        self._shared = None if self._pool is None else FixedWindowRateLimiter(_storage(self._pool))
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in (self._looking, self._memory.timer):
            if task is not None:
                await ended(task)
        if self._pool is not None:
            await self._pool.disconnect()

    async def hit(self, rate: Rate, *who: str) -> int | None:
        if self._shared is not None and self._looking is None:
            try:
                return await _hit(self._shared, rate, who)
            except (RedisError, OSError, TimeoutError) as error:
                self._mark_lost(self._shared, error)
        return await _hit(self._here, rate, who)

    def _mark_lost(self, shared: FixedWindowRateLimiter, error: Exception) -> None:
        if self._looking is None:
            _log.warning("Redis is lost (%s): limits are counted in this process alone", type(error).__name__)
            self._looking = asyncio.create_task(self._look(shared), name="chatcore limits")

    async def _look(self, shared: FixedWindowRateLimiter) -> None:
        """Until it counts again; an answer to PING alone may come from one that has no memory left."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            with suppress(RedisError, OSError, TimeoutError):
                await _hit(shared, Rate(1, 1), ("is it back",))
                break
        _log.warning("Redis is back: limits are counted there again")
        self._looking = None


class _Memory(MemoryStorage):
    """The library's own looks through all counters at each hit for those that are over. This one does it now and
    then, and never keeps more than `MOST_COUNTERS`."""

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        if self.timer is None or self.timer.done():
            self.timer = asyncio.create_task(self._forget_later(), name="chatcore limits")
        if key not in self.expirations and len(self.expirations) >= MOST_COUNTERS:
            await self._forget_oldest()
        return await super().incr(key, expiry, amount)

    async def _forget_later(self) -> None:
        await asyncio.sleep(_FORGET_EVERY)
        for number, key in enumerate(list(self.expirations)):
            await self.get(key)  # which forgets it if it is over
            if number % 1000 == 0:
                await asyncio.sleep(0)

    async def _forget_oldest(self) -> None:
        for key in list(islice(self.expirations, MOST_COUNTERS // 100)):
            await self.clear(key)


async def _hit(limiter: FixedWindowRateLimiter, rate: Rate, who: tuple[str, ...]) -> int | None:
    item = RateLimitItemPerSecond(rate.times, rate.seconds, namespace="chatcore")
    if await limiter.hit(item, *who):
        return None
    stats = await limiter.get_window_stats(item, *who)
    return min(rate.seconds, max(1, int(stats.reset_time - time.time()) + 1))


def _pool(url: str) -> redis.asyncio.BlockingConnectionPool:
    return redis.asyncio.BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
        url,
        max_connections=_CONNECTIONS,
        timeout=_ANSWER_WITHIN,
        socket_timeout=_ANSWER_WITHIN,
        socket_connect_timeout=_ANSWER_WITHIN,
        retry=Retry(NoBackoff(), 0),
    )


def _storage(pool: redis.asyncio.BlockingConnectionPool) -> RedisStorage:
    """The pool knows where; the library, which does not know all forms of a URL, asks only whether it is Redis."""
    url = "async+redis://127.0.0.1:6379"
    return RedisStorage(url, implementation="redispy", key_prefix="chatcore", connection_pool=pool)  # type: ignore[arg-type]
