"""The JSON shapes of accounts, sessions and roles, as `schemas` has the others."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self, cast

import msgspec
from msgspec import Meta

from chatcore import entities
from chatcore.issuing import SignedIn
from chatcore_http.shapes import Listing, Shape


class User(Shape, frozen=True):
    id: int
    username: str
    email: str | None
    roles: list[str]
    is_active: bool
    profile: entities.Profile
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, entity: entities.User) -> Self:
        return msgspec.structs.replace(super().of(entity), roles=sorted(entity.roles))


class Tokens(msgspec.Struct, frozen=True):
    user: User
    access_token: str
    refresh_token: str
    expires_in: Annotated[int, Meta(description="Lifetime of the access token in seconds.")]
    token_type: Literal["bearer"] = "bearer"

    @classmethod
    def of(cls, signed_in: SignedIn) -> Self:
        return cls(
            User.of(signed_in.user),
            signed_in.access_token,
            signed_in.refresh_token,
            signed_in.expires_in,
        )


class Registration(msgspec.Struct, frozen=True):
    username: Annotated[str, Meta(examples=["alice"])]
    password: Annotated[str, Meta(examples=["correct horse battery"])]
    email: Annotated[str, Meta(examples=["alice@example.com"])] | None = None


class Credentials(msgspec.Struct, frozen=True):
    """Exactly one of `username`, `email` and `userid` (a username or an e-mail address)."""

    password: Annotated[str, Meta(examples=["correct horse battery"])]
    username: Annotated[str, Meta(examples=["alice"])] | None = None
    email: str | None = None
    userid: str | None = None


class RefreshRequest(msgspec.Struct, frozen=True):
    refresh_token: str


class CookieRefresh(msgspec.Struct, frozen=True):
    """Without a token, the cookie's is used."""

    refresh_token: str | None = None


class Logout(msgspec.Struct, frozen=True):
    refresh_token: str | None = None


class UsernameChange(msgspec.Struct, frozen=True):
    username: Annotated[str, Meta(examples=["alice2"])]


class EmailChange(msgspec.Struct, frozen=True):
    email: Annotated[str, Meta(examples=["alice@example.org"])]
    current_password: str | None = None


class PasswordChange(msgspec.Struct, frozen=True):
    password: Annotated[str, Meta(examples=["a longer and better one"])]
    current_password: str | None = None


class AccountDeletion(msgspec.Struct, frozen=True):
    current_password: str | None = None


class Session(Shape, frozen=True):
    """`current`: the session of this request."""

    id: str
    login_time: datetime
    logout_time: datetime | None
    last_used_at: datetime
    user_agent: str
    address: str
    current: bool

    @classmethod
    def seen_from(cls, current: entities.SessionId, session: entities.Session) -> Self:
        named: dict[str, Any] = {name: getattr(session, name, None) for name in cls.__struct_fields__}
        named["current"] = session.id == current
        return cls(**named)


class Sessions(Listing[Session], frozen=True):
    pass


class ApiKey(Shape, frozen=True):
    """A personal API key. `hint`: its last four characters."""

    id: str
    name: str
    hint: str
    scopes: list[entities.Scope]
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, entity: entities.Session, **more: str) -> Self:
        key = cast("entities.KeyGrant", entity.key)
        return cls(
            id=entity.id,
            name=key.name,
            hint=key.hint,
            scopes=sorted(key.scopes),
            created_at=entity.login_time,
            last_used_at=None if entity.last_used_at == entity.login_time else entity.last_used_at,
            expires_at=None if entity.expires_at == entities.NEVER else entity.expires_at,
            revoked_at=entity.logout_time,
            **more,
        )


class ApiKeys(Listing[ApiKey], frozen=True):
    pass


class CreatedApiKey(ApiKey, frozen=True, kw_only=True):
    """`key`: the key itself, which no other answer has."""

    key: str


class NewApiKey(msgspec.Struct, frozen=True):
    """`scopes`: `chat` by default, which includes `read`. `expires_at`: with an offset; by default never."""

    name: Annotated[str, Meta(examples=["laptop"])]
    scopes: Annotated[list[entities.Scope], Meta(min_length=1, max_length=len(entities.Scope))] | None = None
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None


class Users(msgspec.Struct, frozen=True):
    items: list[User]
    has_more: bool
    next_cursor: str | None
    limit: int


class AccountRole(Shape, frozen=True):
    """A role that an account can have."""

    name: str
    description: str


class AccountRoles(msgspec.Struct, frozen=True):
    items: list[AccountRole]
    has_more: Literal[False] = False


class RoleChange(msgspec.Struct, frozen=True):
    role: Annotated[str, Meta(examples=["admin"])]
