"""The contract of `ReplyLog`."""

from collections.abc import Sequence
from dataclasses import replace

from chatcore.entities import Conversation, Message, MessageId, User
from chatcore.ports import LogCursor, LogEntry, TextKind, UnitOfWorkFactory
from chatcore_testing.contracts.storage.base import (
    NOW,
    StoreChecks,
    stored_conversation,
    stored_reply,
    texts,
)

NO_MESSAGE = MessageId(999_999_999)


def said(entries: Sequence[LogEntry]) -> tuple[str, str]:
    """What a log tells, as (reasoning, answer), after a look at its offsets: without gaps, from 0."""
    spoken = {TextKind.REASONING: "", TextKind.ANSWER: ""}
    offset = 0
    for entry in entries:
        assert entry.start == offset
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


class ReplyLogChecks(StoreChecks, about="reply_log"):
    async def reply(self, unit_of_work: UnitOfWorkFactory, conversation: Conversation) -> Message:
        return await stored_reply(unit_of_work, conversation)

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

    async def test_the_cuts_come_back(self, unit_of_work: UnitOfWorkFactory, owner: User, reply: Message) -> None:
        without, some, more = entries_of(reply, *[(TextKind.ANSWER, "x" * 10_000)] * 3)
        some, more = replace(some, cuts=(1, 255, 256)), replace(more, cuts=(10_000,))
        await self.append(unit_of_work, [without, replace(some, cuts=(7,)), more])
        await self.append(unit_of_work, [some])
        async with unit_of_work(read_only=True) as work:
            (*_, last), all_of_them = (
                await work.reply_log.since([LogCursor(owner.id, reply.id, 10_000)], within=20_000),
                await work.reply_log.read(owner.id, reply.id),
            )
        assert [tuple(entry.cuts) for entry in all_of_them] == [(), (1, 255, 256), (10_000,)]
        assert last == all_of_them[-1]

    async def test_a_batch_has_any_size(self, unit_of_work: UnitOfWorkFactory, reply: Message) -> None:
        """After an outage much has gathered; 16 MiB is the most that MariaDB takes in one statement."""
        spoken = [(TextKind.REASONING, "🦄" * 2**20), *[(TextKind.ANSWER, "line\n'" * 2**18)] * 10]
        await self.append(unit_of_work, entries_of(reply, *spoken))
        read = await self.read(unit_of_work, reply)
        assert read == ("🦄" * 2**20, "line\n'" * 2**18 * 10)

    async def test_an_entry_takes_the_place_of_one_at_its_offset(
        self, unit_of_work: UnitOfWorkFactory, owner: User, reply: Message, strangers_reply: Message
    ) -> None:
        r, a = entries_of(reply, (TextKind.REASONING, "🦄"), (TextKind.ANSWER, "Hel"))
        strangers = entries_of(strangers_reply, (TextKind.REASONING, "kept"))
        await self.append(unit_of_work, [r, a, *strangers])
        for _ in range(2):
            await self.append(unit_of_work, [replace(a, text="Hello")])
            assert await self.read(unit_of_work, reply) == ("🦄", "Hello")
        (more,) = entries_of(reply, (TextKind.REASONING, "🦄" * 6))
        await self.append(unit_of_work, [LogEntry(owner.id, reply.id, 6, TextKind.ANSWER, " world"), more])
        async with unit_of_work(read_only=True) as work:
            stored = list(await work.reply_log.read(owner.id, reply.id))
        assert stored == [more, replace(a, text="Hello"), LogEntry(owner.id, reply.id, 6, TextKind.ANSWER, " world")]
        await self.append(unit_of_work, [LogEntry(owner.id, reply.id, 0, TextKind.ANSWER, "'; -- 漢\r\n")])
        async with unit_of_work(read_only=True) as work:
            first = (await work.reply_log.read(owner.id, reply.id))[0]
        assert (first.kind, first.text) == (TextKind.ANSWER, "'; -- 漢\r\n")
        assert await self.read(unit_of_work, strangers_reply) == ("kept", "")

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
            await work.conversations.delete(owner.id, conversation.id, limit=10, now=NOW)
            await work.commit()
        batch = [entries_of(each, (TextKind.ANSWER, "text")) for each in (deleted, strangers_reply)]
        await self.append(unit_of_work, [entry for entries in batch for entry in entries])
        assert await self.read(unit_of_work, strangers_reply) == ("", "text")

    # ---- what is new of several replies ----

    async def test_what_begins_at_an_offset_or_after_it_is_new(
        self, unit_of_work: UnitOfWorkFactory, conversation: Conversation, reply: Message, strangers_reply: Message
    ) -> None:
        another = await stored_reply(unit_of_work, conversation)
        mine = entries_of(reply, (TextKind.REASONING, "🦄"), (TextKind.ANSWER, "Hel"), (TextKind.ANSWER, "lo"))
        theirs = entries_of(strangers_reply, (TextKind.ANSWER, "their"), (TextKind.ANSWER, "s"))
        await self.append(unit_of_work, [*mine, *theirs, *entries_of(another, (TextKind.ANSWER, "not asked for"))])

        async def since(*cursors: tuple[Message, int]) -> list[LogEntry]:
            async with unit_of_work(read_only=True) as work:
                asked = [LogCursor(each.user_id, each.id, offset) for each, offset in cursors]
                return list(await work.reply_log.since(asked, within=1000))

        assert await since() == []
        assert await since((reply, 0)) == mine
        assert await since((reply, 1)) == mine[1:]
        assert await since((reply, 2)) == mine[2:]
        assert await since((reply, 6)) == []
        assert await since((reply, 4), (strangers_reply, 0)) == [mine[2], *theirs]
        assert await since((strangers_reply, 5), (reply, 1), (reply, 1)) == [*mine[1:], theirs[1]]
        assert await since(*[(reply, 1)] * 200) == mine[1:]

    async def test_new_text_is_asked_for_with_its_owner(
        self, unit_of_work: UnitOfWorkFactory, stranger: User, reply: Message
    ) -> None:
        await self.append(unit_of_work, entries_of(reply, (TextKind.ANSWER, "private")))
        async with unit_of_work(read_only=True) as work:
            assert list(await work.reply_log.since([LogCursor(stranger.id, reply.id, 0)], within=1000)) == []

    async def test_of_each_reply_no_more_comes_than_was_asked_for_and_the_rest_of_an_entry(
        self, unit_of_work: UnitOfWorkFactory, reply: Message, strangers_reply: Message
    ) -> None:
        mine = entries_of(reply, *[(TextKind.ANSWER, "🦄" * 50)] * 10)
        theirs = entries_of(strangers_reply, (TextKind.ANSWER, "x" * 3000), (TextKind.ANSWER, "y"))
        await self.append(unit_of_work, [*mine, *theirs])

        async def since(offset: int, within: int) -> list[LogEntry]:
            cursors = [LogCursor(each.user_id, each.id, offset) for each in (reply, strangers_reply)]
            async with unit_of_work(read_only=True) as work:
                return list(await work.reply_log.since(cursors, within=within))

        assert await since(0, 1) == [mine[0], theirs[0]]
        assert await since(0, 50) == [mine[0], theirs[0]]
        assert await since(0, 51) == [*mine[:2], theirs[0]]
        assert await since(50, 100) == mine[1:3]
        assert await since(50, 2951) == [*mine[1:], theirs[1]]
        assert await since(0, 2**40) == [*mine, *theirs]
        assert await since(2**31 - 1, 1) == []
