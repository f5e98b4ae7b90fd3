"""/auth: accounts and sessions."""

from typing import Annotated, Any

from dishka.integrations.litestar import DishkaRouter, FromDishka
from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from chatcore import (
    Authenticate,
    Caller,
    ChangeEmail,
    ChangePassword,
    ChangeUsername,
    DeleteAccount,
    ListSessions,
    Refresh,
    Register,
    RevokeOtherSessions,
    RevokeSession,
    SessionId,
    SignIn,
    SignOut,
)
from chatcore.bounds import check
from chatcore.errors import FieldError, Forbidden
from chatcore_http import account_schemas, schemas
from chatcore_http.auth import address_of
from chatcore_http.refresh_cookie import RefreshCookie
from chatcore_http.routing import AnyRequest, client_of, described, private_router


@post("/register", status_code=201, description=described(Register))
async def register(
    data: JSONBody[account_schemas.Registration],
    request: AnyRequest,
    register_account: FromDishka[Register],
    cookie: FromDishka[RefreshCookie],
) -> Response[account_schemas.Tokens]:
    signed_in = await register_account(
        username=data.username, email=data.email, password=data.password, **client_of(request)
    )
    return cookie.answer(signed_in, request)


@post("/login", status_code=200, description=described(SignIn))
async def login(
    data: JSONBody[account_schemas.Credentials],
    request: AnyRequest,
    sign_in: FromDishka[SignIn],
    cookie: FromDishka[RefreshCookie],
) -> Response[account_schemas.Tokens]:
    names = [name for name in (data.username, data.email, data.userid) if name]
    check(None if len(names) == 1 else FieldError("username", "give one of username, email and userid"))
    signed_in = await sign_in(name=names[0], password=data.password, **client_of(request))
    return cookie.answer(signed_in, request)


@post("/refresh", status_code=200, description=described(Refresh))
async def refresh(
    data: JSONBody[account_schemas.RefreshRequest], refresh_session: FromDishka[Refresh]
) -> account_schemas.Tokens:
    return account_schemas.Tokens.of(await refresh_session(refresh_token=data.refresh_token))


@post("/refresh", status_code=200, description=described(Refresh), may_raise=(Forbidden,))
async def refresh_with_cookie(
    request: AnyRequest,
    refresh_session: FromDishka[Refresh],
    cookie: FromDishka[RefreshCookie],
    data: JSONBody[account_schemas.CookieRefresh | None] = None,
) -> Response[account_schemas.Tokens]:
    """The route instead of `refresh`, with REFRESH_COOKIE."""
    token = data.refresh_token if data else None
    if token is None:
        token = cookie.token_of(request)
    return cookie.answer(await refresh_session(refresh_token=token), request)


@post("/logout", status_code=200, description=described(SignOut))
async def logout(
    caller: NamedDependency[Caller],
    sign_out: FromDishka[SignOut],
    cookie: FromDishka[RefreshCookie],
    request: AnyRequest,
    data: JSONBody[account_schemas.Logout | None] = None,
    query_token: Annotated[str | None, QueryParameter(name="refresh_token")] = None,
) -> Response[schemas.Said]:
    body_token = data.refresh_token if data else None
    await sign_out(caller=caller, refresh_token=body_token or query_token)
    return cookie.deleted(schemas.Said("Signed out."), request)


@get("/me", description=described(Authenticate))
async def me(caller: NamedDependency[Caller]) -> account_schemas.User:
    return account_schemas.User.of(caller.user)


@post("/me/username", status_code=200, description=described(ChangeUsername))
async def change_username(
    data: JSONBody[account_schemas.UsernameChange],
    caller: NamedDependency[Caller],
    request: AnyRequest,
    change: FromDishka[ChangeUsername],
) -> account_schemas.User:
    return account_schemas.User.of(await change(caller=caller, username=data.username, address=address_of(request)))


@post("/me/email", status_code=200, description=described(ChangeEmail))
async def change_email(
    data: JSONBody[account_schemas.EmailChange],
    caller: NamedDependency[Caller],
    request: AnyRequest,
    change: FromDishka[ChangeEmail],
) -> account_schemas.User:
    user = await change(
        caller=caller, email=data.email, current_password=data.current_password, address=address_of(request)
    )
    return account_schemas.User.of(user)


@post("/me/password", status_code=200, description=described(ChangePassword))
async def change_password(
    data: JSONBody[account_schemas.PasswordChange],
    caller: NamedDependency[Caller],
    request: AnyRequest,
    change: FromDishka[ChangePassword],
    cookie: FromDishka[RefreshCookie],
) -> Response[account_schemas.Tokens]:
    signed_in = await change(caller=caller, password=data.password, current_password=data.current_password)
    return cookie.answer(signed_in, request)


@post("/me/delete", status_code=200, description=described(DeleteAccount))
async def delete_account(
    caller: NamedDependency[Caller],
    delete: FromDishka[DeleteAccount],
    cookie: FromDishka[RefreshCookie],
    request: AnyRequest,
    data: JSONBody[account_schemas.AccountDeletion | None] = None,
) -> Response[schemas.Said]:
    await delete(caller=caller, current_password=data.current_password if data else None)
    return cookie.deleted(schemas.Said("The account is deleted."), request)


@get("/sessions", description=described(ListSessions))
async def list_sessions(
    caller: NamedDependency[Caller],
    sessions: FromDishka[ListSessions],
    limit: FromQuery[int] = 20,
    offset: FromQuery[int] = 0,
) -> account_schemas.Sessions:
    page = await sessions(caller=caller, limit=limit, offset=offset)
    items = [account_schemas.Session.seen_from(caller.session.id, session) for session in page.items]
    return account_schemas.Sessions(items, page.has_more, limit, offset)


@post("/sessions/{session_id:str}/revoke", status_code=200, description=described(RevokeSession))
async def revoke_session(
    session_id: FromPath[str], caller: NamedDependency[Caller], revoke: FromDishka[RevokeSession]
) -> schemas.Said:
    await revoke(caller=caller, session_id=SessionId(session_id))
    return schemas.Said("The session is ended.")


@post("/sessions/revoke-others", status_code=200, description=described(RevokeOtherSessions))
async def revoke_other_sessions(
    caller: NamedDependency[Caller], revoke: FromDishka[RevokeOtherSessions]
) -> schemas.Said:
    await revoke(caller=caller)
    return schemas.Said("All other sessions are ended.")


_ACCOUNT: list[Any] = [change_username, change_email, change_password, delete_account]
_SESSIONS: list[Any] = [list_sessions, revoke_session, revoke_other_sessions]


def routers(*, refresh_cookie: bool = False) -> list[Router]:
    public: list[Any] = [register, login, refresh_with_cookie if refresh_cookie else refresh]
    return [
        DishkaRouter(path="/auth", route_handlers=public, tags=["auth"]),
        private_router("/auth", [logout, me, *_ACCOUNT, *_SESSIONS], tag="auth"),
    ]
