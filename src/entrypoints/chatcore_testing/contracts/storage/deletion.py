"""The contract of `UserRepo.delete`: whatever a user owned is gone with them, and nothing else is."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from chatcore.entities import Conversation, MessageId, OwnerId, RefreshToken, Session, Status, User, UserId
from chatcore.errors import NotFound
from chatcore.ports import Idempotency, LogEntry, TextKind, UnitOfWork, UnitOfWorkFactory
from chatcore_testing.contract import Capability, raises
from chatcore_testing.contracts.storage.base import NOW, WORKER, StoreChecks, add_message, add_reply, later, stored_user
from chatcore_testing.contracts.storage.sessions import a_session, a_token

NOBODY = UserId(OwnerId(999_999_999))


@dataclass(frozen=True, slots=True)
class Belongings:
    session: Session
    token: RefreshToken
    conversation: Conversation


async def own_everything(work: UnitOfWork, user: User) -> Belongings:
    """A thing of each kind, one of them text in the log of a reply whose message is gone."""
    session = a_session(user, f"session of {user.username}")
    token = a_token(session, bytes([user.id % 256]) * 32)
    await work.tokens.add_session(session)
    await work.tokens.add_refresh_token(token)
    config = await work.model_configs.add(user.id, model_url="http://x", model_name="m", now=NOW)
    conversation = await work.conversations.add(user.id, title="", config_id=config.id, now=NOW)
    question = await add_message(work, conversation, idempotency=Idempotency("key", bytes(32)))
    reply = await add_reply(work, conversation, to=question)
    await work.conversations.claim(user.id, conversation.id, reply.id, WORKER, now=NOW)
    lost = MessageId(reply.id + 1_000_000)
    await work.reply_log.append([LogEntry(user.id, each, 0, TextKind.ANSWER, "text") for each in (reply.id, lost)])
    return Belongings(session, token, replace(conversation, writing_reply_id=reply.id))


async def seen(unit_of_work: UnitOfWorkFactory, user: User, theirs: Belongings) -> list[object]:
    """What the ports still show of it."""
    session, conversation, reply_id = theirs.session, theirs.conversation, theirs.conversation.writing_reply_id
    assert reply_id is not None
    async with unit_of_work() as work:
        return [
            await work.users.find(user.username),
            await work.users.find(user.email or ""),
            await work.tokens.caller(user.id, session.id),
            list(await work.tokens.sessions(user.id, limit=10, offset=0)),
            await work.tokens.refresh_token(theirs.token.digest),
            list(await work.model_configs.list(user.id, limit=100, offset=0)),
            list(await work.conversations.list(user.id, limit=10, offset=0)),
            await work.messages.history(user.id, conversation.id, limit=10),
            await work.messages.sent_with(user.id, conversation.id, "key", since=NOW),
            await work.messages.get(user.id, conversation.id, reply_id),
            list(await work.reply_log.read(user.id, reply_id)),
            list(await work.reply_log.read(user.id, MessageId(reply_id + 1_000_000))),
        ]


async def delete(unit_of_work: UnitOfWorkFactory, owner: User) -> bool:
    async with unit_of_work() as work:
        deleted = await work.owners.delete(owner.id)
        await work.commit()
    return deleted


class AccountDeletionChecks(StoreChecks, about="deletion", needs=Capability.ACCOUNTS):
    async def test_deleting_takes_all_that_the_user_owns_along(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        async with unit_of_work() as work:
            theirs = await own_everything(work, owner)
            kept = await own_everything(work, stranger)
            await work.commit()
        everything = await seen(unit_of_work, owner, theirs), await seen(unit_of_work, stranger, kept)
        assert all(everything[0]), "the test looks at nothing that is not there"
        async with unit_of_work() as work:
            assert await work.owners.delete(owner.id) is True
            assert await work.owners.delete(owner.id) is False
            assert await work.owners.delete(NOBODY) is False
            await work.commit()
        assert not any(await seen(unit_of_work, owner, theirs))
        assert await seen(unit_of_work, stranger, kept) == everything[1]
        async with unit_of_work(read_only=True) as work:
            assert [reply.user_id for reply in await work.unfinished.orphans(limit=100)] == [stranger.id]

    async def test_a_deleted_users_names_are_free_and_the_id_is_not(
        self, unit_of_work: UnitOfWorkFactory, owner: User
    ) -> None:
        async with unit_of_work() as work:
            await work.owners.delete(owner.id)
            await work.commit()
        another = await stored_user(unit_of_work, "owner", "owner@example.org")
        assert another.id > owner.id

    async def test_deleting_waits_for_whoever_has_locked_a_conversation(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            assert await work.users.hold(owner.id, password_hash=owner.password_hash)  # as each that writes begins
            await work.conversations.lock(owner.id, conversation.id)
            deleting = asyncio.create_task(delete(unit_of_work, owner))
            for _ in range(20):  # round trips in which the other one could overtake
                await work.conversations.get(owner.id, conversation.id)
            reply = await add_reply(work, conversation)
            assert await work.conversations.set_title(owner.id, conversation.id, "title") is True
            assert await work.conversations.claim(owner.id, conversation.id, reply.id, WORKER, now=later(1)) is True
            await work.reply_log.append([LogEntry(owner.id, reply.id, 0, TextKind.ANSWER, "text")])
            await work.commit()
        assert await deleting is True
        async with unit_of_work(read_only=True) as work:
            assert await work.users.find("owner") is None
            assert await work.messages.get(owner.id, conversation.id, reply.id) is None
            assert list(await work.reply_log.read(owner.id, reply.id)) == []

    async def test_deleting_and_the_end_of_a_reply_do_not_wait_for_each_other(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            reply = await add_reply(work, conversation)
            await work.conversations.claim(owner.id, conversation.id, reply.id, WORKER, now=NOW)
            await work.reply_log.append([LogEntry(owner.id, reply.id, 0, TextKind.ANSWER, "text")])
            await work.commit()
        async with unit_of_work() as work:
            assert await work.conversations.release(owner.id, conversation.id, reply.id, now=later(1)) is True
            deleting = asyncio.create_task(delete(unit_of_work, owner))
            for _ in range(20):  # round trips in which the other one comes as far as it can
                await work.messages.get(owner.id, conversation.id, reply.id)
            await work.messages.finish(replace(reply, content="text", status=Status.COMPLETE))
            await work.reply_log.delete(owner.id, reply.id)
            await work.commit()
        assert await deleting is True
        async with unit_of_work(read_only=True) as work:
            assert await work.messages.get(owner.id, conversation.id, reply.id) is None

    # ---- little by little ----

    async def test_nobody_finds_a_closed_account_and_its_names_are_free(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        async with unit_of_work() as work:
            theirs = await own_everything(work, owner)
            await work.commit()
        async with unit_of_work() as work:
            assert await work.owners.close(owner.id, now=NOW) is True
            assert await work.owners.close(owner.id, now=NOW) is False
            assert await work.owners.close(NOBODY, now=NOW) is False
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            for name in (owner.username, owner.email or "", f"@{owner.id}"):
                assert await work.users.find(name) is None
            assert await work.tokens.caller(owner.id, theirs.session.id) is None
            assert await work.tokens.refresh_token(theirs.token.digest) is None
            assert await work.administration.user(owner.id) is None
            assert [user.id for user in await work.administration.users(limit=10)] == [stranger.id]
            assert [*await work.administration.users(containing=f"@{owner.id}", limit=10)] == []
            assert [*await work.owners.closed(limit=10)] == [owner.id]
            assert [*await work.owners.closed(limit=0)] == []
        another = await stored_user(unit_of_work, "owner", "owner@example.org")
        assert another.id > owner.id

    async def test_a_closed_account_is_deleted_in_batches(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        async with unit_of_work() as work:
            theirs = await own_everything(work, owner)
            kept = await own_everything(work, stranger)
            for _ in range(5):
                await add_message(work, theirs.conversation)
            await work.owners.close(owner.id, now=NOW)
            await work.commit()
        everything = await seen(unit_of_work, stranger, kept)
        deleted = list[int]()
        while not deleted or deleted[-1]:
            async with unit_of_work() as work:
                deleted.append(await work.owners.delete_some(owner.id, limit=3))
                await work.commit()
        assert deleted == [3, 3, 1, 2, 1, 0]  # seven messages, two replies in the log, a conversation
        async with unit_of_work() as work:
            assert await work.owners.delete(owner.id) is True
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            assert [*await work.owners.closed(limit=10)] == []
        assert not any(await seen(unit_of_work, owner, theirs))
        assert await seen(unit_of_work, stranger, kept) == everything

    # ---- nothing comes back ----

    async def test_nothing_is_added_for_a_user_who_is_gone(self, unit_of_work: UnitOfWorkFactory, owner: User) -> None:
        session = a_session(owner)
        async with unit_of_work() as work:
            await work.tokens.add_session(session)
            conversation = await work.conversations.add(owner.id, title="", config_id=None, now=NOW)
            await work.owners.delete(owner.id)
            await work.commit()
        adds: Sequence[Callable[[UnitOfWork], Awaitable[object]]] = (
            lambda work: work.tokens.add_session(session),
            lambda work: work.tokens.add_refresh_token(a_token(session)),
            lambda work: work.model_configs.add(owner.id, model_url="http://x", model_name="m", now=NOW),
            lambda work: work.conversations.add(owner.id, title="", config_id=None, now=NOW),
            lambda work: add_message(work, conversation),
        )
        for add in adds:
            async with unit_of_work() as work:
                with raises(NotFound):
                    await add(work)
        async with unit_of_work(read_only=True) as work:
            assert await work.tokens.caller(owner.id, session.id) is None
            assert await work.tokens.alive([session.id], now=NOW) == set()
