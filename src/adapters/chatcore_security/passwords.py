"""Passwords: Argon2id (RFC 9106) in threads of their own."""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import argon2

from chatcore.errors import Unavailable
from chatcore.ports import PasswordHasher

P = ParamSpec("P")
T = TypeVar("T")


class Argon2Passwords(PasswordHasher):
    """Argon2id with the OWASP minimum by default: 19 MiB, two passes, one lane (about 20 ms; ASVS 11.4.2).

    `memory_cost` is in KiB, `time_cost` in passes. At most `workers` hashes are computed at once, and so no more than
    `workers` × `memory_cost` is used however many people sign in. Argon2 releases the GIL. Of the others at most
    `waiting` wait, a second or so in all; whoever comes on top of that is told to come back.
    """

    def __init__(
        self,
        *,
        memory_cost: int = 19_456,
        time_cost: int = 2,
        parallelism: int = 1,
        workers: int = 2,
        waiting: int = 100,
    ) -> None:
        self._argon2 = argon2.PasswordHasher(time_cost=time_cost, memory_cost=memory_cost, parallelism=parallelism)
        self._nobodys = self._argon2.hash(os.urandom(32))
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="argon2")
        self._places = threading.BoundedSemaphore(workers + waiting)

    def close(self) -> None:
        """Ends the threads, after the hashes that were asked for."""
        self._threads.shutdown()

    async def hash(self, password: str) -> str:
        return await self._in_thread(self._argon2.hash, _bytes(password))

    async def verify(self, password: str, password_hash: str | None) -> bool:
        wanted = self._nobodys if password_hash is None else password_hash
        return await self._in_thread(self._verify, _bytes(password), wanted)

    def needs_rehash(self, password_hash: str) -> bool:
        try:
            return self._argon2.check_needs_rehash(password_hash)
        except argon2.exceptions.InvalidHashError:
            return True

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A place is taken until the work is done or dropped, even if nobody waits for it any more."""
        if not self._places.acquire(blocking=False):
            raise Unavailable("Too many people are signing in at once. Try again shortly.")
        doing = self._threads.submit(work, *args, **kwargs)
        doing.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(doing)

    def _verify(self, password: bytes, password_hash: str) -> bool:
        try:
            return self._argon2.verify(password_hash, password)
        except (argon2.exceptions.VerificationError, ValueError):  # ValueError: no Argon2 hash at all
            return False


def _bytes(password: str) -> bytes:
    """UTF-8, and something for an unpaired surrogate too: a password that nobody can have is wrong, not an error."""
    return password.encode("utf-8", "surrogatepass")
