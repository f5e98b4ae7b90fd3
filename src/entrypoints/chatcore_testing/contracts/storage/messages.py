"""The contract of `MessageRepo`; about idempotency keys see `contracts.storage.idempotency`."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from chatcore.entities import (
    Conversation,
    ConversationId,
    Failure,
    FinishReason,
    Message,
    MessageId,
    Role,
    Status,
    Usage,
    User,
)
from chatcore.errors import NotFound
from chatcore.ports import UnitOfWorkFactory
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
    texts,
    times,
)

NO_MESSAGE = MessageId(999_999_999)
NO_CONVERSATION = ConversationId(999_999_999)

DONE: dict[str, Any] = {
    "complete": {
        "content": "answer",
        "reasoning": "thought",
        "status": Status.COMPLETE,
        "usage": Usage(prompt_tokens=3, completion_tokens=0, total_tokens=2**31 - 1),
        "finish_reason": FinishReason.CONTENT_FILTER,
    },
    "stopped": {"content": "half an ans", "status": Status.STOPPED},
    "failed": {"reasoning": "", "status": Status.FAILED, "error": Failure(code="model_timeout", detail="Too long. 🦄")},
    "interrupted": {"content": "x", "status": Status.INTERRUPTED},
}


class MessageRepoChecks(StoreChecks, about="messages"):
    async def get(self, unit_of_work: UnitOfWorkFactory, message: Message) -> Message | None:
        async with unit_of_work(read_only=True) as work:
            return await work.messages.get(message.user_id, message.conversation_id, message.id)

    async def test_a_message_is_stored_as_given(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            question = await add_message(work, conversation)
            reply = await work.messages.add(
                owner.id,
                conversation.id,
                parent_id=question.id,
                role=Role.ASSISTANT,
                content="",
                writing=True,
                model="gpt 🦄 " + "x" * 190,
                now=later(1),
            )
            await work.commit()
        assert question == Message(
            id=question.id,
            user_id=owner.id,
            conversation_id=conversation.id,
            role=Role.USER,
            content="question",
            created_at=NOW,
        )
        assert reply == Message(
            id=reply.id,
            user_id=owner.id,
            conversation_id=conversation.id,
            parent_id=question.id,
            role=Role.ASSISTANT,
            content="",
            status=Status.WRITING,
            model="gpt 🦄 " + "x" * 190,
            created_at=later(1),
        )
        assert await self.get(unit_of_work, question) == question
        assert await self.get(unit_of_work, reply) == reply

    @each("role", list(Role))
    async def test_everybody_may_speak(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, role: Role
    ) -> None:
        async with unit_of_work() as work:
            added = await work.messages.add(
                conversation.user_id,
                conversation.id,
                parent_id=None,
                role=role,
                content="x",
                writing=False,
                model=None,
                now=NOW,
            )
            await work.commit()
        stored = await self.get(unit_of_work, added)
        assert stored == added
        assert (added.role, added.status) == (role, Status.COMPLETE)

    @texts
    async def test_text_is_kept_exactly(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, text: str
    ) -> None:
        async with unit_of_work() as work:
            message = await add_message(work, conversation, text)
            reply = await add_reply(work, conversation)
            await work.messages.finish(replace(reply, content=text, reasoning=text, status=Status.COMPLETE))
            await work.commit()
        stored, finished = await self.get(unit_of_work, message), await self.get(unit_of_work, reply)
        assert stored is not None
        assert finished is not None
        assert stored.content == finished.content == finished.reasoning == text

    @times
    async def test_times_are_kept_to_the_microsecond(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, time: datetime
    ) -> None:
        async with unit_of_work() as work:
            added = await work.messages.add(
                conversation.user_id,
                conversation.id,
                parent_id=None,
                role=Role.USER,
                content="",
                writing=False,
                model=None,
                now=time,
            )
            await work.commit()
        stored = await self.get(unit_of_work, added)
        assert stored is not None
        assert stored.created_at == time
        assert is_utc(stored.created_at)

    async def test_a_missing_or_a_strangers_one_is_none(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        other = await stored_conversation(unit_of_work, owner)
        reply = await stored_reply(unit_of_work, conversation)
        async with unit_of_work(read_only=True) as work:
            assert await work.messages.get(owner.id, conversation.id, NO_MESSAGE) is None
            assert await work.messages.get(stranger.id, conversation.id, reply.id) is None
            assert await work.messages.get(owner.id, other.id, reply.id) is None
            assert await work.messages.last_reply(stranger.id, conversation.id) is None
            assert await work.messages.last_reply(owner.id, NO_CONVERSATION) is None
            assert await work.messages.history(stranger.id, conversation.id, limit=10) is None
            assert await work.messages.history(owner.id, NO_CONVERSATION, limit=10) is None

    async def test_none_is_added_to_a_missing_or_a_strangers_conversation(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        for astray in (replace(conversation, user_id=stranger.id), replace(conversation, id=NO_CONVERSATION)):
            async with unit_of_work() as work:
                with raises(NotFound):
                    await add_message(work, astray)
        async with unit_of_work(read_only=True) as work:
            page = await work.messages.history(owner.id, conversation.id, limit=10)
        assert page is not None
        assert list(page[1]) == []

    # ---- history ----

    async def test_the_history_of_an_empty_conversation_is_empty(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        async with unit_of_work(read_only=True) as work:
            page = await work.messages.history(owner.id, conversation.id, limit=10)
        assert page is not None
        assert (page[0], list(page[1])) == (conversation, [])

    async def test_the_history_goes_back_page_by_page(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        other = await stored_conversation(unit_of_work, owner)
        messages: list[Message] = []
        async with unit_of_work() as work:
            for number in range(7):
                messages.append(await add_message(work, conversation, str(number)))
                await add_message(work, other)
            await work.commit()
        assert messages == sorted(messages, key=lambda message: message.id)

        async with unit_of_work(read_only=True) as work:
            pages: list[list[Message]] = []
            before: MessageId | None = None
            while len(pages) < 4:
                page = await work.messages.history(owner.id, conversation.id, limit=3, before=before)
                assert page is not None
                assert page[0] == conversation
                pages.append(list(page[1]))
                before = pages[-1][0].id if pages[-1] else before
        assert pages == [messages[4:], messages[1:4], messages[:1], []]

    async def test_a_page_may_be_the_whole(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            messages = [await add_message(work, conversation), await add_reply(work, conversation)]
            page = await work.messages.history(owner.id, conversation.id, limit=2)
            wider = await work.messages.history(owner.id, conversation.id, limit=200, before=NO_MESSAGE)
        assert page is not None
        assert wider is not None
        assert list(page[1]) == list(wider[1]) == messages

    async def test_a_page_ends_before_so_many_bytes_but_has_a_message(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            said = [await add_message(work, conversation, "é" * 50) for _ in range(3)]
            await work.messages.finish(replace(said[1], reasoning="🦄" * 100))  # 500 bytes with its content
            await work.commit()
        for max_bytes, before, shown in (
            (0, None, [2]),
            (599, None, [2]),
            (600, None, [1, 2]),
            (699, None, [1, 2]),
            (700, None, [0, 1, 2]),
            (10, said[2].id, [1]),
        ):
            async with unit_of_work(read_only=True) as work:
                page = await work.messages.history(
                    owner.id, conversation.id, limit=10, before=before, max_bytes=max_bytes
                )
            assert page is not None
            assert [message.id for message in page[1]] == [said[place].id for place in shown], max_bytes
        for max_bytes, after, shown in ((0, None, [0]), (600, None, [0, 1]), (599, said[0].id, [1])):
            async with unit_of_work(read_only=True) as work:
                messages = await work.messages.by_depth(
                    owner.id, conversation.id, after=after, limit=10, max_bytes=max_bytes
                )
            assert [message.id for message in messages] == [said[place].id for place in shown], max_bytes

    # ---- for a prompt ----

    async def test_a_prompt_is_told_what_fits(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            first = await add_message(work, conversation, "first")
            failed = await add_reply(work, conversation, to=first)
            done = replace(failed, content="x" * 1000, reasoning="y", status=Status.FAILED)
            await work.messages.finish(replace(done, error=Failure(code="x", detail="y")))
            second = await add_message(work, conversation, "é" * 10, parent_id=failed.id)
            reply = await add_reply(work, conversation, to=second)
            await work.messages.finish(replace(reply, content="z" * 10, reasoning="y" * 1000, status=Status.STOPPED))
            await work.commit()
        ids = [first.id, failed.id, second.id, reply.id]
        for limit, max_bytes, contents in (
            (10, 35, ["first", "", "é" * 10, "z" * 10]),
            (10, 34, ["", "", "é" * 10, "z" * 10]),
            (10, 29, ["", "", "", "z" * 10]),
            (10, 9, ["", "", "", ""]),
            (2, 35, ["é" * 10, "z" * 10]),
        ):
            async with unit_of_work(read_only=True) as work:
                told = await work.messages.told(owner.id, conversation.id, limit=limit, max_bytes=max_bytes)
                among = await work.messages.told(owner.id, conversation.id, limit=limit, max_bytes=max_bytes, among=ids)
            assert told == among
            assert [message.id for message in told] == ids[-limit:]
            assert [message.content for message in told] == contents
            assert [message.reasoning for message in told] == [None] * len(told)
        assert [message.parent_id for message in told] == [failed.id, second.id]
        assert [message.status for message in told] == [Status.COMPLETE, Status.STOPPED]

    async def test_a_prompt_is_told_of_a_branch_up_to_a_message(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            said = [await add_message(work, conversation, str(number)) for number in range(4)]
            await work.messages.activate(owner.id, conversation.id, after=None, path=[said[0].id, said[3].id])
            await work.commit()

        async def told(user: User, through: int | None, among: list[int] | None = None) -> list[str]:
            async with unit_of_work(read_only=True) as work:
                messages = await work.messages.told(
                    user.id,
                    conversation.id,
                    limit=10,
                    max_bytes=100,
                    through=None if through is None else said[through].id,
                    among=None if among is None else [said[place].id for place in among],
                )
            return [message.content for message in messages]

        assert await told(owner, None) == ["0", "3"]
        assert await told(owner, 3) == ["0", "3"]
        assert await told(owner, 0) == ["0"]
        assert await told(owner, 2) == []
        assert await told(stranger, 3) == []
        assert await told(owner, 3, [0, 1]) == ["0", "1"]
        assert await told(owner, 3, []) == []
        assert await told(stranger, None) == []
        assert await told(stranger, None, [0, 1]) == []
        async with unit_of_work(read_only=True) as work:
            assert await work.messages.last(owner.id, conversation.id) == said[3].id
            assert [(await place_of(work, message)).active for message in said] == [True, False, False, True]
            assert await work.messages.place(stranger.id, conversation.id, said[0].id) is None
            assert await work.messages.place(owner.id, NO_CONVERSATION, said[0].id) is None
            assert await work.messages.last(stranger.id, conversation.id) is None

    @needs(Capability.ENDPOINTS)
    async def test_the_history_tells_the_claim_and_the_config(
        self, unit_of_work: UnitOfWorkFactory, owner: User
    ) -> None:
        async with unit_of_work() as work:
            config = await work.model_configs.add(owner.id, model_url="http://x", model_name="m", now=NOW)
            conversation = await work.conversations.add(owner.id, title="🦄", config_id=config.id, now=NOW)
            reply = await add_reply(work, conversation)
            await work.conversations.claim(owner.id, conversation.id, reply.id, WORKER, now=later(1))
            page = await work.messages.history(owner.id, conversation.id, limit=1)
        assert page is not None
        assert page[0] == replace(conversation, writing_reply_id=reply.id, updated_at=later(1))
        assert list(page[1]) == [reply]

    # ---- replies ----

    async def test_the_reply_to_a_message_is_the_first_one(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            question, another = await add_message(work, conversation), await add_message(work, conversation)
            assert await work.messages.reply_to(owner.id, conversation.id, question.id) is None
            other_reply = await add_reply(work, conversation, to=another)
            first = await add_reply(work, conversation, to=question)
            await add_reply(work, conversation, to=question)
            assert await work.messages.reply_to(owner.id, conversation.id, question.id) == first
            assert await work.messages.reply_to(owner.id, conversation.id, another.id) == other_reply
            assert await work.messages.reply_to(owner.id, conversation.id, first.id) is None

    async def test_what_a_user_said_next_is_no_reply(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            reply = await add_reply(work, conversation)
            await work.messages.add(
                owner.id,
                conversation.id,
                parent_id=reply.id,
                role=Role.USER,
                content="and then?",
                writing=False,
                model=None,
                now=NOW,
            )
            assert await work.messages.reply_to(owner.id, conversation.id, reply.id) is None

    async def test_the_reply_to_a_missing_or_a_strangers_message_is_none(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        other = await stored_conversation(unit_of_work, owner)
        async with unit_of_work() as work:
            question = await add_message(work, conversation)
            await add_reply(work, conversation, to=question)
            assert await work.messages.reply_to(owner.id, conversation.id, NO_MESSAGE) is None
            assert await work.messages.reply_to(stranger.id, conversation.id, question.id) is None
            assert await work.messages.reply_to(owner.id, other.id, question.id) is None

    async def test_the_last_reply_is_the_assistants_newest(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        other = await stored_conversation(unit_of_work, owner)
        async with unit_of_work() as work:
            await add_message(work, conversation)
            assert await work.messages.last_reply(owner.id, conversation.id) is None
            await add_reply(work, conversation)
            last = await add_reply(work, conversation)
            await add_message(work, conversation)
            await add_reply(work, other)
            assert await work.messages.last_reply(owner.id, conversation.id) == last

    @each("end", list(DONE))
    async def test_finishing_overwrites_what_was_said_and_how_it_ended(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, end: str
    ) -> None:
        reply = await stored_reply(unit_of_work, conversation)
        other = await stored_reply(unit_of_work, conversation)
        finished = replace(reply, **DONE[end])
        async with unit_of_work() as work:
            await work.messages.finish(replace(finished, model="another", created_at=later(9), role=Role.USER))
            await work.commit()
        assert await self.get(unit_of_work, reply) == finished
        assert await self.get(unit_of_work, other) == other

    async def test_a_reply_has_the_cuts_that_it_was_finished_with(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        reply, other = [await stored_reply(unit_of_work, conversation) for _ in range(2)]
        cuts = (1, 255, 256, 10_000) * 22_500  # as many as a reply has at most
        async with unit_of_work() as work:
            await work.messages.finish(replace(reply, status=Status.COMPLETE), cuts)
            await work.messages.finish(replace(other, status=Status.COMPLETE))
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            assert tuple(await work.messages.cuts(owner.id, conversation.id, reply.id)) == cuts
            assert tuple(await work.messages.cuts(owner.id, conversation.id, other.id)) == ()
            assert tuple(await work.messages.cuts(stranger.id, conversation.id, reply.id)) == ()
            assert tuple(await work.messages.cuts(owner.id, ConversationId(0), reply.id)) == ()

    async def test_finishing_a_strangers_or_a_deleted_reply_changes_nothing(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        reply = await stored_reply(unit_of_work, conversation)
        finished = replace(reply, content="changed", status=Status.COMPLETE)
        async with unit_of_work() as work:
            await work.messages.finish(replace(finished, user_id=stranger.id))
            assert await work.messages.get(owner.id, conversation.id, reply.id) == reply
            await work.conversations.delete(owner.id, conversation.id, limit=10, now=NOW)
            await work.messages.finish(finished)
            await work.commit()
        assert await self.get(unit_of_work, reply) is None
