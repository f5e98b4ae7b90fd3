"""Parts of libraries that are not public: this module alone imports them, and pyproject.toml has their upper pins."""

from typing import Any, Self

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
    "without_chunks",
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


def without_chunks(app: Any, cycle: RequestResponseCycle) -> Any:
    """Answer a client of HTTP/1.0, which knows no Transfer-Encoding (RFC 9112 §6.1): a body of unknown length ends
    where its connection does."""

    async def answered(scope: Any, receive: Any, send: Any) -> None:
        async def plain_send(message: Any) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message.get("headers", ())}
                if b"content-length" not in names:
                    cycle.chunked_encoding = False
                    cycle.expected_content_length = _Unbounded()
            await send(message)

        await app(scope, receive, plain_send)

    return answered
