"""Bytes on their way into the database: on disk, so that no file is whole in memory."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType
from typing import Self

from chatcore.errors import FileTooLarge

_RUN = 256 * 1024  # bytes


class Spool:
    """A temporary file, for as long as it is open. `size`: in bytes. `digest`: the SHA-256 of all that it took."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="chatcore-")  # noqa: SIM115 - closed with this
        self._hash = hashlib.sha256()
        self.size: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def digest(self) -> bytes:
        return self._hash.digest()

    async def take(self, pieces: AsyncGenerator[bytes, None], *, at_most: int) -> None:
        """Close `pieces`. Raise `FileTooLarge`. It is written in runs, each with one call of a
        thread."""
        waiting, size = list[bytes](), 0
        async with aclosing(pieces):
            async for piece in pieces:
                waiting.append(piece)
                size += len(piece)
                if self.size + size > at_most:
                    raise FileTooLarge(at_most)
                if size >= _RUN:
                    await asyncio.to_thread(self._write, b"".join(waiting))
                    waiting, size = [], 0
        await asyncio.to_thread(self._write, b"".join(waiting))

    async def parts(self, size: int) -> AsyncGenerator[bytes, None]:
        """Yield what it took, in parts of so many bytes."""
        for start in range(0, self.size, size):
            yield await asyncio.to_thread(self._read, start, size)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def _read(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        return self._file.read(size)
