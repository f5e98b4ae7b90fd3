"""The contract of `UnitOfWork` and its factory."""

import asyncio
from dataclasses import replace

from chatcore.entities import Conversation, Status, User
from chatcore.errors import UsernameTaken
from chatcore.ports import LogEntry, TextKind, UnitOfWorkFactory
from chatcore_testing.contract import Capability, each, needs, raises
from chatcore_testing.contracts.storage.base import (
    NOW,
    WORKER,
    StoreChecks,
    add_message,
    add_user,
    stored_conversation,
    stored_reply,
    stored_user,
    the_conversation,
)


class Stumble(Exception):
    pass


class UnitOfWorkChecks(StoreChecks, about="units"):
    async def exists(self, unit_of_work: UnitOfWorkFactory, username: str) -> bool:
        async with unit_of_work(read_only=True) as work:
            return await work.users.find(username) is not None

    @needs(Capability.ACCOUNTS)
    async def test_what_was_committed_is_there_for_everybody(self, unit_of_work: UnitOfWorkFactory) -> None:
        async with unit_of_work() as work:
            user = await add_user(work, "ada")
            await work.commit()
        for read_only in (True, False):
            async with unit_of_work(read_only=read_only) as work:
                assert await work.users.find("ada") == user

    @needs(Capability.ACCOUNTS, Capability.ENDPOINTS)
    async def test_leaving_without_a_commit_rolls_back(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        reply = await stored_reply(unit_of_work, conversation)
        async with unit_of_work() as work:
            await add_user(work, "ada")
            await work.users.set_password_hash(owner.id, "changed", now=NOW)
            await work.model_configs.add(owner.id, model_url="https://x.org", model_name="m", now=NOW)
            await work.conversations.add(owner.id, title="", config_id=None, now=NOW)
            await work.conversations.claim(owner.id, conversation.id, reply.id, WORKER, now=NOW)
            await add_message(work, conversation)
            await work.messages.finish(replace(reply, content="changed", status=Status.COMPLETE))
            await work.reply_log.append([LogEntry(owner.id, reply.id, 0, TextKind.ANSWER, "text")])
        async with unit_of_work(read_only=True) as work:
            assert await work.users.find("ada") is None
            assert await work.users.find("owner") == owner
            assert await work.model_configs.newest(owner.id) is None
            assert list(await work.conversations.list(owner.id, limit=10, offset=0)) == [conversation]
            page = await work.messages.history(owner.id, conversation.id, limit=10)
            assert list(await work.reply_log.read(owner.id, reply.id)) == []
        assert page is not None
        assert (page[0], list(page[1])) == (conversation, [reply])

    @needs(Capability.ACCOUNTS)
    async def test_an_error_rolls_back_and_goes_on(self, unit_of_work: UnitOfWorkFactory) -> None:
        async def stumble() -> None:
            async with unit_of_work() as work:
                await add_user(work, "ada")
                raise Stumble

        with raises(Stumble):
            await stumble()
        assert not await self.exists(unit_of_work, "ada")

    @needs(Capability.ACCOUNTS)
    async def test_a_conflict_rolls_back_what_was_written_before(
        self, unit_of_work: UnitOfWorkFactory, owner: User
    ) -> None:
        async def collide() -> None:
            async with unit_of_work() as work:
                await add_user(work, "ada")
                await add_user(work, owner.username)

        with raises(UsernameTaken):
            await collide()
        assert not await self.exists(unit_of_work, "ada")
        assert (await stored_user(unit_of_work, "ada")).username == "ada"

    @needs(Capability.ACCOUNTS)
    async def test_a_unit_sees_what_it_wrote_and_others_do_not_yet(self, unit_of_work: UnitOfWorkFactory) -> None:
        async with unit_of_work() as work:
            user = await add_user(work, "ada")
            assert await work.users.find("ada") == user
            assert not await self.exists(unit_of_work, "ada")
            await work.commit()
        assert await self.exists(unit_of_work, "ada")

    @needs(Capability.ACCOUNTS)
    async def test_a_unit_sees_what_was_committed_before_it_began(self, unit_of_work: UnitOfWorkFactory) -> None:
        for number in range(3):
            async with unit_of_work() as work:
                assert [await work.users.find(f"user{n}") is not None for n in range(3)] == [
                    n < number for n in range(3)
                ]
            await stored_user(unit_of_work, f"user{number}")

    @needs(Capability.ACCOUNTS)
    async def test_reading_only_sees_the_newest_committed_state(self, unit_of_work: UnitOfWorkFactory) -> None:
        async with unit_of_work(read_only=True) as work:
            assert await work.users.find("ada") is None
            user = await stored_user(unit_of_work, "ada")
            assert await work.users.find("ada") == user

    @needs(Capability.ACCOUNTS)
    async def test_reading_only_refuses_to_write(self, unit_of_work: UnitOfWorkFactory, owner: User) -> None:
        async with unit_of_work(read_only=True) as work:
            with raises(RuntimeError):
                await add_user(work, "ada")
        async with unit_of_work(read_only=True) as work:
            with raises(RuntimeError):
                await work.users.set_password_hash(owner.id, "changed", now=NOW)
        async with unit_of_work(read_only=True) as work:
            with raises(RuntimeError):
                await work.commit()
        async with unit_of_work(read_only=True) as work:
            assert await work.users.find("ada") is None
            assert await work.users.find("owner") == owner

    async def test_units_one_beside_the_other_keep_apart(self, unit_of_work: UnitOfWorkFactory, owner: User) -> None:
        async def converse(number: int) -> Conversation:
            async with unit_of_work() as work:
                conversation = await work.conversations.add(owner.id, title=str(number), config_id=None, now=NOW)
                await add_message(work, conversation, str(number))
                if number % 3:
                    await work.commit()
            return conversation

        conversations = await asyncio.gather(*(converse(number) for number in range(12)))
        async with unit_of_work(read_only=True) as work:
            stored = await work.conversations.list(owner.id, limit=100, offset=0)
            histories = [await work.messages.history(owner.id, each.id, limit=10) for each in stored]
        committed = [conversation for conversation in conversations if int(conversation.title) % 3]
        assert sorted(stored, key=lambda each: each.id) == sorted(committed, key=lambda each: each.id)
        for page in histories:
            assert page is not None
            assert [message.content for message in page[1]] == [page[0].title]

    # ---- a caller that is cancelled ----

    @needs(Capability.ACCOUNTS)
    async def test_a_commit_that_has_begun_is_not_cancelled(self, unit_of_work: UnitOfWorkFactory) -> None:
        async with unit_of_work() as work:
            await add_user(work, "ada")
            committing = asyncio.create_task(work.commit())
            await asyncio.sleep(0)
            committing.cancel()
            with raises(asyncio.CancelledError):
                await committing
        assert await self.exists(unit_of_work, "ada")

    async def test_a_write_that_has_begun_is_not_cancelled(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            writing = asyncio.create_task(work.conversations.set_title(owner.id, conversation.id, "changed"))
            await asyncio.sleep(0)
            writing.cancel()
            with raises(asyncio.CancelledError):
                await writing
            await work.commit()
        stored = await the_conversation(unit_of_work, conversation)
        assert stored is not None
        assert stored.title == "changed"

    @each("point", ["begin", "conversation", "message", "commit", "close"])
    async def test_a_cancelled_unit_has_happened_wholly_or_not_at_all(
        self, unit_of_work: UnitOfWorkFactory, owner: User, point: str
    ) -> None:
        def pass_by(here: str) -> None:
            task = asyncio.current_task()
            if here == point and task is not None:
                task.cancel()

        async def converse() -> None:
            pass_by("begin")
            async with unit_of_work() as work:
                pass_by("conversation")
                conversation = await work.conversations.add(owner.id, title="", config_id=None, now=NOW)
                pass_by("message")
                await add_message(work, conversation)
                pass_by("commit")
                await work.commit()
                pass_by("close")

        await asyncio.gather(asyncio.create_task(converse()), return_exceptions=True)
        another = await stored_conversation(unit_of_work, owner)
        async with unit_of_work(read_only=True) as work:
            stored = await work.conversations.list(owner.id, limit=10, offset=0)
            messages = [await work.messages.history(owner.id, each.id, limit=10) for each in stored if each != another]
        assert another in stored
        assert [len(page[1]) for page in messages if page is not None] == ([1] if point in {"commit", "close"} else [])

    async def test_one_that_waits_for_its_turn_may_be_cancelled(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        async def wait() -> None:
            async with unit_of_work() as work:
                await work.conversations.lock(owner.id, conversation.id)
                await work.conversations.set_title(owner.id, conversation.id, "cancelled")

        async with unit_of_work() as work:
            await work.conversations.lock(owner.id, conversation.id)
            waiting = asyncio.create_task(wait())
            for _ in range(5):
                await work.conversations.get(owner.id, conversation.id)
            waiting.cancel()
            await work.conversations.set_title(owner.id, conversation.id, "changed")
            await work.commit()
        await asyncio.gather(waiting, return_exceptions=True)
        async with unit_of_work() as work:
            locked = await work.conversations.lock(owner.id, conversation.id)
        assert locked is not None
        assert locked.title == "changed"
