"""The Litestar application."""

from collections.abc import Collection
from functools import partial
from typing import Any

from dishka import (
    Provider,
    Scope,
    provide,  # pyright: ignore[reportUnknownVariableType]
    provide_all,
)
from dishka.integrations.litestar import LitestarProvider
from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from chatcore import Authenticate as AuthenticateCaller
from chatcore import AuthenticateKey, OpenOwner
from chatcore_app import Settings, make_container
from chatcore_asgi import Authenticate
from chatcore_http.admission import Admission
from chatcore_http.answers import Answers
from chatcore_http.auth import AccessTokens, Identity, OwnIdentity
from chatcore_http.body_limits import RequestBodies, refuse_compressed
from chatcore_http.envelope import Envelope
from chatcore_http.error_forms import ErrorForms
from chatcore_http.errors import exception_handlers
from chatcore_http.hardening import SecurityHeaders
from chatcore_http.head_requests import HeadRequests
from chatcore_http.held_bytes import HeldBytes
from chatcore_http.json_bodies import JSONRequest
from chatcore_http.open_sockets import OpenSockets
from chatcore_http.openapi import describe
from chatcore_http.opening import Opening
from chatcore_http.options import allow_all_methods
from chatcore_http.origins import READABLE, SENDABLE, RefusedPreflights
from chatcore_http.parts import ALL_PARTS, Part, parts_of
from chatcore_http.path_prefix import PathPrefix
from chatcore_http.protocols.served import SHARED, protocol_routers
from chatcore_http.refresh_cookie import RefreshCookie
from chatcore_http.request_containers import RequestContainers, Socket
from chatcore_http.request_limit import RequestLimit, count_unrouted
from chatcore_http.request_log import RequestLog
from chatcore_http.routes import (
    administration,
    ai_chat_socket,
    api_keys,
    auth,
    chat,
    conversations,
    docs,
    files,
    model_configs,
    own_data,
    socket,
    system,
)
from chatcore_http.systems import agent_api, rag_api, sessions_envelope, v1_chats


class Edge(LitestarProvider):
    """Provides what only HTTP needs."""

    _own = provide_all(Answers, OpenSockets, RefreshCookie, *SHARED, scope=Scope.APP)

    def __init__(self, authenticate: Authenticate | None) -> None:
        super().__init__()
        self._authenticate = authenticate

    @provide(scope=Scope.APP)
    def identity(self, by_token: AuthenticateCaller, by_key: AuthenticateKey, open_owner: OpenOwner) -> Identity:
        own = self._authenticate
        return AccessTokens(by_token, by_key) if own is None else OwnIdentity(own, open_owner)


def create_app(
    settings: Settings,
    *providers: Provider,
    authenticate: Authenticate | None = None,
    parts: Collection[str] | None = None,
) -> Litestar:
    """Return the application for these settings. A provider replaces what it provides, such as a test's model.

    `authenticate` says who asks, in the place of chatcore's accounts and sessions, which the application then does not
    have. `parts`: those of `Part` that it has; all by default. Routes that are left out are answered 404.

    Raise `SettingsError`, and `ValueError` for impossible parts.
    """
    settings = settings.completed()
    chosen = parts_of(parts, own_identity=authenticate is not None)
    container = make_container(settings, Edge(authenticate), *providers)
    opening = Opening(container)
    routers = partial(api_routers, settings, chosen)
    pages = docs.routers(
        settings.app_name, lambda: describe(settings, routers(), own_identity=authenticate is not None)
    )
    enveloped = settings.response_envelope == "code"
    app = Litestar(
        route_handlers=[*routers(), *_undescribed(settings, chosen), *pages],
        exception_handlers=exception_handlers(),
        lifespan=[opening.lifespan],
        openapi_config=None,
        cors_config=_cors(settings),
        before_request=refuse_compressed,
        after_exception=[count_unrouted],
        after_request=sessions_envelope.with_user_info if enveloped else None,
        request_class=JSONRequest,
        websocket_class=Socket,
        middleware=[RequestLimit],
        request_max_body_size=settings.max_body_bytes,
        debug=False,
        logging_config=None,
    )
    allow_all_methods(app)
    app.state.dishka_container = container
    app.state.opening = opening
    app.asgi_handler = RequestContainers(app.asgi_handler, opening)
    if app.cors_config:
        app.asgi_handler = RefusedPreflights(app.asgi_handler, app.cors_config)
    held = HeldBytes(settings.max_unfinished_body_bytes)
    app.asgi_handler = Admission(HeadRequests(app.asgi_handler), settings, held)
    app.asgi_handler = SecurityHeaders(app.asgi_handler, settings)
    if enveloped:
        app.asgi_handler = Envelope(app.asgi_handler)
    app.asgi_handler = ErrorForms(app.asgi_handler)
    app.asgi_handler = RequestLog(RequestBodies(app.asgi_handler, settings, held))
    if settings.trusted_proxies:
        app.asgi_handler = _behind_proxies(app.asgi_handler, settings)
    app.asgi_handler = PathPrefix(app.asgi_handler, settings)
    return app


def api_routers(settings: Settings, parts: Collection[Part] = ALL_PARTS) -> list[Router]:
    """Return new routers at each call: those of the OpenAPI document."""
    found = [*system.routers()]
    if Part.ACCOUNTS in parts:
        found += [*auth.routers(refresh_cookie=settings.refresh_cookie), *api_keys.routers()]
    found += [*model_configs.routers(), *conversations.routers()]
    found += chat.routers(max_body_bytes=settings.max_relay_body_bytes)
    found += own_data.routers(max_import_bytes=settings.max_import_bytes)
    found += files.routers(max_file_bytes=settings.max_file_bytes)
    if Part.ADMINISTRATION in parts:
        found += administration.routers()
    if Part.SYSTEMS in parts:
        found += [*rag_api.routers(), *v1_chats.routers(), *agent_api.routers(), *sessions_envelope.routers()]
    return found


def _undescribed(settings: Settings, parts: Collection[Part]) -> list[Router]:
    """Return the routers of what the OpenAPI document has no place for."""
    found = socket.routers()
    return [*found, *protocol_routers(settings), *ai_chat_socket.routers()] if Part.PROTOCOLS in parts else found


def _cors(settings: Settings) -> CORSConfig | None:
    """Let browser applications of these origins call with credentials, and read errors."""
    if not settings.cors_origins:
        return None
    return CORSConfig(
        allow_origins=list(settings.cors_origins),
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=SENDABLE,
        allow_credentials=True,
        expose_headers=READABLE,
    )


def _behind_proxies(app: Any, settings: Settings) -> Any:
    """Set address and scheme to the client's, as a trusted proxy reports them; ignore others' headers."""
    return ProxyHeadersMiddleware(app, trusted_hosts=list(settings.trusted_proxies))
