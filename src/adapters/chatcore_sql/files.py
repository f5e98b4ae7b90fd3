"""Files, and their bytes in parts."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.exc import IntegrityError

from chatcore.entities import File, FileId, OwnerId
from chatcore.errors import Contention
from chatcore.ports import FileRepo
from chatcore.storage import StorageLedger, file_size
from chatcore_sql.dialects.mysql import by_index
from chatcore_sql.mapped import Mapped
from chatcore_sql.pages import LIMIT, newest_first
from chatcore_sql.statements import Statements
from chatcore_sql.tables import LARGEST_ID, Id, file_parts, files

_f = files.c
_p = file_parts.c
_MAPPED = Mapped(File, files)
_NEW = FileId(0)  # until the database gives one
_THIS = (_f.user_id == bindparam("owner"), _f.id == bindparam("file"))
_PARTS = (_p.user_id == bindparam("owner"), _p.file_id == bindparam("file"))
_ADD = insert(files)
_WRITE = insert(file_parts)
_ALL = select(*_MAPPED.columns)
_GET = _ALL.where(*_THIS)
_SAME = _ALL.where(
    _f.user_id == bindparam("owner"), _f.collection == bindparam("in_collection"), _f.digest == bindparam("of_bytes")
)
# A user's files are few: a collection's are looked for among all of them, in their order.
_LIST = newest_first(
    _ALL.with_hint(files, **by_index("ix_files_user_id_id")), {_f.user_id: bindparam("owner")}, _f.id
).limit(LIMIT)
_LIST_COLLECTION = _LIST.where(_f.collection == bindparam("in_collection"))
_COUNT = select(_f.id).where(_f.user_id == bindparam("owner")).limit(LIMIT)
_READ = select(_p.data).where(*_PARTS, _p.number == bindparam("part", type_=Id))
_DELETE_PARTS = delete(file_parts).where(*_PARTS)
_DELETE = delete(files).where(*_THIS)


class SqlFileRepo(FileRepo):
    def __init__(self, statements: Statements, ledger: StorageLedger) -> None:
        self._statements = statements
        self._ledger = ledger

    async def add(
        self, owner: OwnerId, *, collection: str, name: str, media_type: str, size: int, digest: bytes, now: datetime
    ) -> File:
        file = File(
            id=_NEW,
            user_id=owner,
            collection=collection,
            name=name,
            media_type=media_type,
            size=size,
            digest=digest,
            created_at=now,
        )
        try:
            file_id = await self._statements.insert(_ADD, **_MAPPED.values(file))
        except IntegrityError:
            raise Contention from None  # the database's message has the name in it
        self._ledger.ask(owner, file_size(file))
        return replace(file, id=FileId(file_id))

    async def write(self, owner: OwnerId, file_id: FileId, number: int, data: bytes) -> None:
        await self._statements.insert(_WRITE, user_id=owner, file_id=file_id, number=number, data=data)

    async def get(self, owner: OwnerId, file_id: FileId) -> File | None:
        row = await self._statements.first(_GET, owner=owner, file=file_id)
        return _MAPPED.from_row(row) if row else None

    async def same(self, owner: OwnerId, collection: str, digest: bytes) -> File | None:
        row = await self._statements.first(_SAME, owner=owner, in_collection=collection, of_bytes=digest)
        return _MAPPED.from_row(row) if row else None

    async def list(
        self, owner: OwnerId, *, collection: str | None, before: FileId | None, limit: int
    ) -> Sequence[File]:
        page = {"owner": owner, "before": LARGEST_ID if before is None else before, "limit": limit}
        if collection is not None:
            rows = await self._statements.rows(_LIST_COLLECTION, **page, in_collection=collection)
        else:
            rows = await self._statements.rows(_LIST, **page)
        return [_MAPPED.from_row(row) for row in rows]

    async def count(self, owner: OwnerId, *, limit: int) -> int:
        return len(await self._statements.rows(_COUNT, owner=owner, limit=limit))

    async def read(self, owner: OwnerId, file_id: FileId, number: int) -> bytes | None:
        row = await self._statements.first(_READ, owner=owner, file=file_id, part=number)
        return row[0] if row else None

    async def delete(self, owner: OwnerId, file_id: FileId) -> bool:
        file = await self.get(owner, file_id)
        if file is None:
            return False
        await self._statements.change(_DELETE_PARTS, owner=owner, file=file_id)
        if not await self._statements.change(_DELETE, owner=owner, file=file_id):
            return False
        self._ledger.note(owner, -file_size(file))
        return True
