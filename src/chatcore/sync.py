"""`SyncChat`: the same for programs with threads, on an event loop of its own: Flask, Celery, a notebook."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import suppress
from functools import wraps
from threading import Event, Thread, current_thread
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from chatcore.chat import Chat
from chatcore.entities import Message
from chatcore.events import Cursor, ReplyEvent
from chatcore.mine import Mine
from chatcore.streams import ReplyStream
from chatcore.use_cases.own_export import OwnThing

T = TypeVar("T")
P = ParamSpec("P")
_CANCELLED_WITHIN = 5.0  # seconds


class _Loop:
    """An event loop in a thread of its own."""

    _loop: asyncio.AbstractEventLoop
    _thread: Thread | None = None

    def start(self) -> None:
        if self._thread is not None:
            raise RuntimeError("This SyncChat is open already.")
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="chatcore", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the coroutine's result. An interrupted caller cancels it. Raise `RuntimeError` unless it is open, and
        on the loop's own thread, which would wait for itself."""
        if self._thread is None or self._thread is current_thread():
            work.close()
            why = "belongs to other threads than its own" if self._thread else "is not open: with SyncChat(...) as chat"
            raise RuntimeError(f"This SyncChat {why}.")
        over = Event()
        future = asyncio.run_coroutine_threadsafe(_noting(work, over), self._loop)
        try:
            return future.result()
        except BaseException:
            if future.cancel():
                over.wait(_CANCELLED_WITHIN)  # what is shielded goes on to its end
            raise

    def iterate(self, things: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        try:
            while True:
                try:
                    yield self.run(_next(things))
                except StopAsyncIteration:
                    return
        finally:
            if self._thread is current_thread():  # the collector's: it waits for nobody
                self._loop.create_task(_closed(things))
            elif self._thread is not None:
                self.run(_closed(things))

    def soon(self, call: Callable[[], None]) -> None:
        if self._thread is not None:
            with suppress(RuntimeError):  # it is closed meanwhile
                self._loop.call_soon_threadsafe(call)

    def stop(self) -> None:
        self.run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        self._loop.close()


async def _noting(work: Coroutine[Any, Any, T], over: Event) -> T:
    try:
        return await work
    finally:
        over.set()


async def _next(things: AsyncGenerator[T, None]) -> T:
    return await anext(things)


async def _closed(things: AsyncGenerator[T, None]) -> None:
    await things.aclose()


def _as_sync(
    method: Callable[Concatenate[Mine, P], Coroutine[Any, Any, T]],
) -> Callable[[Callable[..., None]], Callable[Concatenate["SyncMine", P], T]]:
    """Give a method of `SyncMine` the parameters and the documentation of one of `Mine`."""

    def called(self: "SyncMine", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.loop.run(method(self.mine, *args, **kwargs))

    return lambda _: wraps(method)(called)


class SyncMine:
    """As `Mine`, method for method, but without `within`, whose sessions are asynchronous."""

    def __init__(self, mine: Mine, loop: _Loop) -> None:
        self.mine = mine
        self.loop = loop

    @_as_sync(Mine.send)
    def send(self) -> None: ...

    @_as_sync(Mine.edit)
    def edit(self) -> None: ...

    @_as_sync(Mine.regenerate)
    def regenerate(self) -> None: ...

    @_as_sync(Mine.stop)
    def stop(self) -> None: ...

    @_as_sync(Mine.conversations)
    def conversations(self) -> None: ...

    @_as_sync(Mine.create)
    def create(self) -> None: ...

    @_as_sync(Mine.history)
    def history(self) -> None: ...

    @_as_sync(Mine.image)
    def image(self) -> None: ...

    @_as_sync(Mine.add)
    def add(self) -> None: ...

    @_as_sync(Mine.switch)
    def switch(self) -> None: ...

    @_as_sync(Mine.rename)
    def rename(self) -> None: ...

    @_as_sync(Mine.delete)
    def delete(self) -> None: ...

    @_as_sync(Mine.search)
    def search(self) -> None: ...

    def reply(self, conversation: int, *, after: Cursor | int | None = 0) -> "SyncReplyStream":
        """As `Mine.reply`."""
        return SyncReplyStream(self.loop.run(self.mine.reply(conversation, after=after)), self.loop)

    def resume(self, conversation: int, last_event_id: str | None, *, after: int = 0) -> "SyncReplyStream | None":
        """As `Mine.resume`."""
        stream = self.loop.run(self.mine.resume(conversation, last_event_id, after=after))
        return None if stream is None else SyncReplyStream(stream, self.loop)

    def export(self) -> Generator[OwnThing, None, None]:
        """As `Mine.export`."""
        return self.loop.iterate(self.mine.export())


class SyncReplyStream:
    """As `ReplyStream`: an iterator of events, with the same forms."""

    def __init__(self, stream: ReplyStream, loop: _Loop) -> None:
        self._stream = stream
        self._loop = loop
        self._events = loop.iterate(stream)

    @property
    def cursor(self) -> Cursor:
        return self._stream.cursor

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ReplyEvent:
        return next(self._events)

    def sse(self, *, heartbeat: bool = True) -> Generator[bytes, None, None]:
        return self._loop.iterate(self._stream.sse(heartbeat=heartbeat))

    def ndjson(self) -> Generator[bytes, None, None]:
        return self._loop.iterate(self._stream.ndjson())

    def text(self) -> Generator[str, None, None]:
        return self._loop.iterate(self._stream.text())

    def ended(self) -> Message:
        return self._loop.run(self._stream.ended())

    def close(self) -> None:
        """Read no further; the reply goes on."""
        self._loop.run(self._stream.aclose())


class SyncChat:
    """As `Chat`, for threads; a context manager. Open it in each process: not before a fork.

    with SyncChat(Chat(store=Database("sqlite:///chat.db"), gateway=OpenAIGateway(), model=model)) as chat:
        me = chat.of("alice")
    """

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._loop = _Loop()

    def __enter__(self) -> Self:
        self._loop.start()
        try:
            self._loop.run(self._chat.__aenter__())
        except BaseException:
            self._loop.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._loop.run(self._chat.__aexit__(kind, error, trace))
        finally:
            self._loop.stop()

    def of(self, user: str, *, tenant: str = "") -> SyncMine:
        """As `Chat.of`."""
        return SyncMine(self._loop.run(self._chat.of(user, tenant=tenant)), self._loop)

    def forget(self, user: str, *, tenant: str = "") -> bool:
        """As `Chat.forget`."""
        return self._loop.run(self._chat.forget(user, tenant=tenant))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of a coroutine, such as a use case's, run on the chat's loop."""
        return self._loop.run(work)

    def iterate(self, things: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """Yield what a generator yields on the chat's loop. Closing one closes the other."""
        return self._loop.iterate(things)

    def close_readers(self) -> None:
        """As `Chat.close_readers`, from any thread and from a signal's handler."""
        self._loop.soon(self._chat.close_readers)
