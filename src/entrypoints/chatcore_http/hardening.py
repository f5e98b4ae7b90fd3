"""Security headers of every response, and the refusal of plain HTTP in production."""

from collections.abc import Awaitable, Iterable
from ipaddress import IPv6Address, ip_address

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send, WebSocketScope

from chatcore_app import Settings
from chatcore_http.errors import problem_response, send_problem
from chatcore_http.request_limit import WATCHED_PATHS

HTTPS_REQUIRED = "HTTPS is required. If a proxy terminates TLS for this server, name it in TRUSTED_PROXIES."

ALWAYS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"content-security-policy": b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
}
_HSTS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
_TOKENS = {b"authorization", b"cookie"}
_FORWARDED = {b"x-forwarded-for", b"x-forwarded-proto"}


class SecurityHeaders:
    """Wraps the whole application, unknown routes and errors included. A response's own headers win, but no response to
    a request with a token may be cached (OWASP ASVS 5.0, 3.4 and 14.3.2). The watched paths answer without TLS, for
    platforms that ask directly."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)  # a WebSocket's route looks at `in_the_clear` itself
            return
        secure = self.settings.environment == "production" and scope["scheme"] == "https"
        private = not _TOKENS.isdisjoint(name for name, _ in scope["headers"])

        def hardened_send(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = _hardened(message["headers"], private=private, secure=secure)
            return send(message)

        if scope["path"] not in WATCHED_PATHS and in_the_clear(scope, self.settings):
            refusal = problem_response(403, "https_required", HTTPS_REQUIRED)
            await send_problem(refusal, scope, receive, hardened_send)
        else:
            await self.app(scope, receive, hardened_send)


def _hardened(given: Iterable[tuple[bytes, bytes]], *, private: bool, secure: bool) -> list[tuple[bytes, bytes]]:
    headers = [pair for pair in given if not (private and pair[0] == b"cache-control")]
    names = {name for name, _ in headers}
    headers += [(name, value) for name, value in ALWAYS.items() if name not in names]
    return [*headers, _HSTS] if secure else headers


def in_the_clear(scope: HTTPScope | WebSocketScope, settings: Settings) -> bool:
    """Return whether to refuse this: in production, what arrives neither over TLS nor from this machine itself.

    TLS may end at a trusted proxy, which says so. Requests that a proxy on this machine forwards are not from here."""
    if settings.environment != "production" or scope["scheme"] in ("https", "wss"):
        return False
    passed_on = settings.trusted_proxies and not _FORWARDED.isdisjoint(name for name, _ in scope["headers"])
    return bool(passed_on) or not _is_loopback(scope["client"])


def _is_loopback(client: tuple[str, int] | None) -> bool:
    try:
        address = ip_address(client[0] if client else "")
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
