"""Everything that one owns, taken away as a stream of entities, and conversations brought back from one."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

from chatcore import audit
from chatcore.entities import (
    MAX_TITLE,
    Conversation,
    ConversationId,
    Message,
    MessageId,
    ModelConfig,
    Role,
    Session,
    Status,
    User,
    UserId,
    range_rule,
    text_rule,
)
from chatcore.errors import FieldError
from chatcore.ports import Caller, UnitOfWork, UnitOfWorkFactory
from chatcore.replies import with_logged_text
from chatcore.shielding import repeatable

T = TypeVar("T")

MAX_MESSAGES = 10_000
"""Of one conversation that is imported: it is stored in one transaction."""
MAX_CHARACTERS = 16 * 1024 * 1024
"""Of all texts of one conversation that is imported: it is held in memory until it is stored."""
MAX_MESSAGE_BYTES = 7 * 1024 * 1024
"""Of one message's texts in UTF-8, as many as a reply can have."""
MAX_REFUSALS = 100
"""That are told one by one."""

_PAGE = 100
_PAGE_OF_TEXTS = 20  # messages, of which each may have megabytes
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class OwnConversation:
    """A conversation, and the last message of its active branch: None, if it has no message."""

    conversation: Conversation
    current: MessageId | None


OwnThing: TypeAlias = User | Session | ModelConfig | OwnConversation | Message


@dataclass(frozen=True, kw_only=True)
class ExportOwnData:
    """The caller: everything that one owns. The account, the sessions, the model configurations without their keys,
    and each conversation with its messages of all branches."""

    unit_of_work: UnitOfWorkFactory

    async def __call__(self, *, caller: Caller) -> AsyncIterator[OwnThing]:
        """Page by page, so that neither memory nor a database connection is held for whoever reads slowly. A
        conversation is followed by its messages, each of which comes after the one that it follows."""
        owner = caller.user.id
        audit.record("data_exported", user_id=owner, session_id=caller.session.id)
        yield caller.user
        async for session in self._sessions(owner):
            yield session
        async for config in self._configs(owner):
            yield config
        async for thing in self._conversations(owner):
            yield thing

    def _sessions(self, owner: UserId) -> AsyncIterator[Session]:
        return self._newest_first(
            lambda work, offset: work.tokens.sessions(owner, limit=_PAGE, offset=offset),
            lambda session: (session.login_time, session.id),
        )

    def _configs(self, owner: UserId) -> AsyncIterator[ModelConfig]:
        return self._newest_first(
            lambda work, offset: work.model_configs.list(owner, limit=_PAGE, offset=offset), lambda config: config.id
        )

    async def _newest_first(
        self, read: Callable[[UnitOfWork, int], Awaitable[Sequence[T]]], place: Callable[[T], Any]
    ) -> AsyncIterator[T]:
        """Page by page; a new one meanwhile moves all others by one, and none is to come twice."""
        offset, last = 0, None
        while True:
            async with self.unit_of_work(read_only=True) as work:
                page = await read(work, offset)
            for thing in page:
                if last is None or place(thing) < last:
                    last = place(thing)
                    yield thing
            if len(page) < _PAGE:
                return
            offset += len(page)

    async def _conversations(self, owner: UserId) -> AsyncIterator[OwnThing]:
        after: ConversationId | None = None
        while True:
            async with self.unit_of_work(read_only=True) as work:
                page = await work.conversations.by_id(owner, after=after, limit=_PAGE)
            for conversation in page:
                async for thing in self._conversation(owner, conversation.id):
                    yield thing
            if len(page) < _PAGE:
                return
            after = page[-1].id

    async def _conversation(self, owner: UserId, conversation_id: ConversationId) -> AsyncIterator[OwnThing]:
        """Nothing, if it has been deleted meanwhile."""
        async with self.unit_of_work(read_only=True) as work:
            found = await work.messages.history(owner, conversation_id, limit=1)
        if found is not None:
            conversation, newest = found
            yield OwnConversation(conversation, newest[-1].id if newest else None)
            async for message in self._messages(owner, conversation_id):
                yield message

    async def _messages(self, owner: UserId, conversation_id: ConversationId) -> AsyncIterator[Message]:
        after: MessageId | None = None
        while True:
            async with self.unit_of_work(read_only=True) as work:
                page = await work.messages.by_id(owner, conversation_id, after=after, limit=_PAGE_OF_TEXTS)
                page = [await with_logged_text(work, message) for message in page]
            for message in page:
                yield message
            if len(page) < _PAGE_OF_TEXTS:
                return
            after = page[-1].id


# ---- import ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that is nothing that could be imported, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class EndOfExport:
    """The last line: what came before it was not cut off."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an export, by its number. Ids in it are those of the export; an owner in it is nobody."""

    number: int
    thing: OwnConversation | Message | Unreadable | EndOfExport


@dataclass(frozen=True, slots=True)
class Refusal:
    line: int
    why: str


@dataclass(slots=True)
class Imported:
    """What was stored, and what was not: `refused` tells the first hundred of `refusals`, each of which is the first
    line of a conversation that prevented that it was stored."""

    conversations: int = 0
    messages: int = 0
    refusals: int = 0
    refused: list[Refusal] = field(default_factory=list[Refusal])

    def refuse(self, line: int, why: str) -> None:
        self.refusals += 1
        if self.refusals <= MAX_REFUSALS:
            self.refused.append(Refusal(line, why))


@dataclass(frozen=True, kw_only=True)
class ImportConversations:
    """The owner: stores the conversations of an export as new ones, with the messages of all their branches and the
    branch that was shown. Each is stored as a whole or not at all; of one that is refused it is said which line
    prevented it, and why. Accounts, sessions and configurations are not taken over. What was being written when it was
    exported is `interrupted`. The same export imported twice makes copies.
    """

    unit_of_work: UnitOfWorkFactory

    async def __call__(self, *, owner: UserId, lines: AsyncIterator[Line]) -> Imported:
        """In each conversation at most 10,000 messages with 16 Mi characters, which are what is held in memory, and in
        each message at most 7 MiB of text."""
        imported = Imported()
        try:
            await self._read_all(owner, lines, imported)
        finally:  # what came before a line that never came is stored
            if imported.conversations:
                stored = {"conversations": imported.conversations, "messages": imported.messages}
                audit.record("data_imported", user_id=owner, **stored)
        return imported

    async def _read_all(self, owner: UserId, lines: AsyncIterator[Line], imported: Imported) -> None:
        read: _Read | None = None
        ended = False
        async for line in lines:
            match line.thing:
                case OwnConversation() as own:
                    await self._finish(owner, read, imported)
                    read = _Read(line.number, own)
                    read.check_conversation()
                case EndOfExport():
                    await self._finish(owner, read, imported)
                    read, ended = None, True
                case Message() as message:
                    read = read or _Read(line.number, None)
                    read.add(line.number, message)
                case Unreadable(why):
                    read = read or _Read(line.number, None)
                    read.refuse(line.number, why)
        if read is not None:
            read.refuse(read.line, "may be cut off: neither another conversation nor the end of the export follows")
            await self._finish(owner, read, imported)
        elif not ended:
            imported.refuse(1, "is that of an export which was cut off: neither a conversation nor its end follows")

    async def _finish(self, owner: UserId, read: "_Read | None", imported: Imported) -> None:
        if read is None:
            return
        if read.refusal is not None or read.own is None:
            refusal = read.refusal or Refusal(read.line, "belongs to no conversation")
            imported.refuse(refusal.line, refusal.why)
            return
        await self._store(owner, read.own.conversation, read.messages, read.active())
        imported.conversations += 1
        imported.messages += len(read.messages)

    @repeatable
    async def _store(
        self, owner: UserId, conversation: Conversation, messages: Sequence[Message], active: Set[MessageId]
    ) -> None:
        ids = dict[MessageId, MessageId]()
        async with self.unit_of_work() as work:
            stored = await work.conversations.restore(replace(conversation, user_id=owner))
            for message in messages:
                ids[message.id] = await work.messages.restore(
                    replace(
                        message,
                        user_id=owner,
                        conversation_id=stored.id,
                        parent_id=None if message.parent_id is None else ids[message.parent_id],
                        status=Status.INTERRUPTED if message.status is Status.WRITING else message.status,
                    ),
                    active=message.id in active,
                )
            await work.commit()


class _Read:
    """A conversation as far as it has been read, up to the first line that is refused."""

    def __init__(self, line: int, own: OwnConversation | None) -> None:
        self.line = line
        self.own = own
        self.messages = list[Message]()
        self.refusal: Refusal | None = None
        self._parents = dict[MessageId, MessageId | None]()
        self._characters = 0

    def check_conversation(self) -> None:
        assert self.own is not None  # noqa: S101 - it is what was read
        self._refuse_broken(self.line, _conversation_rules(self.own.conversation))

    def add(self, line: int, message: Message) -> None:
        if self.refusal is not None:
            return
        self._refuse_broken(line, [*self._place_rules(message), *_message_rules(message)])
        self._characters += len(message.content) + len(message.reasoning or "")
        if len(self.messages) == MAX_MESSAGES or self._characters > MAX_CHARACTERS:
            self.refuse(line, f"a conversation has at most {MAX_MESSAGES} messages with {MAX_CHARACTERS} characters")
        self._parents[message.id] = message.parent_id
        self.messages.append(message)

    def refuse(self, line: int, why: str) -> None:
        if self.refusal is None:
            self.refusal = Refusal(line, why)
            self.messages.clear()

    def active(self) -> Set[MessageId]:
        """The way from the branch's last message to the top; of an unknown one, from the newest message."""
        assert self.own is not None  # noqa: S101 - only what belongs to a conversation is stored
        found, at = set[MessageId](), self.own.current
        if at not in self._parents:
            at = self.messages[-1].id if self.messages else None
        while at is not None:
            found.add(at)
            at = self._parents[at]
        return found

    def _refuse_broken(self, line: int, rules: Sequence[FieldError | None]) -> None:
        if broken := [f"{error.field}: {error.message}" for error in rules if error is not None]:
            self.refuse(line, "; ".join(broken))

    def _place_rules(self, message: Message) -> Iterator[FieldError | None]:
        if self.own is None or message.conversation_id != self.own.conversation.id:
            yield FieldError("conversation_id", "is not that of the conversation before it")
        if message.id in self._parents:
            yield FieldError("id", "is that of a message before it")
        if message.parent_id is not None and message.parent_id not in self._parents:
            yield FieldError("parent_id", "is of no message before it in this conversation")


def _conversation_rules(conversation: Conversation) -> Sequence[FieldError | None]:
    return (
        text_rule(conversation.title, "title", maximum=MAX_TITLE),
        _time_rule(conversation.created_at, "created_at"),
        _time_rule(conversation.updated_at, "updated_at"),
    )


def _message_rules(message: Message) -> Iterator[FieldError | None]:
    yield text_rule(message.content, "content", maximum=MAX_MESSAGE_BYTES)
    yield text_rule(message.reasoning or "", "reasoning", maximum=MAX_MESSAGE_BYTES)
    yield _size_rule(message)
    yield text_rule(message.model or "", "model", maximum=200)
    yield _time_rule(message.created_at, "created_at")
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        yield range_rule(getattr(message.usage, name, None), f"usage.{name}", minimum=0, maximum=2**31 - 1)
    if message.error is not None:
        yield text_rule(message.error.code, "error.code", minimum=1, maximum=64)
        yield text_rule(message.error.detail, "error.detail", maximum=2000)
    if (message.status is Status.FAILED) != (message.error is not None):
        yield FieldError("error", "is what a failed reply has, and no other message")
    if message.role is not Role.ASSISTANT and message.status is not Status.COMPLETE:
        yield FieldError("status", "must be complete, but of an assistant's message")


def _size_rule(message: Message) -> FieldError | None:
    text = message.content + (message.reasoning or "")
    if len(text) * 4 <= MAX_MESSAGE_BYTES or len(text.encode(errors="replace")) <= MAX_MESSAGE_BYTES:
        return None
    return FieldError("content", f"must be, with the reasoning, at most {MAX_MESSAGE_BYTES} bytes")


def _time_rule(time: datetime, name: str) -> FieldError | None:
    return None if _EARLIEST <= time < _LATEST else FieldError(name, "must lie between the years 1970 and 3000")
