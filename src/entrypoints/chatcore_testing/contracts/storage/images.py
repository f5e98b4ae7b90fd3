"""The contract of messages' images."""

from dataclasses import replace

from chatcore.entities import Conversation, Image, Status, User
from chatcore.ports import UnitOfWorkFactory
from chatcore.storage import MESSAGE_BYTES, size_of
from chatcore_testing.contract import each
from chatcore_testing.contracts.storage.base import NOW, StoreChecks, add_message, stored_conversation
from chatcore_testing.contracts.storage.own_data import a_message
from chatcore_testing.contracts.storage.requests import stored

SMALL = Image("image/png", bytes(range(256)))
LARGE = Image("image/webp", bytes(range(255, -1, -1)) * 20_480, "high")
"""As large as one may be."""


class ImageChecks(StoreChecks, about="images"):
    async def test_images_come_back_as_they_were(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        this = (owner.id, conversation.id)
        elsewhere = await stored_conversation(unit_of_work, owner)
        async with unit_of_work() as work:
            message = await add_message(work, conversation, "", images=[LARGE, SMALL])
            await work.commit()
        assert message.images == 2
        async with unit_of_work(read_only=True) as work:
            assert await work.messages.get(*this, message.id) == message
            found = await work.messages.history(*this, limit=10)
            assert found is not None
            assert list(found[1]) == [message]
            assert await work.messages.image(*this, message.id, 0) == LARGE
            assert await work.messages.image(*this, message.id, 1) == SMALL
            for number in (-1, 2, 2**40):
                assert await work.messages.image(*this, message.id, number) is None
            assert await work.messages.image(stranger.id, conversation.id, message.id, 0) is None
            assert await work.messages.image(owner.id, elsewhere.id, message.id, 0) is None
            assert await work.messages.images_of(stranger.id, conversation.id, [message.id], max_bytes=10**9) == {}
            assert await work.messages.images_of(owner.id, elsewhere.id, [message.id], max_bytes=10**9) == {}

    async def test_images_are_restored_with_their_message(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        this = (owner.id, conversation.id)
        was = replace(a_message(conversation), images=2)
        before = await stored(unit_of_work, owner)
        async with unit_of_work() as work:
            message_id = await work.messages.restore(was, active=True, images=[SMALL, LARGE])
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            assert await work.messages.get(*this, message_id) == replace(was, id=message_id)
            assert [await work.messages.image(*this, message_id, number) for number in range(3)] == [SMALL, LARGE, None]
        assert await stored(unit_of_work, owner) - before == size_of(was) + len(SMALL.data) + len(LARGE.data)

    @each("fit", [0, 1, 2])
    async def test_of_many_messages_the_first_ones_that_fit_are_read(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, fit: int
    ) -> None:
        this = (conversation.user_id, conversation.id)
        async with unit_of_work() as work:
            first = await add_message(work, conversation, "", images=[SMALL])
            second = await add_message(work, conversation, parent_id=first.id)
            third = await add_message(work, conversation, "", images=[SMALL, SMALL], parent_id=second.id)
            await work.commit()
        size = len(SMALL.data)
        async with unit_of_work(read_only=True) as work:
            found = await work.messages.images_of(
                *this, [third.id, second.id, first.id], max_bytes=[2 * size - 1, 3 * size - 1, 3 * size][fit]
            )
            assert await work.messages.images_of(*this, [], max_bytes=size) == {}
        assert {key: list(images) for key, images in found.items()} == dict(
            [(third.id, [SMALL, SMALL]), (first.id, [SMALL])][:fit]
        )

    async def test_a_prompt_knows_of_images_where_it_knows_the_text(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation
    ) -> None:
        this = (conversation.user_id, conversation.id)
        async with unit_of_work() as work:
            first = await add_message(work, conversation, "first", images=[SMALL])
            second = await add_message(work, conversation, "second", images=[SMALL, SMALL], parent_id=first.id)
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            for among in (None, [first.id, second.id]):
                told = await work.messages.told(*this, limit=10, max_bytes=len("second"), among=among)
                assert [(each.content, each.images) for each in told] == [("", 0), ("second", 2)]

    async def test_images_are_counted_and_go_with_their_message_and_conversation(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        this = (owner.id, conversation.id)
        bare = await stored(unit_of_work, stranger)
        before = await stored(unit_of_work, owner)
        async with unit_of_work() as work:
            first = await add_message(work, conversation, "", images=[SMALL, SMALL])
            second = await add_message(work, conversation, "", images=[SMALL], parent_id=first.id)
            await work.commit()
        assert await stored(unit_of_work, owner) == before + 2 * MESSAGE_BYTES + 3 * len(SMALL.data)
        async with unit_of_work() as work:
            assert await work.messages.erase(*this, first.id) is True
            await work.commit()
        assert await stored(unit_of_work, owner) == before + 2 * MESSAGE_BYTES + len(SMALL.data)
        async with unit_of_work(read_only=True) as work:
            assert await work.messages.get(*this, first.id) == replace(first, images=0, status=Status.DELETED)
            assert await work.messages.image(*this, first.id, 0) is None
            assert await work.messages.image(*this, second.id, 0) == SMALL
        for _ in range(3):
            async with unit_of_work() as work:
                await work.conversations.delete(*this, limit=1, now=NOW)
                await work.commit()
        assert await stored(unit_of_work, owner) == bare
        async with unit_of_work(read_only=True) as work:
            assert await work.messages.image(*this, second.id, 0) is None
