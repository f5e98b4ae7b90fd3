"""Users, sessions and refresh tokens in memory."""

from collections.abc import Callable, Collection, Sequence, Set
from dataclasses import replace
from datetime import datetime

from chatcore.authority import Caller
from chatcore.entities import OwnerId, Profile, RefreshToken, Session, SessionId, User, UserId, identity_key
from chatcore.errors import EmailTaken, NotFound, UsernameTaken
from chatcore.ports import TokenStore, UserRepo
from chatcore_memory.state import State, Transaction, owned


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
            id=UserId(OwnerId(self._transaction.new_id())),
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
            state.owners[user.id] = None
            state.users[user.id] = user
            return user

        return await self._transaction.write(insert)

    async def find(self, name: str) -> User | None:
        search = by_email if "@" in name else by_username
        return await self._transaction.read(lambda state: search(state, name))

    async def hold(self, user_id: UserId, *, password_hash: str) -> bool:
        def select(state: State) -> bool:
            user = state.users.get(user_id)
            return user is not None and user.is_active and user.password_hash == password_hash

        return await self._transaction.write(select)

    async def set_password_hash(
        self, user_id: UserId, password_hash: str, *, known: str | None = None, now: datetime
    ) -> bool:
        def update(state: State) -> bool:
            user = state.users.get(user_id)
            if user is None or not user.is_active or known not in (None, user.password_hash):
                return False
            state.users[user_id] = replace(user, password_hash=password_hash, updated_at=now)
            return True

        return await self._transaction.write(update)

    async def set_username(self, user_id: UserId, username: str, *, now: datetime) -> None:
        def update(state: State) -> None:
            if user := state.users.get(user_id):
                if by_username(state, username) not in (None, user):
                    raise UsernameTaken
                state.users[user_id] = replace(user, username=username, updated_at=now)

        await self._transaction.write(update)

    async def set_email(self, user_id: UserId, email: str, *, now: datetime) -> None:
        def update(state: State) -> None:
            if user := state.users.get(user_id):
                if by_email(state, email) not in (None, user):
                    raise EmailTaken
                state.users[user_id] = replace(user, email=email, updated_at=now)

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
            if session.user_id not in state.users:
                raise NotFound
            state.sessions[session.id] = session

        await self._transaction.write(insert)

    async def caller(self, user_id: UserId, session_id: SessionId) -> Caller | None:
        def select(state: State) -> Caller | None:
            session = owned(state.sessions, user_id, session_id)
            return Caller(state.users[user_id], session) if session else None

        return await self._transaction.read(select)

    async def key_holder(self, digest: bytes) -> Caller | None:
        def select(state: State) -> Caller | None:
            found = (each for each in state.sessions.values() if each.key and each.key.digest == digest)
            session = next(found, None)
            return Caller(state.users[session.user_id], session) if session else None

        return await self._transaction.read(select)

    async def hold(
        self, user_id: UserId, session_id: SessionId, *, role: str | None = None, alone: bool = False, now: datetime
    ) -> bool:
        def select(state: State) -> bool:
            session = owned(state.sessions, user_id, session_id)
            if session is None or not session.alive(now):
                return False
            user = state.users[user_id]
            return user.is_active and (role is None or role in user.roles)

        return await self._transaction.write(select)

    async def alive(self, session_ids: Collection[SessionId], *, now: datetime) -> Set[SessionId]:
        def select(state: State) -> Set[SessionId]:
            sessions = (state.sessions[id_] for id_ in session_ids if id_ in state.sessions)
            return {each.id for each in sessions if each.alive(now) and state.users[each.user_id].is_active}

        return await self._transaction.read(select)

    async def touch(self, user_id: UserId, session_id: SessionId, *, now: datetime) -> None:
        def update(state: State) -> None:
            if session := owned(state.sessions, user_id, session_id):
                state.sessions[session_id] = replace(session, last_used_at=now)

        await self._transaction.write(update)

    async def sessions(self, user_id: UserId, *, limit: int, offset: int) -> Sequence[Session]:
        return await self._page(user_id, limit, offset, keys=False)

    async def keys(self, user_id: UserId, *, limit: int, offset: int) -> Sequence[Session]:
        return await self._page(user_id, limit, offset, keys=True)

    async def live_keys(self, user_id: UserId, *, limit: int, now: datetime) -> int:
        keys = await self._page(user_id, None, 0, keys=True)
        return min(limit, sum(key.alive(now) for key in keys))

    async def _page(self, user_id: UserId, limit: int | None, offset: int, *, keys: bool) -> Sequence[Session]:
        def select(state: State) -> Sequence[Session]:
            theirs = [each for each in state.sessions.values() if each.user_id == user_id]
            theirs = [each for each in theirs if (each.key is not None) is keys]
            theirs.sort(key=lambda session: (session.login_time, session.id), reverse=True)
            return theirs[offset:][:limit]

        return await self._transaction.read(select)

    async def revoke(self, user_id: UserId, session_id: SessionId, *, now: datetime) -> bool:
        def update(state: State) -> bool:
            session = owned(state.sessions, user_id, session_id)
            if session is None or session.logout_time is not None:
                return False
            state.sessions[session_id] = _ended(session, now)
            return True

        return await self._transaction.write(update)

    async def revoke_others(self, user_id: UserId, session_id: SessionId, *, now: datetime) -> None:
        await self._revoke(user_id, lambda session: session.id != session_id and session.key is None, now)

    async def revoke_all(self, user_id: UserId, *, keys: bool, now: datetime) -> None:
        await self._revoke(user_id, lambda session: keys or session.key is None, now)

    async def _revoke(self, user_id: UserId, chosen: Callable[[Session], bool], now: datetime) -> None:
        def update(state: State) -> None:
            for session in state.sessions.values():
                if session.user_id == user_id and session.logout_time is None and chosen(session):
                    state.sessions[session.id] = _ended(session, now)

        await self._transaction.write(update)

    async def add_refresh_token(self, token: RefreshToken) -> None:
        def insert(state: State) -> None:
            if owned(state.sessions, token.user_id, token.session_id) is None:
                raise NotFound
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

    async def delete_expired(self, *, before: datetime, limit: int) -> int:
        def remove(state: State) -> int:
            sessions = [each.id for each in state.sessions.values() if each.expires_at < before][:limit]
            for session_id in sessions:
                del state.sessions[session_id]
            state.refresh_tokens = {
                digest: token for digest, token in state.refresh_tokens.items() if token.session_id in state.sessions
            }
            tokens = [each.digest for each in state.refresh_tokens.values() if each.expires_at < before][:limit]
            for digest in tokens:
                del state.refresh_tokens[digest]
            return len(sessions) + len(tokens)

        return await self._transaction.write(remove)


def _ended(session: Session, now: datetime) -> Session:
    """A key also expires, so that it is swept away."""
    return replace(session, logout_time=now, expires_at=session.expires_at if session.key is None else now)
