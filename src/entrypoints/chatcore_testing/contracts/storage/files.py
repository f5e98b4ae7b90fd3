"""The contract of files and their bytes."""

import hashlib

from chatcore.entities import File, FileId, User
from chatcore.errors import Contention
from chatcore.ports import FILE_PART, UnitOfWork, UnitOfWorkFactory
from chatcore.storage import file_size
from chatcore_testing.contract import each, raises
from chatcore_testing.contracts.storage.base import NOW, StoreChecks

_BYTES = bytes(range(256)) * 1024
NAMES = {"plain": "notes.txt", "emoji": "🦄 漢字.pdf", "quotes": "'\"`\\; -- %s.txt", "long": "é" * 255}


async def add_file(work: UnitOfWork, owner: User, data: bytes = b"data", **more: str) -> File:
    """With its bytes."""
    given = {"collection": "default", "name": "notes.txt", "media_type": "text/plain", **more}
    file = await work.files.add(owner.id, size=len(data), digest=hashlib.sha256(data).digest(), now=NOW, **given)
    for number, start in enumerate(range(0, len(data), FILE_PART)):
        await work.files.write(owner.id, file.id, number, data[start : start + FILE_PART])
    return file


async def stored_file(unit_of_work: UnitOfWorkFactory, owner: User, data: bytes = b"data", **more: str) -> File:
    async with unit_of_work() as work:
        file = await add_file(work, owner, data, **more)
        await work.commit()
    return file


async def stored_bytes(unit_of_work: UnitOfWorkFactory, owner: User) -> int:
    async with unit_of_work(read_only=True) as work:
        return await work.owners.stored_bytes(owner.id)


class FileRepoChecks(StoreChecks, about="files"):
    @each("name", list(NAMES.values()), ids=list(NAMES))
    async def test_a_file_comes_back_as_it_was(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, name: str
    ) -> None:
        file = await stored_file(unit_of_work, owner, name=name, collection=name[:100], media_type="text/plain; a=b")
        async with unit_of_work(read_only=True) as work:
            assert await work.files.get(owner.id, file.id) == file
            assert await work.files.get(stranger.id, file.id) is None
            assert await work.files.get(owner.id, FileId(file.id + 1)) is None
        assert (file.user_id, file.name, file.collection, file.size) == (owner.id, name, name[:100], 4)

    @each("size", [0, 1, FILE_PART - 1, FILE_PART, FILE_PART + 1, 3 * FILE_PART])
    async def test_its_bytes_come_back_in_parts(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, size: int
    ) -> None:
        data = (_BYTES * 4)[:size]
        file = await stored_file(unit_of_work, owner, data)
        async with unit_of_work(read_only=True) as work:
            numbers = range(-(-size // FILE_PART))
            assert b"".join([await work.files.read(owner.id, file.id, number) or b"" for number in numbers]) == data
            assert await work.files.read(owner.id, file.id, len(numbers)) is None
            assert await work.files.read(owner.id, file.id, 2**63) is None
            assert await work.files.read(stranger.id, file.id, 0) is None

    async def test_the_same_bytes_are_found_in_their_collection(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        file = await stored_file(unit_of_work, owner)
        async with unit_of_work(read_only=True) as work:
            assert await work.files.same(owner.id, "default", file.digest) == file
            assert await work.files.same(owner.id, "Default", file.digest) is None
            assert await work.files.same(owner.id, "default", b"\0" * 32) is None
            assert await work.files.same(stranger.id, "default", file.digest) is None

    async def test_a_collection_has_the_same_bytes_once(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        await stored_file(unit_of_work, owner)
        await stored_file(unit_of_work, owner, collection="other")
        await stored_file(unit_of_work, stranger)
        async with unit_of_work() as work:
            with raises(Contention):
                await add_file(work, owner, name="another name")

    async def test_files_are_listed_newest_first(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        files = [await stored_file(unit_of_work, owner, bytes([number])) for number in range(5)]
        other = await stored_file(unit_of_work, owner, collection="other")
        await stored_file(unit_of_work, stranger)
        everything = [other, *reversed(files)]
        async with unit_of_work(read_only=True) as work:
            assert await work.files.list(owner.id, collection=None, before=None, limit=10) == everything
            assert await work.files.list(owner.id, collection=None, before=other.id, limit=2) == everything[1:3]
            assert await work.files.list(owner.id, collection="other", before=None, limit=10) == [other]
            assert await work.files.list(owner.id, collection="default", before=files[1].id, limit=10) == files[:1]
            assert await work.files.list(owner.id, collection="none", before=None, limit=10) == []
            assert await work.files.count(owner.id, limit=10) == 6
            assert await work.files.count(owner.id, limit=3) == 3

    async def test_a_deleted_file_is_gone_with_its_bytes(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        data = (_BYTES * 2)[: FILE_PART + 1]
        file = await stored_file(unit_of_work, owner, data)
        async with unit_of_work() as work:
            assert not await work.files.delete(stranger.id, file.id)
            assert await work.files.delete(owner.id, file.id)
            assert not await work.files.delete(owner.id, file.id)
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            assert await work.files.get(owner.id, file.id) is None
            assert await work.files.read(owner.id, file.id, 0) is None
            assert await work.files.read(owner.id, file.id, 1) is None
        again = await stored_file(unit_of_work, owner, data)
        assert again.id != file.id

    async def test_files_count_against_their_owners_storage(self, unit_of_work: UnitOfWorkFactory, owner: User) -> None:
        before = await stored_bytes(unit_of_work, owner)
        file = await stored_file(unit_of_work, owner, _BYTES)
        assert await stored_bytes(unit_of_work, owner) == before + file_size(file)
        async with unit_of_work() as work:
            await work.files.delete(owner.id, file.id)
            await work.commit()
        assert await stored_bytes(unit_of_work, owner) == before

    async def test_files_go_with_their_owner(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        files = [await stored_file(unit_of_work, owner, bytes([number])) for number in range(3)]
        kept = await stored_file(unit_of_work, stranger)
        async with unit_of_work() as work:
            await work.owners.close(owner.id, now=NOW)
            await work.commit()
        deleted = 1
        while deleted:
            async with unit_of_work() as work:
                deleted = await work.owners.delete_some(owner.id, limit=1000)
                await work.commit()
        async with unit_of_work(read_only=True) as work:
            assert [await work.files.get(owner.id, file.id) for file in files] == [None] * 3
            assert await work.files.get(stranger.id, kept.id) == kept
