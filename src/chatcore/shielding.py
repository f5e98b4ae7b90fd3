"""Run work to completion despite cancellation, and again when it lost to others."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import wraps
from random import Random
from typing import Any, ParamSpec, TypeVar
from weakref import ref

from chatcore.errors import Contention

T = TypeVar("T")
P = ParamSpec("P")

TRIES = 12
REPEAT_WITHIN = 10.0  # seconds; later than this nothing is begun again
_random = Random()  # noqa: S311 - nobody's seed is disturbed
_shielding: ContextVar["ref[asyncio.Task[Any]] | None"] = ContextVar("chatcore_shielding", default=None)
_FIRST_PAUSE = 0.02  # seconds; each pause is longer than the one before, up to the longest
_LONGEST_PAUSE = 0.5


def retry_on_contention(work: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """`work`, run again after a short random pause when it raises `Contention`: at most `TRIES` times in all.

    It opens its unit of work itself, and has no effect but in the database before its commit, and none that could
    raise `Contention` after it.
    """

    @wraps(work)
    async def repeated(*args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for pause in (_FIRST_PAUSE * 2**n for n in range(TRIES - 1)):
            try:
                return await work(*args, **kwargs)
            except Contention:
                if loop.time() - begun > REPEAT_WITHIN:
                    raise
            pause = min(pause, _LONGEST_PAUSE)
            await asyncio.sleep(_random.uniform(pause / 2, pause))  # so that two don't meet again
        return await work(*args, **kwargs)

    return repeated


async def shielded(work: Coroutine[Any, Any, T], *, apart: bool = False) -> T:
    """The result of `work`, which is not cancelled when the caller is.

    The cancellation is raised once `work` has ended, so that nothing runs on behind the caller's back: a database
    connection is whole again when its user leaves. Work that is part of such work needs no task of its own, unless a
    time limit between the two may cancel it: that is to be told by `apart`.
    """
    if not apart and (outer := _shielding.get()) is not None and outer() is asyncio.current_task():
        return await work
    task = asyncio.create_task(_marked(work))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()  # retrieved: the caller has gone, and it is the cancellation that goes on
        raise cancelled
    return task.result()


async def _marked(work: Coroutine[Any, Any, T]) -> T:
    if task := asyncio.current_task():
        _shielding.set(ref(task))  # weak: the task has this context, and those that it begins have a copy
    return await work


async def ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has ended, however it does. Raise nothing but the caller's own cancellation."""
    task.cancel()
    await asyncio.wait((task,))
