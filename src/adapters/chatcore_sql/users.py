"""Accounts."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import bindparam, insert, select, true, update
from sqlalchemy.exc import IntegrityError

from chatcore.entities import MAX_NAME, Profile, User, UserId, identity_key, storable
from chatcore.errors import EmailTaken, UsernameTaken
from chatcore.ports import UserRepo
from chatcore_sql.failures import violates
from chatcore_sql.mapped import Mapped
from chatcore_sql.owners import add_owner
from chatcore_sql.statements import Row, Statements
from chatcore_sql.tables import user_roles, users

_u = users.c
_USERS = Mapped(User, users)
USER = (*_USERS.columns, user_roles.c.role)

_FIND = select(*USER).select_from(users.outerjoin(user_roles))
_BY_USERNAME = _FIND.where(_u.username_key == bindparam("key"))
_BY_EMAIL = _FIND.where(_u.email_key == bindparam("key"))
_ADD = insert(users)
_ADD_ROLE = insert(user_roles)
_UPDATE = update(users).where(_u.id == bindparam("user"))
_SET_PASSWORD = _UPDATE.where(_u.is_active == true())
_REPLACE_PASSWORD = _SET_PASSWORD.where(_u.password_hash == bindparam("known"))
_HOLD = (
    select(_u.id)
    .where(_u.id == bindparam("user"), _u.password_hash == bindparam("known"), _u.is_active == true())
    .with_for_update(read=True)
)


def user_from(rows: Sequence[Row]) -> User:
    """From the columns `USER`, one row for each role."""
    row, roles = rows[0], frozenset(row[-1] for row in rows if row[-1] is not None)
    return _USERS.from_row(row[:-1], roles=roles)


class SqlUserRepo(UserRepo):
    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def add(
        self,
        *,
        username: str,
        email: str | None,
        password_hash: str,
        roles: frozenset[str],
        profile: Profile,
        now: datetime,
    ) -> User:
        user_id = await add_owner(self._statements, created_at=now)
        try:
            await self._statements.insert(
                _ADD,
                id=user_id,
                username=username,
                username_key=identity_key(username),
                email=email,
                email_key=identity_key(email) if email is not None else None,
                password_hash=password_hash,
                is_active=True,
                profile=profile,
                created_at=now,
                updated_at=now,
            )
        except IntegrityError as error:
            raise taken(error) from None  # the database's message has the name in it
        await self._statements.insert_all(_ADD_ROLE, [{"user_id": user_id, "role": role} for role in sorted(roles)])
        return User(
            id=UserId(user_id),
            username=username,
            email=email,
            password_hash=password_hash,
            roles=roles,
            profile=profile,
            created_at=now,
            updated_at=now,
        )

    async def find(self, name: str) -> User | None:
        if len(name) > MAX_NAME or storable(name) != name:
            return None
        statement = _BY_EMAIL if "@" in name else _BY_USERNAME
        rows = await self._statements.rows(statement, key=identity_key(name))
        return user_from(rows) if rows else None

    async def hold(self, user_id: UserId, *, password_hash: str) -> bool:
        return await self._statements.lock(_HOLD, user=user_id, known=password_hash) is not None

    async def set_password_hash(
        self, user_id: UserId, password_hash: str, *, known: str | None = None, now: datetime
    ) -> bool:
        values: dict[str, object] = {"user": user_id, "password_hash": password_hash, "updated_at": now}
        if known is None:
            return await self._statements.change(_SET_PASSWORD, **values) == 1
        return await self._statements.change(_REPLACE_PASSWORD, known=known, **values) == 1

    async def set_username(self, user_id: UserId, username: str, *, now: datetime) -> None:
        await self._rename(user_id, username=username, username_key=identity_key(username), updated_at=now)

    async def set_email(self, user_id: UserId, email: str, *, now: datetime) -> None:
        await self._rename(user_id, email=email, email_key=identity_key(email), updated_at=now)

    async def _rename(self, user_id: UserId, **values: object) -> None:
        try:
            await self._statements.change(_UPDATE, user=user_id, **values)
        except IntegrityError as error:
            raise taken(error) from None  # the database's message has the name in it


def taken(error: IntegrityError) -> Exception:
    """What it means that a user cannot be stored."""
    if violates(error, "username_key"):
        return UsernameTaken()
    if violates(error, "email_key"):
        return EmailTaken()
    return error
