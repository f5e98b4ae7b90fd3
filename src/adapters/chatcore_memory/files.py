"""Files in memory."""

from collections.abc import Sequence
from datetime import datetime

from chatcore.entities import File, FileId, OwnerId
from chatcore.errors import Contention
from chatcore.ports import FileRepo
from chatcore.storage import file_size
from chatcore_memory.state import State, Transaction, owned


class MemoryFiles(FileRepo):
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def add(
        self, owner: OwnerId, *, collection: str, name: str, media_type: str, size: int, digest: bytes, now: datetime
    ) -> File:
        file = File(
            id=FileId(self._transaction.new_id()),
            user_id=owner,
            collection=collection,
            name=name,
            media_type=media_type,
            size=size,
            digest=digest,
            created_at=now,
        )

        def insert(state: State) -> File:
            if _same(state, owner, collection, digest) is not None:
                raise Contention
            state.files[file.id] = file
            self._transaction.ledger.ask(owner, file_size(file))
            return file

        return await self._transaction.write(insert)

    async def write(self, owner: OwnerId, file_id: FileId, number: int, data: bytes) -> None:
        def insert(state: State) -> None:
            state.file_parts[file_id, number] = data

        await self._transaction.write(insert)

    async def get(self, owner: OwnerId, file_id: FileId) -> File | None:
        return await self._transaction.read(lambda state: owned(state.files, owner, file_id))

    async def same(self, owner: OwnerId, collection: str, digest: bytes) -> File | None:
        return await self._transaction.read(lambda state: _same(state, owner, collection, digest))

    async def list(
        self, owner: OwnerId, *, collection: str | None, before: FileId | None, limit: int
    ) -> Sequence[File]:
        def select(state: State) -> Sequence[File]:
            theirs = [each for each in state.files.values() if each.user_id == owner]
            if collection is not None:
                theirs = [each for each in theirs if each.collection == collection]
            if before is not None:
                theirs = [each for each in theirs if each.id < before]
            return sorted(theirs, key=lambda each: each.id, reverse=True)[:limit]

        return await self._transaction.read(select)

    async def count(self, owner: OwnerId, *, limit: int) -> int:
        return len(await self.list(owner, collection=None, before=None, limit=limit))

    async def read(self, owner: OwnerId, file_id: FileId, number: int) -> bytes | None:
        def select(state: State) -> bytes | None:
            theirs = owned(state.files, owner, file_id) is not None
            return state.file_parts.get((file_id, number)) if theirs else None

        return await self._transaction.read(select)

    async def delete(self, owner: OwnerId, file_id: FileId) -> bool:
        def remove(state: State) -> bool:
            known = owned(state.files, owner, file_id)
            if known is None:
                return False
            del state.files[file_id]
            state.file_parts = {key: part for key, part in state.file_parts.items() if key[0] != file_id}
            self._transaction.ledger.note(owner, -file_size(known))
            return True

        return await self._transaction.write(remove)


def _same(state: State, owner: OwnerId, collection: str, digest: bytes) -> File | None:
    return next(
        (
            file
            for file in state.files.values()
            if (file.user_id, file.collection, file.digest) == (owner, collection, digest)
        ),
        None,
    )
