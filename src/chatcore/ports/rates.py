"""Counting of tries."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Rate:
    """So many times (at least 1) in so many seconds."""

    times: int
    seconds: int


class RateLimiter(Protocol):
    @abstractmethod
    async def hit(self, rate: Rate, *who: str) -> int | None:
        """Count one try, and return None as long as there were no more than `rate.times` since the first of them, which
        is forgotten after `rate.seconds`. Else: how many whole seconds are left until then, at least 1.

        Each `rate` and each `who` is counted by itself. It never raises: a limiter that has lost what it counts in
        goes on with something else.
        """
