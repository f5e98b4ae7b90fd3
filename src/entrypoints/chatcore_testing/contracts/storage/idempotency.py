"""The contract of `MessageRepo` about messages that were sent under a client's key."""

import asyncio
from dataclasses import replace

from chatcore.entities import Conversation, ConversationId, Message, User
from chatcore.errors import IdempotencyKeyReused
from chatcore.ports import Idempotency, UnitOfWorkFactory
from chatcore_testing.contract import each, raises
from chatcore_testing.contracts.storage.base import NOW, StoreChecks, add_message, later, stored_conversation

DIGEST = bytes(range(224, 256))
NO_CONVERSATION = ConversationId(999_999_999)


class IdempotencyChecks(StoreChecks, about="idempotency"):
    async def stored(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, key: str, digest: bytes = DIGEST
    ) -> Message:
        async with unit_of_work() as work:
            message = await add_message(work, conversation, idempotency=Idempotency(key, digest))
            await work.commit()
        return message

    async def sent(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, key: str, since: float = 0
    ) -> tuple[Message, Idempotency] | None:
        async with unit_of_work() as work:
            found = await work.messages.sent_with(conversation.user_id, conversation.id, key, since=later(since))
            await work.commit()
        return found

    async def test_a_message_is_found_by_its_key(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation
    ) -> None:
        assert await self.sent(unit_of_work, conversation, "key") is None
        message = await self.stored(unit_of_work, conversation, "key")
        zeros = await self.stored(unit_of_work, conversation, "another", bytes(32))
        async with unit_of_work() as work:
            unnamed = [await add_message(work, conversation) for _ in range(2)]
            await work.commit()
        for _ in range(2):
            assert await self.sent(unit_of_work, conversation, "key") == (message, Idempotency("key", DIGEST))
        assert await self.sent(unit_of_work, conversation, "another") == (zeros, Idempotency("another", bytes(32)))
        assert await self.sent(unit_of_work, conversation, "unknown") is None
        async with unit_of_work(read_only=True) as work:
            page = await work.messages.history(conversation.user_id, conversation.id, limit=10)
            found = await work.messages.sent_with(conversation.user_id, conversation.id, "key", since=NOW)
        assert page is not None
        assert list(page[1]) == [message, zeros, *unnamed]
        assert found == (message, Idempotency("key", DIGEST))

    @each(
        "keys",
        [("key", "KEY", "k\u00e9y", "ke\u0301y"), ("key", "key ", " key", "key\t"), ("🦄" * 255, "🐴" * 255, "%", "_")],
        ids=["letters", "spaces", "signs"],
    )
    async def test_keys_are_compared_exactly(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, keys: tuple[str, ...]
    ) -> None:
        messages = [await self.stored(unit_of_work, conversation, key) for key in keys]
        for key, message in zip(keys, messages, strict=True):
            assert await self.sent(unit_of_work, conversation, key) == (message, Idempotency(key, DIGEST))

    async def test_each_conversation_has_keys_of_its_own(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        others = [await stored_conversation(unit_of_work, user) for user in (owner, stranger)]
        message = await self.stored(unit_of_work, conversation, "key")
        for other in others:
            assert await self.sent(unit_of_work, other, "key") is None
            its = await self.stored(unit_of_work, other, "key", bytes(32))
            assert await self.sent(unit_of_work, other, "key") == (its, Idempotency("key", bytes(32)))
        assert await self.sent(unit_of_work, conversation, "key") == (message, Idempotency("key", DIGEST))

    async def test_a_strangers_and_a_missing_conversation_know_no_key(
        self, unit_of_work: UnitOfWorkFactory, stranger: User, conversation: Conversation
    ) -> None:
        message = await self.stored(unit_of_work, conversation, "key")
        for astray in (replace(conversation, user_id=stranger.id), replace(conversation, id=NO_CONVERSATION)):
            assert await self.sent(unit_of_work, astray, "key") is None
            assert await self.sent(unit_of_work, astray, "key", since=60) is None
        assert await self.sent(unit_of_work, conversation, "key") == (message, Idempotency("key", DIGEST))

    # ---- a key for each, and for a time ----

    async def test_a_key_that_is_in_use_is_refused(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation
    ) -> None:
        message = await self.stored(unit_of_work, conversation, "key")
        async with unit_of_work() as work:
            with raises(IdempotencyKeyReused):
                await add_message(work, conversation, idempotency=Idempotency("key", bytes(32)))
        assert await self.sent(unit_of_work, conversation, "key") == (message, Idempotency("key", DIGEST))

    async def test_of_several_at_once_one_gets_the_key(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation
    ) -> None:
        tries = (self.stored(unit_of_work, conversation, "key", bytes([number]) * 32) for number in range(6))
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        stored = [outcome for outcome in outcomes if isinstance(outcome, Message)]
        assert sum(isinstance(outcome, IdempotencyKeyReused) for outcome in outcomes) == 5
        named = Idempotency("key", bytes([outcomes.index(stored[0])]) * 32)
        assert await self.sent(unit_of_work, conversation, "key") == (stored[0], named)

    async def test_a_key_is_remembered_since_a_time_and_forgotten_before_it(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation
    ) -> None:
        message = await self.stored(unit_of_work, conversation, "key")
        kept = await self.stored(unit_of_work, conversation, "kept")
        assert await self.sent(unit_of_work, conversation, "key", since=-60) == (message, Idempotency("key", DIGEST))
        assert await self.sent(unit_of_work, conversation, "key", since=0) == (message, Idempotency("key", DIGEST))
        assert await self.sent(unit_of_work, conversation, "key", since=0.000_001) is None
        async with unit_of_work() as work:
            await work.messages.forget_key(conversation.user_id, conversation.id, "key", before=later(0.000_001))
            await work.messages.forget_key(conversation.user_id, conversation.id, "kept", before=later(0))
            await work.messages.forget_key(conversation.user_id, conversation.id, "unknown", before=later(0))
            await work.commit()
        assert await self.sent(unit_of_work, conversation, "key", since=-60) is None
        assert await self.sent(unit_of_work, conversation, "kept") == (kept, Idempotency("kept", DIGEST))

    async def test_a_key_that_was_forgotten_is_free(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation
    ) -> None:
        old = await self.stored(unit_of_work, conversation, "key")
        async with unit_of_work() as work:
            owner = conversation.user_id
            await work.messages.forget_key(owner, conversation.id, "key", before=later(60))
            named = Idempotency("key", bytes(32))
            new = await add_message(work, conversation, "new", now=later(60), idempotency=named)
            await work.commit()
        assert await self.sent(unit_of_work, conversation, "key", since=60) == (new, named)
        async with unit_of_work(read_only=True) as work:
            assert await work.messages.get(owner, conversation.id, old.id) == old
