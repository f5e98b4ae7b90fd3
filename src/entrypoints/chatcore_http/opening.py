"""Opening and closing what the application uses.

A server runs the application's lifespan. A host that mounts it may not: it is then opened by the first request, and
closed when the process is told to stop, or at the latest when its event loop ends.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from dishka import AsyncContainer

from chatcore import ExpirySweep, Replies, SendMessage
from chatcore_asgi import closing_readers

_log = logging.getLogger("chatcore.http")
_WARNING = (
    "The application was mounted without its lifespan: it has been opened by its first request. Enter app.lifespan() "
    "in the host's lifespan, so that replies in progress are ended in good order."
)


class Opening:
    """What the application uses: opened once."""

    def __init__(self, container: AsyncContainer) -> None:
        self.container = container
        self.closes_readers = True
        """At the first SIGTERM. `chatcore serve` has its own end: readers see replies end."""
        self._is_open = False
        self._lock = asyncio.Lock()
        self.closing: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def lifespan(self, _: Any) -> AsyncGenerator[None, None]:
        await self._open()
        replies = await self.container.get(Replies)
        try:
            with closing_readers(replies) if self.closes_readers else nullcontext():
                yield
        finally:
            await self.container.close()

    async def check(self) -> None:
        """Open it, if no lifespan has. Raise what prevents it."""
        if not self._is_open:
            async with self._lock:
                if not self._is_open:
                    await self._open()
                    _log.warning(_WARNING)
                    told = asyncio.Event()
                    self.closing = asyncio.create_task(self._close(told), name="chatcore closing")

    async def _open(self) -> None:
        await self.container.get(SendMessage)  # with everything that may prevent a start
        await self.container.get(ExpirySweep)
        self._is_open = True

    async def _close(self, told: asyncio.Event) -> None:
        """Wait for a signal, or for the end of the event loop, which cancels this task and waits for it."""
        replies = await self.container.get(Replies)
        try:
            with closing_readers(_Told(replies, told)):
                await told.wait()
            await replies.drain()
        finally:
            await self.container.close()


class _Told:
    """Closes the readers, and tells."""

    def __init__(self, replies: Replies, told: asyncio.Event) -> None:
        self._replies = replies
        self._told = told

    def close_readers(self) -> None:
        self._replies.close_readers()
        self._told.set()
