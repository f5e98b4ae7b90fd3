"""Owners: what every owned row refers to."""

from abc import abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from chatcore.entities import OwnerId


class OwnerRepo(Protocol):
    """Owners: accounts, which `UserRepo` adds, and an embedding program's users, by a tenant and the program's own id.
    Both texts are compared exactly."""

    @abstractmethod
    async def find(self, tenant: str, external_id: str) -> OwnerId | None:
        """Return the owner with this id, unless it is closed."""

    @abstractmethod
    async def name(self, owner: OwnerId) -> tuple[str, str]:
        """Return an embedding program's own id for an owner, and its tenant; two empty texts for an account, and for an
        owner that is closed or missing."""

    @abstractmethod
    async def add(self, tenant: str, external_id: str, *, now: datetime) -> OwnerId:
        """Store a new owner. Raise `Contention` if there is one with this id: another unit was quicker."""

    @abstractmethod
    async def hold(self, owner: OwnerId) -> bool:
        """Return whether the owner exists and is not closed. If so, that stays so until this unit of work is closed;
        others may ask the same meanwhile."""

    @abstractmethod
    async def stored_bytes(self, owner: OwnerId) -> int:
        """Return how much the owner has stored, as `chatcore.storage` counts it."""

    @abstractmethod
    async def close(self, owner: OwnerId, *, now: datetime) -> bool:
        """Close an owner: its id, or its account with names, roles and sessions, is gone, and may be added anew. What
        else it owns stays until `delete_some` and `delete`. False: there is none, or it is closed."""

    @abstractmethod
    async def delete_some(self, owner: OwnerId, *, limit: int) -> int:
        """Delete at most `limit` of a closed owner's messages, of what the log holds of its replies, or of its
        conversations. Return how many; 0: it has none."""

    @abstractmethod
    async def delete(self, owner: OwnerId) -> bool:
        """Delete an owner, closed or not, and all that it owns; to add to it after that raises `NotFound`. False: there
        is none."""

    @abstractmethod
    async def closed(self, *, limit: int) -> Sequence[OwnerId]:
        """Return owners that were closed and are not deleted yet. Sees across owners."""
