"""What a process does now and then, beside all else."""

import asyncio
import logging
from abc import ABC, abstractmethod
from random import Random
from types import TracebackType
from typing import Self

from chatcore.errors import Unavailable
from chatcore.shielding import ended

_log = logging.getLogger("chatcore")
_random = Random()  # noqa: S311 - nobody's seed is disturbed


class Periodic(ABC):
    """`async with` it once per process: `_round` is made about every `every` seconds, varied by the share `spread`, so
    that many processes come one by one. While the database is gone a round is missed; what else fails is logged."""

    def __init__(self, *, every: float, spread: float = 0.0) -> None:
        self._every = every
        self._spread = spread
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._rounds(), name=f"chatcore {type(self).__name__}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            await ended(self._task)

    @abstractmethod
    async def _round(self) -> object: ...

    async def _rounds(self) -> None:
        while True:
            await asyncio.sleep(self._every * _random.uniform(1 - self._spread, 1 + self._spread))
            try:
                await self._round()
            except Unavailable:
                continue
            except Exception:
                _log.exception("a round of %s failed", type(self).__name__)
