"""What has begun goes on to its end, whatever becomes of the one who asked for it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def settled(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is not cancelled when the caller is.

    The cancellation is raised once `work` has ended, so that nothing runs on behind the caller's back: a database
    connection is whole again when its user leaves.
    """
    task = asyncio.create_task(work)
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
