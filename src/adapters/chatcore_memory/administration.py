"""What sees across owners for the sake of administration, in memory."""

from collections.abc import Collection, Sequence, Set
from dataclasses import replace
from datetime import datetime

from chatcore.entities import (
    ADMIN_ROLE,
    DEFAULT_ROLE,
    ROLES,
    AccountRole,
    ConversationId,
    ModelConfig,
    ModelConfigId,
    OwnerId,
    User,
    UserId,
    identity_key,
)
from chatcore.errors import EmailTaken, NotFound, UsernameTaken
from chatcore.ports import Administration, NewUser, SealedKeys
from chatcore_memory.accounts import by_email, by_username
from chatcore_memory.state import State, Transaction

_ROLES = (
    AccountRole(ADMIN_ROLE, "Administers all accounts."),
    AccountRole(DEFAULT_ROLE, "Holds conversations of their own."),
)


class MemoryAdministration(Administration):
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def users(self, *, containing: str = "", before: UserId | None = None, limit: int) -> Sequence[User]:
        part = identity_key(containing)

        def select(state: State) -> Sequence[User]:
            found = [
                user
                for _, user in sorted(state.users.items(), reverse=True)
                if (before is None or user.id < before)
                and (part in identity_key(user.username) or part in identity_key(user.email or ""))
            ]
            return found[:limit]

        return await self._transaction.read(select)

    async def user(self, user_id: UserId) -> User | None:
        return await self._transaction.read(lambda state: state.users.get(user_id))

    async def closed_conversations(self, *, limit: int) -> Sequence[tuple[OwnerId, ConversationId]]:
        return await self._transaction.read(
            lambda state: [(each.user_id, each.id) for each in state.closing.values()][:limit]
        )

    async def roles(self) -> Sequence[AccountRole]:
        return _ROLES

    async def taken(self, *, usernames: Collection[str], emails: Collection[str]) -> tuple[Set[str], Set[str]]:
        def select(state: State) -> tuple[Set[str], Set[str]]:
            names = {user.username for user in state.users.values()}
            addresses = {user.email for user in state.users.values() if user.email is not None}
            return _same(names, usernames), _same(addresses, emails)

        return await self._transaction.read(select)

    async def add_users(self, users: Sequence[NewUser], *, now: datetime) -> Sequence[UserId]:
        def insert(state: State) -> Sequence[UserId]:
            added = list[UserId]()
            for new in users:
                if by_username(state, new.username):
                    raise UsernameTaken
                if new.email is not None and by_email(state, new.email):
                    raise EmailTaken
                user = _user(UserId(OwnerId(self._transaction.new_id())), new, now)
                state.owners[user.id] = None
                state.users[user.id] = user
                added.append(user.id)
            return added

        return await self._transaction.write(insert)

    async def lock(self) -> None:
        await self._transaction.write(lambda _: None)

    async def only_admin(self) -> UserId | None:
        def select(state: State) -> UserId | None:
            admins = [user.id for user in state.users.values() if user.is_active and ADMIN_ROLE in user.roles]
            return admins[0] if len(admins) == 1 else None

        return await self._transaction.write(select)

    async def set_active(self, user_id: UserId, active: bool, *, now: datetime) -> bool:
        def update(state: State) -> bool:
            if user := state.users.get(user_id):
                state.users[user_id] = replace(user, is_active=active, updated_at=now)
            return user is not None

        return await self._transaction.write(update)

    async def grant(self, user_id: UserId, role: str, *, now: datetime) -> None:
        def update(state: State) -> None:
            user = state.users.get(user_id)
            if user is None or role not in ROLES:
                raise NotFound
            if role not in user.roles:
                state.users[user_id] = replace(user, roles=user.roles | {role}, updated_at=now)

        await self._transaction.write(update)

    async def revoke(self, user_id: UserId, role: str, *, now: datetime) -> None:
        def update(state: State) -> None:
            user = state.users.get(user_id)
            if user and role in user.roles:
                state.users[user_id] = replace(user, roles=user.roles - {role}, updated_at=now)

        await self._transaction.write(update)


def _same(names: Set[str], wanted: Collection[str]) -> Set[str]:
    keys = {*map(identity_key, wanted)}
    return {name for name in names if identity_key(name) in keys}


def _user(user_id: UserId, new: NewUser, now: datetime) -> User:
    return User(
        id=user_id,
        username=new.username,
        email=new.email,
        password_hash=new.password_hash,
        roles=new.roles,
        is_active=new.is_active,
        profile=new.profile,
        created_at=new.created_at or now,
        updated_at=now,
    )


class MemorySealedKeys(SealedKeys):
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def count(self, *, but: str, limit: int) -> int:
        return len(await self.list(but=but, limit=limit))

    async def list(self, *, but: str, after: ModelConfigId | None = None, limit: int) -> Sequence[ModelConfig]:
        def select(state: State) -> Sequence[ModelConfig]:
            found = [
                config
                for _, config in sorted(state.model_configs.items())
                if config.sealed_with not in ("", but) and (after is None or config.id > after)
            ]
            return found[:limit]

        return await self._transaction.read(select)

    async def replace(self, config: ModelConfig, *, sealed_key: str, sealed_with: str) -> bool:
        def update(state: State) -> bool:
            stored = state.model_configs.get(config.id)
            if stored is None or (stored.user_id, stored.sealed_key) != (config.user_id, config.sealed_key):
                return False
            state.model_configs[config.id] = replace(stored, sealed_key=sealed_key, sealed_with=sealed_with)
            return True

        return await self._transaction.write(update)
