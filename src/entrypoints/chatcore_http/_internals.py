"""Parts of libraries that are not public: this module alone imports them, and pyproject.toml has their upper pins."""

from typing import Self

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

__all__ = [
    "FlowControl",
    "HttpToolsProtocol",
    "RequestResponseCycle",
    "ServerState",
    "WebSocketsSansIOProtocol",
    "end_with_the_connection",
]


class _Unbounded(int):
    """A length that nobody knows: nothing is more than it, and anything is all of it."""

    def __lt__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__

    def __sub__(self, other: int) -> Self:
        return self


def end_with_the_connection(cycle: RequestResponseCycle) -> None:
    """The body of an answer of unknown length ends where its connection does, since the client knows no chunks."""
    cycle.chunked_encoding = False
    cycle.expected_content_length = _Unbounded()
