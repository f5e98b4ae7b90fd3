"""Users, sessions and refresh tokens in memory."""

from dataclasses import replace
from datetime import datetime

from chatcore.entities import Profile, RefreshToken, Session, SessionId, User, UserId, identity_key
from chatcore.errors import EmailTaken, UsernameTaken
from chatcore.ports import Caller, TokenStore, UserRepo
from chatcore_memory.state import State, Transaction


class MemoryUsers(UserRepo):
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

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
        user = User(
            id=UserId(self._transaction.new_id()),
            username=username,
            email=email,
            password_hash=password_hash,
            roles=roles,
            profile=profile,
            created_at=now,
            updated_at=now,
        )

        def insert(state: State) -> User:
            if by_username(state, username):
                raise UsernameTaken
            if email is not None and by_email(state, email):
                raise EmailTaken
            state.users[user.id] = user
            return user

        return await self._transaction.write(insert)

    async def find(self, name: str) -> User | None:
        search = by_email if "@" in name else by_username
        return await self._transaction.read(lambda state: search(state, name))

    async def set_password_hash(self, user_id: UserId, password_hash: str, *, now: datetime) -> None:
        def update(state: State) -> None:
            if user := state.users.get(user_id):
                state.users[user_id] = replace(user, password_hash=password_hash, updated_at=now)

        await self._transaction.write(update)


def by_username(state: State, username: str) -> User | None:
    key = identity_key(username)
    return next((user for user in state.users.values() if identity_key(user.username) == key), None)


def by_email(state: State, email: str) -> User | None:
    key = identity_key(email)
    return next((user for user in state.users.values() if user.email and identity_key(user.email) == key), None)


class MemoryTokens(TokenStore):
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def add_session(self, session: Session) -> None:
        def insert(state: State) -> None:
            state.sessions[session.id] = session

        await self._transaction.write(insert)

    async def caller(self, user_id: UserId, session_id: SessionId) -> Caller | None:
        def select(state: State) -> Caller | None:
            session = session_of(state, user_id, session_id)
            return Caller(state.users[user_id], session) if session else None

        return await self._transaction.read(select)

    async def touch(self, user_id: UserId, session_id: SessionId, *, now: datetime) -> None:
        def update(state: State) -> None:
            if session := session_of(state, user_id, session_id):
                state.sessions[session_id] = replace(session, last_used_at=now)

        await self._transaction.write(update)

    async def revoke(self, user_id: UserId, session_id: SessionId, *, now: datetime) -> bool:
        def update(state: State) -> bool:
            session = session_of(state, user_id, session_id)
            if session is None or session.logout_time is not None:
                return False
            state.sessions[session_id] = replace(session, logout_time=now)
            return True

        return await self._transaction.write(update)

    async def add_refresh_token(self, token: RefreshToken) -> None:
        def insert(state: State) -> None:
            state.refresh_tokens[token.digest] = token

        await self._transaction.write(insert)

    async def refresh_token(self, digest: bytes) -> RefreshToken | None:
        return await self._transaction.read(lambda state: state.refresh_tokens.get(digest))

    async def exchange(self, digest: bytes, *, now: datetime) -> bool:
        def update(state: State) -> bool:
            token = state.refresh_tokens.get(digest)
            if token is None or token.used_at is not None or token.expires_at <= now:
                return False
            state.refresh_tokens[digest] = replace(token, used_at=now)
            return True

        return await self._transaction.write(update)


def session_of(state: State, user_id: UserId, session_id: SessionId) -> Session | None:
    session = state.sessions.get(session_id)
    return session if session and session.user_id == user_id else None
