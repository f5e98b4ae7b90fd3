"""An embedding program's users as owners, by the program's own ids."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from chatcore import audit
from chatcore.authority import ANYTIME, Operator, Vouched
from chatcore.bounds import Bounds, Text, need
from chatcore.deletion import ClosingWork, Deletion
from chatcore.entities import OwnerId
from chatcore.errors import NotFound, Raises, ValidationFailed
from chatcore.ports import Clock, OwnerRepo, Transaction, UnitsOfWork
from chatcore.replies import Replies
from chatcore.shielding import retry_on_contention

_USER = Bounds(user=Text(1, 255), tenant=Text(0, 255))


class OwnerWork(Transaction, Protocol):
    owners: OwnerRepo


@dataclass(frozen=True, kw_only=True)
class OpenOwner:
    """Return the authority of an embedding program's user, who appears on first sight. `user` and `tenant` are the
    program's own texts, compared exactly."""

    unit_of_work: UnitsOfWork[OwnerWork]
    clock: Clock
    bounds: ClassVar[Bounds] = _USER
    raises: ClassVar[Raises] = (*ANYTIME, ValidationFailed)

    async def __call__(self, *, user: str, tenant: str = "") -> Vouched:
        need(user=user, tenant=tenant)
        self.bounds.check(user=user, tenant=tenant)
        return Vouched(await self._found_or_added(user, tenant), user, tenant)

    @retry_on_contention
    async def _found_or_added(self, user: str, tenant: str) -> OwnerId:
        async with self.unit_of_work(read_only=True) as work:
            found = await work.owners.find(tenant, user)
        if found is not None:
            return found
        async with self.unit_of_work() as work:
            added = await work.owners.add(tenant, user, now=self.clock.now())
            await work.commit()
        return added


@dataclass(frozen=True, kw_only=True)
class ForgetOwner:
    """Delete an embedding program's user and all that it owns. Replies in progress are stopped first. Return False if
    there is no such user. On the next sight a new one appears."""

    unit_of_work: UnitsOfWork[ClosingWork]
    replies: Replies
    clock: Clock
    bounds: ClassVar[Bounds] = _USER
    raises: ClassVar[Raises] = (*ANYTIME, ValidationFailed)

    async def __call__(self, *, user: str, tenant: str = "") -> bool:
        need(user=user, tenant=tenant)
        self.bounds.check(user=user, tenant=tenant)
        async with self.unit_of_work(read_only=True) as work:
            owner = await work.owners.find(tenant, user)
        if owner is None:
            return False
        try:
            await Deletion(unit_of_work=self.unit_of_work, replies=self.replies, clock=self.clock)(owner, by=Operator())
        except NotFound:  # another call was quicker
            return False
        audit.record("owner_forgotten", user_id=owner)
        return True
