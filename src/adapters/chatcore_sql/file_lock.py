"""One process per SQLite file."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from chatcore.errors import Unavailable

if sys.platform != "win32":
    import fcntl


class DatabaseInUse(Unavailable):
    """Another process serves this SQLite file."""


class FileLock:
    """The exclusive lock on `<file>.lock`, which ends with the process, however that ends. Windows has none."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._held: TextIO | None = None

    def acquire(self) -> None:
        """Raises `DatabaseInUse`, which names the file."""
        held = self._file.with_name(self._file.name + ".lock").open("a")
        try:
            if sys.platform != "win32":
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            raise DatabaseInUse(
                f"{self._file} is in use by another process, and SQLite serves only one. "
                "Stop the other one, or use MySQL or PostgreSQL."
            ) from None
        self._held = held

    def release(self) -> None:
        if self._held is not None:
            with suppress(OSError):
                self._held.close()
            self._held = None
