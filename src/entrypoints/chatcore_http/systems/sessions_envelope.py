"""System E: /user/register, and `user_info` in the answers of RESPONSE_ENVELOPE=code.

Its other routes are those under /auth: login reads `userid`, and the session table decides who is signed in.
"""

from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Annotated, Self

import msgspec
from dishka.integrations.litestar import DishkaRouter, FromDishka
from litestar import Response, Router, post
from litestar.params import JSONBody

from chatcore import CreateAccount, Profile
from chatcore_http import account_schemas
from chatcore_http.json_schema import Json, reference_to
from chatcore_http.routing import AnyRequest, client_of, described


@dataclass(frozen=True, kw_only=True)
class UserRegistration(Profile):
    """`userid` is the name to sign in with, `user_name` the displayed name."""

    userid: Annotated[str, msgspec.Meta(examples=["alice"])]
    password: Annotated[str, msgspec.Meta(examples=["correct horse battery"])]
    email: str | None = None


@dataclass(frozen=True, kw_only=True)
class UserInfo(Profile):
    """`user_name`: the displayed name, or the `userid` if there is none."""

    user_id: int
    userid: str
    email: str | None
    reg_time: datetime

    @classmethod
    def of(cls, user: account_schemas.User) -> Self:
        profile = replace(user.profile, user_name=user.profile.user_name or user.username)
        return cls(user_id=user.id, userid=user.username, email=user.email, reg_time=user.created_at, **asdict(profile))


class WithUserInfo(msgspec.Struct, frozen=True):
    """What the envelope adds to an answer that is a user or a user's tokens."""

    user_info: UserInfo


@post("/register", status_code=201, description=described(CreateAccount), called={"username": "userid"})
async def register_user(
    data: JSONBody[UserRegistration],
    request: AnyRequest,
    create_account: FromDishka[CreateAccount],
) -> account_schemas.User:
    user = await create_account(
        username=data.userid,
        email=data.email,
        password=data.password,
        profile=msgspec.convert(data, Profile, from_attributes=True),
        **client_of(request),
    )
    return account_schemas.User.of(user)


def with_user_info(response: Response[object]) -> Response[object]:
    """Add it after each handler, where answers have an envelope."""
    match response.content:
        case account_schemas.User() as user:
            response.content = _with_info(user, user)
        case account_schemas.Tokens(user=user) as tokens:
            response.content = _with_info(tokens, user)
        case _:
            pass
    return response


def _with_info(answer: msgspec.Struct, user: account_schemas.User) -> dict[str, object]:
    return {**msgspec.structs.asdict(answer), "user_info": UserInfo.of(user)}


def routers() -> list[Router]:
    return [DishkaRouter(path="/user", route_handlers=[register_user], tags=["system E"])]


# ---- in the OpenAPI document -----------------------------------------------------------------------------

_WITH_USER_INFO = {reference_to(shape) for shape in (account_schemas.User, account_schemas.Tokens)}


def describe_enveloped(responses: Json) -> None:
    """An operation's responses as they are sent."""
    for response in responses.values():
        content = response.get("content", {})
        if "application/json" in content:
            content["application/json"]["schema"] = _success(content["application/json"]["schema"])
        if (problem := content.pop("application/problem+json", None)) is not None:
            content["application/json"] = _failure(problem)


def _success(schema: Json) -> Json:
    if schema.get("$ref") in _WITH_USER_INFO:
        schema = {"allOf": [schema, {"$ref": reference_to(WithUserInfo)}]}
    return _schema({"const": 1}, {"const": "success"}, schema)


def _failure(problem: Json) -> Json:
    shown = {name: _example(example["value"]) for name, example in problem["examples"].items()}
    return {"schema": _schema({"const": 0}, {"type": "string"}, problem["schema"]), "examples": shown}


def _schema(code: Json, message: Json, data: Json) -> Json:
    properties = {"code": code, "message": message, "data": data}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _example(problem: Json) -> Json:
    return {"value": {"code": 0, "message": problem["detail"], "data": problem}}
