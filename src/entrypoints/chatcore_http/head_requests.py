"""HEAD where monitors and load balancers ask with it."""

from typing import Any, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

PATHS = ("/", "/health", "/ready")


class HeadRequests:
    """Before the framework: answered as GET is (RFC 9110 §9.3.2). The server, which knows better, sends no body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["method"] == "HEAD" and scope["path"] in PATHS:
            scope = cast("Any", {**scope, "method": "GET"})
        await self.app(scope, receive, send)
