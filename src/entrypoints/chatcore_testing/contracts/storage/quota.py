"""The contract of what is counted against a user's storage, and refused where it would be too much."""

import asyncio
from dataclasses import replace

from chatcore.entities import Conversation, Failure, Message, Status, User
from chatcore.errors import Contention, StorageFull
from chatcore.ports import Store, UnitOfWorkFactory
from chatcore.storage import CONVERSATION_BYTES, MESSAGE_BYTES
from chatcore_testing.contract import Capability, Made, raises
from chatcore_testing.contracts.storage.base import (
    NOW,
    StoreChecks,
    add_message,
    add_reply,
    stored_conversation,
    stored_reply,
)
from chatcore_testing.contracts.storage.images import SMALL

MOST = 20_000
FIRST = CONVERSATION_BYTES


async def stored(unit_of_work: UnitOfWorkFactory, owner: User) -> int:
    async with unit_of_work(read_only=True) as work:
        return await work.owners.stored_bytes(owner.id)


async def say(unit_of_work: UnitOfWorkFactory, conversation: Conversation, content: str) -> Message:
    async with unit_of_work() as work:
        message = await add_message(work, conversation, content)
        await work.commit()
    return message


async def say_at_last(unit_of_work: UnitOfWorkFactory, conversation: Conversation, content: str) -> bool:
    """False: there was no room for it."""
    while True:
        try:
            await say(unit_of_work, conversation, content)
        except Contention:
            continue
        except StorageFull:
            return False
        return True


class StorageQuotaChecks(StoreChecks, about="quota", needs=Capability.QUOTA):
    """On a store that lets a user store `MOST` bytes."""

    def store(self) -> Made[Store]:
        store: Made[Store] = self.contract.limited_store(MOST)
        return store

    async def test_what_is_stored_is_counted_by_its_bytes(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        assert await stored(unit_of_work, owner) == FIRST
        await say(unit_of_work, conversation, "aé漢🦄\\")
        assert await stored(unit_of_work, owner) == FIRST + MESSAGE_BYTES + 11
        assert await stored(unit_of_work, stranger) == 0

    async def test_what_is_brought_back_is_counted_too(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        message = await say(unit_of_work, conversation, "12345")
        async with unit_of_work() as work:
            restored = await work.conversations.restore(conversation)
            old = replace(message, conversation_id=restored.id, reasoning="漢")
            failed = replace(old, status=Status.FAILED, error=Failure(code="x", detail="é"))
            await work.messages.restore(old, active=True)
            await work.messages.restore(failed, active=False)
            await work.commit()
        before = FIRST + MESSAGE_BYTES + 5
        assert await stored(unit_of_work, owner) == before + FIRST + 2 * MESSAGE_BYTES + 8 + 10
        async with unit_of_work() as work:
            assert await work.conversations.delete(owner.id, restored.id, limit=10, now=NOW)
            await work.commit()
        assert await stored(unit_of_work, owner) == before

    async def test_a_reply_is_counted_at_its_end_however_long_it_is(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        reply = await stored_reply(unit_of_work, conversation)
        assert await stored(unit_of_work, owner) == FIRST + MESSAGE_BYTES
        async with unit_of_work() as work:
            ended = replace(reply, content="x" * MOST, reasoning="漢", status=Status.COMPLETE)
            await work.messages.finish(ended)
            await work.commit()
        assert await stored(unit_of_work, owner) == FIRST + MESSAGE_BYTES + MOST + 3
        with raises(StorageFull):
            await say(unit_of_work, conversation, "one more")

    async def test_nothing_of_what_is_too_much_is_stored(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        room = MOST - FIRST - MESSAGE_BYTES
        with raises(StorageFull):
            await say(unit_of_work, conversation, "x" * (room + 1))
        assert await stored(unit_of_work, owner) == FIRST
        async with unit_of_work(read_only=True) as work:
            assert await work.messages.tree(owner.id, conversation.id) == []
        await say(unit_of_work, conversation, "x" * room)
        assert await stored(unit_of_work, owner) == MOST
        with raises(StorageFull):
            await stored_conversation(unit_of_work, owner)
        await stored_conversation(unit_of_work, stranger)

    async def test_what_is_deleted_makes_room(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        kept = await stored_conversation(unit_of_work, owner)
        await say(unit_of_work, kept, "kept")
        async with unit_of_work() as work:
            message = await add_message(work, conversation, "漢\\'🦄")
            reply = await add_reply(work, conversation, message)
            error = Failure(code="x", detail="漢")
            await work.messages.finish(replace(reply, content="é", reasoning="🦄", status=Status.FAILED, error=error))
            await work.commit()
        async with unit_of_work() as work:
            assert await work.conversations.delete(owner.id, conversation.id, limit=10, now=NOW)
            assert not await work.conversations.delete(owner.id, conversation.id, limit=10, now=NOW)
            await work.commit()
        assert await stored(unit_of_work, owner) == FIRST + MESSAGE_BYTES + 4

    async def test_what_is_rolled_back_is_not_counted(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            await add_message(work, conversation, "never")
        assert await stored(unit_of_work, owner) == FIRST

    async def test_of_many_at_once_no_more_are_stored_than_there_is_room_for(
        self, unit_of_work: UnitOfWorkFactory, owner: User
    ) -> None:
        conversations = [await stored_conversation(unit_of_work, owner) for _ in range(4)]
        each = 2_000
        saying = [say_at_last(unit_of_work, here, "x" * (each - MESSAGE_BYTES)) for here in conversations * 4]
        done = sum(await asyncio.gather(*saying))
        assert done == (MOST - 4 * FIRST) // each == 7
        assert await stored(unit_of_work, owner) == 4 * FIRST + done * each

    async def test_a_user_who_is_deleted_leaves_nothing_counted(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            await work.owners.delete(owner.id)
            await work.commit()
        assert await stored(unit_of_work, owner) == 0

    async def test_images_are_within_the_limit(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            await add_message(work, conversation, images=[replace(SMALL, data=bytes(MOST))])
            with raises(StorageFull):
                await work.commit()
        assert await stored(unit_of_work, owner) == FIRST
