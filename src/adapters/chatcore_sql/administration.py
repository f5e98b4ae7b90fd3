"""What sees across owners for the sake of administration."""

from collections.abc import Collection, Sequence, Set
from datetime import datetime
from itertools import groupby
from operator import itemgetter

from sqlalchemy import Integer, and_, bindparam, delete, func, insert, or_, select, true, update
from sqlalchemy.exc import IntegrityError

from chatcore.entities import (
    ADMIN_ROLE,
    MAX_NAME,
    AccountRole,
    ConversationId,
    ModelConfig,
    ModelConfigId,
    OwnerId,
    User,
    UserId,
    identity_key,
    storable,
)
from chatcore.ports import Administration, NewUser, SealedKeys
from chatcore_sql.dialects.mysql import BY_KEY
from chatcore_sql.functions import InTurn
from chatcore_sql.model_configs import CONFIG, config_from
from chatcore_sql.owners import AT_ONCE, add_owner
from chatcore_sql.search import escaped
from chatcore_sql.statements import Query, Row, Statements
from chatcore_sql.tables import LARGEST_ID, Id, conversations, model_configs, roles, user_roles, users
from chatcore_sql.users import USER, taken, user_from

_u = users.c
_r = user_roles.c
_m = model_configs.c
_c = conversations.c

_USERS = (
    select(_u.id)
    .where(_u.id < bindparam("before", type_=Id))
    .order_by(_u.id.desc())
    .limit(bindparam("limit", type_=Integer))
)
_MATCHING = _USERS.where(
    or_(_u.username_key.like(bindparam("pattern"), escape="!"), _u.email_key.like(bindparam("pattern"), escape="!"))
)
_FIND = select(*USER).select_from(users.outerjoin(user_roles))
_THESE = _FIND.where(_u.id.in_(bindparam("users", expanding=True)))
_USER = _FIND.where(_u.id == bindparam("user"))
_CLOSED_CONVERSATIONS = (
    select(_c.user_id, _c.id)
    .where(_c.closed_at.is_not(None))
    .order_by(_c.closed_at)
    .limit(bindparam("limit", type_=Integer))
)
# Whoever makes or ends admins has this row, as whoever acts as one, and so they come one after the other.
_LOCK_ADMINS = select(roles.c.name).where(roles.c.name == ADMIN_ROLE).with_for_update()
_TWO_ADMINS = (
    select(_r.user_id).select_from(user_roles.join(users)).where(_r.role == ADMIN_ROLE, _u.is_active == true()).limit(2)
)
_ROLES = select(roles.c.name, roles.c.description)
_USERNAMES = select(_u.username).where(_u.username_key.in_(bindparam("keys", expanding=True)))
_EMAILS = select(_u.email).where(_u.email_key.in_(bindparam("keys", expanding=True)))
_ADD_USERS = insert(users)
_UPDATE = update(users).where(_u.id == bindparam("user"))
_HAS = select(_r.role).where(_r.user_id == bindparam("user"), _r.role == bindparam("role"))
_GRANT = insert(user_roles)
_IN_TURN = InTurn(bindparam("user", type_=Id))
_SET_ACTIVE = _UPDATE.where(_IN_TURN)
_REVOKE = delete(user_roles).where(_r.user_id == bindparam("user"), _r.role == bindparam("granted"), _IN_TURN)

# As two ranges of the index: an inequality is none to PostgreSQL.
_BUT = or_(
    and_(_m.sealed_with > "", _m.sealed_with < bindparam("newest")),
    _m.sealed_with > bindparam("newest"),
)
_SOME = select(_m.id).where(_BUT).limit(bindparam("limit", type_=Integer)).subquery()
_COUNT = select(func.count()).select_from(_SOME)
_LIST = (
    select(*CONFIG)
    .where(_BUT, _m.id > bindparam("after", type_=Id))
    .order_by(_m.id)
    .limit(bindparam("limit", type_=Integer))
)
_REPLACE = (
    update(model_configs)
    .where(_m.user_id == bindparam("owner"), _m.id == bindparam("config"), _m.sealed_key == bindparam("known"))
    .with_hint(**BY_KEY)
)


class SqlAdministration(Administration):
    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def users(self, *, containing: str = "", before: UserId | None = None, limit: int) -> Sequence[User]:
        if len(containing) > MAX_NAME or storable(containing) != containing:
            return []
        page = {"before": LARGEST_ID if before is None else before, "limit": limit}
        if containing:
            found = await self._statements.rows(_MATCHING, **page, pattern=f"%{escaped(identity_key(containing))}%")
        else:
            found = await self._statements.rows(_USERS, **page)
        if not found:
            return []
        rows = await self._statements.rows(_THESE, users=[row[0] for row in found])
        rows = sorted(rows, key=_id_of, reverse=True)
        return [user_from(list(theirs)) for _, theirs in groupby(rows, key=_id_of)]

    async def user(self, user_id: UserId) -> User | None:
        rows = await self._statements.rows(_USER, user=user_id)
        return user_from(rows) if rows else None

    async def closed_conversations(self, *, limit: int) -> Sequence[tuple[OwnerId, ConversationId]]:
        rows = await self._statements.rows(_CLOSED_CONVERSATIONS, limit=limit)
        return [(OwnerId(row[0]), ConversationId(row[1])) for row in rows]

    async def roles(self) -> Sequence[AccountRole]:
        rows = sorted(await self._statements.rows(_ROLES), key=itemgetter(0))
        return [AccountRole(name, description) for name, description in rows]

    async def taken(self, *, usernames: Collection[str], emails: Collection[str]) -> tuple[Set[str], Set[str]]:
        names = await self._known(_USERNAMES, usernames)
        return names, await self._known(_EMAILS, emails)

    async def _known(self, query: Query, names: Collection[str]) -> Set[str]:
        keys = sorted({identity_key(name) for name in names if storable(name) == name})
        known = set[str]()
        for start in range(0, len(keys), AT_ONCE):
            known.update(row[0] for row in await self._statements.rows(query, keys=keys[start : start + AT_ONCE]))
        return known

    async def add_users(self, users: Sequence[NewUser], *, now: datetime) -> Sequence[UserId]:
        added = [(UserId(await add_owner(self._statements, created_at=now)), user) for user in users]
        try:
            await self._statements.insert_all(_ADD_USERS, [{"id": id_, **_columns(user, now)} for id_, user in added])
        except IntegrityError as error:
            raise taken(error) from None  # the database's message has the names in it
        await self._statements.insert_all(
            _GRANT, [{"user_id": id_, "role": role} for id_, user in added for role in user.roles]
        )
        return [id_ for id_, _ in added]

    async def lock(self) -> None:
        await self._statements.lock(_LOCK_ADMINS)

    async def only_admin(self) -> UserId | None:
        await self.lock()
        admins = await self._statements.rows(_TWO_ADMINS)
        return UserId(admins[0][0]) if len(admins) == 1 else None

    async def set_active(self, user_id: UserId, active: bool, *, now: datetime) -> bool:
        return await self._statements.change(_SET_ACTIVE, user=user_id, is_active=active, updated_at=now) == 1

    async def grant(self, user_id: UserId, role: str, *, now: datetime) -> None:
        if await self._statements.lock(_HAS, user=user_id, role=role) is None:
            await self._statements.insert(_GRANT, user_id=user_id, role=role)
            await self._statements.change(_UPDATE, user=user_id, updated_at=now)

    async def revoke(self, user_id: UserId, role: str, *, now: datetime) -> None:
        if await self._statements.change(_REVOKE, user=user_id, granted=role):
            await self._statements.change(_UPDATE, user=user_id, updated_at=now)


class SqlSealedKeys(SealedKeys):
    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def count(self, *, but: str, limit: int) -> int:
        row = await self._statements.first(_COUNT, newest=but, limit=limit)
        return int(row[0]) if row else 0

    async def list(self, *, but: str, after: ModelConfigId | None = None, limit: int) -> Sequence[ModelConfig]:
        rows = await self._statements.rows(_LIST, newest=but, after=after or 0, limit=limit)
        return [config_from(row) for row in rows]

    async def replace(self, config: ModelConfig, *, sealed_key: str, sealed_with: str) -> bool:
        replaced = await self._statements.change(
            _REPLACE,
            owner=config.user_id,
            config=config.id,
            known=config.sealed_key,
            sealed_key=sealed_key,
            sealed_with=sealed_with,
        )
        return replaced == 1


def _columns(user: NewUser, now: datetime) -> dict[str, object]:
    return {
        "username": user.username,
        "username_key": identity_key(user.username),
        "email": user.email,
        "email_key": None if user.email is None else identity_key(user.email),
        "password_hash": user.password_hash,
        "is_active": user.is_active,
        "profile": user.profile,
        "created_at": user.created_at or now,
        "updated_at": now,
    }


def _id_of(row: Row) -> int:
    return int(row[0])
