"""The contract of what has the order of the tree, on a store whose ids do not rise: as on the nodes of a cluster, each
of which numbers what it stores by itself."""

from collections.abc import Callable, Iterable, Mapping
from itertools import chain, count

from chatcore.entities import Conversation, Message, MessageId, Role, User
from chatcore.ports import Node, Store, UnitOfWork, UnitOfWorkFactory
from chatcore_testing.contract import Capability, Made, each
from chatcore_testing.contracts.storage.base import WORKER, StoreChecks, add_message, later, place_of

IDS: Mapping[str, Callable[[], Iterable[int]]] = {
    "falling": lambda: count(1_000_000, -1),
    "of two nodes": lambda: chain.from_iterable(zip(count(1000, 2), count(1, 2), strict=False)),
}
"""Of messages, in the order of adding."""


class OrderChecks(StoreChecks, about="order", needs=Capability.NUMBERING):
    """On a store with ids from one of `IDS`."""

    def store(self) -> Made[Store]:
        store: Made[Store] = self.contract.numbered_store(IDS[self.values["ids"]]())
        return store

    async def line(
        self, work: UnitOfWork, conversation: Conversation, after: Message | None, times: Iterable[int]
    ) -> list[Message]:
        """Each after the one before, by user and assistant in turn."""
        line = list[Message]()
        for number, time in enumerate(times):
            last = line[-1] if line else after
            line.append(
                await work.messages.add(
                    conversation.user_id,
                    conversation.id,
                    parent_id=last.id if last else None,
                    role=Role.ASSISTANT if number % 2 else Role.USER,
                    content=f"text {time}",
                    writing=False,
                    model=None,
                    now=later(time),
                )
            )
        return line

    @each("ids", IDS)
    async def test_the_history_is_read_page_by_page(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, owner: User
    ) -> None:
        async with unit_of_work() as work:
            line = [message.id for message in await self.line(work, conversation, None, range(7))]
            await work.commit()
        assert line != sorted(line)
        pages, before = list[list[MessageId]](), None
        async with unit_of_work(read_only=True) as work:
            while len(pages) < 4:
                found = await work.messages.history(owner.id, conversation.id, limit=3, before=before)
                assert found is not None
                pages.append([message.id for message in found[1]])
                before = pages[-1][0] if pages[-1] else before
            assert pages == [line[4:], line[1:4], line[:1], []]
            largest = await work.messages.history(owner.id, conversation.id, limit=3, max_bytes=12)
            assert largest is not None
            assert [message.id for message in largest[1]] == line[5:]

    @each("ids", IDS)
    async def test_the_branch_that_is_shown(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, owner: User
    ) -> None:
        this = (owner.id, conversation.id)

        async def shown(through: Message | None = None) -> list[MessageId]:
            told = await work.messages.told(
                *this, limit=10, max_bytes=1000, through=None if through is None else through.id
            )
            return [message.id for message in told]

        async with unit_of_work() as work:
            a, b, c, d = await self.line(work, conversation, None, range(4))
            await work.messages.activate(*this, after=await place_of(work, a), path=())
            assert await shown() == [a.id]
            e, f, g = await self.line(work, conversation, a, range(4, 7))
            assert await shown() == [a.id, e.id, f.id, g.id]
            assert await shown(e) == [a.id, e.id]
            assert await shown(c) == []
            assert await work.messages.last(*this) == g.id
            last_reply = await work.messages.last_reply(*this)
            assert last_reply is not None
            assert last_reply.id == f.id
            elsewhere = await work.messages.history(*this, limit=10, before=c.id)
            assert elsewhere is not None
            assert list(elsewhere[1]) == []
            await work.messages.activate(*this, after=await place_of(work, a), path=[b.id, c.id, d.id])
            assert await shown() == [a.id, b.id, c.id, d.id]
            await work.messages.activate(*this, after=await place_of(work, d), path=())
            assert await shown() == [a.id, b.id, c.id, d.id]
            among = await work.messages.told(*this, limit=2, max_bytes=1000, among=[a.id, e.id, f.id])
            assert [message.id for message in among] == [e.id, f.id]

    @each("ids", IDS)
    async def test_the_tree_is_read_from_the_top(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, owner: User
    ) -> None:
        this = (owner.id, conversation.id)
        async with unit_of_work() as work:
            a, b, c = await self.line(work, conversation, None, range(3))
            await work.messages.activate(*this, after=await place_of(work, a), path=())
            d, e = await self.line(work, conversation, a, (3, 4))
            assert await work.messages.tree(*this) == [
                Node(a.id, None, 0, True, later(0)),
                Node(b.id, a.id, 1, False, later(1)),
                Node(d.id, a.id, 1, True, later(3)),
                Node(c.id, b.id, 2, False, later(2)),
                Node(e.id, d.id, 2, True, later(4)),
            ]
            read = list[Message]()
            while page := await work.messages.by_depth(*this, after=read[-1].id if read else None, limit=2):
                assert all(message.parent_id in {None, *(each.id for each in [*read, *page])} for message in page)
                read += page
            assert {message.id for message in read} == {a.id, b.id, c.id, d.id, e.id}
            assert [(await place_of(work, message)).depth for message in read] == [0, 1, 1, 2, 2]
            stored = await work.messages.get(*this, b.id)
            assert stored is not None
            assert stored.siblings == tuple(sorted((b.id, d.id)))

    @each("ids", IDS)
    async def test_the_first_reply_is_so_by_time(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, owner: User
    ) -> None:
        async with unit_of_work() as work:
            question = await add_message(work, conversation)
            replies = [
                await work.messages.add(
                    owner.id,
                    conversation.id,
                    parent_id=question.id,
                    role=Role.ASSISTANT,
                    content="x",
                    writing=False,
                    model=None,
                    now=later(time),
                )
                for time in (1, 2, 3)
            ]
            found = await work.messages.reply_to(owner.id, conversation.id, question.id)
        assert found is not None
        assert found.id == replies[0].id

    @each("ids", IDS)
    async def test_the_last_use_is_that_of_any_branch(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, owner: User
    ) -> None:
        this = (owner.id, conversation.id)
        async with unit_of_work() as work:
            a, *_ = await self.line(work, conversation, None, range(6))
            await work.messages.activate(*this, after=await place_of(work, a), path=())
            (reply,) = await self.line(work, conversation, a, (7,))
            await work.messages.activate(*this, after=None, path=())
            await self.line(work, conversation, None, (9, 10))
            assert await work.conversations.claim(*this, reply.id, WORKER, now=later(10))
            used = await work.conversations.used_since(owner.id, later(8), limit=9)
            assert [last for _, last in used] == [later(7)]
            used = await work.conversations.used_since(owner.id, later(6), limit=9)
            assert [last for _, last in used] == [later(5)]
