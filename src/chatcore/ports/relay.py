"""Calls of a model endpoint whose answers pass through as they come."""

from abc import abstractmethod
from collections.abc import AsyncGenerator
from typing import Protocol, runtime_checkable

from chatcore.ports.models import ModelEndpoint


class OpenAnswer(Protocol):
    """An endpoint's answer, whose body is yet to come. Close it.

    `status`: 200 to 299, or the 400 to 599 with which an owner's own endpoint refuses a call. `request_id`: the
    endpoint's own name for the call. `retry_after`: seconds. `received`: bytes of the body so far. `last`: the piece
    that came last.
    """

    status: int
    content_type: str
    request_id: str
    retry_after: float | None
    received: int
    last: bytes

    @abstractmethod
    def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives, byte for byte. Call it once. Raise a `ModelError` if it does not come to its
        end; what was yielded before stays said."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connection, unless the whole body was read."""


@runtime_checkable
class ModelRelay(Protocol):
    """Passes a request on to a model endpoint."""

    @abstractmethod
    async def relay(self, endpoint: ModelEndpoint, path: str, body: bytes) -> OpenAnswer:
        """POST this JSON to the endpoint's URL with `path` behind it (`/chat/completions`), once, and return the
        answer as soon as its head is there. A cancelled call closes its connection.

        Raise a `ModelError` where there is no answer that may pass: none at all, a redirect, one that is compressed or
        neither JSON, text nor a stream of events; a refused key (`ModelUnauthorized`); and whatever the operator's own
        endpoint (`endpoint.trusted`) refuses. No text of the endpoint's reaches an error.
        """
