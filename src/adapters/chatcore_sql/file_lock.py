"""One process per SQLite file, and nobody else's eyes."""

import os
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
    """The exclusive lock on `<file>.lock`, which ends with the process, however that ends. Windows has none.

    Files that are made are their owner's alone, whatever the umask; those that SQLite makes beside them take after
    the first.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._held: TextIO | None = None

    def acquire(self) -> None:
        """Raise `DatabaseInUse`, which names the file."""
        held = _private(self._file.with_name(self._file.name + ".lock"))
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
        _private(self._file).close()

    def release(self) -> None:
        if self._held is not None:
            with suppress(OSError):
                self._held.close()
            self._held = None


def _private(file: Path) -> TextIO:
    """Open it for appending. One that is made may be read by its owner only."""
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a")
