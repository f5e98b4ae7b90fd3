"""The authority on which a transaction changes something.

What was read when a request arrived is only good for refusing: its body may arrive minutes later. Each transaction that
changes something first confirms its authority (`acting`), and anything that would end that authority waits until the
transaction is over. Once a sign-out, a revocation or a change of password is answered, nothing commits on the earlier
authority.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from chatcore.entities import OwnerId, Scope, Session, User
from chatcore.errors import (
    AccountDisabled,
    Forbidden,
    InsufficientScope,
    ModelNotConfigured,
    NotFound,
    Raises,
    Unauthenticated,
    Unavailable,
)

if TYPE_CHECKING:
    from chatcore.ports import AuthorityWork, UnitsOfWork

W = TypeVar("W", bound="AuthorityWork")

ANYTIME: Raises = (Unavailable,)
"""Errors of every use case, which needs the database."""
CHANGING: Raises = (*ANYTIME, Unauthenticated, AccountDisabled, InsufficientScope)
"""Errors of every use case that changes an owner's data."""
ADMINISTERING: Raises = (*CHANGING, Forbidden)
"""Errors of every use case that needs a role."""


class Authority(ABC):
    """An immutable value that permits changes. Each kind confirms itself."""

    __slots__ = ()

    def require(self, scope: Scope | None) -> None:  # noqa: B027 - most are no keys
        """Raise `InsufficientScope` if it is a personal API key that lacks the scope. None: if it is any such key."""

    @abstractmethod
    async def confirm(self, work: "AuthorityWork", *, now: datetime, role: str | None, alone: bool) -> None:
        """Confirm that this authority is valid and has the role; it stays valid until the unit of work is closed.
        `alone`: no other unit confirms an authority of this user meanwhile.

        Raise `Unauthenticated`, `AccountDisabled`, `Forbidden`.
        """


class Owner(Authority):
    """An authority over what one owner has."""

    __slots__ = ()

    @property
    @abstractmethod
    def owner(self) -> OwnerId: ...

    @property
    def name(self) -> tuple[str, str]:
        """The embedding program's own id for the owner, and its tenant; empty for an account."""
        return "", ""


@dataclass(frozen=True, slots=True)
class Caller(Owner):
    """A user and their session, as of the lookup. What a personal API key may is fixed when it is made."""

    user: User
    session: Session

    @property
    def owner(self) -> OwnerId:
        return self.user.id

    def require(self, scope: Scope | None) -> None:
        key = self.session.key
        if key is not None and (scope is None or not key.allows(scope)):
            raise InsufficientScope(scope)

    async def confirm(self, work: "AuthorityWork", *, now: datetime, role: str | None, alone: bool) -> None:
        if role is not None:
            await work.administration.lock()
        if await work.tokens.hold(self.user.id, self.session.id, role=role, alone=alone, now=now):
            return
        found = await work.tokens.caller(self.user.id, self.session.id)
        if found is None or not found.session.alive(now):
            raise Unauthenticated
        raise Forbidden if found.user.is_active else AccountDisabled


@dataclass(frozen=True, slots=True)
class Vouched(Owner):
    """An owner for whom the embedding program vouches. No session can end it. `user` and `tenant`: the program's own
    id, if it has one."""

    owner_id: OwnerId
    user: str = ""
    tenant: str = ""

    @property
    def name(self) -> tuple[str, str]:
        return self.user, self.tenant

    @property
    def owner(self) -> OwnerId:
        return self.owner_id

    async def confirm(self, work: "AuthorityWork", *, now: datetime, role: str | None, alone: bool) -> None:
        """Valid until the owner is forgotten."""
        if not await work.owners.hold(self.owner_id):
            raise Unauthenticated("There is no such owner.")


@dataclass(frozen=True, slots=True)
class Operator(Authority):
    """The operator at the server, who may do anything."""

    async def confirm(self, work: "AuthorityWork", *, now: datetime, role: str | None, alone: bool) -> None:
        """Always valid."""


@asynccontextmanager
async def acting(
    unit_of_work: "UnitsOfWork[W]",
    by: Authority,
    *,
    now: datetime,
    scope: Scope | None = None,
    role: str | None = None,
    alone: bool = False,
) -> AsyncGenerator[W, None]:
    """Open a writing unit of work, and confirm the authority first. `scope`: what a personal API key needs for it;
    without one no key may do it. `alone`: the unit changes an account or its sessions.

    Raise what `Authority.require` and `Authority.confirm` raise.
    """
    by.require(scope)
    async with unit_of_work() as work:
        await by.confirm(work, now=now, role=role, alone=alone)
        yield work


@asynccontextmanager
async def planning(
    unit_of_work: "UnitsOfWork[W]", by: Authority, *, now: datetime, scope: Scope | None = None, role: str | None = None
) -> AsyncGenerator[W, None]:
    """Open a read-only unit of work for lookups before `acting`. What is missing may be gone with the account, so
    confirm the authority before raising `NotFound`.

    Raise what `Authority.require` and `Authority.confirm` raise.
    """
    by.require(scope)
    try:
        async with unit_of_work(read_only=True) as work:
            yield work
    except (NotFound, ModelNotConfigured):
        async with acting(unit_of_work, by, now=now, scope=scope, role=role):
            raise
