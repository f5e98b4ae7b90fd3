"""Passwords: Argon2id (RFC 9106) in threads of their own; and other systems' older hashes, until they are replaced."""

import asyncio
import hashlib
import hmac
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import argon2
import bcrypt

from chatcore.errors import Unavailable
from chatcore.ports import PasswordHasher

SHA256_PREFIX = "sha256$"
"""Before the unsalted hex digest: 64 hex digits alone are no hash of ours."""

_SHA256 = re.compile("[0-9a-fA-F]{64}")
_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_BCRYPT_BYTES = 72  # of a password, which is what bcrypt has always seen of it; the library refuses longer ones
_LONGEST_HASH = 255
_MOST_BCRYPT_COST = 15  # two seconds or so
_MOST_MEMORY, _MOST_PASSES, _MOST_LANES = 256 * 1024, 20, 16  # of somebody else's Argon2

P = ParamSpec("P")
T = TypeVar("T")


class Argon2Passwords(PasswordHasher):
    """Argon2id with the OWASP minimum by default: 19 MiB, two passes, one lane (about 20 ms; ASVS 11.4.2).

    `memory_cost` is in KiB, `time_cost` in passes. At most `workers` hashes are computed at once, and so no more than
    `workers` × `memory_cost` is used however many people sign in. Argon2 releases the GIL. Of the others at most
    `waiting` wait, half a second or so in all; whoever comes on top of that is told to come back.
    """

    def __init__(
        self,
        *,
        memory_cost: int = 19_456,
        time_cost: int = 2,
        parallelism: int = 1,
        workers: int = 2,
        waiting: int = 40,
    ) -> None:
        self._argon2 = argon2.PasswordHasher(time_cost=time_cost, memory_cost=memory_cost, parallelism=parallelism)
        self._nobodys = self._argon2.hash(os.urandom(32))
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="argon2")
        self._places = threading.BoundedSemaphore(workers + waiting)

    def close(self) -> None:
        """End the threads, after the hashes that were asked for."""
        self._threads.shutdown()

    async def hash(self, password: str) -> str:
        return await self._in_thread(self._argon2.hash, _bytes(password))

    async def verify(self, password: str, password_hash: str | None) -> bool:
        wanted = self._nobodys if password_hash is None else password_hash
        return await self._in_thread(self._verify, _bytes(password), wanted)

    def adopted(self, foreign_hash: str) -> str | None:
        if len(foreign_hash) > _LONGEST_HASH:
            return None
        if _SHA256.fullmatch(foreign_hash):
            return SHA256_PREFIX + foreign_hash.lower()
        if bcrypts := _BCRYPT.fullmatch(foreign_hash):
            return foreign_hash if 4 <= int(bcrypts[1]) <= _MOST_BCRYPT_COST else None
        try:
            asked = argon2.extract_parameters(foreign_hash)
        except (argon2.exceptions.InvalidHashError, ValueError):
            return None
        dear = asked.memory_cost > _MOST_MEMORY or asked.time_cost > _MOST_PASSES or asked.parallelism > _MOST_LANES
        return None if dear or not foreign_hash.isascii() else foreign_hash

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
        older = _verify_older(password, password_hash)
        if older is not None:
            self._verify_argon2(password, self._nobodys)  # not sooner than an unknown name
            return older
        return self._verify_argon2(password, password_hash)

    def _verify_argon2(self, password: bytes, password_hash: str) -> bool:
        try:
            return self._argon2.verify(password_hash, password)
        except (argon2.exceptions.VerificationError, ValueError):  # ValueError: no Argon2 hash at all
            return False


def _verify_older(password: bytes, password_hash: str) -> bool | None:
    """None: it is no hash of another system."""
    if password_hash.startswith(SHA256_PREFIX):
        digest = hashlib.sha256(password).hexdigest()
        return hmac.compare_digest(digest.encode(), password_hash.removeprefix(SHA256_PREFIX).encode())
    if _BCRYPT.fullmatch(password_hash) is None:
        return None
    try:
        return bcrypt.checkpw(password[:_BCRYPT_BYTES], password_hash.encode())
    except ValueError:
        return False


def _bytes(password: str) -> bytes:
    """UTF-8, and something for an unpaired surrogate too: a password that nobody can have is wrong, not an error."""
    return password.encode("utf-8", "surrogatepass")
