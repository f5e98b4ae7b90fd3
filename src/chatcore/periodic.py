"""Periodic work in the background."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from random import Random
from types import TracebackType
from typing import Self

from chatcore.errors import Unavailable
from chatcore.shielding import ended

_log = logging.getLogger("chatcore")
_random = Random()  # noqa: S311 - nobody's seed is disturbed


async def forever(work: Callable[[], Awaitable[object]], *, every: float, name: str, spread: float = 0.0) -> None:
    """Do this about every `every` seconds, varied by the share `spread`. While the database is gone it is left out;
    what else fails is logged under its `name`."""
    reachable = True
    while True:
        await asyncio.sleep(every * _random.uniform(1 - spread, 1 + spread))
        try:
            await work()
            reachable = True
        except Unavailable:
            if reachable:
                _log.warning("%s: the database is gone", name)
            reachable = False
        except Exception:
            _log.exception("%s failed", name)


class Periodic(ABC):
    """`async with` it once per process: `_round` is made about every `every` seconds, varied by the share `spread`, so
    that many processes come one by one. While the database is gone a round is missed; what else fails is logged."""

    def __init__(self, *, every: float, spread: float = 0.0) -> None:
        self._every = every
        self._spread = spread
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        name = type(self).__name__
        rounds = forever(self._round, every=self._every, spread=self._spread, name=name)
        self._task = asyncio.create_task(rounds, name=f"chatcore {name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            await ended(self._task)

    @abstractmethod
    async def _round(self) -> object: ...
