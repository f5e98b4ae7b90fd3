"""Answers that pass through: the bytes of an endpoint, as they come, or how it refuses its owner's call."""

from collections.abc import AsyncGenerator
from math import inf
from typing import TYPE_CHECKING

from chatcore.errors import ModelError, ModelProtocolError, ModelUnauthorized
from chatcore.ports import ModelEndpoint, OpenAnswer
from chatcore_openai.failures import Refusal

if TYPE_CHECKING:
    from chatcore_openai.transport import Body

JSON = "application/json"
_PASSING = frozenset({JSON, "text/event-stream", "application/x-ndjson", "text/plain", "application/octet-stream"})
"""Media types that no browser takes for a page."""


class Passing(OpenAnswer):
    """A success. Large reads come in slices, in turns (`_internals`)."""

    retry_after: float | None = None

    def __init__(self, body: "Body", *, status: int) -> None:
        """Raise `ModelProtocolError`."""
        self.status: int = status
        self.content_type: str = body.content_type or JSON
        self.request_id: str = body.request_id
        self.received: int = 0
        self.last: bytes = b""
        self._body = body
        if self.content_type.partition(";")[0].strip().lower() not in _PASSING:
            raise ModelProtocolError("The model endpoint answered with neither JSON nor a stream of events.")

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        body, now = self._body, self._body.now
        try:
            while piece := await body.more():
                self.received += len(piece)
                self.last = piece
                body.since = inf  # a client that reads slowly is no silence of the endpoint's
                yield piece
                body.since = now()
        except body.trouble as error:
            rest, failure = body.cut(error)
            if rest:
                self.received += len(rest)
                self.last = rest
                yield rest
            raise failure from None

    async def aclose(self) -> None:
        await self._body.aclose()


class Refused(OpenAnswer):
    """The words with which an endpoint refuses a call, for its owner."""

    content_type: str = JSON
    last: bytes = b""

    def __init__(self, refusal: Refusal) -> None:
        self.status: int = refusal.status
        self.request_id: str = refusal.request_id
        self.retry_after: float | None = refusal.retry_after
        self.received: int = 0
        self._words = refusal.body

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        self.received = len(self._words)
        if self._words:
            yield self._words

    async def aclose(self) -> None:
        """Nothing is open."""


def failure_of(refusal: Refusal, endpoint: ModelEndpoint) -> ModelError | None:
    """Return what a call raises that was refused so; None if its owner may read the endpoint's own words."""
    failure = refusal.failure
    if endpoint.trusted or isinstance(failure, ModelUnauthorized) or not 400 <= refusal.status < 600:
        return failure
    return None
