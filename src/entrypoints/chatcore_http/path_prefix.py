"""A path prefix: behind a proxy that strips it, or mounted in another application.

Routes do not change; the application's own URLs (in pages, the API document, the refresh cookie's path) begin with the
prefix.
"""

import re
from ipaddress import ip_address, ip_network
from typing import Any, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from chatcore_app import Settings

_SCOPE_KEY = "chatcore_prefix"
_PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*){1,20}")
_LONGEST = 200


class PathPrefix:
    """Wraps the whole application. `X-Forwarded-Prefix` is believed only from TRUSTED_PROXIES; ASGI's `root_path` is
    set by the server or the other application."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._trusted = [ip_network(proxy) for proxy in settings.trusted_proxies]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in (ScopeType.HTTP, ScopeType.WEBSOCKET):
            scope = self._stripped(scope)
        await self.app(scope, receive, send)

    def _stripped(self, scope: Any) -> Scope:
        root, forwarded = scope.get("root_path", "").rstrip("/"), self._forwarded(scope)
        if not root and not forwarded:
            return cast("Scope", scope)
        path, raw_path = scope["path"], scope.get("raw_path") or b""
        if root and (path == root or path.startswith(f"{root}/")):
            path, raw_path = path[len(root) :] or "/", raw_path.removeprefix(root.encode()) or b"/"
        prefix = _plain(root if forwarded == root else forwarded + root)
        own = {"path": path, "raw_path": raw_path, "root_path": "", _SCOPE_KEY: prefix}
        return cast("Scope", {**scope, **own})

    def _forwarded(self, scope: Any) -> str:
        given = next((value for name, value in scope["headers"] if name == b"x-forwarded-prefix"), b"")
        if not given or not self._is_trusted(scope):
            return ""
        return _plain(given.decode("latin-1").partition(",")[0].strip().rstrip("/"))

    def _is_trusted(self, scope: Any) -> bool:
        try:
            address = ip_address(scope["client"][0] if scope["client"] else "")
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


def _plain(prefix: str) -> str:
    """Return the prefix, or nothing if it could be more than a path in a page, a script or a cookie."""
    return prefix if len(prefix) <= _LONGEST and _PREFIX.fullmatch(prefix) else ""


def prefix_of(scope: Any) -> str:
    """Return the prefix, such as `/chat`, or nothing."""
    prefix: str = scope.get(_SCOPE_KEY, "")
    return prefix
