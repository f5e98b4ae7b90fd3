"""How a stream ends that its reply outlives."""

from typing import Protocol

from chatcore import ReplyEvent
from chatcore.errors import ChatcoreError
from chatcore.wire import Problem, problem
from chatcore_http.streams import cut_off


class Encoder(Protocol):
    """The events of one reply as a protocol writes them."""

    def encode(self, event: ReplyEvent) -> bytes: ...

    def broken(self, problem: Problem) -> bytes:
        """Return the last event of a stream that the reply outlives."""
        ...


def ending_of(encoder: Encoder, error: ChatcoreError) -> bytes | None:
    """A stream whose session ends says so. The connection of any other is closed in the middle."""
    return encoder.broken(problem(error)) if cut_off(error) == b"" else None
