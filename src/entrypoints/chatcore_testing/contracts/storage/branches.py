"""The contract of what `MessageRepo` does with the branches of a conversation."""

from chatcore.entities import Conversation, Message, MessageId, Role, User
from chatcore.ports import Node, UnitOfWork, UnitOfWorkFactory
from chatcore_testing.contracts.storage.base import NOW, WORKER, StoreChecks, place_of, stored_conversation


async def add(work: UnitOfWork, conversation: Conversation, after: Message | None, role: Role = Role.USER) -> Message:
    return await work.messages.add(
        conversation.user_id,
        conversation.id,
        parent_id=after.id if after else None,
        role=role,
        content="text",
        writing=False,
        model=None,
        now=NOW,
    )


class BranchesChecks(StoreChecks, about="branches"):
    async def history(
        self,
        unit_of_work: UnitOfWorkFactory,
        conversation: Conversation,
        limit: int = 100,
        before: MessageId | None = None,
    ) -> list[MessageId]:
        async with unit_of_work(read_only=True) as work:
            found = await work.messages.history(conversation.user_id, conversation.id, limit=limit, before=before)
        assert found is not None
        return [message.id for message in found[1]]

    async def activate(
        self,
        unit_of_work: UnitOfWorkFactory,
        conversation: Conversation,
        after: Message | None,
        *path: Message,
        owner: User | None = None,
    ) -> None:
        async with unit_of_work() as work:
            await work.messages.activate(
                owner.id if owner else conversation.user_id,
                conversation.id,
                after=await place_of(work, after) if after else None,
                path=[message.id for message in path],
            )
            await work.commit()

    async def line(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, after: Message | None, length: int
    ) -> list[Message]:
        """So many messages, each after the one before."""
        line: list[Message] = []
        async with unit_of_work() as work:
            for number in range(length):
                role = Role.ASSISTANT if number % 2 else Role.USER
                line.append(await add(work, conversation, line[-1] if line else after, role))
            await work.commit()
        return line

    async def test_the_history_is_the_active_branch(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation
    ) -> None:
        a, b, c, d = await self.line(unit_of_work, conversation, None, 4)
        await self.activate(unit_of_work, conversation, b)
        assert await self.history(unit_of_work, conversation) == [a.id, b.id]
        e, f = await self.line(unit_of_work, conversation, b, 2)
        assert await self.history(unit_of_work, conversation) == [a.id, b.id, e.id, f.id]
        assert await self.history(unit_of_work, conversation, limit=2, before=f.id) == [b.id, e.id]
        await self.activate(unit_of_work, conversation, b, c, d)
        assert await self.history(unit_of_work, conversation) == [a.id, b.id, c.id, d.id]
        await self.activate(unit_of_work, conversation, None)
        assert await self.history(unit_of_work, conversation) == []
        await self.activate(unit_of_work, conversation, None, a, b, e)
        assert await self.history(unit_of_work, conversation) == [a.id, b.id, e.id]

    async def test_the_tree_has_all_branches(self, unit_of_work: UnitOfWorkFactory, conversation: Conversation) -> None:
        a, b = await self.line(unit_of_work, conversation, None, 2)
        await self.activate(unit_of_work, conversation, a)
        (c,) = await self.line(unit_of_work, conversation, a, 1)
        async with unit_of_work(read_only=True) as work:
            tree = await work.messages.tree(conversation.user_id, conversation.id)
        assert list(tree) == [
            Node(a.id, None, 0, True, NOW),
            Node(b.id, a.id, 1, False, NOW),
            Node(c.id, a.id, 1, True, NOW),
        ]

    async def test_siblings_are_all_that_follow_the_same_message(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        a, b = await self.line(unit_of_work, conversation, None, 2)
        other = await stored_conversation(unit_of_work, owner)
        (elsewhere,) = await self.line(unit_of_work, other, None, 1)
        await self.activate(unit_of_work, conversation, a)
        (c,) = await self.line(unit_of_work, conversation, a, 1)
        await self.activate(unit_of_work, conversation, None)
        (root,) = await self.line(unit_of_work, conversation, None, 1)
        expected = {a: (a.id, root.id), b: (b.id, c.id), c: (b.id, c.id), root: (a.id, root.id)}
        async with unit_of_work(read_only=True) as work:
            for message, siblings in expected.items():
                found = await work.messages.get(owner.id, conversation.id, message.id)
                assert found is not None
                assert (found.siblings, found.parent_id) == (siblings, message.parent_id)
            alone = await work.messages.get(owner.id, other.id, elsewhere.id)
            page = await work.messages.history(owner.id, conversation.id, limit=10)
        assert alone is not None
        assert alone.siblings == (elsewhere.id,)
        assert page is not None
        assert [message.siblings for message in page[1]] == [(a.id, root.id)]

    async def test_many_siblings_are_all_there(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            added = [await add(work, conversation, None) for _ in range(300)]
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            found = await work.messages.get(conversation.user_id, conversation.id, added[0].id)
        assert found is not None
        assert found.siblings == tuple(message.id for message in added)

    async def test_the_last_reply_is_that_of_the_active_branch(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        a, b, c, d = await self.line(unit_of_work, conversation, None, 4)

        async def last_reply() -> MessageId | None:
            async with unit_of_work(read_only=True) as work:
                found = await work.messages.last_reply(owner.id, conversation.id)
            return found.id if found else None

        assert await last_reply() == d.id
        await self.activate(unit_of_work, conversation, c)
        assert await last_reply() == b.id
        await self.activate(unit_of_work, conversation, a)
        assert await last_reply() is None
        async with unit_of_work() as work:
            assert await work.conversations.claim(owner.id, conversation.id, d.id, WORKER, now=NOW)
            await work.commit()
        assert await last_reply() == d.id

    async def test_a_strangers_branches_stay(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        a, b = await self.line(unit_of_work, conversation, None, 2)
        await self.activate(unit_of_work, conversation, None, owner=stranger)
        assert await self.history(unit_of_work, conversation) == [a.id, b.id]
        other = await stored_conversation(unit_of_work, owner)
        await self.activate(unit_of_work, other, None, a)
        assert await self.history(unit_of_work, conversation) == [a.id, b.id]
        async with unit_of_work(read_only=True) as work:
            assert list(await work.messages.tree(stranger.id, conversation.id)) == []
