"""/admin: all accounts, for the role `admin`."""

from typing import Annotated, Any

from dishka.integrations.litestar import FromDishka
from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from chatcore import (
    Caller,
    DeleteUser,
    DisableUser,
    EnableUser,
    GrantRole,
    ListRoles,
    ListSessionsOfUser,
    ListUsers,
    OwnerId,
    RevokeRole,
    RevokeSessionsOfUser,
    UserId,
)
from chatcore.entities import ADMIN_ROLE
from chatcore_http import account_schemas, schemas
from chatcore_http.routing import PathId, described, matching, private_router


@get("/users", description=described(ListUsers))
async def list_users(
    users: FromDishka[ListUsers],
    q: FromQuery[str] = "",
    cursor: Annotated[str, matching("[0-9]{0,19}", "The `next_cursor` of the previous page.")] = "",
    limit: FromQuery[int] = 20,
) -> account_schemas.Users:
    page = await users(q=q, before=_id(int(cursor)) if cursor else None, limit=limit)
    last = str(page.items[-1].id) if page.has_more else None
    return account_schemas.Users([account_schemas.User.of(user) for user in page.items], page.has_more, last, limit)


@get("/users/{user_id:int}/sessions", description=described(ListSessionsOfUser))
async def list_sessions_of_user(
    user_id: FromPath[PathId],
    caller: NamedDependency[Caller],
    sessions: FromDishka[ListSessionsOfUser],
    limit: FromQuery[int] = 20,
    offset: FromQuery[int] = 0,
) -> account_schemas.Sessions:
    page = await sessions(user_id=_id(user_id), limit=limit, offset=offset)
    items = [account_schemas.Session.seen_from(caller.session.id, session) for session in page.items]
    return account_schemas.Sessions(items, page.has_more, limit, offset)


@get("/roles", description=described(ListRoles))
async def list_roles(list_roles: FromDishka[ListRoles]) -> account_schemas.AccountRoles:
    return account_schemas.AccountRoles([account_schemas.AccountRole.of(role) for role in await list_roles()])


@post("/users/{user_id:int}/disable", status_code=200, description=described(DisableUser))
async def disable_user(
    user_id: FromPath[PathId], caller: NamedDependency[Caller], disable: FromDishka[DisableUser]
) -> account_schemas.User:
    return account_schemas.User.of(await disable(by=caller, user_id=_id(user_id)))


@post("/users/{user_id:int}/enable", status_code=200, description=described(EnableUser))
async def enable_user(
    user_id: FromPath[PathId], caller: NamedDependency[Caller], enable: FromDishka[EnableUser]
) -> account_schemas.User:
    return account_schemas.User.of(await enable(by=caller, user_id=_id(user_id)))


@post("/users/{user_id:int}/roles/grant", status_code=200, description=described(GrantRole))
async def grant_role(
    user_id: FromPath[PathId],
    data: JSONBody[account_schemas.RoleChange],
    caller: NamedDependency[Caller],
    grant: FromDishka[GrantRole],
) -> account_schemas.User:
    return account_schemas.User.of(await grant(by=caller, user_id=_id(user_id), role=data.role))


@post("/users/{user_id:int}/roles/revoke", status_code=200, description=described(RevokeRole))
async def revoke_role(
    user_id: FromPath[PathId],
    data: JSONBody[account_schemas.RoleChange],
    caller: NamedDependency[Caller],
    revoke: FromDishka[RevokeRole],
) -> account_schemas.User:
    return account_schemas.User.of(await revoke(by=caller, user_id=_id(user_id), role=data.role))


@post("/users/{user_id:int}/sessions/revoke", status_code=200, description=described(RevokeSessionsOfUser))
async def revoke_sessions_of_user(
    user_id: FromPath[PathId], caller: NamedDependency[Caller], revoke: FromDishka[RevokeSessionsOfUser]
) -> schemas.Said:
    await revoke(by=caller, user_id=_id(user_id))
    return schemas.Said("All sessions of the user are ended.")


@post("/users/{user_id:int}/delete", status_code=200, description=described(DeleteUser))
async def delete_user(
    user_id: FromPath[PathId], caller: NamedDependency[Caller], delete: FromDishka[DeleteUser]
) -> schemas.Said:
    await delete(by=caller, user_id=_id(user_id))
    return schemas.Said("The user is deleted.")


_LISTS: list[Any] = [list_users, list_sessions_of_user, list_roles]
_CHANGES: list[Any] = [disable_user, enable_user, grant_role, revoke_role, revoke_sessions_of_user, delete_user]


def routers() -> list[Router]:
    return [private_router("/admin", [*_LISTS, *_CHANGES], tag="admin", role=ADMIN_ROLE)]


def _id(number: int) -> UserId:
    return UserId(OwnerId(number))
