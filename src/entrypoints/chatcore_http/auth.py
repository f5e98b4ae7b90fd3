"""Authentication. Guards run before the request is parsed, so that strangers learn nothing of a route."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias, cast

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import Components, SecurityScheme
from structlog.contextvars import bind_contextvars

from chatcore import Authenticate, Caller, OpenOwner, Owner
from chatcore.errors import Forbidden, Unauthenticated
from chatcore_asgi import Authenticate as OwnAuthenticate
from chatcore_asgi import Scope, identified

Connection: TypeAlias = ASGIConnection[Any, Any, Any, Any]
SCHEME = "BearerToken"
SECURITY: list[dict[str, list[str]]] = [{SCHEME: []}]
COMPONENTS = Components(
    security_schemes={
        SCHEME: SecurityScheme(
            type="http",
            scheme="bearer",
            bearer_format="JWT",
            description="The `access_token` of register, login or refresh.",
        )
    }
)


class Identity(Protocol):
    """Finds out who asks."""

    async def of(self, connection: Connection) -> Owner:
        """Raise `Unauthenticated`, `AccountDisabled`."""
        ...


class AccessTokens(Identity):
    """By chatcore's own accounts and sessions."""

    def __init__(self, authenticate: Authenticate) -> None:
        self._authenticate = authenticate

    async def of(self, connection: Connection) -> Owner:
        return await self.holder_of(bearer_token(connection))

    async def holder_of(self, token: str) -> Caller:
        """Raise `Unauthenticated`, `AccountDisabled`."""
        return await self._authenticate(access_token=token)


class OwnIdentity(Identity):
    """By the embedding program's `authenticate`."""

    def __init__(self, authenticate: OwnAuthenticate, open_owner: OpenOwner) -> None:
        self._authenticate = authenticate
        self._open_owner = open_owner

    async def of(self, connection: Connection) -> Owner:
        user = await identified(self._authenticate, cast("Scope", connection.scope))
        return await self._open_owner(user=user.user, tenant=user.tenant)


async def signed_in(connection: Connection, _: BaseRouteHandler) -> None:
    """The guard of every route for signed-in users."""
    identity = await connection.state.dishka_container.get(Identity)
    connection.scope["auth"] = await identity.of(connection)


def require_role(role: str) -> Callable[[Connection, BaseRouteHandler], Awaitable[None]]:
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
