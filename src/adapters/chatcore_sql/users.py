"""Accounts."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import BindParameter, bindparam, delete, insert, select, true, update
from sqlalchemy.exc import IntegrityError

from chatcore.entities import MAX_NAME, Profile, User, UserId, identity_key, storable
from chatcore.errors import EmailTaken, UsernameTaken
from chatcore.ports import UserRepo
from chatcore_sql.dialects.mysql import BY_KEY, by_index
from chatcore_sql.failures import violates
from chatcore_sql.mapped import Mapped
from chatcore_sql.pages import LIMIT, newest_first
from chatcore_sql.statements import Row, Statements
from chatcore_sql.storage import stored_bytes
from chatcore_sql.tables import (
    LARGEST_ID,
    conversations,
    messages,
    reply_log,
    sessions,
    user_roles,
    user_storage,
    users,
)

AT_ONCE = 500  # rows to find with one statement; for a list of 1,000 MariaDB reads the whole table

_u = users.c
_c = conversations.c
_m = messages.c
_r = reply_log.c
_USERS = Mapped(User, users)
USER = (*_USERS.columns, user_roles.c.role)

_FIND = select(*USER).select_from(users.outerjoin(user_roles))
_BY_USERNAME = _FIND.where(_u.username_key == bindparam("key"))
_BY_EMAIL = _FIND.where(_u.email_key == bindparam("key"))
_ADD = insert(users)
_ADD_ROLE = insert(user_roles)
_ADD_STORAGE = insert(user_storage)
_UPDATE = update(users).where(_u.id == bindparam("user"))
_SET_PASSWORD = _UPDATE.where(_u.is_active == true())
_REPLACE_PASSWORD = _SET_PASSWORD.where(_u.password_hash == bindparam("known"))
_HOLD = (
    select(_u.id)
    .where(_u.id == bindparam("user"), _u.password_hash == bindparam("known"), _u.is_active == true())
    .with_for_update(read=True)
)
_LOCK = select(_u.id).where(_u.id == bindparam("user")).with_for_update()
_CONVERSATIONS = select(_c.id).where(_c.user_id == bindparam("user")).order_by(_c.id)
_LOCK_CONVERSATIONS = (
    select(_c.id)
    .where(_c.user_id == bindparam("user"), _c.id.in_(bindparam("conversations", expanding=True)))
    .with_hint(conversations, **BY_KEY)
    .with_for_update()
)
_CLOSE = _UPDATE.where(_u.closed_at.is_(None)).with_hint(**BY_KEY)
_DELETE_ROLES = delete(user_roles).where(user_roles.c.user_id == bindparam("user"))
_DELETE_SESSIONS = delete(sessions).where(sessions.c.user_id == bindparam("user"))
# First looked for, then deleted by key: a range that is deleted locks what lies beside it.
_SOME_MESSAGES = newest_first(
    select(_m.id).with_hint(messages, **by_index("ix_messages_user_id_id")),
    {_m.user_id: bindparam("user")},
    _m.id,
).limit(LIMIT)
_SOME_CONVERSATIONS = newest_first(
    select(_c.id).with_hint(conversations, **by_index("uq_conversations_user_id_id")),
    {_c.user_id: bindparam("user")},
    _c.id,
).limit(LIMIT)
_SOME_LOG = select(_r.reply_id).where(_r.user_id == bindparam("user")).distinct().limit(LIMIT)
_THESE: BindParameter[int] = bindparam("these", expanding=True)
# With the part of a batch that goes at once: for each conversation PostgreSQL looks for its messages once more, among
# the entries of those that are just deleted.
_DELETIONS = (
    (1, _SOME_MESSAGES, delete(messages).where(_m.user_id == bindparam("user"), _m.id.in_(_THESE))),
    (1, _SOME_LOG, delete(reply_log).where(_r.user_id == bindparam("user"), _r.reply_id.in_(_THESE))),
    (20, _SOME_CONVERSATIONS, delete(conversations).where(_c.user_id == bindparam("user"), _c.id.in_(_THESE))),
)
_DELETE = delete(users).where(_u.id == bindparam("user"))
_DELETE_LOG = delete(reply_log).where(reply_log.c.user_id == bindparam("user"))


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
        try:
            user_id = await self._statements.insert(
                _ADD,
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
        await self._statements.insert(_ADD_STORAGE, user_id=user_id, stored_bytes=0)
        await self._statements.insert_all(_ADD_ROLE, [{"user_id": user_id, "role": role} for role in sorted(roles)])
        return User(
            id=user_id,
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

    async def stored_bytes(self, user_id: UserId) -> int:
        return await stored_bytes(self._statements, user_id) or 0

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

    async def close(self, user_id: UserId, *, now: datetime) -> bool:
        nameless = {"username": "", "username_key": f"@{user_id}", "email": None, "email_key": None}
        gone = {**nameless, "password_hash": "", "is_active": False, "closed_at": now, "profile": Profile()}
        if await self._statements.change(_CLOSE, user=user_id, **gone) != 1:
            return False
        await self._statements.change(_DELETE_ROLES, user=user_id)
        await self._statements.change(_DELETE_SESSIONS, user=user_id)
        return True

    async def delete_some(self, user_id: UserId, *, limit: int) -> int:
        for part, some, deletion in _DELETIONS:
            page = {"before": LARGEST_ID, "limit": -(-limit // part)}
            rows = await self._statements.rows(some, user=user_id, **page)
            if keys := sorted(row[0] for row in rows):
                await self._statements.change(deletion, user=user_id, these=keys)
                return len(keys)
        return 0

    async def delete(self, user_id: UserId) -> bool:
        await self._statements.lock(_LOCK, user=user_id)  # first, as `TokenStore.hold` takes it
        await self._lock_conversations(user_id)
        deleted = await self._statements.change(_DELETE, user=user_id)  # foreign keys take along all but the log
        await self._statements.change(_DELETE_LOG, user=user_id)
        return deleted == 1

    async def _lock_conversations(self, user_id: UserId) -> None:
        """So that all is taken in the order in which those who write and end replies take it: the conversation, then
        its owner and its index entries, then the log. Else the two wait for each other."""
        ids = [row[0] for row in await self._statements.rows(_CONVERSATIONS, user=user_id)]
        for start in range(0, len(ids), AT_ONCE):
            chunk = ids[start : start + AT_ONCE]
            await self._statements.lock(_LOCK_CONVERSATIONS, user=user_id, conversations=chunk)

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
