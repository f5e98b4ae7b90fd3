"""Host names of users' endpoints, looked up so that nobody's names keep another's waiting.

The system's look-up blocks a thread for as long as the name's servers are silent, half a minute and more, and cannot be
stopped. The threads here are for these names alone, and each user may keep only a few of them.
"""

import asyncio
import socket
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Thread
from time import monotonic
from weakref import WeakValueDictionary

_user: ContextVar[int | None] = ContextVar("user", default=None)
_REMEMBERED = 1000  # failures


@contextmanager
def asking_for(user: int | None) -> Generator[None, None, None]:
    """What is looked up meanwhile is looked up for this user."""
    token = _user.set(user)
    try:
        yield
    finally:
        _user.reset(token)


class NameTimeout(OSError):
    """The name was not found in time. Aiohttp passes on nothing that is no `OSError`."""


@dataclass(frozen=True, slots=True)
class Address:
    """In numbers, as it would be dialled."""

    family: socket.AddressFamily
    text: str


class Names:
    """Looks up `at_once` names at a time, `per_user` for each user, a name that several ask for once.

    Times are in seconds: `within` until a call fails with `NameTimeout`, its turn included; `failed_for` is how long a
    name that was not found fails at once.
    """

    def __init__(self, *, at_once: int = 64, per_user: int = 4, within: float = 5.0, failed_for: float = 5.0) -> None:
        self._all = asyncio.Semaphore(at_once)
        self._per_user = per_user
        self._within = within
        self._failed_for = failed_for
        self._shares = WeakValueDictionary[int | None, asyncio.Semaphore]()
        self._running: dict[str, asyncio.Future[Sequence[Address]]] = {}
        self._failed: dict[str, tuple[float, type[OSError]]] = {}

    async def addresses_of(self, host: str) -> Sequence[Address]:
        """Raise `OSError` if there are none, `NameTimeout` if that cannot be said in time, `ValueError` for what is no
        name."""
        if numeric := _numeric(host):
            return numeric
        self._check(host)
        try:
            async with asyncio.timeout(self._within):
                return await asyncio.shield(await self._begun(host))
        except TimeoutError:
            self._note(host, NameTimeout)
            raise NameTimeout from None
        except OSError:
            self._note(host, OSError)
            raise

    def _check(self, host: str) -> None:
        until, failure = self._failed.get(host, (0.0, OSError))
        if monotonic() < until:
            raise failure

    def _note(self, host: str, failure: type[OSError]) -> None:
        self._failed.pop(host, None)
        self._failed[host] = monotonic() + self._failed_for, failure
        if len(self._failed) > _REMEMBERED:
            del self._failed[next(iter(self._failed))]

    async def _begun(self, host: str) -> "asyncio.Future[Sequence[Address]]":
        if host not in self._running:
            share = self._shares.setdefault(_user.get(), asyncio.Semaphore(self._per_user))
            async with AsyncExitStack() as held:
                await held.enter_async_context(share)
                await held.enter_async_context(self._all)
                if host not in self._running:
                    held.pop_all()
                    self._begin(host, share)
        return self._running[host]

    def _begin(self, host: str, share: asyncio.Semaphore) -> None:
        def ended(found: "asyncio.Future[Sequence[Address]]") -> None:
            del self._running[host]
            share.release()
            self._all.release()
            if not found.cancelled() and found.exception() is None:
                self._failed.pop(host, None)

        future = Future[Sequence[Address]]()
        self._running[host] = asyncio.wrap_future(future)
        self._running[host].add_done_callback(ended)
        # Not of a pool: the interpreter would wait for its threads before it ends.
        Thread(target=_answer, args=(future, host), name="chatcore name look-up", daemon=True).start()


def _answer(future: "Future[Sequence[Address]]", host: str) -> None:
    try:
        future.set_result(look_up(host))
    except Exception as error:
        future.set_exception(error)


def look_up(host: str) -> Sequence[Address]:
    """Blocks. What it raises is `getaddrinfo`'s."""
    return _look_up(host, socket.AI_ADDRCONFIG)


def _numeric(host: str) -> Sequence[Address]:
    """The address that is written there in any form of numbers; nothing for a name."""
    try:
        return _look_up(host, socket.AI_NUMERICHOST)
    except socket.gaierror:
        return ()


def _look_up(host: str, flags: int) -> Sequence[Address]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags)
    return [Address(family, str(address[0])) for family, _, _, _, address in found]
