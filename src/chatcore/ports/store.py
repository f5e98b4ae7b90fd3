"""Where everything is stored."""

from abc import abstractmethod
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Protocol, Self

from chatcore.ports.unit_of_work import UnitOfWork


class Store(Protocol):
    """A storage adapter: an async context manager, which may be entered more than once; the last to leave closes it."""

    @property
    @abstractmethod
    def is_shared(self) -> bool:
        """Return whether other processes may use it at the same time."""

    @abstractmethod
    def unit_of_work(self, *, read_only: bool = False, urgent: bool = False) -> AbstractAsyncContextManager[UnitOfWork]:
        """As `UnitOfWorkFactory`."""

    @abstractmethod
    async def migrate(self) -> None:
        """Bring the schema to the newest revision. Of two at once, one waits and then finds nothing to do."""

    @abstractmethod
    async def is_migrated(self) -> bool:
        """Return whether the schema is at the newest revision, which is the one that this code needs."""

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
