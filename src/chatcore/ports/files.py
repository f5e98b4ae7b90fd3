"""Files, and their bytes."""

from abc import abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from chatcore.entities import File, FileId, OwnerId

FILE_PART = 256 * 1024
"""Bytes of each part of a file but its last."""


class FileRepo(Protocol):
    """What is stored counts against the owner's storage, and is given back when it is deleted."""

    @abstractmethod
    async def add(
        self, owner: OwnerId, *, collection: str, name: str, media_type: str, size: int, digest: bytes, now: datetime
    ) -> File:
        """Store a file without its bytes. Raise `Contention` if the collection has one with the same digest, which
        another unit of work has just added."""

    @abstractmethod
    async def write(self, owner: OwnerId, file_id: FileId, number: int, data: bytes) -> None:
        """Store a part: `FILE_PART` bytes, the last one what is left. `number`: from 0."""

    @abstractmethod
    async def get(self, owner: OwnerId, file_id: FileId) -> File | None: ...

    @abstractmethod
    async def same(self, owner: OwnerId, collection: str, digest: bytes) -> File | None:
        """Return the file in the collection that has the same bytes."""

    @abstractmethod
    async def list(
        self, owner: OwnerId, *, collection: str | None, before: FileId | None, limit: int
    ) -> Sequence[File]:
        """Newest first. `collection`: that alone. `before`: the id of the last one of the page before."""

    @abstractmethod
    async def count(self, owner: OwnerId, *, limit: int) -> int:
        """Return how many there are, at most `limit`."""

    @abstractmethod
    async def read(self, owner: OwnerId, file_id: FileId, number: int) -> bytes | None:
        """Return a part."""

    @abstractmethod
    async def delete(self, owner: OwnerId, file_id: FileId) -> bool:
        """Delete a file and its bytes."""
