"""Accounts, as their owners and as administrators see them."""

from abc import abstractmethod
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from chatcore.entities import DEFAULT_ROLE, AccountRole, ConversationId, OwnerId, Profile, User, UserId


class UserRepo(Protocol):
    @abstractmethod
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
        """Store a new, active user. Names are compared by `identity_key`.

        Raise `UsernameTaken` or `EmailTaken`; the unit of work is then only good for rolling back.
        """

    @abstractmethod
    async def find(self, name: str) -> User | None:
        """The user with this username or, if there is an `@` in it, this e-mail address."""

    @abstractmethod
    async def hold(self, user_id: UserId, *, password_hash: str) -> bool:
        """Whether the user is active and has this hash. If so, that stays so until this unit of work is closed; others
        may ask the same meanwhile."""

    @abstractmethod
    async def set_password_hash(
        self, user_id: UserId, password_hash: str, *, known: str | None = None, now: datetime
    ) -> bool:
        """Overwrite the hash if it is still the `known` one (None: whatever it is) and the user is active: one
        conditional UPDATE. False: it was not."""

    @abstractmethod
    async def set_username(self, user_id: UserId, username: str, *, now: datetime) -> None:
        """Do nothing if the user is gone. Raise `UsernameTaken`, but not for another spelling of their own."""

    @abstractmethod
    async def set_email(self, user_id: UserId, email: str, *, now: datetime) -> None:
        """As `set_username`. Raise `EmailTaken`, but not for another spelling of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """An account that comes from another system. `created_at`: None for one that has forgotten it."""

    username: str
    email: str | None = None
    password_hash: str = field(repr=False)
    roles: frozenset[str] = frozenset({DEFAULT_ROLE})
    is_active: bool = True
    profile: Profile = Profile()
    created_at: datetime | None = None


class Administration(Protocol):
    """Accounts, for whoever administers them. Sees across owners."""

    @abstractmethod
    async def users(self, *, containing: str = "", before: UserId | None = None, limit: int) -> Sequence[User]:
        """The highest id first, those below `before` if given; only those with this in the username or the e-mail
        address, compared by `identity_key`. Its cost grows with how many do not match."""

    @abstractmethod
    async def user(self, user_id: UserId) -> User | None: ...

    @abstractmethod
    async def closed_conversations(self, *, limit: int) -> Sequence[tuple[OwnerId, ConversationId]]:
        """Conversations that `ConversationRepo.delete` has begun with."""

    @abstractmethod
    async def roles(self) -> Sequence[AccountRole]:
        """All that there are, by name."""

    @abstractmethod
    async def taken(self, *, usernames: Collection[str], emails: Collection[str]) -> tuple[Set[str], Set[str]]:
        """The usernames, and the e-mail addresses, that somebody has and that are the same as one of these
        (`identity_key`), as they are written there."""

    @abstractmethod
    async def add_users(self, users: Sequence["NewUser"], *, now: datetime) -> Sequence[UserId]:
        """Store them all; `now` is when those came into being who do not say, and when all were last changed.

        Their ids, in their order.

        Raise `UsernameTaken` or `EmailTaken`; the unit of work is then only good for rolling back.
        """

    @abstractmethod
    async def lock(self) -> None:
        """Nobody else returns from here until this unit of work is closed: those who act with a role, and those who
        make or end administrators, come one after the other. It has to be the unit's first call."""

    @abstractmethod
    async def only_admin(self) -> UserId | None:
        """The one active user with the role `admin`, if there is one and no second. It takes the `lock`: of two admins
        that go at once, the later one is the last."""

    @abstractmethod
    async def set_active(self, user_id: UserId, active: bool, *, now: datetime) -> bool:
        """False: there is no such user."""

    @abstractmethod
    async def grant(self, user_id: UserId, role: str, *, now: datetime) -> None:
        """Nothing happens if the user has the role. Raise `NotFound` if there is no such user, or no such role."""

    @abstractmethod
    async def revoke(self, user_id: UserId, role: str, *, now: datetime) -> None:
        """Nothing happens if the user does not have the role, or is gone."""
