"""In whose name something is changed, and whether they still may.

What was read when a request arrived is only good for refusing: its body may come minutes later. So each transaction
that changes something begins by confirming the authority that it acts on (`acting`), and whatever takes that authority
away waits until the transaction is over. Once a sign-out, a revocation or a change of the password has been answered,
nothing is committed on the authority of before.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from chatcore.entities import Session, User, UserId
from chatcore.errors import (
    AccountDisabled,
    Forbidden,
    ModelNotConfigured,
    NotFound,
    Raises,
    Unauthenticated,
    Unavailable,
)

if TYPE_CHECKING:
    from chatcore.ports import UnitOfWork, UnitOfWorkFactory

ANYTIME: Raises = (Unavailable,)
"""What any use case may raise: it needs the database."""
CHANGING: Raises = (*ANYTIME, Unauthenticated, AccountDisabled)
"""What any may raise that changes something of its owner's."""
ADMINISTERING: Raises = (*CHANGING, Forbidden)
"""What any may raise that needs a role."""


class Authority(ABC):
    """An immutable value that may change something. Each kind knows what it rests on."""

    __slots__ = ()

    @abstractmethod
    async def confirm(self, work: "UnitOfWork", *, now: datetime, role: str | None, alone: bool) -> None:
        """Return if this authority holds and has the role; it then holds until the unit of work is closed. `alone`: no
        other unit confirms an authority of this user meanwhile.

        Raises `Unauthenticated`, `AccountDisabled`, `Forbidden`.
        """


class Owner(Authority):
    """An authority over what one user owns."""

    __slots__ = ()

    @property
    @abstractmethod
    def owner(self) -> UserId: ...


@dataclass(frozen=True, slots=True)
class Caller(Owner):
    """A user, and the session through which they ask, as they were when they were looked up."""

    user: User
    session: Session

    @property
    def owner(self) -> UserId:
        return self.user.id

    async def confirm(self, work: "UnitOfWork", *, now: datetime, role: str | None, alone: bool) -> None:
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
    """A user for whom the embedding program vouches. There is no session that could end."""

    owner_id: UserId

    @property
    def owner(self) -> UserId:
        return self.owner_id

    async def confirm(self, work: "UnitOfWork", *, now: datetime, role: str | None, alone: bool) -> None:
        """Nothing that is stored here can take it away."""


@dataclass(frozen=True, slots=True)
class Operator(Authority):
    """The operator, at the server: whoever can start the command can do anything."""

    async def confirm(self, work: "UnitOfWork", *, now: datetime, role: str | None, alone: bool) -> None:
        """Nothing that is stored here can take it away."""


@asynccontextmanager
async def acting(
    unit_of_work: "UnitOfWorkFactory", by: Authority, *, now: datetime, role: str | None = None, alone: bool = False
) -> AsyncGenerator["UnitOfWork", None]:
    """A writing unit of work whose authority is confirmed before anything else. `alone`: it changes an account or its
    sessions.

    Raises what `Authority.confirm` raises.
    """
    async with unit_of_work() as work:
        await by.confirm(work, now=now, role=role, alone=alone)
        yield work


@asynccontextmanager
async def planning(
    unit_of_work: "UnitOfWorkFactory", by: Authority, *, now: datetime, role: str | None = None
) -> AsyncGenerator["UnitOfWork", None]:
    """A read-only unit of work for what is looked up before `acting`. What it does not find may have gone with the
    account, so the authority is judged before that is said.

    Raises what `Authority.confirm` raises.
    """
    try:
        async with unit_of_work(read_only=True) as work:
            yield work
    except (NotFound, ModelNotConfigured):
        async with acting(unit_of_work, by, now=now, role=role):
            raise
