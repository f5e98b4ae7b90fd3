"""Authentication. Guards run before the request is parsed, so that strangers learn nothing of a route."""

from collections.abc import Awaitable, Callable
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import Components, SecurityScheme
from structlog.contextvars import bind_contextvars

from chatcore import Authenticate, Caller
from chatcore.errors import Forbidden, Unauthenticated

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


async def signed_in(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """The guard of every route for signed-in users."""
    authenticate = await connection.state.dishka_container.get(Authenticate)
    connection.scope["auth"] = await authenticate(access_token=bearer_token(connection))


def require_role(role: str) -> Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], Awaitable[None]]:
    """Return a guard, after `signed_in`, for users who have this role now, according to the database."""

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        caller: Caller = connection.scope["auth"]
        if role not in caller.user.roles:
            raise Forbidden
        bind_contextvars(by_user_id=caller.user.id)  # in the log, whatever is logged until this request ends

    return guard


def bearer_token(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """Return the bearer token (RFC 6750 §2.1). Raise `Unauthenticated` if there is none."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated
    return token.strip()


def address_of(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """Return the client's address, as far as it is known."""
    return connection.client.host if connection.client else ""


def provide_caller(request: Request[Any, Any, Any]) -> Caller:
    caller: Caller = request.scope["auth"]
    return caller
