"""Who asks. A guard runs before anything of the request is parsed, so that a stranger learns nothing of a route."""

from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import Components, SecurityScheme

from chatcore import Authenticate, Caller
from chatcore.errors import Unauthenticated

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
    """The guard of every route that belongs to a user."""
    authenticate = await connection.state.dishka_container.get(Authenticate)
    connection.scope["auth"] = await authenticate(access_token=bearer_token(connection))


def bearer_token(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """RFC 6750 §2.1. Raises `Unauthenticated` if there is none."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated
    return token.strip()


def provide_caller(request: Request[Any, Any, Any]) -> Caller:
    caller: Caller = request.scope["auth"]
    return caller
