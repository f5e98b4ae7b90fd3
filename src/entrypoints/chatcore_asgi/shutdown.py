"""Opening a chat with its host, and closing its readers when the host is told to stop.

Servers wait for open responses before they stop anything else: a reader of a long reply would hold them until its end.
"""

import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from threading import current_thread, main_thread
from types import FrameType
from typing import Any, Protocol, TypeAlias

from chatcore import Chat, SyncChat, problem
from chatcore_asgi.types import ASGIApp, Receive, Scope, Send

Handler: TypeAlias = Callable[[int, FrameType | None], Any] | int | None
STOPPING = (signal.SIGTERM, signal.SIGINT)


class HasReaders(Protocol):
    def close_readers(self) -> None: ...


@asynccontextmanager
async def lifespan(chat: Chat) -> AsyncGenerator[None, None]:
    """Keep the chat open, and close its readers at the first SIGTERM or SIGINT: the life of a host's application."""
    async with chat:
        with closing_readers(chat):
            yield


@contextmanager
def closing_readers(chat: HasReaders) -> Generator[None, None, None]:
    """Within it, the first SIGTERM or SIGINT calls `chat.close_readers()`, then the handler that was there: the server
    stops. Enter it on the event loop, or with a `SyncChat`, after the server has set its handlers. Outside the main
    thread it does nothing.
    """
    if current_thread() is not main_thread():
        yield
        return
    soon = chat.close_readers if isinstance(chat, SyncChat) else _in_loop(chat)
    before = {number: signal.getsignal(number) for number in STOPPING}

    def restore() -> None:
        for number, handler in before.items():
            if signal.getsignal(number) is stop:
                signal.signal(number, handler)

    def stop(number: int, frame: FrameType | None) -> None:
        restore()
        soon()
        _pass_on(before[signal.Signals(number)], number, frame)

    for number, handler in before.items():
        if handler is not None:  # None: it is not Python's, and could not be restored
            signal.signal(number, stop)
    try:
        yield
    finally:
        restore()


def _in_loop(chat: HasReaders) -> Callable[[], object]:
    """A signal's handler runs between any two steps of the loop."""
    return partial(asyncio.get_running_loop().call_soon_threadsafe, chat.close_readers)


def _pass_on(handler: Handler, number: int, frame: FrameType | None) -> None:
    """A handler of `loop.add_signal_handler` is called by the loop in any case: what is here then is a placeholder."""
    if callable(handler):
        handler(number, frame)
    elif handler == signal.SIG_DFL:
        signal.raise_signal(number)


def opening(chat: Chat, app: Callable[[Any, Any, Any], Awaitable[None]]) -> ASGIApp:
    """Return the application with a lifespan that keeps the chat open: for a framework without one, such as Django."""

    async def opened(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(chat, receive, send)
        else:
            await app(scope, receive, send)

    return opened


async def _live(chat: Chat, receive: Receive, send: Send) -> None:
    """ASGI's lifespan. What the chat raises ends the server: it is in the server's log."""
    await receive()
    try:
        async with lifespan(chat):
            await send({"type": "lifespan.startup.complete"})
            await receive()
    except Exception as error:
        await send({"type": "lifespan.startup.failed", "message": problem(error).detail})
        raise
    await send({"type": "lifespan.shutdown.complete"})
