"""Parts of libraries that are not public: this module alone imports them, and pyproject.toml has their upper pins."""

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

__all__ = ["FlowControl", "HttpToolsProtocol", "RequestResponseCycle", "ServerState", "WebSocketsSansIOProtocol"]
