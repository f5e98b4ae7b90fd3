"""HEAD on the paths that monitors and load balancers ask."""

from typing import Any, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

PATHS = ("/", "/health", "/ready")


class HeadRequests:
    """Wraps the framework: answers HEAD as GET (RFC 9110 §9.3.2). The server sends no body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["method"] == "HEAD" and scope["path"] in PATHS:
            scope = cast("Any", {**scope, "method": "GET"})
        await self.app(scope, receive, send)
