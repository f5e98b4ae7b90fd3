"""Files: bytes that an owner stores, in collections."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from chatcore.authority import ANYTIME, CHANGING, Owner, acting
from chatcore.bounds import Bounds, MediaType, Range, Text
from chatcore.entities import File, FileId, OwnerId, Page, Scope
from chatcore.errors import (
    FileTooLarge,
    NotFound,
    Raises,
    RateLimited,
    StorageFull,
    TooManyFiles,
    ValidationFailed,
)
from chatcore.ports import FILE_PART, AuthorityWork, Clock, FileRepo, Transaction, UnitsOfWork
from chatcore.rate_limits import UNLIMITED, AtOnce, RateLimits
from chatcore.shielding import retry_on_contention
from chatcore.spool import Spool

DEFAULT_COLLECTION = "default"
UNKNOWN_TYPE = "application/octet-stream"
_MISSING = "There is no such file."
_FOLDERS = re.compile(r".*[/\\]", re.DOTALL)
_UPLOADS, _ALL_UPLOADS = 4, 32
FILE = Bounds(name=Text(1, 255), collection=Text(1, 100), media_type=MediaType(1, 100))


class FilesWork(Transaction, Protocol):
    files: FileRepo


class StoringWork(FilesWork, AuthorityWork, Protocol): ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """`size`: bytes of one file. `files`: how many an owner may have."""

    size: int = 20 * 1024**2
    files: int = 1000


@dataclass(frozen=True, kw_only=True)
class UploadFile:
    """Store a file. The same bytes in the same collection are the same file, whatever its name.

    What arrives waits on disk; one transaction stores all of it, or nothing.
    """

    unit_of_work: UnitsOfWork[StoringWork]
    clock: Clock
    file_limits: FileLimits = FileLimits()
    limits: RateLimits = UNLIMITED
    _at_once: AtOnce = field(init=False, default_factory=lambda: AtOnce("uploads", _UPLOADS, in_all=_ALL_UPLOADS))
    bounds: ClassVar[Bounds] = FILE
    raises: ClassVar[Raises] = (*CHANGING, ValidationFailed, RateLimited, FileTooLarge, TooManyFiles, StorageFull)

    async def __call__(
        self,
        *,
        by: Owner,
        name: str,
        data: AsyncGenerator[bytes, None],
        collection: str = DEFAULT_COLLECTION,
        media_type: str = UNKNOWN_TYPE,
    ) -> File:
        """`name`: folders before it are left out. `data`: is read once, no further than the file may be long, and
        closed. The bytes may be any: `media_type` is what the client says they are."""
        by.require(Scope.FILES)
        name = _FOLDERS.sub("", name[:1000]).strip()
        self.bounds.check(name=name, collection=collection, media_type=media_type)
        await self.limits.try_send(by.owner)
        with self._at_once.one_more(by.owner), Spool() as spool:
            await spool.take(data, at_most=self.file_limits.size)
            return await self._store(by, spool, name, collection, media_type)

    @retry_on_contention
    async def _store(self, by: Owner, spool: Spool, name: str, collection: str, media_type: str) -> File:
        now = self.clock.now()
        async with acting(self.unit_of_work, by, now=now, scope=Scope.FILES) as work:
            if known := await work.files.same(by.owner, collection, spool.digest):
                return known
            if await work.files.count(by.owner, limit=self.file_limits.files) == self.file_limits.files:
                raise TooManyFiles
            file = await work.files.add(
                by.owner,
                collection=collection,
                name=name,
                media_type=media_type,
                size=spool.size,
                digest=spool.digest,
                now=now,
            )
            async with aclosing(spool.parts(FILE_PART)) as parts:
                number = 0
                async for part in parts:
                    await work.files.write(by.owner, file.id, number, part)
                    number += 1
            await work.commit()
        return file


@dataclass(frozen=True, kw_only=True)
class ListFiles:
    """List files, newest first. `before`: the id of the last one of the page before."""

    unit_of_work: UnitsOfWork[FilesWork]
    bounds: ClassVar[Bounds] = Bounds(limit=Range(1, 100), collection=FILE["collection"])
    raises: ClassVar[Raises] = (*ANYTIME, ValidationFailed)

    async def __call__(
        self, *, owner: OwnerId, collection: str | None = None, before: FileId | None = None, limit: int = 50
    ) -> Page[File]:
        """`collection`: those alone."""
        self.bounds.check(limit=limit, collection=collection)
        async with self.unit_of_work(read_only=True) as work:
            found = await work.files.list(owner, collection=collection, before=before, limit=limit + 1)
        return Page(found[:limit], len(found) > limit)


@dataclass(frozen=True, kw_only=True)
class FindFile:
    """Return what is known of a file."""

    unit_of_work: UnitsOfWork[FilesWork]
    raises: ClassVar[Raises] = (*ANYTIME, NotFound)

    async def __call__(self, *, owner: OwnerId, file_id: FileId) -> File:
        async with self.unit_of_work(read_only=True) as work:
            found = await work.files.get(owner, file_id)
        if found is None:
            raise NotFound(_MISSING)
        return found


@dataclass(frozen=True, kw_only=True)
class ReadFile:
    """Return a file's bytes."""

    unit_of_work: UnitsOfWork[FilesWork]
    raises: ClassVar[Raises] = (*ANYTIME, NotFound)

    async def __call__(
        self, *, owner: OwnerId, file_id: FileId, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `start` to before `end`, a part at a time. A file that is deleted meanwhile raises
        `NotFound`."""
        async with self.unit_of_work(read_only=True) as work:
            file = await work.files.get(owner, file_id)
        if file is None:
            raise NotFound(_MISSING)
        start, end = max(start, 0), file.size if end is None else min(end, file.size)
        for number in range(start // FILE_PART, -(-end // FILE_PART)):
            async with self.unit_of_work(read_only=True) as work:
                part = await work.files.read(owner, file_id, number)
            if part is None:
                raise NotFound(_MISSING)
            begun = number * FILE_PART
            yield part[max(start - begun, 0) : end - begun]


@dataclass(frozen=True, kw_only=True)
class DeleteFile:
    """Delete a file and its bytes."""

    unit_of_work: UnitsOfWork[StoringWork]
    clock: Clock
    raises: ClassVar[Raises] = (*CHANGING, NotFound)

    @retry_on_contention
    async def __call__(self, *, by: Owner, file_id: FileId) -> None:
        async with acting(self.unit_of_work, by, now=self.clock.now(), scope=Scope.FILES) as work:
            if not await work.files.delete(by.owner, file_id):
                raise NotFound(_MISSING)
            await work.commit()
