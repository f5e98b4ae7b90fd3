"""Hashes of passwords."""

from abc import abstractmethod
from typing import Protocol


class PasswordHasher(Protocol):
    @abstractmethod
    async def hash(self, password: str) -> str:
        """A PHC string with its own random salt. Runs beside the event loop, a bounded number at once.

        Raise `Unavailable` if too many wait already; so does `verify`.
        """

    @abstractmethod
    async def verify(self, password: str, password_hash: str | None) -> bool:
        """False for a wrong password, an unknown form of hash, and None, which takes as long as a wrong password:
        an unknown name must not answer sooner than a known one."""

    @abstractmethod
    def needs_rehash(self, password_hash: str) -> bool:
        """True if `hash` would use other parameters today."""

    @abstractmethod
    def adopted(self, foreign_hash: str) -> str | None:
        """The form in which another system's hash has to be stored so that `verify` knows it, at most 255 characters.
        None: it never would, or it would cost more than a sign-in may."""
