"""Tell open connections that their session has ended, on whichever worker it ended."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Set
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext

from chatcore.authority import Caller, Owner
from chatcore.entities import SessionId
from chatcore.errors import Unauthenticated
from chatcore.periodic import Periodic
from chatcore.ports import Clock, UnitOfWorkFactory

_AT_ONCE = 1000


class SessionWatch(Periodic):
    """`async with` it once per process. Every `every` seconds it looks up all watched sessions, a thousand per query.
    While the database is gone, connections stay open."""

    def __init__(self, *, unit_of_work: UnitOfWorkFactory, clock: Clock, every: float = 0.5) -> None:
        super().__init__(every=every)
        self._unit_of_work = unit_of_work
        self._clock = clock
        self._watched: dict[SessionId, list[Callable[[], object]]] = {}

    @contextmanager
    def watching(self, session_id: SessionId, on_end: Callable[[], object]) -> Generator[None, None, None]:
        """Call `on_end` once if, while the block runs, the session is revoked or expires, or its user is disabled or
        deleted. `on_end` must not raise."""
        self._watched.setdefault(session_id, []).append(on_end)
        try:
            yield
        finally:
            callbacks = self._watched.get(session_id, [])
            if on_end in callbacks:
                callbacks.remove(on_end)
            if not callbacks:
                self._watched.pop(session_id, None)

    @asynccontextmanager
    async def while_alive(self, session_id: SessionId) -> AsyncGenerator[None, None]:
        """Cancel the block when the session ends, and raise `Unauthenticated`."""
        lifetime = asyncio.timeout(None)
        try:
            async with lifetime:
                with self.watching(session_id, lambda: lifetime.reschedule(0)):
                    yield
        except TimeoutError:
            if not lifetime.expired():
                raise
            raise Unauthenticated("The session has ended.") from None

    def while_valid(self, by: Owner) -> AbstractAsyncContextManager[None]:
        """As `while_alive`, of the caller's session. A `Vouched` owner has none."""
        return self.while_alive(by.session.id) if isinstance(by, Caller) else nullcontext()

    async def check(self, session_id: SessionId) -> None:
        """Check a request on an open connection. Raise `Unauthenticated` if the session has ended, without the delay of
        the watch."""
        async with self._unit_of_work(read_only=True) as work:
            if not await work.tokens.alive({session_id}, now=self._clock.now()):
                raise Unauthenticated("The session has ended.")

    async def _round(self) -> None:
        watched = list(self._watched)
        for first in range(0, len(watched), _AT_ONCE):
            await self._ask_about(set(watched[first : first + _AT_ONCE]))

    async def _ask_about(self, session_ids: Set[SessionId]) -> None:
        async with self._unit_of_work(read_only=True) as work:
            alive = await work.tokens.alive(session_ids, now=self._clock.now())
        for session_id in session_ids - alive:
            for on_end in self._watched.pop(session_id, ()):
                on_end()
