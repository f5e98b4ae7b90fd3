"""The limit of requests per address, checked before the token and the body."""

from typing import Any, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from chatcore import RateLimits
from chatcore.errors import RateLimited

LIMITED = "chatcore.limited"
"""The key of the scope with the `RateLimited` of a request without a route."""

WATCHED_PATHS = ("/health", "/ready")
"""No limit for monitors, which may share a proxy's address."""


class RequestLimit:
    """Wraps every route. Its error is answered as any other; a WebSocket checks the limit itself, so that it can tell
    its client."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["path"] not in WATCHED_PATHS:
            await _count(scope)
        await self.app(scope, receive, send)


async def count_unrouted(_: Exception, scope: Scope) -> None:
    """Count requests without a route or method, which pass no middleware. A hook of the framework."""
    if scope["type"] == ScopeType.HTTP and "route_handler" not in scope:
        try:
            await _count(scope)
        except RateLimited as limited:
            cast("dict[str, Any]", scope)[LIMITED] = limited


async def _count(scope: Scope) -> None:
    limits = await scope["litestar_app"].state.dishka_container.get(RateLimits)
    client = scope["client"]
    await limits.try_request(client[0] if client else "")
