"""The archive that ChatGPT's export comes in, or any with histories in it: read where it lies, never unpacked."""

import re
import zlib
from asyncio import to_thread
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from tempfile import TemporaryFile
from typing import IO, Any, cast
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from chatcore.errors import FieldError, ValidationFailed

LARGEST_DIRECTORY = 4 * 1024 * 1024
"""Bytes of an archive's list of files, each of which takes some hundred more in memory."""

_PIECE = 256 * 1024
_NUMBERED, _SINGLE = re.compile(r"conversations-\d+\.json"), re.compile(r"conversations\.json")
_JSON = re.compile(r".*\.jsonl?")


class Unpackable(Exception):
    """A file of the archive cannot be unpacked, or not within the bound."""


class Archive:
    """The file stays its owner's. Raise `ValidationFailed` if it is no archive, or one with too many files."""

    def __init__(self, file: IO[bytes], *, longest: int | None = None) -> None:
        """`longest`: bytes that are unpacked of it, all in all."""
        self._left = longest
        try:
            self._zip = ZipFile(cast("Any", _Bounded(file)))
        except (BadZipFile, ValueError, NotImplementedError, EOFError) as error:
            detail = "must be an archive that is whole, with less than 40,000 files"
            raise ValidationFailed([FieldError("body", detail)]) from error

    def histories(self) -> Sequence[ZipInfo]:
        """ChatGPT's conversations, in the order of their numbers; if there are none, whatever else is JSON."""
        files = [file for file in self._zip.infolist() if not file.filename.startswith("__MACOSX/")]
        for pattern in (_NUMBERED, _SINGLE, _JSON):
            if found := [file for file in files if pattern.fullmatch(_name(file))]:
                return sorted(found, key=lambda file: (len(_name(file)), file.filename))
        return ()

    async def read(self, file: ZipInfo) -> AsyncGenerator[bytes, None]:
        """Raise `Unpackable`."""
        if file.compress_type not in (ZIP_STORED, ZIP_DEFLATED) or file.flag_bits & 1:
            raise Unpackable("is compressed or encrypted in a way that is not supported")
        try:
            with self._zip.open(file) as member:
                while piece := await to_thread(member.read, _PIECE):
                    self._count(len(piece))
                    yield piece
        except (BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
            raise Unpackable("is damaged in the archive") from error

    def _count(self, unpacked: int) -> None:
        if self._left is not None:
            self._left -= unpacked
            if self._left < 0:
                raise Unpackable("is more than may be unpacked of one archive")


async def spooled(body: AsyncGenerator[bytes, None]) -> IO[bytes]:
    """The body in a file without a name, since the list of an archive's files is at its end."""
    file = cast("IO[bytes]", await to_thread(TemporaryFile))
    try:
        async with aclosing(body):
            async for piece in body:
                await to_thread(file.write, piece)
    except BaseException:
        file.close()
        raise
    return file


class _Bounded:
    """A file that is not read by large pieces: `zipfile` reads the whole list of files at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > LARGEST_DIRECTORY:
            raise BadZipFile
        return self._file.read(LARGEST_DIRECTORY if size < 0 else size)


def _name(file: ZipInfo) -> str:
    return file.filename.rpartition("/")[2]
