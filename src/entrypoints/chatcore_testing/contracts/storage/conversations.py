"""The contract of `ConversationRepo`."""

import asyncio
from dataclasses import replace
from datetime import datetime
from itertools import count
from random import Random

from chatcore import ListConversations
from chatcore.entities import Conversation, ConversationId, Message, Status, User
from chatcore.errors import NotFound
from chatcore.ports import LogEntry, TextKind, UnitOfWorkFactory
from chatcore.storage import CONVERSATION_BYTES
from chatcore_testing.contract import Capability, each, needs, raises
from chatcore_testing.contracts.storage.base import (
    NOW,
    WORKER,
    StoreChecks,
    add_message,
    add_reply,
    is_utc,
    later,
    place_of,
    stored_conversation,
    stored_reply,
    the_conversation,
    times,
)
from chatcore_testing.contracts.storage.model_configs import NO_CONFIG, add_config

NO_CONVERSATION = ConversationId(999_999_999)


class Using:
    """Someone who uses their conversations, each time a second later."""

    def __init__(self, unit_of_work: UnitOfWorkFactory, owner: User, seed: int) -> None:
        self.random: Random = Random(seed)  # noqa: S311 - it protects nothing
        self._unit_of_work = unit_of_work
        self._owner = owner.id
        self._seconds = count(1)
        self._made = list[Conversation]()
        self._writing = dict[ConversationId, Message]()

    async def do_anything(self) -> None:
        await self.random.choice((self.begin, self.end, self.send, self.send, self.send))()

    async def begin(self) -> None:
        """Or restores one."""
        async with self._unit_of_work() as work:
            new = await work.conversations.add(self._owner, title="", config_id=None, now=self._now())
            if self.random.random() < 0.3:
                old = replace(new, created_at=NOW, updated_at=self._now())
                self._made.append(await work.conversations.restore(old))
            await work.commit()
        self._made.append(new)

    async def send(self) -> None:
        """Perhaps in another branch."""
        conversation, now = self.random.choice(self._made), self._now()
        if conversation.id in self._writing:
            return
        async with self._unit_of_work() as work:
            last = await work.messages.last(self._owner, conversation.id)
            if self.random.random() < 0.3:
                await work.messages.activate(self._owner, conversation.id, after=None, path=())
                last = None
            question = await add_message(work, conversation, parent_id=last, now=now)
            reply = await add_reply(work, conversation, question, now=now)
            assert await work.conversations.claim(self._owner, conversation.id, reply.id, WORKER, now=now)
            await work.commit()
        self._writing[conversation.id] = reply

    async def end(self) -> None:
        for reply in [*self._writing.values()][:1]:
            now = self._now()
            async with self._unit_of_work() as work:
                assert await work.conversations.release(self._owner, reply.conversation_id, reply.id, now=now)
                await work.messages.finish(replace(reply, status=Status.COMPLETE), now=now)
                await work.commit()
            del self._writing[reply.conversation_id]

    def _now(self) -> datetime:
        return later(next(self._seconds))


class ConversationRepoChecks(StoreChecks, about="conversations"):
    @needs(Capability.ENDPOINTS)
    async def test_a_new_one_is_stored_as_given(self, unit_of_work: UnitOfWorkFactory, owner: User) -> None:
        title = "🦄" * 198 + " \t"
        async with unit_of_work() as work:
            config = await add_config(work, owner)
            added = await work.conversations.add(owner.id, title=title, config_id=config.id, now=NOW)
            await work.commit()
        assert added == Conversation(
            id=added.id,
            user_id=owner.id,
            title=title,
            titled_by_user=True,
            config_id=config.id,
            created_at=NOW,
            updated_at=NOW,
        )
        assert await the_conversation(unit_of_work, added) == added

    async def test_none_is_made_with_a_missing_config(self, unit_of_work: UnitOfWorkFactory, owner: User) -> None:
        async with unit_of_work() as work:
            with raises(NotFound):
                await work.conversations.add(owner.id, title="", config_id=NO_CONFIG, now=NOW)
        async with unit_of_work(read_only=True) as work:
            assert list(await work.conversations.list(owner.id, limit=10, offset=0)) == []

    @each("committed", [True, False])
    async def test_a_new_one_is_spoken_in_within_its_own_unit(
        self, unit_of_work: UnitOfWorkFactory, owner: User, committed: bool
    ) -> None:
        async with unit_of_work() as work:
            added = await work.conversations.add(owner.id, title="", config_id=None, now=NOW)
            assert await work.messages.history(owner.id, added.id, limit=10) == (added, [])
            message = await add_message(work, added)
            reply = await add_reply(work, added, message)
            assert await work.conversations.set_title(owner.id, added.id, "question")
            assert await work.conversations.claim(owner.id, added.id, reply.id, WORKER, now=later(1))
            if committed:
                await work.commit()
        async with unit_of_work(read_only=True) as work:
            page = await work.messages.history(owner.id, added.id, limit=10)
        if not committed:
            assert page is None
            return
        assert page is not None
        stored = replace(added, title="question", writing_reply_id=reply.id, updated_at=later(1))
        assert (page[0], list(page[1])) == (stored, [message, reply])

    @times
    async def test_times_are_kept_to_the_microsecond(
        self, unit_of_work: UnitOfWorkFactory, owner: User, time: datetime
    ) -> None:
        async with unit_of_work() as work:
            added = await work.conversations.add(owner.id, title="", config_id=None, now=time)
            await work.commit()
        stored = await the_conversation(unit_of_work, added)
        assert stored is not None
        assert stored.created_at == stored.updated_at == time
        assert is_utc(stored.updated_at)

    async def test_a_missing_or_a_strangers_one_is_none(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            assert await work.conversations.get(owner.id, NO_CONVERSATION) is None
            assert await work.conversations.get(stranger.id, conversation.id) is None
            assert await work.conversations.lock(owner.id, NO_CONVERSATION) is None
            assert await work.conversations.lock(stranger.id, conversation.id) is None
            assert list(await work.conversations.list(stranger.id, limit=10, offset=0)) == []

    async def test_the_list_is_newest_change_first_then_highest_id(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        async with unit_of_work() as work:
            changes = (1.0, 0.000_001, 1.0, 0.0)
            a, b, c, d = [
                await work.conversations.add(owner.id, title="", config_id=None, now=later(change))
                for change in changes
            ]
            await work.conversations.add(stranger.id, title="", config_id=None, now=later(9))
            assert list(await work.conversations.list(owner.id, limit=10, offset=0)) == [c, a, b, d]
            assert list(await work.conversations.list(owner.id, limit=2, offset=1)) == [a, b]
            assert list(await work.conversations.list(owner.id, limit=2, offset=4)) == []

    async def test_what_comes_below_a_place_of_the_list(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        async with unit_of_work() as work:
            a, b, c, d = [
                await work.conversations.add(owner.id, title="", config_id=None, now=later(change))
                for change in (1.0, 0.000_001, 1.0, 0.0)
            ]
            await work.conversations.add(stranger.id, title="", config_id=None, now=later(0.5))
            everything = [c, a, b, d]
            for number, each in enumerate(everything, start=1):
                found = await work.conversations.list_below(
                    owner.id, updated_at=each.updated_at, before=each.id, limit=10
                )
                assert list(found) == everything[number:]
            assert list(await work.conversations.list_below(owner.id, updated_at=later(9), before=a.id, limit=1)) == [c]

    async def test_what_was_used_since(self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User) -> None:
        """With the time of the use before that: its last message's until then, or its own."""
        async with unit_of_work() as work:
            empty, talked, _, new, theirs = [
                await work.conversations.add(user.id, title="", config_id=None, now=later(when))
                for user, when in ((owner, 0.0), (owner, 0.0), (owner, 0.0), (owner, 6.0), (stranger, 0.0))
            ]
            restored = await work.conversations.restore(replace(empty, updated_at=later(3)))
            await add_message(work, restored, now=later(1))
            parent_id = None
            for when in (1.0, 2.0, 7.0):
                parent_id = (await add_message(work, talked, parent_id=parent_id, now=later(when))).id
            for each in (empty, talked, restored, new, theirs):
                await work.conversations.touch(each.user_id, each.id, now=later(8.0))
            used = {each.id: last for each, last in await work.conversations.used_since(owner.id, later(5), limit=9)}
            assert used == {empty.id: later(0.0), talked.id: later(2.0), restored.id: later(3.0)}
            first = (await work.messages.tree(owner.id, talked.id))[0]
            await work.messages.activate(owner.id, talked.id, after=first, path=())
            used = {each.id: last for each, last in await work.conversations.used_since(owner.id, later(5), limit=9)}
            assert used[talked.id] == later(2.0)
            assert len(await work.conversations.used_since(owner.id, later(5), limit=1)) == 1

    @each("seed", [12, 17, 19, 38])  # which meet each way in which one could be missed
    async def test_a_walk_by_cursor_has_each_once_whatever_is_used_between_its_pages(
        self, unit_of_work: UnitOfWorkFactory, owner: User, seed: int
    ) -> None:
        someone, listed = Using(unit_of_work, owner, seed), ListConversations(unit_of_work=unit_of_work)
        for _ in range(8):
            await someone.begin()
            await someone.do_anything()
        there = [each.id for each in (await listed(owner=owner.id, limit=100)).items]
        limit = someone.random.choice((1, 2, 3))
        page = await listed(owner=owner.id, limit=limit)
        seen = [each.id for each in page.items]
        while page.next is not None:
            for _ in range(someone.random.choice((0, 1, 2))):
                await someone.do_anything()
            page = await listed(owner=owner.id, limit=limit, cursor=page.next)
            seen += [each.id for each in page.items]
        assert seen == there

    # ---- titles ----

    @each("by_user", [False, True])
    async def test_a_title_is_set_and_nothing_else(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation, by_user: bool
    ) -> None:
        async with unit_of_work() as work:
            for _ in range(2):
                assert await work.conversations.set_title(owner.id, conversation.id, "漢 🦄 ", by_user=by_user) is True
            await work.commit()
        titled = replace(conversation, title="漢 🦄 ", titled_by_user=by_user)
        assert await the_conversation(unit_of_work, conversation) == titled

    @each("by_user", [False, True])
    async def test_a_strangers_title_is_not_set(
        self,
        unit_of_work: UnitOfWorkFactory,
        owner: User,
        stranger: User,
        conversation: Conversation,
        by_user: bool,
    ) -> None:
        async with unit_of_work() as work:
            assert await work.conversations.set_title(stranger.id, conversation.id, "mine", by_user=by_user) is False
            assert await work.conversations.set_title(owner.id, NO_CONVERSATION, "mine", by_user=by_user) is False
            await work.commit()
        assert await the_conversation(unit_of_work, conversation) == conversation

    @each("given", ["when it began", "later"])
    async def test_a_title_of_the_users_gives_way_to_none_but_another_of_theirs(
        self, unit_of_work: UnitOfWorkFactory, owner: User, given: str
    ) -> None:
        conversation = await stored_conversation(unit_of_work, owner, "mine" if given == "when it began" else "")
        async with unit_of_work() as work:
            if given == "later":
                assert await work.conversations.set_title(owner.id, conversation.id, "mine", by_user=True) is True
            assert await work.conversations.set_title(owner.id, conversation.id, "proposed") is False
            await work.commit()
        mine = replace(conversation, title="mine", titled_by_user=True)
        assert await the_conversation(unit_of_work, conversation) == mine
        async with unit_of_work() as work:
            assert await work.conversations.set_title(owner.id, conversation.id, "renamed", by_user=True) is True
            assert await work.conversations.set_title(owner.id, conversation.id, "proposed") is False
            await work.commit()
        assert await the_conversation(unit_of_work, conversation) == replace(mine, title="renamed")

    async def test_a_proposed_title_gives_way_to_another(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            for title in ("first", "second"):
                assert await work.conversations.set_title(owner.id, conversation.id, title) is True
            await work.commit()
        assert await the_conversation(unit_of_work, conversation) == replace(conversation, title="second")

    @each("commits", [True, False])
    async def test_a_proposed_title_waits_for_one_that_the_user_is_giving(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation, commits: bool
    ) -> None:
        async def propose() -> bool:
            async with unit_of_work() as work:
                proposed = await work.conversations.set_title(owner.id, conversation.id, "proposed")
                await work.commit()
            return proposed

        async with unit_of_work() as work:
            await work.conversations.set_title(owner.id, conversation.id, "mine", by_user=True)
            proposing = asyncio.create_task(propose())
            for _ in range(20):  # round trips in which the other one could overtake
                await work.conversations.get(owner.id, conversation.id)
            if commits:
                await work.commit()
        assert await proposing is not commits
        mine = replace(conversation, title="mine", titled_by_user=True)
        proposed = replace(conversation, title="proposed")
        assert await the_conversation(unit_of_work, conversation) == (mine if commits else proposed)

    # ---- the time of the last use ----

    async def test_touching_sets_the_time_and_nothing_else(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        other = await stored_conversation(unit_of_work, owner, title="other")
        async with unit_of_work() as work:
            await work.conversations.touch(owner.id, conversation.id, now=later(1))
            await work.conversations.touch(stranger.id, other.id, now=later(2))
            await work.conversations.touch(owner.id, NO_CONVERSATION, now=later(3))
            await work.commit()
        assert await the_conversation(unit_of_work, conversation) == replace(conversation, updated_at=later(1))
        assert await the_conversation(unit_of_work, other) == other

    # ---- deleting ----

    async def test_deleting_takes_the_messages_and_the_log_along(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            kept = await work.conversations.add(owner.id, title="kept", config_id=None, now=NOW)
            kept_message = await add_message(work, kept)
            message, reply = await add_message(work, conversation), await add_reply(work, conversation)
            await work.conversations.claim(owner.id, conversation.id, reply.id, WORKER, now=NOW)
            await work.reply_log.append([LogEntry(owner.id, reply.id, 0, TextKind.ANSWER, "text")])
            await work.commit()
        async with unit_of_work() as work:
            assert await work.conversations.delete(owner.id, conversation.id, limit=10, now=NOW) > 0
            assert await work.conversations.delete(owner.id, conversation.id, limit=10, now=NOW) == 0
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            assert await work.conversations.get(owner.id, conversation.id) is None
            assert await work.messages.history(owner.id, conversation.id, limit=10) is None
            assert await work.messages.get(owner.id, conversation.id, message.id) is None
            assert await work.messages.last_reply(owner.id, conversation.id) is None
            assert list(await work.reply_log.read(owner.id, reply.id)) == []
            assert list(await work.unfinished.orphans(limit=100)) == []
            assert await work.messages.get(owner.id, kept.id, kept_message.id) == kept_message

    async def test_a_long_one_is_deleted_in_parts_and_gone_at_once(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            before = await work.owners.stored_bytes(owner.id)
            messages = [await add_message(work, conversation) for _ in range(5)]
            await work.messages.activate(owner.id, conversation.id, after=await place_of(work, messages[2]), path=())
            await work.reply_log.append([LogEntry(owner.id, each.id, 0, TextKind.ANSWER, "text") for each in messages])
            await work.commit()
        assert await self.deleted(unit_of_work, conversation, limit=2) == 2
        async with unit_of_work() as work:
            assert await work.administration.closed_conversations(limit=10) == [(owner.id, conversation.id)]
            assert await work.administration.closed_conversations(limit=0) == []
            assert await work.conversations.get(owner.id, conversation.id) is None
            assert await work.conversations.lock(owner.id, conversation.id) is None
            assert list(await work.conversations.list(owner.id, limit=10, offset=0)) == []
            below = await work.conversations.list_below(owner.id, updated_at=later(9), before=NO_CONVERSATION, limit=10)
            assert list(below) == []
            assert list(await work.conversations.by_id(owner.id, after=None, limit=10)) == []
            matches = await work.conversations.titled(owner.id, "", before=None, limit=10, within=10)
            assert list(matches.items) == []
            said = await work.messages.containing(owner.id, "question", before=None, limit=10, within=10)
            assert list(said.items) == []
            assert await work.messages.history(owner.id, conversation.id, limit=10) is None
            assert await work.conversations.claim(owner.id, conversation.id, messages[0].id, WORKER, now=NOW) is False
        assert await self.deleted(unit_of_work, replace(conversation, user_id=stranger.id), limit=2) == 0
        assert await self.deleted(unit_of_work, conversation, limit=2) == 2
        assert await self.deleted(unit_of_work, conversation, limit=2) == 2
        async with unit_of_work(read_only=True) as work:
            assert list(await work.administration.closed_conversations(limit=10)) == []
            assert await work.owners.stored_bytes(owner.id) == before - CONVERSATION_BYTES
            for message in messages:
                assert list(await work.reply_log.read(owner.id, message.id)) == []
        assert await self.deleted(unit_of_work, conversation, limit=2) == 0

    @staticmethod
    async def deleted(unit_of_work: UnitOfWorkFactory, conversation: Conversation, *, limit: int) -> int:
        async with unit_of_work() as work:
            count = await work.conversations.delete(conversation.user_id, conversation.id, limit=limit, now=NOW)
            await work.commit()
        return count

    async def test_a_strangers_one_is_not_deleted(
        self, unit_of_work: UnitOfWorkFactory, stranger: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            message = await add_message(work, conversation)
            assert await work.conversations.delete(stranger.id, conversation.id, limit=10, now=NOW) == 0
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            page = await work.messages.history(conversation.user_id, conversation.id, limit=10)
        assert page is not None
        assert (page[0], list(page[1])) == (conversation, [message])

    # ---- the claim: one reply at a time ----

    async def test_one_reply_at_a_time_holds_the_claim(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            first, second = await add_reply(work, conversation), await add_reply(work, conversation)
            assert await work.conversations.claim(owner.id, conversation.id, first.id, WORKER, now=later(1)) is True
            assert await work.conversations.claim(owner.id, conversation.id, second.id, WORKER, now=later(2)) is False
            await work.commit()
        claimed = replace(conversation, writing_reply_id=first.id, updated_at=later(1))
        assert await the_conversation(unit_of_work, conversation) == claimed

    async def test_only_the_holder_gives_the_claim_back(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            first, second = await add_reply(work, conversation), await add_reply(work, conversation)
            await work.conversations.claim(owner.id, conversation.id, first.id, WORKER, now=later(1))
            assert await work.conversations.release(owner.id, conversation.id, second.id, now=later(2)) is False
            assert await work.conversations.release(stranger.id, conversation.id, first.id, now=later(3)) is False
            assert await work.conversations.release(owner.id, NO_CONVERSATION, first.id, now=later(3)) is False
            assert await work.conversations.release(owner.id, conversation.id, first.id, now=later(4)) is True
            assert await work.conversations.release(owner.id, conversation.id, first.id, now=later(5)) is False
            await work.commit()
        assert await the_conversation(unit_of_work, conversation) == replace(conversation, updated_at=later(4))
        async with unit_of_work() as work:
            assert await work.conversations.claim(owner.id, conversation.id, second.id, WORKER, now=later(6)) is True

    async def test_a_strangers_conversation_is_not_claimed(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            reply = await add_reply(work, conversation)
            assert await work.conversations.claim(stranger.id, conversation.id, reply.id, WORKER, now=later(1)) is False
            assert await work.conversations.claim(owner.id, NO_CONVERSATION, reply.id, WORKER, now=later(1)) is False
            await work.commit()
        assert await the_conversation(unit_of_work, conversation) == conversation

    async def test_of_several_at_once_one_claims(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        replies = [await stored_reply(unit_of_work, conversation) for _ in range(8)]

        async def claim(index: int) -> bool:
            async with unit_of_work() as work:
                claimed = await work.conversations.claim(
                    owner.id, conversation.id, replies[index].id, WORKER, now=later(index)
                )
                await work.commit()
            return claimed

        outcomes = await asyncio.gather(*(claim(index) for index in range(8)))
        assert sorted(outcomes) == [False] * 7 + [True]
        winner = outcomes.index(True)
        claimed = replace(conversation, writing_reply_id=replies[winner].id, updated_at=later(winner))
        assert await the_conversation(unit_of_work, conversation) == claimed

    # ---- the lock: others wait ----

    async def test_a_locked_one_is_as_it_was_got(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            assert await work.conversations.lock(owner.id, conversation.id) == conversation
            assert await work.conversations.lock(owner.id, conversation.id) == conversation

    async def test_what_is_done_under_the_lock_is_never_lost(
        self, unit_of_work: UnitOfWorkFactory, owner: User
    ) -> None:
        conversation = await stored_conversation(unit_of_work, owner, title="0")

        async def count() -> None:
            async with unit_of_work() as work:
                locked = await work.conversations.lock(owner.id, conversation.id)
                assert locked is not None
                title = str(int(locked.title) + 1)
                await work.conversations.set_title(owner.id, conversation.id, title, by_user=True)
                await work.commit()

        await asyncio.gather(*(count() for _ in range(8)))
        assert await the_conversation(unit_of_work, conversation) == replace(conversation, title="8")

    @each("commits", [True, False])
    async def test_another_unit_waits_for_the_lock(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation, commits: bool
    ) -> None:
        order: list[str] = []

        async def second() -> Conversation | None:
            async with unit_of_work() as work:
                locked = await work.conversations.lock(owner.id, conversation.id)
                order.append("second has it")
            return locked

        async with unit_of_work() as work:
            await work.conversations.lock(owner.id, conversation.id)
            waiting = asyncio.create_task(second())
            await work.conversations.set_title(owner.id, conversation.id, "changed")
            for _ in range(20):  # round trips in which the other one could overtake
                await work.conversations.get(owner.id, conversation.id)
            order.append("first is done")
            if commits:
                await work.commit()
        assert await waiting == (replace(conversation, title="changed") if commits else conversation)
        assert order == ["first is done", "second has it"]

    async def test_a_claim_waits_for_the_lock(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        first, second = [await stored_reply(unit_of_work, conversation) for _ in range(2)]

        async def claim() -> bool:
            async with unit_of_work() as work:
                claimed = await work.conversations.claim(owner.id, conversation.id, second.id, WORKER, now=later(2))
                await work.commit()
            return claimed

        async with unit_of_work() as work:
            await work.conversations.lock(owner.id, conversation.id)
            waiting = asyncio.create_task(claim())
            for _ in range(20):  # round trips in which the other one could overtake
                await work.conversations.get(owner.id, conversation.id)
            assert await work.conversations.claim(owner.id, conversation.id, first.id, WORKER, now=later(1)) is True
            await work.commit()
        assert await waiting is False
