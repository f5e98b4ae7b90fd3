"""The contract of what clients of other protocols need: names, metadata, requests, and messages that are erased."""

from dataclasses import replace
from typing import Any

from chatcore.entities import Conversation, ConversationId, MessageId, Request, Status, User
from chatcore.errors import Contention
from chatcore.ports import UnitOfWorkFactory
from chatcore_testing.contract import each, raises
from chatcore_testing.contracts.storage.base import (
    NOW,
    StoreChecks,
    add_message,
    add_reply,
    stored_conversation,
    stored_reply,
)
from chatcore_testing.contracts.storage.owners import IDS

PAIRS = {"topic": "🦄 'quoted' \\ \" é", "": ""}
BODY: dict[str, Any] = {
    "instructions": 'Say "🦄"\r\n',
    "temperature": 0.5,
    "metadata": {"a": "b"},
    "tools": [],
    "user": None,
}


def a_request(conversation: Conversation, reply_id: MessageId, **changes: object) -> Request:
    request = Request(
        user_id=conversation.user_id,
        conversation_id=conversation.id,
        reply_id=reply_id,
        kind="response",
        body=BODY,
        created_at=NOW,
    )
    return replace(request, **changes)  # type: ignore[arg-type]


async def stored(unit_of_work: UnitOfWorkFactory, owner: User) -> int:
    async with unit_of_work(read_only=True) as work:
        return await work.owners.stored_bytes(owner.id)


class RequestRepoChecks(StoreChecks, about="requests"):
    async def request(self, unit_of_work: UnitOfWorkFactory, conversation: Conversation) -> Request:
        async with unit_of_work() as work:
            question = await add_message(work, conversation)
            reply = await add_reply(work, conversation, question)
            request = a_request(conversation, reply.id)
            await work.requests.add(request)
            await work.commit()
        return request

    # ---- conversations that their clients name ----

    async def test_a_conversation_is_found_by_its_clients_name(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        made = dict[str, Conversation]()
        async with unit_of_work() as work:
            for name in IDS:
                made[name] = await work.conversations.add(
                    owner.id, title="", config_id=None, now=NOW, client_id=name, metadata=PAIRS
                )
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            for name in IDS:
                assert await work.conversations.named(owner.id, name) == made[name]
                assert made[name].client_id == name
                assert made[name].metadata == PAIRS
                assert await work.conversations.named(stranger.id, name) is None
            for other in ("", "bob", "ada\0", "\ud800"):
                assert await work.conversations.named(owner.id, other) is None

    async def test_a_name_is_given_once(self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User) -> None:
        for user in (owner, stranger):
            async with unit_of_work() as work:
                await work.conversations.add(user.id, title="", config_id=None, now=NOW, client_id="chat")
                await work.commit()
        async with unit_of_work() as work:
            with raises(Contention):
                await work.conversations.add(owner.id, title="", config_id=None, now=NOW, client_id="chat")

    @each("limit", [1, 10])
    async def test_the_name_of_a_deleted_conversation_is_free(
        self, unit_of_work: UnitOfWorkFactory, owner: User, limit: int
    ) -> None:
        async with unit_of_work() as work:
            first = await work.conversations.add(owner.id, title="", config_id=None, now=NOW, client_id="chat")
            await add_message(work, first)
            await work.commit()
        async with unit_of_work() as work:
            await work.conversations.delete(owner.id, first.id, limit=limit, now=NOW)
            await work.commit()
        async with unit_of_work() as work:
            assert await work.conversations.named(owner.id, "chat") is None
            second = await work.conversations.add(owner.id, title="", config_id=None, now=NOW, client_id="chat")
            await work.commit()
        assert second.id != first.id

    async def test_the_metadata_of_a_conversation_is_replaced(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            changed = await work.conversations.set_metadata(owner.id, conversation.id, PAIRS)
            assert await work.conversations.set_metadata(stranger.id, conversation.id, {}) is None
            assert await work.conversations.set_metadata(owner.id, ConversationId(999_999_999), {}) is None
            await work.commit()
        assert changed == replace(conversation, metadata=PAIRS)
        async with unit_of_work(read_only=True) as work:
            assert await work.conversations.get(owner.id, conversation.id) == changed

    # ---- requests ----

    async def test_a_request_comes_back_as_it_was(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, request: Request
    ) -> None:
        async with unit_of_work(read_only=True) as work:
            assert await work.requests.get(owner.id, request.reply_id) == request
            assert await work.requests.get(stranger.id, request.reply_id) is None
            assert await work.requests.get(owner.id, MessageId(999_999_999)) is None

    async def test_requests_are_listed_by_their_kind(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        elsewhere = await stored_conversation(unit_of_work, stranger)
        async with unit_of_work() as work:
            for number, kind in ((30, "response"), (10, "response"), (20, "response"), (15, "other")):
                await work.requests.add(a_request(conversation, MessageId(number), kind=kind))
            await work.requests.add(a_request(elsewhere, MessageId(12)))
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            for newest_first, order in ((True, [30, 20, 10]), (False, [10, 20, 30])):
                ids = list[int]()
                after: MessageId | None = None
                while page := await work.requests.list(
                    owner.id, "response", after=after, limit=2, newest_first=newest_first
                ):
                    ids += [each.reply_id for each in page]
                    after = page[-1].reply_id
                assert ids == order

    async def test_a_request_is_changed_and_deleted_by_its_owner(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, request: Request
    ) -> None:
        async with unit_of_work() as work:
            assert await work.requests.change(stranger.id, request.reply_id, {}) is False
            assert await work.requests.change(owner.id, request.reply_id, {"a": [1]}) is True
            assert await work.requests.delete(stranger.id, request.reply_id) is False
            await work.commit()
        async with unit_of_work() as work:
            assert await work.requests.get(owner.id, request.reply_id) == replace(request, body={"a": [1]})
            assert await work.requests.delete(owner.id, request.reply_id) is True
            assert await work.requests.delete(owner.id, request.reply_id) is False
            await work.commit()

    async def test_a_request_goes_with_its_conversation_and_is_counted(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        bare = await stored(unit_of_work, stranger)
        async with unit_of_work() as work:
            question = await add_message(work, conversation)
            await work.requests.add(a_request(conversation, question.id))
            await work.commit()
        before = await stored(unit_of_work, owner)
        async with unit_of_work() as work:
            await work.requests.change(owner.id, question.id, {**BODY, "user": "x" * 1000})
            await work.commit()
        assert await stored(unit_of_work, owner) == before + 1000 + len('""') - len("null")
        async with unit_of_work() as work:
            await work.conversations.delete(owner.id, conversation.id, limit=10, now=NOW)
            await work.commit()
        assert await stored(unit_of_work, owner) == bare
        async with unit_of_work(read_only=True) as work:
            assert await work.requests.get(owner.id, question.id) is None

    # ---- messages that are erased ----

    async def test_what_a_message_says_is_erased_and_its_place_stays(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        this = (owner.id, conversation.id)
        async with unit_of_work() as work:
            question = await add_message(work, conversation, "first")
            answer = await add_message(work, conversation, "second", parent_id=question.id)
            await work.commit()
        before = await stored(unit_of_work, owner)
        async with unit_of_work() as work:
            assert await work.messages.erase(stranger.id, conversation.id, question.id) is False
            assert await work.messages.erase(*this, MessageId(999_999_999)) is False
            assert await work.messages.erase(*this, question.id) is True
            assert await work.messages.erase(*this, question.id) is False
            await work.commit()
        assert await stored(unit_of_work, owner) == before - len("first")
        async with unit_of_work(read_only=True) as work:
            found = await work.messages.history(*this, limit=10)
        assert found is not None
        erased = replace(question, content="", status=Status.DELETED)
        assert list(found[1]) == [erased, answer]

    async def test_a_reply_in_progress_is_not_erased(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        reply = await stored_reply(unit_of_work, conversation)
        async with unit_of_work() as work:
            assert await work.messages.erase(owner.id, conversation.id, reply.id) is False
