"""Deletion of an owner and of all that it has."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from chatcore.authority import Authority, acting
from chatcore.entities import OwnerId
from chatcore.errors import Contention, LastAdmin, NotFound, Unavailable
from chatcore.ports import AuthorityWork, Clock, UnfinishedReplies, UnitsOfWork
from chatcore.removal import REMOVE_WITHIN, Removal, RemovalWork
from chatcore.replies import STOP_BEFORE_DELETION, Replies
from chatcore.shielding import retry_on_contention


class ClosingWork(AuthorityWork, RemovalWork, Protocol):
    unfinished: UnfinishedReplies


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """Close an owner, so that it is not found any more, and delete all that it owned; the sweep deletes what takes
    longer than a few seconds. Replies in progress are stopped before and after."""

    unit_of_work: UnitsOfWork[ClosingWork]
    replies: Replies
    clock: Clock

    async def __call__(self, owner: OwnerId, *, by: Authority, role: str | None = None) -> None:
        """`role`: the role that the authority needs; None if the owner is no administrator.

        Raise `NotFound`, `LastAdmin`; then no reply has been stopped.
        """
        await self._order_stops(owner, by, role)
        await self.replies.stop_all(owner, within=STOP_BEFORE_DELETION)
        await self._close(owner, by, role)
        with suppress(Unavailable, Contention):
            await Removal(self.unit_of_work, self.clock).owner(owner, within=REMOVE_WITHIN)
        await self.replies.stop_all(owner, within=STOP_BEFORE_DELETION)

    @retry_on_contention
    async def _order_stops(self, owner: OwnerId, by: Authority, role: str | None) -> None:
        """Request the stops on this authority; carrying them out needs none."""
        async with acting(self.unit_of_work, by, now=self.clock.now(), role=role) as work:
            if role is not None:
                await keep_an_admin(work, owner)
            for reply in await work.unfinished.of(owner):
                await work.conversations.request_stop(owner, reply.conversation_id, reply.id)
            await work.commit()

    @retry_on_contention
    async def _close(self, owner: OwnerId, by: Authority, role: str | None) -> None:
        async with acting(self.unit_of_work, by, now=self.clock.now(), role=role, alone=True) as work:
            if role is not None:
                await keep_an_admin(work, owner)
            if not await work.owners.close(owner, now=self.clock.now()):
                raise NotFound("This owner is deleted already.")
            await work.commit()


async def keep_an_admin(work: AuthorityWork, leaving: OwnerId) -> None:
    """Raise `LastAdmin` if this user is the last active administrator. Otherwise another one remains until the unit of
    work is closed. Call it first in the unit, after the authority is confirmed."""
    if await work.administration.only_admin() == leaving:
        raise LastAdmin
