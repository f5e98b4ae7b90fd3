"""Passwords: Argon2id (RFC 9106) in threads of their own."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import argon2

from chatcore.ports import PasswordHasher


class Argon2Passwords(PasswordHasher):
    """Argon2id with the OWASP minimum by default: 19 MiB, two passes, one lane (about 20 ms; ASVS 11.4.2).

    `memory_cost` is in KiB, `time_cost` in passes. At most `workers` hashes are computed at once, and so no more than
    `workers` × `memory_cost` is used however many people sign in; the others wait. Argon2 releases the GIL.
    """

    def __init__(
        self, *, memory_cost: int = 19_456, time_cost: int = 2, parallelism: int = 1, workers: int = 2
    ) -> None:
        self._argon2 = argon2.PasswordHasher(time_cost=time_cost, memory_cost=memory_cost, parallelism=parallelism)
        self._nobodys = self._argon2.hash(os.urandom(32))
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="argon2")

    def close(self) -> None:
        """Ends the threads, after the hashes that were asked for."""
        self._threads.shutdown()

    async def hash(self, password: str) -> str:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._argon2.hash, _bytes(password))

    async def verify(self, password: str, password_hash: str | None) -> bool:
        loop = asyncio.get_running_loop()
        wanted = self._nobodys if password_hash is None else password_hash
        return await loop.run_in_executor(self._threads, self._verify, _bytes(password), wanted)

    def needs_rehash(self, password_hash: str) -> bool:
        try:
            return self._argon2.check_needs_rehash(password_hash)
        except argon2.exceptions.InvalidHashError:
            return True

    def _verify(self, password: bytes, password_hash: str) -> bool:
        try:
            return self._argon2.verify(password_hash, password)
        except (argon2.exceptions.VerificationError, ValueError):  # ValueError: no Argon2 hash at all
            return False


def _bytes(password: str) -> bytes:
    """UTF-8, and something for an unpaired surrogate too: a password that nobody can have is wrong, not an error."""
    return password.encode("utf-8", "surrogatepass")
