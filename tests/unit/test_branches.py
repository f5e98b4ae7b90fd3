"""The tree of a conversation's messages: what leads to one, what is newest below one, and what any number of sends,
edits, regenerations and switches make of it."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from chatcore import Message, MessageId, Role, Sent
from chatcore.branches import newest_below, path_to
from chatcore.ports import Node
from chatcore_memory import Stall
from chatcore_testing.contracts.storage.order import IDS
from unit.world import Chat, World, everything_has_ended

# ---- pure ------------------------------------------------------------------------------------------------


@st.composite
def trees(draw: st.DrawFn) -> list[Node]:
    """Of 1 to 30 messages, ordered by id, with one active path from a first message down, or none at all."""
    parents = dict[int, int | None]()
    for number in range(1, draw(st.integers(1, 30)) + 1):
        parents[number * 3] = draw(st.sampled_from([None, *parents]))
    last = draw(st.sampled_from([None, *parents]))
    active = set(_up(parents, last))
    return [node(id_, parent, len(_up(parents, parent)), id_ in active) for id_, parent in parents.items()]


def node(number: int, parent: int | None, depth: int, active: bool) -> Node:
    added = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    return Node(MessageId(number), None if parent is None else MessageId(parent), depth, active, added)


def _up(parents: dict[int, int | None], node: int | None) -> list[int]:
    """The way from a message to the top."""
    path = list[int]()
    while node is not None:
        path.append(node)
        node = parents[node]
    return path


@given(st.data())
def test_the_way_to_a_message_is_what_is_active_of_it_and_the_rest(data: st.DataObject) -> None:
    tree = data.draw(trees())
    target = data.draw(st.sampled_from(tree))
    parents: dict[int, int | None] = {node.id: node.parent_id for node in tree}
    active = {node.id for node in tree if node.active}
    fork, path = path_to(tree, target.id)
    assert [*reversed(_up(parents, None if fork is None else fork.id)), *path] == [*reversed(_up(parents, target.id))]
    assert fork is None or fork.id in active
    assert active.isdisjoint(path)


@given(st.data())
def test_the_newest_below_is_a_leaf_and_the_highest_of_those_that_descend(data: st.DataObject) -> None:
    tree = data.draw(trees())
    target = data.draw(st.sampled_from(tree))
    parents: dict[int, int | None] = {node.id: node.parent_id for node in tree}
    newest = newest_below(tree, target.id)
    assert newest == max(id_ for id_ in parents if target.id in _up(parents, id_))
    assert newest not in parents.values()


def test_a_message_that_is_not_in_the_tree_has_no_way_to_it() -> None:
    tree = [node(1, None, 0, True)]
    assert path_to(tree, MessageId(2)) == (None, ())


# ---- whatever is done ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Act:
    """`which`: of all messages so far, from the first on. `switch`: which branch to show while the reply is written."""

    kind: str
    which: int = 0
    switch: int | None = None


acts = st.one_of(
    st.builds(Act, st.sampled_from(["send", "again", "regenerate", "edit"]), st.integers(0, 30)),
    st.builds(Act, st.just("branch"), st.integers(0, 30)),
    st.builds(Act, st.sampled_from(["send", "again", "regenerate", "edit"]), st.integers(0, 30), st.integers(0, 30)),
)


@dataclass
class Book:
    """What the conversation has to be, kept beside it in the simplest way."""

    messages: dict[MessageId, Message] = field(default_factory=dict[MessageId, Message])
    active: list[MessageId] = field(default_factory=list[MessageId])

    def chosen(self, number: int, role: Role | None = None) -> Message | None:
        those = [message for message in self.messages.values() if role in (None, message.role)]
        return those[number % len(those)] if those else None

    def path(self, last: MessageId | None) -> list[MessageId]:
        path = list[MessageId]()
        while last is not None:
            path.append(last)
            last = self.messages[last].parent_id
        return path[::-1]

    def siblings(self, message: Message) -> tuple[MessageId, ...]:
        return tuple(sorted(each.id for each in self.messages.values() if each.parent_id == message.parent_id))

    def newest_below(self, message: Message) -> MessageId:
        """The clock stands still: the highest id of the leaves."""
        parents = {each.parent_id for each in self.messages.values()}
        return max(each for each in self.messages.keys() - parents if message.id in self.path(each))


@settings(max_examples=150, deadline=None)
@given(st.lists(acts, max_size=12), st.sampled_from([partial(count, 1), *IDS.values()]))
def test_whatever_is_done_one_path_is_shown_and_nothing_is_lost(
    acts: Sequence[Act], ids: Callable[[], Iterable[int]]
) -> None:
    asyncio.run(_act(acts, ids()))


async def _act(acts: Sequence[Act], ids: Iterable[int]) -> None:
    world, book = World(ids=ids), Book()
    async with world.process() as process:
        chat = await process.chat()
        for number, act in enumerate([Act("send"), *acts]):
            if act.kind == "branch":
                await _switch(chat, book, act.which)
            else:
                await _talk(world, chat, book, act, f"answer {number}")
            await _check(world, chat, book)
        await everything_has_ended(chat)


async def _talk(world: World, chat: Chat, book: Book, act: Act, answer: str) -> None:
    stall = Stall()
    world.model.then(answer, stall)
    sent, before = await _begin(chat, book, act, f"asked for {answer}")
    for message in (sent.message, sent.reply):
        book.messages[message.id] = message
        assert message.siblings == book.siblings(message)
    book.active = [*before, sent.message.id, sent.reply.id]
    assert [message.id for message in await chat.messages()] == book.active
    await stall.reached()
    if act.switch is not None:
        await _switch(chat, book, act.switch)
    stall.release()
    ended = await chat.end_of(sent.reply.id)
    assert (ended.id, ended.content) == (sent.reply.id, answer)
    book.messages[ended.id] = ended
    prompt = [book.messages[message_id].content for message_id in [*before, sent.message.id]]
    assert [message.content for message in world.model.calls[-1].prompt.messages] == prompt


async def _begin(chat: Chat, book: Book, act: Act, content: str) -> tuple[Sent, list[MessageId]]:
    """What was sent, and the path that it has to continue."""
    edited, reply = book.chosen(act.which, Role.USER), book.chosen(act.which, Role.ASSISTANT)
    if act.kind == "edit" and edited is not None:
        return await chat.edit(edited.id, content), book.path(edited.parent_id)
    if act.kind == "regenerate" and reply is not None:
        sent = await chat.regenerate(reply.id)
        assert sent.message.id == reply.parent_id
        return sent, book.path(sent.message.parent_id)
    if act.kind == "again" and book.active:
        sent = await chat.regenerate()
        assert sent.message.id == book.active[-2]
        return sent, book.active[:-2]
    return await chat.send(content), book.active


async def _switch(chat: Chat, book: Book, which: int) -> None:
    shown = book.chosen(which)
    assert shown is not None
    history = await chat.switch(shown.id)
    book.active = book.path(book.newest_below(shown))
    assert [message.id for message in history.messages] == book.active


async def _check(world: World, chat: Chat, book: Book) -> None:
    shown = await chat.messages()
    assert [message.id for message in shown] == book.active == book.path(book.active[-1])
    assert all(message.siblings == book.siblings(message) for message in shown)
    async with world.storage(read_only=True) as work:
        tree = await work.messages.tree(chat.owner, chat.id)
        stored = [await work.messages.get(chat.owner, chat.id, node.id) for node in tree]
    assert {each and each.id: each for each in stored} == book.messages
    assert len(stored) == len(book.messages)
    assert all(node.parent_id in {None, *(each.id for each in tree[:place])} for place, node in enumerate(tree))
    assert [node.id for node in tree if node.active] == book.active
