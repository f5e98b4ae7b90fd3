"""The bytes of requests that are not in work: waiting ones, and incomplete bodies."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from chatcore.errors import Unavailable

_SHARE = 4  # one network may hold the fourth part of all bytes


class HeldBytes:
    """Counts held bytes, of all networks and of each."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._all = 0
        self._of = Counter[str]()

    def hold(self, network: str, size: int) -> None:
        """Raise `Unavailable`."""
        if self._all + size > self._most or self._of[network] + size > self._most // _SHARE:
            raise Unavailable("Too many requests are arriving at once. Try again shortly.")
        self._all += size
        self._of[network] += size

    def release(self, network: str, size: int) -> None:
        self._all -= size
        self._of[network] -= size
        if self._of[network] <= 0:
            del self._of[network]

    @contextmanager
    def holding(self, network: str, size: int) -> Generator[None, None, None]:
        """Raise `Unavailable`."""
        self.hold(network, size)
        try:
            yield
        finally:
            self.release(network, size)
