"""What clients of other protocols asked for, beside the replies that they got."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from chatcore.entities import MessageId, OwnerId, Request


class RequestRepo(Protocol):
    """A request is deleted with its conversation."""

    @abstractmethod
    async def add(self, request: Request) -> None:
        """Its reply is in the same conversation."""

    @abstractmethod
    async def get(self, owner: OwnerId, reply_id: MessageId) -> Request | None: ...

    @abstractmethod
    async def list(
        self, owner: OwnerId, kind: str, *, after: MessageId | None, limit: int, newest_first: bool
    ) -> Sequence[Request]:
        """By the reply's id. `after`: the id of the last one of the page before."""

    @abstractmethod
    async def change(self, owner: OwnerId, reply_id: MessageId, body: Mapping[str, Any]) -> bool:
        """Replace the body. False: there is no such request."""

    @abstractmethod
    async def delete(self, owner: OwnerId, reply_id: MessageId) -> bool: ...
