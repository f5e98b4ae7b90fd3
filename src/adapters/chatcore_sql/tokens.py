"""Sessions and refresh tokens."""

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import bindparam, insert, select, update

from chatcore.entities import RefreshToken, Session, SessionId, UserId
from chatcore.ports import Caller, TokenStore
from chatcore_sql.statements import Row, Statements
from chatcore_sql.tables import refresh_tokens, sessions, user_roles, users
from chatcore_sql.users import USER, user_from

_s = sessions.c
_t = refresh_tokens.c
_SESSION = (
    _s.id,
    _s.user_id,
    _s.login_time,
    _s.authenticated_at,
    _s.last_used_at,
    _s.expires_at,
    _s.logout_time,
    _s.user_agent,
    _s.address,
)
_TOKEN = (_t.digest, _t.session_id, _t.user_id, _t.created_at, _t.expires_at, _t.used_at)

_THIS = (_s.user_id == bindparam("user"), _s.id == bindparam("session"))
_ADD_SESSION = insert(sessions)
_CALLER = select(*_SESSION, *USER).select_from(sessions.join(users).outerjoin(user_roles)).where(*_THIS)
_UPDATE = update(sessions).where(*_THIS)
_REVOKE = _UPDATE.where(_s.logout_time.is_(None))
_ADD_TOKEN = insert(refresh_tokens)
_TOKEN_OF = select(*_TOKEN).where(_t.digest == bindparam("token"))
_EXCHANGE = update(refresh_tokens).where(
    _t.digest == bindparam("token"), _t.used_at.is_(None), _t.expires_at > bindparam("now")
)


def _session_from(row: Row) -> Session:
    id_, user_id, login_time, authenticated_at, last_used_at, expires_at, logout_time, user_agent, address = row
    return Session(
        id=id_,
        user_id=user_id,
        login_time=login_time,
        authenticated_at=authenticated_at,
        last_used_at=last_used_at,
        expires_at=expires_at,
        logout_time=logout_time,
        user_agent=user_agent,
        address=address,
    )


class SqlTokenStore(TokenStore):
    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def add_session(self, session: Session) -> None:
        await self._statements.insert(_ADD_SESSION, **asdict(session))

    async def caller(self, user_id: UserId, session_id: SessionId) -> Caller | None:
        rows = await self._statements.rows(_CALLER, user=user_id, session=session_id)
        if not rows:
            return None
        width = len(_SESSION)
        return Caller(user_from([row[width:] for row in rows]), _session_from(rows[0][:width]))

    async def touch(self, user_id: UserId, session_id: SessionId, *, now: datetime) -> None:
        await self._statements.change(_UPDATE, user=user_id, session=session_id, last_used_at=now)

    async def revoke(self, user_id: UserId, session_id: SessionId, *, now: datetime) -> bool:
        return await self._statements.change(_REVOKE, user=user_id, session=session_id, logout_time=now) == 1

    async def add_refresh_token(self, token: RefreshToken) -> None:
        await self._statements.insert(_ADD_TOKEN, **asdict(token))

    async def refresh_token(self, digest: bytes) -> RefreshToken | None:
        row = await self._statements.first(_TOKEN_OF, token=digest)
        if row is None:
            return None
        digest, session_id, user_id, created_at, expires_at, used_at = row
        return RefreshToken(
            digest=digest,
            session_id=session_id,
            user_id=user_id,
            created_at=created_at,
            expires_at=expires_at,
            used_at=used_at,
        )

    async def exchange(self, digest: bytes, *, now: datetime) -> bool:
        return await self._statements.change(_EXCHANGE, token=digest, now=now, used_at=now) == 1
