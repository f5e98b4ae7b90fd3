"""Sessions and refresh tokens."""

from collections.abc import Collection, Sequence, Set
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Integer, bindparam, case, delete, false, insert, select, true, update

from chatcore.authority import Caller
from chatcore.entities import KeyGrant, RefreshToken, Session, SessionId, UserId, storable
from chatcore.ports import TokenStore
from chatcore_sql.dialects.mysql import by_index
from chatcore_sql.functions import InTurn, InTurnShared
from chatcore_sql.mapped import Mapped
from chatcore_sql.statements import Row, Statements
from chatcore_sql.tables import Id, refresh_tokens, sessions, user_roles, users
from chatcore_sql.users import USER, user_from

_s = sessions.c
_t = refresh_tokens.c
_SESSIONS = Mapped(Session, sessions, key=Mapped(KeyGrant, sessions, prefix="key_"))
_TOKENS = Mapped(RefreshToken, refresh_tokens)
_SESSION, _session_from = _SESSIONS.columns, _SESSIONS.from_row
_TOKEN, _token_from = _TOKENS.columns, _TOKENS.from_row
_THIS = (_s.user_id == bindparam("user"), _s.id == bindparam("session"))
_IN_TURN = InTurn(bindparam("user", type_=Id))
_ADD_SESSION = insert(sessions)
_HOLDERS = select(*_SESSION, *USER).select_from(sessions.join(users).outerjoin(user_roles))
_CALLER = _HOLDERS.where(*_THIS)
_KEY_HOLDER = _HOLDERS.where(_s.key_digest == bindparam("digest"))
# The user first, then the session, as all take them. What others wait for is everything that is read here: the user
# who is active, the session that has not ended, the role. On MySQL by the index by which a new token refers to it.
_HOLD = (
    select(_s.id)
    .select_from(users.join(sessions))
    .prefix_with("STRAIGHT_JOIN", dialect="mysql")
    .with_hint(sessions, **by_index("uq_sessions_user_id_id"))
    .where(
        users.c.id == bindparam("user"),
        users.c.is_active,
        *_THIS,
        _s.logout_time.is_(None),
        _s.expires_at > bindparam("now"),
    )
)
_HOLD_ALONE = _HOLD.where(_IN_TURN).with_for_update(key_share=True)
_HOLD_ROLE = (
    _HOLD.join(user_roles, user_roles.c.user_id == users.c.id)
    .where(user_roles.c.role == bindparam("role"), _IN_TURN)
    .with_for_update(key_share=True)
)
_HOLD_SHARED = _HOLD.where(InTurnShared(bindparam("user", type_=Id))).with_for_update(read=True)
_ALIVE = (
    select(_s.id)
    .select_from(sessions.join(users))
    .where(
        _s.id.in_(bindparam("sessions", expanding=True)),
        _s.logout_time.is_(None),
        _s.expires_at > bindparam("now"),
        users.c.is_active,
    )
)
_PAGE = (
    select(*_SESSION)
    .where(_s.user_id == bindparam("user"))
    .order_by(_s.login_time.desc(), _s.id.desc())
    .limit(bindparam("limit", type_=Integer))
    .offset(bindparam("offset", type_=Integer))
)
_SIGN_INS, _KEYS = _PAGE.where(_s.is_key == false()), _PAGE.where(_s.is_key == true())
_LIVE_KEYS = (
    select(_s.id)
    .where(
        _s.user_id == bindparam("user"),
        _s.is_key == true(),
        _s.logout_time.is_(None),
        _s.expires_at > bindparam("now"),
    )
    .limit(bindparam("limit", type_=Integer))
)
_UPDATE = update(sessions).where(*_THIS)
_TOUCH = _UPDATE.where(_IN_TURN)
# A key has no other end that would ever sweep it away.
_ENDED = {_s.expires_at: case((_s.is_key == true(), bindparam("now", type_=_s.expires_at.type)), else_=_s.expires_at)}
_REVOKE = _UPDATE.where(_s.logout_time.is_(None), _IN_TURN).values(_ENDED)
# Of somebody with a good part of all sessions MySQL would read, and lock, everybody's.
_REVOKE_OTHERS = (
    update(sessions)
    .where(
        _s.user_id == bindparam("user"),
        _s.id != bindparam("session"),
        _s.is_key == false(),
        _s.logout_time.is_(None),
        _IN_TURN,
    )
    .with_hint(**by_index("uq_sessions_user_id_id"))
)
_REVOKE_ALL = (
    update(sessions)
    .where(_s.user_id == bindparam("user"), _s.logout_time.is_(None), _IN_TURN)
    .values(_ENDED)
    .with_hint(**by_index("uq_sessions_user_id_id"))
)
_REVOKE_SIGN_INS = _REVOKE_ALL.where(_s.is_key == false())
_ADD_TOKEN = insert(refresh_tokens)
_TOKEN_OF = select(*_TOKEN).where(_t.digest == bindparam("token"))
# Whoever makes or ends tokens of a session has its row, so that none is made while all are being ended. On MySQL also
# the index entry that a new token refers to: where somebody else has that first, the two wait for each other.
_LOCK = select(_s.id).with_hint(sessions, **by_index("uq_sessions_user_id_id")).with_for_update()
_USER_OF_TOKEN = select(_t.user_id).where(_t.digest == bindparam("token")).scalar_subquery()
_LOCK_OF_TOKEN = _LOCK.where(
    InTurn(_USER_OF_TOKEN),
    _s.user_id == _USER_OF_TOKEN,
    _s.id == select(_t.session_id).where(_t.digest == bindparam("token")).scalar_subquery(),
)
_EXCHANGE = update(refresh_tokens).where(
    _t.digest == bindparam("token"), _t.used_at.is_(None), _t.expires_at > bindparam("now")
)

# First looked for, then deleted by key: a range that is deleted locks what lies beside it.
_EXPIRED_SESSIONS = (
    select(_s.id)
    .where(_s.expires_at < bindparam("before"))
    .order_by(_s.expires_at)
    .limit(bindparam("limit", type_=Integer))
)
_EXPIRED_TOKENS = (
    select(_t.digest)
    .where(_t.expires_at < bindparam("before"))
    .order_by(_t.expires_at)
    .limit(bindparam("limit", type_=Integer))
)
_DELETE_SESSIONS = delete(sessions).where(_s.id.in_(bindparam("keys", expanding=True)))
_DELETE_TOKENS = delete(refresh_tokens).where(_t.digest.in_(bindparam("keys", expanding=True)))


class SqlTokenStore(TokenStore):
    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def add_session(self, session: Session) -> None:
        is_key = session.key is not None
        await self._statements.insert(_ADD_SESSION, **_SESSIONS.values(session), id=session.id, is_key=is_key)

    async def caller(self, user_id: UserId, session_id: SessionId) -> Caller | None:
        if storable(session_id) != session_id:
            return None
        return _caller_from(await self._statements.rows(_CALLER, user=user_id, session=session_id))

    async def key_holder(self, digest: bytes) -> Caller | None:
        return _caller_from(await self._statements.rows(_KEY_HOLDER, digest=digest))

    async def hold(
        self, user_id: UserId, session_id: SessionId, *, role: str | None = None, alone: bool = False, now: datetime
    ) -> bool:
        values: dict[str, object] = {"user": user_id, "session": session_id, "now": now}
        if role is not None:
            return await self._statements.lock(_HOLD_ROLE, **values, role=role) is not None
        return await self._statements.lock(_HOLD_ALONE if alone else _HOLD_SHARED, **values) is not None

    async def alive(self, session_ids: Collection[SessionId], *, now: datetime) -> Set[SessionId]:
        if not session_ids:
            return frozenset()
        return {row[0] for row in await self._statements.rows(_ALIVE, sessions=list(session_ids), now=now)}

    async def touch(self, user_id: UserId, session_id: SessionId, *, now: datetime) -> None:
        await self._statements.change(_TOUCH, user=user_id, session=session_id, last_used_at=now)

    async def sessions(self, user_id: UserId, *, limit: int, offset: int) -> Sequence[Session]:
        rows = await self._statements.rows(_SIGN_INS, user=user_id, limit=limit, offset=offset)
        return [_session_from(row) for row in rows]

    async def keys(self, user_id: UserId, *, limit: int, offset: int) -> Sequence[Session]:
        rows = await self._statements.rows(_KEYS, user=user_id, limit=limit, offset=offset)
        return [_session_from(row) for row in rows]

    async def live_keys(self, user_id: UserId, *, limit: int, now: datetime) -> int:
        return len(await self._statements.rows(_LIVE_KEYS, user=user_id, limit=limit, now=now))

    async def revoke(self, user_id: UserId, session_id: SessionId, *, now: datetime) -> bool:
        return await self._statements.change(_REVOKE, user=user_id, session=session_id, now=now, logout_time=now) == 1

    async def revoke_others(self, user_id: UserId, session_id: SessionId, *, now: datetime) -> None:
        await self._statements.change(_REVOKE_OTHERS, user=user_id, session=session_id, logout_time=now)

    async def revoke_all(self, user_id: UserId, *, keys: bool, now: datetime) -> None:
        statement = _REVOKE_ALL if keys else _REVOKE_SIGN_INS
        await self._statements.change(statement, user=user_id, now=now, logout_time=now)

    async def add_refresh_token(self, token: RefreshToken) -> None:
        await self._statements.insert(_ADD_TOKEN, **asdict(token))

    async def refresh_token(self, digest: bytes) -> RefreshToken | None:
        row = await self._statements.first(_TOKEN_OF, token=digest)
        return _token_from(row) if row else None

    async def exchange(self, digest: bytes, *, now: datetime) -> bool:
        await self._statements.lock(_LOCK_OF_TOKEN, token=digest)
        return await self._statements.change(_EXCHANGE, token=digest, now=now, used_at=now) == 1

    async def delete_expired(self, *, before: datetime, limit: int) -> int:
        deleted = 0
        for expired, deletion in ((_EXPIRED_SESSIONS, _DELETE_SESSIONS), (_EXPIRED_TOKENS, _DELETE_TOKENS)):
            rows = await self._statements.rows(expired, before=before, limit=limit)
            if keys := sorted(row[0] for row in rows):
                deleted += await self._statements.change(deletion, keys=keys)
        return deleted


def _caller_from(rows: Sequence[Row]) -> Caller | None:
    if not rows:
        return None
    width = len(_SESSION)
    return Caller(user_from([row[width:] for row in rows]), _session_from(rows[0][:width]))
