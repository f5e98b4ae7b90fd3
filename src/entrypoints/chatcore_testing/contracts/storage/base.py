"""What the storage contracts share: two users, a conversation, and values that stores like to change."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from chatcore.entities import Conversation, Image, Message, MessageId, Profile, Role, User, UserId, WorkerId
from chatcore.ports import Idempotency, Node, Store, UnitOfWork, UnitOfWorkFactory
from chatcore_testing.contract import Capability, Checks, Made, Mark, each

WORKER = WorkerId(999_999_999)
"""One that has never joined, and is as good as dead."""

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)

TEXTS = {
    "empty": "",
    "emoji": "🦄 👩🏽‍💻 🇸🇪",
    "crlf": "one\r\ntwo\rthree\n\n",
    "spaces": "  x  ",
    "events": "data: x\n\nevent: y\nid: 1:2\n\n",
    "quotes": "'\"`\\'; -- %s %(a)s :name ? $1 {0}",
    "composed": "e\u0301 \u00e9 \ufb01",
    "controls": "\x01\t\x0b\x1b\x7f\x85\u2028\ufeff",
    "edges": "\ue000\ufffd\uffff\U00010000\U0010ffff",
    "megabyte": "aé漢🦄\n" * 100_000,
}
"""Text that must come back as it went in; the last is 1.1 MB of UTF-8."""

TIMES = [
    datetime(2026, 1, 1, 0, 0, 0, 0, tzinfo=UTC),
    datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2038, 1, 19, 3, 14, 8, 500_000, tzinfo=UTC),
]
"""Times that must come back as they went in, to the microsecond; the last one no longer fits 32 bits."""

texts: Mark = each("text", list(TEXTS.values()), ids=list(TEXTS))
times: Mark = each("time", TIMES, ids=str)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def is_utc(time: datetime) -> bool:
    return time.utcoffset() == timedelta(0)


class StoreChecks(Checks):
    """Each on a store that is empty."""

    def store(self) -> Made[Store]:
        store: Made[Store] = self.contract.store()
        return store

    def unit_of_work(self, store: Store) -> UnitOfWorkFactory:
        return store.unit_of_work

    async def owner(self, unit_of_work: UnitOfWorkFactory) -> User:
        return await self._owner(unit_of_work, "owner")

    async def stranger(self, unit_of_work: UnitOfWorkFactory) -> User:
        return await self._owner(unit_of_work, "stranger")

    async def _owner(self, unit_of_work: UnitOfWorkFactory, name: str) -> User:
        """An account; of a store without accounts an owner, who has but an id."""
        if self.has(Capability.ACCOUNTS):
            return await stored_user(unit_of_work, name, f"{name}@example.org")
        async with unit_of_work() as work:
            owner = await work.owners.add("", name, now=NOW)
            await work.commit()
        return User(
            id=UserId(owner),
            username=name,
            email=None,
            password_hash="",
            roles=frozenset(),
            is_active=True,
            profile=Profile(),
            created_at=NOW,
            updated_at=NOW,
        )

    async def conversation(self, unit_of_work: UnitOfWorkFactory, owner: User) -> Conversation:
        """The owner's, empty."""
        return await stored_conversation(unit_of_work, owner)


async def add_user(work: UnitOfWork, username: str, email: str | None = None) -> User:
    return await work.users.add(
        username=username,
        email=email,
        password_hash=f"hash of {username}",
        roles=frozenset({"user"}),
        profile=Profile(),
        now=NOW,
    )


async def stored_user(unit_of_work: UnitOfWorkFactory, username: str, email: str | None = None) -> User:
    async with unit_of_work() as work:
        user = await add_user(work, username, email)
        await work.commit()
    return user


async def stored_conversation(unit_of_work: UnitOfWorkFactory, owner: User, title: str = "") -> Conversation:
    """Without a title of the owner's own, unless there is one."""
    async with unit_of_work() as work:
        conversation = await work.conversations.add(owner.id, title=title, config_id=None, now=NOW)
        await work.commit()
    return conversation


async def add_message(
    work: UnitOfWork,
    conversation: Conversation,
    content: str = "question",
    *,
    parent_id: MessageId | None = None,
    now: datetime = NOW,
    idempotency: Idempotency | None = None,
    images: Sequence[Image] = (),
) -> Message:
    return await work.messages.add(
        conversation.user_id,
        conversation.id,
        parent_id=parent_id,
        role=Role.USER,
        content=content,
        writing=False,
        model=None,
        now=now,
        idempotency=idempotency,
        images=images,
    )


async def place_of(work: UnitOfWork, message: Message) -> Node:
    place = await work.messages.place(message.user_id, message.conversation_id, message.id)
    assert place is not None
    return place


async def add_reply(
    work: UnitOfWork, conversation: Conversation, to: Message | None = None, *, now: datetime = NOW
) -> Message:
    """A reply that is yet to be written; it does not hold the claim."""
    return await work.messages.add(
        conversation.user_id,
        conversation.id,
        parent_id=to.id if to else None,
        role=Role.ASSISTANT,
        content="",
        writing=True,
        model="model",
        now=now,
    )


async def stored_reply(unit_of_work: UnitOfWorkFactory, conversation: Conversation) -> Message:
    async with unit_of_work() as work:
        reply = await add_reply(work, conversation)
        await work.commit()
    return reply


async def the_conversation(unit_of_work: UnitOfWorkFactory, conversation: Conversation) -> Conversation | None:
    """As it is stored now."""
    async with unit_of_work(read_only=True) as work:
        return await work.conversations.get(conversation.user_id, conversation.id)
