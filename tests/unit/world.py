"""chatcore as an embedding program wires it, on the adapters in memory; what the tests of the use cases share."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self, cast

import pytest

from chatcore import (
    Caller,
    ChatDefaults,
    ChatOptions,
    Conversation,
    ConversationId,
    History,
    Message,
    MessageId,
    ModelConfig,
    ModelEndpoint,
    PasswordPolicy,
    RateLimits,
    Replies,
    ReplyDelta,
    ReplyEnded,
    ReplyEvent,
    Role,
    Sent,
    Session,
    SessionIssuer,
    SessionPolicy,
    SignedIn,
    Status,
    UseCases,
    UserId,
    Vouched,
)
from chatcore.errors import Unauthenticated, Unavailable
from chatcore.ports import (
    Cipher,
    Clock,
    LLMGateway,
    LogEntry,
    MessageRepo,
    PasswordHasher,
    ReplyLog,
    TokenSigner,
    UnitOfWork,
    UnitOfWorkFactory,
)
from chatcore.rate_limits import UNLIMITED
from chatcore_memory import HandClock, MemoryDatabase, PlainCipher, PlainPasswords, PlainSigner, ScriptedModel, Stall

PASSWORD = "correct horse"
NO_OPTIONS = ChatOptions()
LAST_STEP = 29
LEASE = 3600.0
"""So long that nobody renews while a test runs, unless it is about that."""
at_every_step = pytest.mark.parametrize("steps", range(LAST_STEP + 1))
"""So many turns of the event loop; after `LAST_STEP` of them any use case is through."""

SERVER_MODEL = ModelEndpoint(url="https://models.test/v1", model="server-model", api_key="sk-server", trusted=True)


class World(UseCases):
    """One database with its clock and its model, and the use cases that need no `Replies`."""

    def __init__(self, *, ids: Iterable[int] | None = None) -> None:
        self.clock = HandClock()
        self.database = MemoryDatabase(self.clock, ids=ids)
        self.model = ScriptedModel("Hello", " world")
        self.owners: list[UserId] = []
        self.passwords = PlainPasswords()
        self.cipher = PlainCipher()
        self.signer = PlainSigner()
        self.storage = Storage(self.database.unit_of_work)

        self.password_policy = PasswordPolicy()
        self.limits = UNLIMITED
        self.set_policy(SessionPolicy(refresh_secret=b"refresh secret"))

    def set_password_policy(self, policy: PasswordPolicy) -> None:
        """As `set_policy`."""
        self.password_policy = policy
        self.set_policy(self.policy)

    def set_limits(self, limits: RateLimits) -> None:
        """As `set_policy`; and for processes that are made after it."""
        self.limits = limits
        self.set_policy(self.policy)

    def set_policy(self, policy: SessionPolicy) -> None:
        """Restarts everything with other settings."""
        self.policy = policy
        super().__init__(self.parts())

    @property
    def issuer(self) -> SessionIssuer:
        return self.refresh.sessions

    def parts(self) -> dict[Any, object]:
        return {
            UnitOfWorkFactory: self.storage,
            Clock: self.clock,
            LLMGateway: self.model,
            PasswordHasher: self.passwords,
            Cipher: self.cipher,
            TokenSigner: self.signer,
            PasswordPolicy: self.password_policy,
            SessionPolicy: self.policy,
            RateLimits: self.limits,
        }

    def process(
        self,
        *,
        flush_every: float = 0.01,
        silence: float = 15,
        grace: float = 1,
        lease: float | None = LEASE,
        defaults: ChatDefaults | None = None,
        storage: "Storage | None" = None,
    ) -> "Process":
        """A process on this database; `async with` it. All of them may live at once, unless one has no lease.
        `storage`: its own way there, which only its replies go."""
        replies = Replies(
            unit_of_work=storage or self.storage,
            gateway=self.model,
            clock=self.clock,
            flush_every=flush_every,
            silence=silence,
            grace=grace,
            lease=lease,
        )
        return Process(self, replies, defaults or ChatDefaults(model=SERVER_MODEL))

    async def signed_in(self, username: str = "ada") -> SignedIn:
        return await self.register(username=username, password=PASSWORD, email=f"{username}@example.org")

    async def sign_in_again(self, username: str) -> SignedIn:
        return await self.sign_in(name=username, password=PASSWORD)

    async def caller(self, signed_in: SignedIn) -> Caller:
        return await self.authenticate(access_token=signed_in.access_token)

    async def refreshed(self, signed_in: SignedIn) -> SignedIn:
        return await self.refresh(refresh_token=signed_in.refresh_token)

    async def session_of(self, signed_in: SignedIn) -> Session:
        """As it is stored now."""
        async with self.storage(read_only=True) as work:
            found = await work.tokens.caller(signed_in.user.id, signed_in.session.id)
        assert found is not None
        return found.session

    async def owner(self, username: str = "ada") -> UserId:
        owner = (await self.signed_in(username)).user.id
        self.owners.append(owner)
        return owner

    async def config(self, owner: UserId, model_name: str = "own-model", api_key: str = "sk-0123456789") -> ModelConfig:
        return await self.create_model_config(
            by=Vouched(owner), model_url="https://own.test/v1", model_name=model_name, api_key=api_key
        )

    async def log_of(self, reply: Message) -> Sequence[LogEntry]:
        async with self.storage(read_only=True) as work:
            return await work.reply_log.read(reply.user_id, reply.id)

    async def unfinished(self) -> Sequence[Message]:
        """Every reply that somebody has to bring to its end yet."""
        async with self.storage(read_only=True) as work:
            return [reply for owner in self.owners for reply in await work.unfinished.of(owner)]


async def refused(world: World, *signed_in: SignedIn) -> None:
    """Neither token of any of these is worth anything."""
    for tokens in signed_in:
        with pytest.raises(Unauthenticated):
            await world.caller(tokens)
        with pytest.raises(Unauthenticated):
            await world.refreshed(tokens)


class Process(UseCases):
    """The use cases of one process of this world."""

    def __init__(self, world: World, replies: Replies, defaults: ChatDefaults) -> None:
        super().__init__({**world.parts(), Replies: replies, ChatDefaults: defaults})
        self.world = world
        self.replies = replies

    async def __aenter__(self) -> Self:
        await self.replies.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.replies.__aexit__(None, None, None)

    async def chat(self, username: str = "ada") -> "Chat":
        """A new conversation of a new user."""
        return await self.chat_of(await self.world.owner(username))

    async def chat_of(self, owner: UserId) -> "Chat":
        """A new conversation of this user."""
        return Chat(self, owner, (await self.world.create_conversation(by=Vouched(owner))).id)


@dataclass(frozen=True)
class Chat:
    """One conversation of one user, as seen from one process."""

    process: Process
    owner: UserId
    id: ConversationId

    @property
    def by(self) -> Vouched:
        return Vouched(self.owner)

    def seen_from(self, process: Process) -> "Chat":
        return Chat(process, self.owner, self.id)

    async def send(self, content: str = "Hello?", options: ChatOptions = NO_OPTIONS, key: str | None = None) -> Sent:
        return await self.process.send_message(
            by=self.by, conversation_id=self.id, content=content, options=options, idempotency_key=key
        )

    async def add(self, role: Role, content: str = "Hello.") -> Message:
        return await self.process.add_message(by=self.by, conversation_id=self.id, role=role, content=content)

    async def edit(self, message_id: MessageId, content: str = "Hi?", options: ChatOptions = NO_OPTIONS) -> Sent:
        return await self.process.edit_message(
            by=self.by, conversation_id=self.id, message_id=message_id, content=content, options=options
        )

    async def regenerate(self, message_id: MessageId | None = None, options: ChatOptions = NO_OPTIONS) -> Sent:
        return await self.process.regenerate_reply(
            by=self.by, conversation_id=self.id, message_id=message_id, options=options
        )

    async def switch(self, message_id: MessageId) -> History:
        return await self.process.world.switch_branch(by=self.by, conversation_id=self.id, message_id=message_id)

    def follow(
        self, after: int = 0, reply_id: MessageId | None = None, *, numbered: bool = False
    ) -> AsyncGenerator[ReplyEvent, None]:
        return self.process.follow_reply(
            owner=self.owner, conversation_id=self.id, reply_id=reply_id, after=after, numbered=numbered
        )

    async def end(self) -> Message:
        """The last reply, once it has ended."""
        return (await read(self.follow())).message

    async def end_of(self, reply_id: MessageId) -> Message:
        return (await read(self.follow(reply_id=reply_id))).message

    async def ask(self, content: str = "Hello?") -> Message:
        await self.send(content)
        return await self.end()

    async def stop(self) -> Message:
        return await self.process.stop_reply(by=self.by, conversation_id=self.id)

    async def delete(self) -> None:
        await self.process.delete_conversation(by=self.by, conversation_id=self.id)

    async def rename(self, title: str = "Mine") -> Conversation:
        return await self.process.world.rename_conversation(by=self.by, conversation_id=self.id, title=title)

    async def stored(self) -> Conversation:
        return (await self.process.world.read_history(owner=self.owner, conversation_id=self.id)).conversation

    async def messages(self) -> Sequence[Message]:
        return (await self.process.world.read_history(owner=self.owner, conversation_id=self.id)).messages


@dataclass(frozen=True)
class Read:
    """What one reader got: its events, their text, and the message at the end."""

    events: Sequence[ReplyEvent]
    text: str
    message: Message


async def read(events: AsyncIterator[ReplyEvent]) -> Read:
    """Reads to the end, and sees that each event's offset counts the text before it, the last one what is stored."""
    seen: list[ReplyEvent] = []
    text, offset = "", None
    async for event in events:
        more = event.text if isinstance(event, ReplyDelta) else ""
        assert more or not isinstance(event, ReplyDelta)
        if isinstance(event, ReplyEnded):
            assert event.offset == len(event.message.reasoning or "") + len(event.message.content)
        else:
            assert offset is None or event.offset == offset + len(more)
        text, offset = text + more, event.offset
        seen.append(event)
    assert isinstance(seen[-1], ReplyEnded)
    return Read(seen, text, seen[-1].message)


async def read_until(events: AsyncIterator[ReplyEvent], text: str) -> None:
    """Reads on until this text has come, and no more."""
    got = ""
    while got != text:
        event = await anext(events)
        got += event.text if isinstance(event, ReplyDelta) else ""
        assert text.startswith(got)


async def everything_has_ended(chat: Chat) -> None:
    """Whatever was begun is over: in the database, in its process, and in the log."""
    world, process = chat.process.world, chat.process
    assert await world.unfinished() == []
    assert process.replies.writing_now == 0
    for message in await chat.messages():
        assert message.status is not Status.WRITING
        assert await world.log_of(message) == []


def keepers_of(process: Process) -> Sequence["asyncio.Task[None]"]:
    """What its heart beats with."""
    keeper, lease = process.replies._keeper, process.replies._lease
    return [*filter(None, (keeper,)), *lease._keepers]


async def step(turns: int) -> None:
    """Lets everybody else go on for so many turns of the event loop."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def nothing() -> None:
    pass


class Storage(UnitOfWorkFactory):
    """Counts the commits and may hinder them: what is called before each writing unit, before and
    after each commit may wait, or raise.

    `refused` is set once a unit of work was told that the database is gone: as it is while the way there is `cut`.
    What a text that is to be stored must pass, `check_text`, may raise too.
    """

    def __init__(self, inner: UnitOfWorkFactory) -> None:
        self.commits = 0
        self.cut = False
        self.check_text: Callable[[str], object] = lambda _: None
        self.before_append: Callable[[Sequence[LogEntry]], Awaitable[None]] = lambda _: nothing()
        self.before_unit: Callable[[], Awaitable[None]] = nothing
        self.before_commit: Callable[[], Awaitable[None]] = nothing
        self.after_commit: Callable[[], Awaitable[None]] = nothing
        self.refused = asyncio.Event()
        self._failing: tuple[bool, ...] | None = None
        self._inner = inner

    @asynccontextmanager
    async def __call__(self, *, read_only: bool = False, urgent: bool = False) -> AsyncGenerator[UnitOfWork, None]:
        if not read_only:
            await self.before_unit()
        try:
            self.check_way()
            async with self._inner(read_only=read_only, urgent=urgent) as work:
                yield work if read_only else cast(UnitOfWork, Unit(work, self, urgent))
        except Unavailable:
            self.refused.set()
            raise

    def check_way(self) -> None:
        if self.cut:
            raise Unavailable

    def hold_next_unit(self, stall: Stall) -> None:
        async def hold() -> None:
            self.before_unit = nothing
            await stall.hold()

        self.before_unit = hold

    def fail_once(self, *, after: bool, urgent: bool = False) -> None:
        """The next commit fails: of an `urgent` unit, which is the process's own, or of another one. `after`: it takes
        place, and its answer is lost."""
        self._failing = after, urgent

    def fail(self, *how: bool) -> None:
        if self._failing == how:
            self._failing = None
            raise Unavailable


class Unit:
    """A writing unit, whose repositories but two are as they are."""

    def __init__(self, inner: UnitOfWork, storage: Storage, urgent: bool) -> None:
        self._inner = inner
        self._storage = storage
        self._urgent = urgent
        self.messages = CheckedMessages(inner.messages, storage)
        self.reply_log = CheckedLog(inner.reply_log, storage)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def commit(self) -> None:
        self._storage.fail(False, self._urgent)
        await self._storage.before_commit()
        self._storage.check_way()
        await self._inner.commit()
        self._storage.commits += 1
        self._storage.fail(True, self._urgent)
        await self._storage.after_commit()


class CheckedLog:
    def __init__(self, inner: ReplyLog, storage: Storage) -> None:
        self._inner = inner
        self._storage = storage

    async def append(self, entries: Sequence[LogEntry]) -> None:
        await self._storage.before_append(entries)
        for entry in entries:
            self._storage.check_text(entry.text)
        await self._inner.append(entries)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class CheckedMessages:
    def __init__(self, inner: MessageRepo, storage: Storage) -> None:
        self._inner = inner
        self._storage = storage

    async def finish(self, ended: Message, cuts: Sequence[int] = (), *, now: datetime | None = None) -> None:
        self._storage.check_text((ended.reasoning or "") + ended.content)
        await self._inner.finish(ended, cuts, now=now)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
