"""A limiter on a clock that stands still until it is moved."""

from datetime import datetime, timedelta

from chatcore.ports import Clock, Rate, RateLimiter


class MemoryLimiter(RateLimiter):
    """Counts by this clock, and forgets nothing that it does not have to."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counted: dict[tuple[Rate, tuple[str, ...]], tuple[datetime, int]] = {}

    async def hit(self, rate: Rate, *who: str) -> int | None:
        now = self._clock.now()
        first, times = self._counted.get((rate, who), (now, 0))
        left = first + timedelta(seconds=rate.seconds) - now
        if left <= timedelta():
            first, times, left = now, 0, timedelta(seconds=rate.seconds)
        self._counted[rate, who] = (first, times + 1)
        return None if times < rate.times else max(1, -(-left // timedelta(seconds=1)))
