"""The contracts of `Workers` and `UnfinishedReplies`."""

from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta

from chatcore.entities import Conversation, Message, MessageId, Status, User, WorkerId
from chatcore.ports import Heartbeat, UnitOfWork, UnitOfWorkFactory
from chatcore_testing.contract import Capability, needs
from chatcore_testing.contracts.storage.base import (
    NOW,
    WORKER,
    StoreChecks,
    add_message,
    add_reply,
    add_user,
    stored_conversation,
    stored_reply,
)

EVERYBODY = timedelta(days=-1)
NOBODY = timedelta(days=1)


async def joined(unit_of_work: UnitOfWorkFactory) -> WorkerId:
    async with unit_of_work() as work:
        worker_id, _ = await work.workers.join()
        await work.commit()
    return worker_id


async def renewed(unit_of_work: UnitOfWorkFactory, worker_id: WorkerId) -> Heartbeat | None:
    async with unit_of_work() as work:
        pulse = await work.workers.renew(worker_id)
        await work.commit()
    return pulse


async def buried(unit_of_work: UnitOfWorkFactory, worker_id: WorkerId, longer_than: timedelta = EVERYBODY) -> None:
    async with unit_of_work() as work:
        await work.workers.expire(worker_id, longer_than=longer_than)
        await work.commit()


async def claimed(unit_of_work: UnitOfWorkFactory, conversation: Conversation, worker_id: WorkerId) -> Message:
    """A reply that this worker is writing."""
    async with unit_of_work() as work:
        reply = await add_reply(work, conversation)
        assert await work.conversations.claim(conversation.user_id, conversation.id, reply.id, worker_id, now=NOW)
        await work.commit()
    return reply


async def orphans(unit_of_work: UnitOfWorkFactory, limit: int = 100) -> list[Message]:
    async with unit_of_work(read_only=True) as work:
        return sorted(await work.unfinished.orphans(limit=limit), key=lambda reply: reply.id)


class WorkersChecks(StoreChecks, about="workers"):
    async def silent(self, unit_of_work: UnitOfWorkFactory, longer_than: timedelta) -> set[WorkerId]:
        async with unit_of_work(read_only=True) as work:
            return set(await work.workers.silent(longer_than=longer_than))

    async def test_no_id_is_given_twice(self, unit_of_work: UnitOfWorkFactory) -> None:
        seen: list[WorkerId] = []
        for _ in range(3):
            seen.append(await joined(unit_of_work))
            await buried(unit_of_work, seen[-1])
        assert sorted(set(seen)) == seen

    @needs(Capability.SHARED)
    async def test_who_renews_is_not_silent(self, unit_of_work: UnitOfWorkFactory) -> None:
        first, second = await joined(unit_of_work), await joined(unit_of_work)
        pulse = await renewed(unit_of_work, first)
        assert pulse is not None
        assert pulse.stops == set()
        assert await self.silent(unit_of_work, NOBODY) == set()
        assert await self.silent(unit_of_work, EVERYBODY) == {first, second}

    @needs(Capability.SHARED)
    async def test_time_is_the_databases_and_goes_on(self, unit_of_work: UnitOfWorkFactory) -> None:
        async with unit_of_work() as work:
            worker_id, joined_at = await work.workers.join()
            await work.commit()
        first = await renewed(unit_of_work, worker_id)
        second = await renewed(unit_of_work, worker_id)
        assert first is not None
        assert second is not None
        assert joined_at <= first.at <= second.at
        assert second.at - joined_at < timedelta(minutes=1)

    @needs(Capability.SHARED)
    async def test_a_buried_worker_cannot_renew(self, unit_of_work: UnitOfWorkFactory) -> None:
        first, second = await joined(unit_of_work), await joined(unit_of_work)
        await buried(unit_of_work, first)
        await buried(unit_of_work, first)
        assert await renewed(unit_of_work, first) is None
        assert await renewed(unit_of_work, WORKER) is None
        assert await renewed(unit_of_work, second) is not None

    async def test_a_buried_worker_is_not_alive(self, unit_of_work: UnitOfWorkFactory) -> None:
        first, second = await joined(unit_of_work), await joined(unit_of_work)
        await buried(unit_of_work, first)
        async with unit_of_work() as work:
            alive = [await work.workers.is_alive(worker_id) for worker_id in (first, second, WORKER)]
        assert alive == [False, True, False]

    @needs(Capability.SHARED)
    async def test_who_has_renewed_meanwhile_is_not_buried(self, unit_of_work: UnitOfWorkFactory) -> None:
        worker_id = await joined(unit_of_work)
        await buried(unit_of_work, worker_id, longer_than=NOBODY)
        assert await renewed(unit_of_work, worker_id) is not None

    @needs(Capability.SHARED)
    async def test_a_worker_is_told_what_it_is_to_stop(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        first, second = await joined(unit_of_work), await joined(unit_of_work)
        conversations = [await stored_conversation(unit_of_work, user) for user in (owner, owner, stranger)]
        mine, kept = [await claimed(unit_of_work, each, first) for each in conversations[:2]]
        other = await claimed(unit_of_work, conversations[2], second)
        async with unit_of_work() as work:
            for reply in (mine, mine, other):
                assert await work.conversations.request_stop(reply.user_id, reply.conversation_id, reply.id)
            assert not await work.conversations.request_stop(stranger.id, kept.conversation_id, kept.id)
            assert not await work.conversations.request_stop(owner.id, kept.conversation_id, mine.id)
            await work.commit()
        for worker_id, reply in ((first, mine), (second, other)):
            pulse = await renewed(unit_of_work, worker_id)
            assert pulse is not None
            assert pulse.stops == {reply.id}

    @needs(Capability.SHARED)
    async def test_a_stop_ends_with_its_reply(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        worker_id = await joined(unit_of_work)
        reply = await claimed(unit_of_work, conversation, worker_id)
        async with unit_of_work() as work:
            assert await work.conversations.request_stop(owner.id, conversation.id, reply.id)
            assert await work.conversations.release(owner.id, conversation.id, reply.id, now=NOW)
            assert not await work.conversations.request_stop(owner.id, conversation.id, reply.id)
            await work.commit()
        await claimed(unit_of_work, conversation, worker_id)
        pulse = await renewed(unit_of_work, worker_id)
        assert pulse is not None
        assert pulse.stops == set()


class UnfinishedRepliesChecks(StoreChecks, about="unfinished"):
    async def still(self, unit_of_work: UnitOfWorkFactory, *replies: MessageId) -> Collection[MessageId]:
        async with unit_of_work(read_only=True) as work:
            return await work.unfinished.still(replies)

    async def test_nothing_is_unfinished_at_first(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        await stored_reply(unit_of_work, conversation)
        assert await orphans(unit_of_work) == []
        async with unit_of_work(read_only=True) as work:
            assert list(await work.unfinished.of(owner.id)) == []

    async def test_what_a_dead_worker_was_writing_are_orphans(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        alive, dead = await joined(unit_of_work), await joined(unit_of_work)
        conversations = [await stored_conversation(unit_of_work, user) for user in (owner, owner, stranger, owner)]
        first, second, third = [await claimed(unit_of_work, each, dead) for each in conversations[:3]]
        await claimed(unit_of_work, conversations[3], alive)
        assert await orphans(unit_of_work) == []
        await buried(unit_of_work, dead)
        assert await orphans(unit_of_work) == [first, second, third]
        assert len(await orphans(unit_of_work, limit=2)) == 2
        async with unit_of_work() as work:
            assert await work.conversations.release(owner.id, second.conversation_id, second.id, now=NOW)
            await work.commit()
        assert await orphans(unit_of_work) == [first, third]

    async def test_ones_own_are_found(self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User) -> None:
        conversations = [await stored_conversation(unit_of_work, user) for user in (owner, owner, stranger)]
        worker_id = await joined(unit_of_work)
        replies = [await claimed(unit_of_work, each, worker_id) for each in conversations]
        async with unit_of_work(read_only=True) as work:
            mine = await work.unfinished.of(owner.id)
        assert sorted(mine, key=lambda reply: reply.id) == replies[:2]

    async def test_what_is_still_being_written_is_known(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, stranger: User
    ) -> None:
        mine = await claimed(unit_of_work, conversation, WORKER)
        other = await claimed(unit_of_work, await stored_conversation(unit_of_work, stranger), WORKER)
        assert await self.still(unit_of_work) == set()
        assert await self.still(unit_of_work, mine.id, other.id, MessageId(999_999_999)) == {mine.id, other.id}
        async with unit_of_work() as work:
            await self.end(work, mine)
            await work.commit()
        assert await self.still(unit_of_work, mine.id, other.id) == {other.id}

    @needs(Capability.ACCOUNTS)
    async def test_a_message_is_not_being_written(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            message = await add_message(work, conversation)
            await add_user(work, "somebody")
            await work.commit()
        assert await self.still(unit_of_work, message.id) == set()

    async def end(self, work: UnitOfWork, reply: Message) -> None:
        await work.conversations.release(reply.user_id, reply.conversation_id, reply.id, now=NOW)
        await work.messages.finish(replace(reply, status=Status.COMPLETE))
