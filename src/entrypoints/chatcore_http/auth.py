"""Authentication. Guards run before the request is parsed, so that strangers learn nothing of a route."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias, cast

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import Components, SecurityScheme
from structlog.contextvars import bind_contextvars

from chatcore import Authenticate, AuthenticateKey, Caller, OpenOwner, Owner, Scope
from chatcore.errors import Forbidden, Unauthenticated
from chatcore.use_cases.api_keys import PREFIX
from chatcore_asgi import Authenticate as OwnAuthenticate
from chatcore_asgi import Scope as ConnectionScope
from chatcore_asgi import identified

Connection: TypeAlias = ASGIConnection[Any, Any, Any, Any]
Guard: TypeAlias = Callable[[Connection, BaseRouteHandler], Awaitable[None]]
SCHEME, KEY_SCHEME = "BearerToken", "ApiKey"
SECURITY: list[dict[str, list[str]]] = [{SCHEME: []}]
SECURITY_WITH_KEYS: list[dict[str, list[str]]] = [*SECURITY, {KEY_SCHEME: []}]
COMPONENTS = Components(
    security_schemes={
        SCHEME: SecurityScheme(
            type="http",
            scheme="bearer",
            bearer_format="JWT",
            description="The `access_token` of register, login or refresh.",
        ),
        KEY_SCHEME: SecurityScheme(
            type="http",
            scheme="bearer",
            description="A personal API key of `POST /auth/keys/create`: `ck-…`. GET needs its scope `read`, the rest "
            "`chat`, which includes that.",
        ),
    }
)


class Identity(Protocol):
    """Finds out who asks."""

    async def of(self, connection: Connection, scope: Scope | None) -> Owner:
        """`scope`: what a personal API key needs; without one no key will do. Raise `Unauthenticated`,
        `AccountDisabled`, `InsufficientScope`, `RateLimited`."""
        ...


class AccessTokens(Identity):
    """By chatcore's own accounts: access tokens of their sessions, and personal API keys."""

    def __init__(self, authenticate: Authenticate, authenticate_key: AuthenticateKey) -> None:
        self._authenticate = authenticate
        self._authenticate_key = authenticate_key

    async def of(self, connection: Connection, scope: Scope | None) -> Owner:
        return await self.holder_of(bearer_token(connection), scope)

    async def holder_of(self, token: str, scope: Scope | None) -> Caller:
        """As `of`."""
        if token.startswith(PREFIX):
            return await self._authenticate_key(key=token, needs=scope)
        return await self._authenticate(access_token=token)


class OwnIdentity(Identity):
    """By the embedding program's `authenticate`."""

    def __init__(self, authenticate: OwnAuthenticate, open_owner: OpenOwner) -> None:
        self._authenticate = authenticate
        self._open_owner = open_owner

    async def of(self, connection: Connection, scope: Scope | None) -> Owner:
        user = await identified(self._authenticate, cast("ConnectionScope", connection.scope))
        return await self._open_owner(user=user.user, tenant=user.tenant)


async def signed_in(connection: Connection, _: BaseRouteHandler) -> None:
    """The guard of routes for signed-in users, which no personal API key opens."""
    await _identify(connection, None)


def allows(scope: Scope | None = None) -> Guard:
    """Return the guard of routes that access tokens open, and personal API keys with this scope: by default `read` for
    GET, and `chat` for other methods."""

    async def guard(connection: Connection, _: BaseRouteHandler) -> None:
        reads = cast("dict[str, Any]", connection.scope).get("method") in ("GET", "HEAD")
        await _identify(connection, scope or (Scope.READ if reads else Scope.CHAT))

    return guard


async def _identify(connection: Connection, scope: Scope | None) -> None:
    identity = await connection.state.dishka_container.get(Identity)
    connection.scope["auth"] = await identity.of(connection, scope)


def require_role(role: str) -> Guard:
    """Return a guard, after `signed_in`, for users who have this role now, according to the database."""

    async def guard(connection: Connection, _: BaseRouteHandler) -> None:
        caller: Caller = connection.scope["auth"]
        if role not in caller.user.roles:
            raise Forbidden
        bind_contextvars(by_user_id=caller.user.id)  # in the log, whatever is logged until this request ends

    return guard


def bearer_token(connection: Connection) -> str:
    """Return the bearer token (RFC 6750 §2.1). Raise `Unauthenticated` if there is none."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated
    return token.strip()


def address_of(connection: Connection) -> str:
    """Return the client's address, as far as it is known."""
    return connection.client.host if connection.client else ""


def provide_caller(request: Request[Any, Any, Any]) -> Owner:
    caller: Owner = request.scope["auth"]
    return caller
