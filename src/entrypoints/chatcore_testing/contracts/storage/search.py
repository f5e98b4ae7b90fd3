"""What `ConversationRepo.titled` and `MessageRepo.containing` promise: text is found as text, within one's own."""

from chatcore.entities import Conversation, ConversationId, Message, MessageId, User
from chatcore.ports import Hit, Matches, MessageRef, UnitOfWorkFactory
from chatcore.texts import Excerpt
from chatcore_testing.contract import Capability, each
from chatcore_testing.contracts.storage.base import StoreChecks, add_message, stored_conversation

FOUND = {
    "inside": ("The unicorn sleeps", "corn"),
    "all of it": ("unicorn", "unicorn"),
    "capitals": ("The UNICORN sleeps", "unicorn"),
    "small ones": ("The unicorn sleeps", "UniCORN"),
    "other letters": ("ÉCOLE ЖУК ΟΔΟΣ", "école жук"),
    "Greek": ("ΟΔΟΣΑ", "οδοσ"),
    "Chinese": ("我想去巴黎旅行", "巴黎"),
    "emoji": ("👩🏽‍💻 and 🦄", "🦄"),
    "per cent": ("it is 100% so", "100% s"),
    "underscore": ("in snake_case", "snake_c"),
    "backslash": (r"C:\new \% \_", r"\new \% \_"),
    "quotes": ("""it's "so" `here`""", """'s "so" `"""),
    "exclamation mark": ("wait! 100!%", "! 100!%"),
    "lines": ("one\r\ntwo", "e\r\nt"),
    "spaces": ("a  b ", "  b "),
    "what has no other case": ("Straße İstanbul", "Straße İ"),
    "placeholders": ("%s %(a)s :name ? $1 {0}", "%s %(a)s :name ? $1 {0}"),
}
NOT_FOUND = {
    "per cent is no wildcard": ("100 so", "100%so"),
    "per cent alone": ("anything", "%"),
    "underscore is no wildcard": ("snakeXcase", "snake_case"),
    "backslash is no escape": ("100%", r"\%"),
    "another emoji": ("🐴", "🦄"),
    "an accent": ("ecole", "école"),
    "a space": ("unicorn", "unicorn "),
    "NUL": ("unicorn", "\0"),
    "a lone surrogate": ("unicorn", "\ud800"),
}


def ids(found: Matches[Hit]) -> list[MessageId]:
    return [hit.message.id for hit in found.items if hit.message]


class SearchChecks(StoreChecks, about="search", needs=Capability.SEARCH):
    async def messages(self, unit_of_work: UnitOfWorkFactory, conversation: Conversation) -> list[Message]:
        """Ten of the owner's, oldest first: number 0, 3, 6 and 9 are about unicorns."""
        async with unit_of_work() as work:
            said = [
                await add_message(work, conversation, f"{'a Unicorn' if number % 3 == 0 else 'a horse'} {number}")
                for number in range(10)
            ]
            await work.commit()
        return said

    @each(("text", "q"), FOUND.values(), ids=FOUND)
    async def test_text_is_found(self, unit_of_work: UnitOfWorkFactory, owner: User, text: str, q: str) -> None:
        titled = await stored_conversation(unit_of_work, owner, title=text)
        async with unit_of_work() as work:
            message = await add_message(work, titled, text)
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            titles = await work.conversations.titled(owner.id, q, before=None, limit=5, within=5)
            messages = await work.messages.containing(owner.id, q, before=None, limit=5, within=5)
        assert [*titles.items] == [titled]
        place = text.casefold().find(q.casefold())
        shown = MessageRef(message.id, message.role, message.created_at)
        assert [*messages.items] == [Hit(titled, Excerpt(text, 0, place), shown)]

    @each(("text", "q"), NOT_FOUND.values(), ids=NOT_FOUND)
    async def test_what_is_not_there_is_not_found(
        self, unit_of_work: UnitOfWorkFactory, owner: User, text: str, q: str
    ) -> None:
        titled = await stored_conversation(unit_of_work, owner, title=text)
        async with unit_of_work() as work:
            await add_message(work, titled, text)
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            assert not (await work.conversations.titled(owner.id, q, before=None, limit=5, within=5)).items
            assert not (await work.messages.containing(owner.id, q, before=None, limit=5, within=5)).items

    async def test_the_conversations_that_began_with_it(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, conversation: Conversation
    ) -> None:
        silent = await stored_conversation(unit_of_work, owner, title="unicorns")
        async with unit_of_work() as work:
            first = await add_message(work, conversation, "a Unicorn")
            await add_message(work, conversation, "a horse", parent_id=first.id)
            await work.commit()
        among, none = [conversation.id, silent.id], set[ConversationId]()
        async with unit_of_work(read_only=True) as work:
            for user, q, ids, begun in (
                (owner, "UNICORN", among, {conversation.id}),
                (owner, "horse", among, none),
                (owner, "%", among, none),
                (owner, "\ud800", among, none),
                (owner, "unicorn", among[1:], none),
                (stranger, "unicorn", among, none),
            ):
                assert await work.messages.begun_with(user.id, q, among=ids) == begun

    async def test_it_ends_with_the_last_of_so_many_finds(
        self, unit_of_work: UnitOfWorkFactory, owner: User, messages: list[Message]
    ) -> None:
        async with unit_of_work(read_only=True) as work:
            first = await work.messages.containing(owner.id, "unicorn", before=None, limit=3, within=100)
            rest = await work.messages.containing(
                owner.id, "unicorn", before=MessageId(first.looked_to or 0), limit=3, within=100
            )
        assert ids(first) == [messages[place].id for place in (9, 6, 3)]
        assert first.looked_to == messages[3].id
        assert ids(rest) == [messages[0].id]
        assert rest.looked_to is None

    async def test_it_ends_with_the_last_of_so_many_that_were_looked_at(
        self, unit_of_work: UnitOfWorkFactory, owner: User, messages: list[Message]
    ) -> None:
        async with unit_of_work(read_only=True) as work:
            first = await work.messages.containing(owner.id, "unicorn", before=None, limit=100, within=5)
            none = await work.messages.containing(owner.id, "unicorn", before=messages[9].id, limit=100, within=2)
            rest = await work.messages.containing(owner.id, "unicorn", before=messages[5].id, limit=100, within=6)
        assert ids(first) == [messages[9].id, messages[6].id]
        assert first.looked_to == messages[5].id
        assert (none.items, none.looked_to) == ([], messages[7].id)
        assert ids(rest) == [messages[3].id, messages[0].id]
        assert rest.looked_to is None

    async def test_it_ends_before_so_many_bytes_but_looks_at_one_message(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        async with unit_of_work() as work:
            said = [await add_message(work, conversation, f"{'é' * 40} unicorn {number}") for number in range(4)]
            await work.commit()
        size = len(said[0].content.encode())
        async with unit_of_work(read_only=True) as work:
            for max_bytes, before, seen, looked_to in (
                (2 * size, None, [3, 2], said[2].id),
                (2 * size - 1, None, [3], said[3].id),
                (0, said[3].id, [2], said[2].id),
                (4 * size, None, [3, 2, 1, 0], None),
            ):
                found = await work.messages.containing(
                    owner.id, "unicorn", before=before, limit=10, within=10, max_bytes=max_bytes
                )
                assert (ids(found), found.looked_to) == ([said[place].id for place in seen], looked_to)

    async def test_an_excerpt_shows_the_first_place(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation
    ) -> None:
        text = "ß" * 100_000 + "🦄" + "x" * 1000 + "🦄"
        async with unit_of_work() as work:
            await add_message(work, conversation, text)
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            found = await work.messages.containing(owner.id, "🦄x", before=None, limit=10, within=10)
        (excerpt,) = (hit.excerpt for hit in found.items)
        assert len(excerpt.text) == 240
        assert text[excerpt.start :].startswith(excerpt.text)
        assert excerpt.start + excerpt.hit == 100_000

    async def test_titles_come_the_newest_conversation_first(
        self, unit_of_work: UnitOfWorkFactory, owner: User
    ) -> None:
        kept = [await stored_conversation(unit_of_work, owner, title=f"Unicorns {number}") for number in range(4)]
        async with unit_of_work(read_only=True) as work:
            first = await work.conversations.titled(owner.id, "unicorn", before=None, limit=3, within=100)
            rest = await work.conversations.titled(owner.id, "unicorn", before=kept[1].id, limit=3, within=100)
            looked = await work.conversations.titled(owner.id, "horse", before=None, limit=3, within=2)
        assert ([*first.items], first.looked_to) == ([kept[3], kept[2], kept[1]], kept[1].id)
        assert ([*rest.items], rest.looked_to) == ([kept[0]], None)
        assert ([*looked.items], looked.looked_to) == ([], kept[2].id)

    async def test_what_is_not_in_the_branch_that_is_shown_is_found_too(
        self, unit_of_work: UnitOfWorkFactory, owner: User, conversation: Conversation, messages: list[Message]
    ) -> None:
        async with unit_of_work() as work:
            await work.messages.activate(owner.id, conversation.id, after=None, path=[messages[0].id])
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            found = await work.messages.containing(owner.id, "unicorn", before=None, limit=10, within=100)
        assert ids(found) == [messages[place].id for place in (9, 6, 3, 0)]

    async def test_others_messages_are_neither_found_nor_looked_at(
        self, unit_of_work: UnitOfWorkFactory, owner: User, stranger: User, messages: list[Message]
    ) -> None:
        theirs = await stored_conversation(unit_of_work, stranger, title="Unicorns")
        async with unit_of_work() as work:
            for _ in range(20):
                await add_message(work, theirs, "a unicorn")
            await work.commit()
        async with unit_of_work(read_only=True) as work:
            found = await work.messages.containing(owner.id, "unicorn", before=None, limit=10, within=10)
            titles = await work.conversations.titled(owner.id, "unicorn", before=None, limit=10, within=10)
        assert len(found.items) == 4
        assert titles.items == []
