"""What the repositories promise of things read by their ids, and stored as they were somewhere else."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from datetime import datetime
from typing import Any, get_args

from chatcore.entities import (
    Conversation,
    ConversationId,
    Failure,
    FinishReason,
    Message,
    MessageId,
    OwnerId,
    Role,
    Status,
    Usage,
    User,
)
from chatcore.errors import NotFound
from chatcore.ports import Node, UnitOfWorkFactory
from chatcore_testing.contract import each, raises
from chatcore_testing.contracts.storage.base import (
    NOW,
    StoreChecks,
    add_message,
    later,
    stored_conversation,
    texts,
    times,
)

ELSEWHERE = ConversationId(987_654_321)


def a_conversation(owner: OwnerId) -> Conversation:
    return Conversation(id=ELSEWHERE, user_id=owner, title="Plans 🦄", created_at=NOW, updated_at=later(60))


def a_message(conversation: Conversation) -> Message:
    return Message(
        id=MessageId(987_654_321),
        user_id=conversation.user_id,
        conversation_id=conversation.id,
        role=Role.ASSISTANT,
        content="answer",
        created_at=NOW,
    )


_OTHER_VALUES: Mapping[Any, object] = {str: "Other 🦄", int: 987, datetime: later(90)}


def filled(conversation: Conversation) -> Conversation:
    """With another value in each field that has a default."""
    values = dict[str, Any]()
    for field in fields(Conversation):
        if field.default is not MISSING:
            kind, *_ = get_args(field.type) or (field.type,)
            kind = getattr(kind, "__supertype__", kind)
            values[field.name] = not field.default if kind is bool else _OTHER_VALUES[kind]
    return replace(conversation, **values)


class OwnDataChecks(StoreChecks, about="own_data"):
    # ---- by id ---------------------------------------------------------------------------------------

    async def test_conversations_come_by_id_page_by_page(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        kept = list[Conversation]()
        for _ in range(5):
            kept.append(await stored_conversation(unit_of_work, owner))
            await stored_conversation(unit_of_work, stranger)
        async with unit_of_work(read_only=True) as work:
            first = await work.conversations.by_id(owner.id, after=None, limit=3)
            rest = await work.conversations.by_id(owner.id, after=first[-1].id, limit=3)
            assert [*await work.conversations.by_id(owner.id, after=kept[-1].id, limit=3)] == []
        assert [*first, *rest] == kept

    async def test_messages_of_all_branches_come_by_depth_page_by_page(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        other = await stored_conversation(unit_of_work, owner)
        async with unit_of_work() as work:
            kept = list[Message]()
            for number in range(7):
                kept.append(await add_message(work, conversation, str(number)))
                await add_message(work, other)
            path = [kept[place].id for place in (0, 3, 4)]
            await work.messages.activate(owner.id, conversation.id, after=None, path=path)
            await work.commit()
        pages = list[Message]()
        async with unit_of_work(read_only=True) as work:
            for _ in range(4):
                after = pages[-1].id if pages else None
                pages += await work.messages.by_depth(owner.id, conversation.id, after=after, limit=2)
            assert [*await work.messages.by_depth(owner.id, conversation.id, after=kept[-1].id, limit=2)] == []
            assert [*await work.messages.by_depth(stranger.id, conversation.id, after=None, limit=2)] == []
        assert pages == kept
        assert pages[0].siblings == ()

    # ---- restored ------------------------------------------------------------------------------------

    @each("by_user", [True, False])
    @each("title", ["", "Plans 🦄"])
    async def test_a_conversation_is_restored(
        self, unit_of_work: UnitOfWorkFactory, owner: User, title: str, by_user: bool
    ) -> None:
        was = replace(filled(a_conversation(owner.id)), title=title, titled_by_user=by_user)
        assert (was.config_id, was.writing_reply_id) == (987, 987)
        async with unit_of_work() as work:
            restored = await work.conversations.restore(was)
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            assert await work.conversations.get(owner.id, restored.id) == restored
            assert await work.conversations.get(owner.id, was.id) is None
        assert restored == replace(was, id=restored.id, config_id=None, writing_reply_id=None, client_id=None)

    @times
    async def test_times_are_restored(self, unit_of_work: UnitOfWorkFactory, owner: User, time: datetime) -> None:
        async with unit_of_work() as work:
            kept = await work.conversations.restore(replace(a_conversation(owner.id), created_at=time, updated_at=NOW))
            message_id = await work.messages.restore(replace(a_message(kept), created_at=time), active=True)
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            conversation = await work.conversations.get(owner.id, kept.id)
            message = await work.messages.get(owner.id, kept.id, message_id)
        assert conversation
        assert message
        assert (conversation.created_at, conversation.updated_at, message.created_at) == (time, NOW, time)

    @each("status", [status for status in Status if status is not Status.WRITING])
    @each("role", list(Role))
    async def test_a_message_is_restored(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, role: Role, status: Status
    ) -> None:
        was = replace(
            a_message(conversation),
            role=role,
            reasoning="because",
            status=status,
            model="model",
            usage=Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3),
            finish_reason=FinishReason.LENGTH,
            error=Failure(code="model_timeout", detail="Too slow."),
        )
        await self._restored(unit_of_work, was)

    @texts
    async def test_text_is_restored(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, text: str
    ) -> None:
        await self._restored(unit_of_work, replace(a_message(conversation), content=text, reasoning=text or None))

    async def _restored(self, unit_of_work: UnitOfWorkFactory, was: Message) -> None:
        async with unit_of_work() as work:
            message_id = await work.messages.restore(was, active=True)
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            restored = await work.messages.get(was.user_id, was.conversation_id, message_id)
        assert restored == replace(was, id=message_id)
        assert message_id != was.id

    async def test_a_tree_is_restored_with_its_active_branch(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        was = a_message(conversation)
        async with unit_of_work() as work:
            first = await work.messages.restore(was, active=True)
            left = await work.messages.restore(replace(was, parent_id=first), active=False)
            right = await work.messages.restore(replace(was, parent_id=first), active=True)
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            assert [*await work.messages.tree(owner.id, conversation.id)] == [
                Node(first, None, 0, True, was.created_at),
                Node(left, first, 1, False, was.created_at),
                Node(right, first, 1, True, was.created_at),
            ]
            found = await work.messages.history(owner.id, conversation.id, limit=10)
        assert found
        assert [message.id for message in found[1]] == [first, right]
        assert found[1][1].siblings == (left, right)

    async def test_nothing_is_restored_where_there_is_nothing(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, stranger: User
    ) -> None:
        """Not to nobody, and not into a conversation that is another's or is not there."""
        was = a_message(conversation)
        for message in (replace(was, conversation_id=ELSEWHERE), replace(was, user_id=stranger.id)):
            async with unit_of_work() as work:
                with raises(NotFound):
                    await work.messages.restore(message, active=True)
        async with unit_of_work() as work:
            with raises(NotFound):
                await work.conversations.restore(a_conversation(OwnerId(987_654_321)))
