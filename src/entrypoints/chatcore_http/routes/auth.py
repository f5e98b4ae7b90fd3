"""/auth: accounts and sessions."""

from typing import Annotated, Any, TypedDict

from dishka.integrations.litestar import DishkaRouter, FromDishka
from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from chatcore import Authenticate, Caller, Refresh, Register, SignIn, SignOut
from chatcore.entities import check
from chatcore.errors import FieldError
from chatcore_http import schemas
from chatcore_http.routes._common import AnyRequest, described, private_router


@post("/register", status_code=201, description=described(Register))
async def register(
    data: JSONBody[schemas.Registration], request: AnyRequest, register_account: FromDishka[Register]
) -> schemas.Tokens:
    signed_in = await register_account(
        username=data.username, email=data.email, password=data.password, **_client(request)
    )
    return schemas.Tokens.of(signed_in)


@post("/login", status_code=200, description=described(SignIn))
async def login(
    data: JSONBody[schemas.Credentials], request: AnyRequest, sign_in: FromDishka[SignIn]
) -> schemas.Tokens:
    names = [name for name in (data.username, data.email, data.userid) if name]
    check(None if len(names) == 1 else FieldError("username", "give one of username, email and userid"))
    return schemas.Tokens.of(await sign_in(name=names[0], password=data.password, **_client(request)))


@post("/refresh", status_code=200, description=described(Refresh))
async def refresh(data: JSONBody[schemas.RefreshRequest], refresh_session: FromDishka[Refresh]) -> schemas.Tokens:
    return schemas.Tokens.of(await refresh_session(refresh_token=data.refresh_token))


@post("/logout", status_code=200, description=described(SignOut))
async def logout(
    caller: NamedDependency[Caller],
    sign_out: FromDishka[SignOut],
    data: JSONBody[schemas.Logout | None] = None,
    query_token: Annotated[str | None, QueryParameter(name="refresh_token")] = None,
) -> schemas.Said:
    body_token = data.refresh_token if data else None
    await sign_out(caller=caller, refresh_token=body_token or query_token)
    return schemas.Said("Signed out.")


@get("/me", description=described(Authenticate))
async def me(caller: NamedDependency[Caller]) -> schemas.User:
    return schemas.User.of(caller.user)


class _Client(TypedDict):
    user_agent: str
    address: str


def _client(request: AnyRequest) -> _Client:
    return _Client(
        user_agent=request.headers.get("user-agent", ""),
        address=request.client.host if request.client else "",
    )


def routers() -> list[Router]:
    public: list[Any] = [register, login, refresh]
    return [
        DishkaRouter(path="/auth", route_handlers=public, tags=["auth"]),
        private_router("/auth", [logout, me], tag="auth"),
    ]
