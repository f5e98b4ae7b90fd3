"""The pages that may act for a user: our own, and those of CORS_ORIGINS."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from litestar.config.cors import CORSConfig
from litestar.datastructures import Headers
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from chatcore_app import Settings
from chatcore_http.errors import problem_response, send_problem

_OWN = ["Authorization", "Content-Type", "Accept", "Idempotency-Key", "Last-Event-ID", "X-Request-ID"]
_TRACING = ["traceparent", "tracestate", "baggage", "sentry-trace"]
_COMMON = ["Cache-Control", "Pragma", "X-Requested-With", "User-Agent"]
_OPENAI = [
    "OpenAI-Organization",
    "OpenAI-Project",
    "OpenAI-Beta",
    "X-Stainless-Arch",
    "X-Stainless-Async",
    "X-Stainless-Custom-Poll-Interval",
    "X-Stainless-Helper-Method",
    "X-Stainless-Lang",
    "X-Stainless-OS",
    "X-Stainless-Package-Version",
    "X-Stainless-Poll-Helper",
    "X-Stainless-Raw-Response",
    "X-Stainless-Read-Timeout",
    "X-Stainless-Retry-Count",
    "X-Stainless-Runtime",
    "X-Stainless-Runtime-Version",
    "X-Stainless-Timeout",
]
_AI_SDK = "X-Vercel-AI-UI-Message-Stream"
SENDABLE = [*_OWN, *_TRACING, *_COMMON, *_OPENAI, _AI_SDK]
"""Headers that pages of CORS_ORIGINS may send: ours, and those that tracing and browser clients of OpenAI's API, of the
AI SDK and of event streams add."""
READABLE = ["X-Request-ID", "Retry-After", "X-Should-Retry", "WWW-Authenticate", "Content-Disposition", _AI_SDK]
"""Headers that they may read."""

_PORTS = {"http": 80, "https": 443}


def is_welcome(headers: Mapping[str, str], settings: Settings) -> bool:
    """Return whether a page of the request's `Origin` may act for its user. A request without it is from no page:
    browsers send it with every POST and every WebSocket (Fetch, "append a request Origin header")."""
    origin = headers.get("origin")
    return origin is None or origin in settings.cors_origins or _is_of(origin, headers.get("host", ""))


def _is_of(origin: str, host: str) -> bool:
    """Return whether `host` served a page of `origin`. If neither names a port, the scheme does not matter: behind a
    proxy that terminates TLS the client's scheme is unknown."""
    try:
        page, own = urlsplit(origin), urlsplit(f"//{host}")
        default = _PORTS[page.scheme]
        same_port = (page.port or default) == (own.port or default)
    except (KeyError, ValueError):
        return False
    return same_port and page.hostname is not None and page.hostname == own.hostname


class RefusedPreflights:
    """Wraps the framework: answers refused preflights (Fetch §4.8) with a problem."""

    def __init__(self, app: ASGIApp, cors: CORSConfig) -> None:
        self.app = app
        self.cors = cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["method"] == "OPTIONS" and (detail := self._against(scope)):
            await send_problem(problem_response(403, "forbidden", detail), scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _against(self, scope: Scope) -> str | None:
        headers = Headers.from_scope(scope)
        origin, method = headers.get("origin"), headers.get("access-control-request-method")
        if not origin:
            return None
        if not self.cors.is_origin_allowed(origin):
            return "This origin may not call. CORS_ORIGINS names those that may."
        if method and method not in self.cors.allow_methods:
            return "This method is not used."
        asked = {name.strip().lower() for name in headers.get("access-control-request-headers", "").split(",")}
        granted = self.cors.preflight_headers["Access-Control-Allow-Headers"].lower().split(", ")
        return None if asked <= {"", *granted} else "At least one of these headers may not be sent."
