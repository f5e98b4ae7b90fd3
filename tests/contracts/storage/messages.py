"""The contracts of `MessageRepo`, `ReplyLog` and `UnfinishedReplies`."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pytest

from chatcore.entities import (
    Conversation,
    ConversationId,
    Failure,
    Message,
    MessageId,
    Role,
    Status,
    Usage,
    User,
)
from chatcore.errors import NotFound
from chatcore.ports import LogEntry, TextKind, UnitOfWork, UnitOfWorkFactory
from contracts.storage.base import (
    NOW,
    StorageContract,
    add_message,
    add_reply,
    is_utc,
    later,
    stored_conversation,
    stored_reply,
    texts,
    times,
)

NO_MESSAGE = MessageId(999_999_999)
NO_CONVERSATION = ConversationId(999_999_999)

DONE = {
    "complete": {
        "content": "answer",
        "reasoning": "thought",
        "status": Status.COMPLETE,
        "usage": Usage(prompt_tokens=3, completion_tokens=0, total_tokens=2**31 - 1),
    },
    "stopped": {"content": "half an ans", "status": Status.STOPPED},
    "failed": {"reasoning": "", "status": Status.FAILED, "error": Failure(code="model_timeout", detail="Too long. 🦄")},
    "interrupted": {"content": "x", "status": Status.INTERRUPTED},
}


class MessageRepoContract(StorageContract):
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

    @pytest.mark.parametrize("role", list(Role))
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
                with pytest.raises(NotFound):
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

    async def test_the_history_tells_the_claim_and_the_config(
        self, unit_of_work: UnitOfWorkFactory, owner: User
    ) -> None:
        async with unit_of_work() as work:
            config = await work.model_configs.add(owner.id, model_url="http://x", model_name="m", now=NOW)
            conversation = await work.conversations.add(owner.id, title="🦄", config_id=config.id, now=NOW)
            reply = await add_reply(work, conversation)
            await work.conversations.claim(owner.id, conversation.id, reply.id, now=later(1))
            page = await work.messages.history(owner.id, conversation.id, limit=1)
        assert page is not None
        assert page[0] == replace(conversation, writing_reply_id=reply.id, updated_at=later(1))
        assert list(page[1]) == [reply]

    # ---- replies ----

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

    @pytest.mark.parametrize("end", list(DONE))
    async def test_finishing_overwrites_what_was_said_and_how_it_ended(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, end: str
    ) -> None:
        reply = await stored_reply(unit_of_work, conversation)
        other = await stored_reply(unit_of_work, conversation)
        finished = replace(reply, **DONE[end])  # type: ignore[arg-type]
        async with unit_of_work() as work:
            await work.messages.finish(replace(finished, model="another", created_at=later(9), role=Role.USER))
            await work.commit()
        assert await self.get(unit_of_work, reply) == finished
        assert await self.get(unit_of_work, other) == other

    async def test_finishing_a_strangers_or_a_deleted_reply_changes_nothing(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        reply = await stored_reply(unit_of_work, conversation)
        finished = replace(reply, content="changed", status=Status.COMPLETE)
        async with unit_of_work() as work:
            await work.messages.finish(replace(finished, user_id=stranger.id))
            assert await work.messages.get(owner.id, conversation.id, reply.id) == reply
            await work.conversations.delete(owner.id, conversation.id)
            await work.messages.finish(finished)
            await work.commit()
        assert await self.get(unit_of_work, reply) is None


def said(entries: Sequence[LogEntry]) -> tuple[str, str]:
    """What a log tells, as (reasoning, answer), after a look at its offsets: without gaps, from 0."""
    spoken = {TextKind.REASONING: "", TextKind.ANSWER: ""}
    offset = 0
    for entry in entries:
        assert entry.offset == offset
        spoken[entry.kind] += entry.text
        offset += len(entry.text)
    return spoken[TextKind.REASONING], spoken[TextKind.ANSWER]


def entries_of(reply: Message, *texts: tuple[TextKind, str]) -> list[LogEntry]:
    entries: list[LogEntry] = []
    offset = 0
    for kind, text in texts:
        entries.append(LogEntry(reply.user_id, reply.id, offset, kind, text))
        offset += len(text)
    return entries


class ReplyLogContract(StorageContract):
    @pytest.fixture
    async def reply(self, unit_of_work: UnitOfWorkFactory, conversation: Conversation) -> Message:
        return await stored_reply(unit_of_work, conversation)

    @pytest.fixture
    async def strangers_reply(self, unit_of_work: UnitOfWorkFactory, stranger: User) -> Message:
        return await stored_reply(unit_of_work, await stored_conversation(unit_of_work, stranger))

    async def append(self, unit_of_work: UnitOfWorkFactory, entries: Sequence[LogEntry]) -> None:
        async with unit_of_work() as work:
            await work.reply_log.append(entries)
            await work.commit()

    async def read(self, unit_of_work: UnitOfWorkFactory, reply: Message) -> tuple[str, str]:
        async with unit_of_work(read_only=True) as work:
            entries = await work.reply_log.read(reply.user_id, reply.id)
        assert all((entry.user_id, entry.reply_id) == (reply.user_id, reply.id) for entry in entries)
        return said(entries)

    async def test_nothing_said_is_an_empty_log(
        self, unit_of_work: UnitOfWorkFactory, owner: User, reply: Message
    ) -> None:
        await self.append(unit_of_work, [])
        assert await self.read(unit_of_work, reply) == ("", "")
        async with unit_of_work(read_only=True) as work:
            assert list(await work.reply_log.read(owner.id, NO_MESSAGE)) == []

    async def test_what_was_said_comes_back_by_offset(self, unit_of_work: UnitOfWorkFactory, reply: Message) -> None:
        r1, r2, a1, a2, a3 = entries_of(
            reply,
            (TextKind.REASONING, "🦄 is "),
            (TextKind.REASONING, "one code point"),
            (TextKind.ANSWER, "漢\r"),
            (TextKind.ANSWER, "\n"),
            (TextKind.ANSWER, "x "),
        )
        await self.append(unit_of_work, [r1])
        await self.append(unit_of_work, [a2, r2, a1])
        assert await self.read(unit_of_work, reply) == ("🦄 is one code point", "漢\r\n")
        await self.append(unit_of_work, [a3])
        assert await self.read(unit_of_work, reply) == ("🦄 is one code point", "漢\r\nx ")

    @texts
    async def test_text_is_kept_exactly(self, unit_of_work: UnitOfWorkFactory, reply: Message, text: str) -> None:
        spoken = [(TextKind.REASONING, text), (TextKind.ANSWER, text)]
        await self.append(unit_of_work, [entry for entry in entries_of(reply, *spoken) if entry.text])
        assert await self.read(unit_of_work, reply) == (text, text)

    async def test_a_batch_may_hold_many_replies(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, reply: Message, strangers_reply: Message
    ) -> None:
        another = await stored_reply(unit_of_work, conversation)
        replies = [reply, strangers_reply, another]
        spoken = {each.id: [(TextKind.ANSWER, f"{each.id}:{number} ") for number in range(400)] for each in replies}
        await self.append(unit_of_work, [entry for each in replies for entry in entries_of(each, *spoken[each.id])])
        for each in replies:
            assert await self.read(unit_of_work, each) == ("", "".join(text for _, text in spoken[each.id]))

    async def test_a_strangers_log_is_empty_and_stays(
        self, unit_of_work: UnitOfWorkFactory, stranger: User, reply: Message
    ) -> None:
        await self.append(unit_of_work, entries_of(reply, (TextKind.ANSWER, "private")))
        async with unit_of_work() as work:
            assert list(await work.reply_log.read(stranger.id, reply.id)) == []
            await work.reply_log.delete(stranger.id, reply.id)
            await work.commit()
        assert await self.read(unit_of_work, reply) == ("", "private")

    async def test_deleting_a_log_leaves_the_others(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation, reply: Message
    ) -> None:
        another = await stored_reply(unit_of_work, conversation)
        await self.append(unit_of_work, entries_of(reply, (TextKind.ANSWER, "a"), (TextKind.ANSWER, "b")))
        await self.append(unit_of_work, entries_of(another, (TextKind.ANSWER, "kept")))
        async with unit_of_work() as work:
            await work.reply_log.delete(owner.id, reply.id)
            await work.reply_log.delete(owner.id, NO_MESSAGE)
            await work.commit()
        assert await self.read(unit_of_work, reply) == ("", "")
        assert await self.read(unit_of_work, another) == ("", "kept")

    async def test_a_reply_that_was_deleted_meanwhile_does_not_keep_out_the_others(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation, strangers_reply: Message
    ) -> None:
        deleted = await stored_reply(unit_of_work, conversation)
        async with unit_of_work() as work:
            await work.conversations.delete(owner.id, conversation.id)
            await work.commit()
        batch = [entries_of(each, (TextKind.ANSWER, "text")) for each in (deleted, strangers_reply)]
        await self.append(unit_of_work, [entry for entries in batch for entry in entries])
        assert await self.read(unit_of_work, strangers_reply) == ("", "text")


class UnfinishedRepliesContract(StorageContract):
    async def test_nothing_is_unfinished_at_first(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation
    ) -> None:
        await stored_reply(unit_of_work, conversation)
        async with unit_of_work(read_only=True) as work:
            assert list(await work.unfinished.list()) == []

    async def test_every_reply_that_holds_its_claim_is_listed(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User
    ) -> None:
        async def claimed(work: UnitOfWork, user: User) -> Message:
            conversation = await work.conversations.add(user.id, title="", config_id=None, now=NOW)
            await add_reply(work, conversation)
            reply = await add_reply(work, conversation)
            await work.conversations.claim(user.id, conversation.id, reply.id, now=NOW)
            await add_message(work, conversation)
            return reply

        async with unit_of_work() as work:
            first, second, third = [await claimed(work, user) for user in (owner, owner, stranger)]
            await work.conversations.release(owner.id, second.conversation_id, second.id, now=NOW)
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            unfinished = await work.unfinished.list()
        assert sorted(unfinished, key=lambda reply: reply.id) == [first, third]
