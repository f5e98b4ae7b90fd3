"""What the routes share, and the routes of other systems: parameters, descriptions, private routers."""

import inspect
from typing import Annotated, Any, TypedDict

from dishka.integrations.litestar import DishkaRouter
from litestar import Request, Router
from litestar.di import Provide
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter, QueryParameter

from chatcore import Scope
from chatcore_http.auth import (
    SECURITY,
    SECURITY_WITH_KEYS,
    address_of,
    allows,
    provide_caller,
    require_role,
    signed_in,
)

AnyRequest = Request[Any, Any, Any]
_END = r"(?!\n)$"  # in Python `$` is also before a last line break
PathId = Annotated[int, PathParameter(ge=0, le=2**63 - 1)]


def matching(pattern: str, description: str, **more: Any) -> QueryParameter:
    """Return a query parameter that matches a whole regular expression, here and in JavaScript."""
    return QueryParameter(pattern=f"^{pattern}{_END}", description=description, **more)


class Client(TypedDict):
    user_agent: str
    address: str


def client_of(request: AnyRequest) -> Client:
    """Return what a session stores of the client that opened it."""
    return Client(user_agent=request.headers.get("user-agent", ""), address=address_of(request))


def described(use_case: type) -> str:
    """Return a use case's docstring, for the API document."""
    return inspect.getdoc(use_case) or ""


def answering(shape: type | None, description: str, **more: Any) -> ResponseSpec:
    """Return an answer for the API document, without the framework's made-up examples, which need a package that
    production does not have."""
    return ResponseSpec(shape, description=description, generate_examples=False, **more)


def private_router(
    path: str,
    handlers: list[Any],
    *,
    tag: str,
    role: str | None = None,
    keys: bool = False,
    scope: Scope | None = None,
    **more: Any,
) -> Router:
    """Make a router for signed-in users, with this role if given; handlers get the user as `caller`. `keys`: personal
    API keys open it, too, with `scope` or by default as `allows` says. `more`: options of the router."""
    return DishkaRouter(
        path=path,
        route_handlers=handlers,
        guards=[allows(scope) if keys else signed_in, *([] if role is None else [require_role(role)])],
        security=SECURITY_WITH_KEYS if keys else SECURITY,
        dependencies={"caller": Provide(provide_caller, sync_to_thread=False)},
        tags=[tag],
        **more,
    )
