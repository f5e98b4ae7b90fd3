"""The tables of the database in memory, and the transaction that its repositories work in."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Protocol, TypeAlias, TypeVar

from chatcore.entities import (
    Conversation,
    ConversationId,
    File,
    FileId,
    Image,
    Message,
    MessageId,
    ModelConfig,
    ModelConfigId,
    OwnerId,
    RefreshToken,
    Request,
    Session,
    SessionId,
    User,
    UserId,
    WorkerId,
)
from chatcore.errors import Contention, StorageFull, Unavailable
from chatcore.ports import Clock, Idempotency, LogEntry, Matches
from chatcore.storage import StorageLedger

T = TypeVar("T")
Place: TypeAlias = tuple[OwnerId, ConversationId, MessageId]
Executed: TypeAlias = tuple[Any, Mapping[str, Any]]  # a statement and its values


class Owned(Protocol):
    @property
    def user_id(self) -> OwnerId: ...


class Numbered(Protocol):
    @property
    def id(self) -> int: ...


Key = TypeVar("Key")
Found = TypeVar("Found", bound=Numbered)
Thing = TypeVar("Thing", bound=Owned)


def owned(table: Mapping[Key, Thing], owner: OwnerId, key: Key) -> Thing | None:
    thing = table.get(key)
    return thing if thing and thing.user_id == owner else None


def without(table: Mapping[Key, Thing], owner: OwnerId) -> dict[Key, Thing]:
    """What others own."""
    return {key: thing for key, thing in table.items() if thing.user_id != owner}


def search(
    read: Sequence[Found], place: Callable[[Found], int | None], *, limit: int, of: int
) -> Matches[tuple[Found, int]]:
    """Those among them that have what is looked for, and where. `of`: how many there are to read."""
    found = list[tuple[Found, int]]()
    for thing in read:
        if (at := place(thing)) is not None:
            found.append((thing, at))
            if len(found) == limit:
                return Matches(found, thing.id)
    return Matches(found, read[-1].id if len(read) < of else None)


@dataclass(slots=True)
class State:
    """One dictionary per table. The entities are frozen, so that a copy of the tables is a copy of everything."""

    owners: dict[OwnerId, tuple[str, str] | None] = field(default_factory=dict[OwnerId, tuple[str, str] | None])
    users: dict[UserId, User] = field(default_factory=dict[UserId, User])
    sessions: dict[SessionId, Session] = field(default_factory=dict[SessionId, Session])
    refresh_tokens: dict[bytes, RefreshToken] = field(default_factory=dict[bytes, RefreshToken])
    model_configs: dict[ModelConfigId, ModelConfig] = field(default_factory=dict[ModelConfigId, ModelConfig])
    conversations: dict[ConversationId, Conversation] = field(default_factory=dict[ConversationId, Conversation])
    ended: dict[MessageId, datetime] = field(default_factory=dict[MessageId, datetime])
    used_before: dict[ConversationId, datetime] = field(default_factory=dict[ConversationId, datetime])
    closing: dict[ConversationId, Conversation] = field(default_factory=dict[ConversationId, Conversation])
    messages: dict[MessageId, Message] = field(default_factory=dict[MessageId, Message])
    idempotency: dict[MessageId, Idempotency] = field(default_factory=dict[MessageId, Idempotency])
    closed: set[OwnerId] = field(default_factory=set[OwnerId])
    depths: dict[MessageId, int] = field(default_factory=dict[MessageId, int])
    requests: dict[MessageId, Request] = field(default_factory=dict[MessageId, Request])
    images: dict[Place, Sequence[Image]] = field(default_factory=dict[Place, Sequence[Image]])
    files: dict[FileId, File] = field(default_factory=dict[FileId, File])
    file_parts: dict[tuple[FileId, int], bytes] = field(default_factory=dict[tuple[FileId, int], bytes])
    inactive: set[MessageId] = field(default_factory=set[MessageId])
    cuts: dict[MessageId, Sequence[int]] = field(default_factory=dict[MessageId, Sequence[int]])
    reply_log: dict[tuple[MessageId, int], LogEntry] = field(default_factory=dict[tuple[MessageId, int], LogEntry])
    workers: dict[WorkerId, datetime] = field(default_factory=dict[WorkerId, datetime])
    writers: dict[MessageId, WorkerId] = field(default_factory=dict[MessageId, WorkerId])
    stops: set[MessageId] = field(default_factory=set[MessageId])
    stored: Counter[OwnerId] = field(default_factory=Counter[OwnerId])
    executed: list[Executed] = field(default_factory=list[Executed])

    def copy(self) -> "State":
        return State(**{each.name: getattr(self, each.name).copy() for each in fields(self)})


class Store:
    """What is committed, whether it can be reached, and who loses against others: each writing unit that begins takes
    one of `losing`, and gives up after so many calls.

    Ids are never given twice, and no two things of whatever kind have the same one: a conversation's id in the
    place of a message's finds nothing.
    """

    def __init__(self, clock: Clock, max_storage: int, ids: Iterable[int]) -> None:
        self.clock = clock
        self.max_storage = max_storage
        self.committed: State = State()
        self.ids: Iterator[int] = iter(ids)
        self.gone = False
        self.losing: list[int] = []

    def reach(self) -> None:
        if self.gone:
            raise Unavailable


class Transaction:
    """Reads and changes a copy of the committed state; `commit` puts it in the place of the committed one.

    After a commit, an error or its end it refuses to go on, as a real one does. Each call is done at once and
    lets others run before it returns: races show, and what a cancelled caller began is done nevertheless.
    """

    def __init__(self, store: Store, *, read_only: bool) -> None:
        self._store = store
        self._draft = None if read_only else store.committed.copy()
        self._ended = False
        self._loses_after = store.losing.pop() if store.losing and not read_only else None
        self._calls = 0
        self.ledger: StorageLedger = StorageLedger()

    def now(self) -> datetime:
        return self._store.clock.now()

    def new_id(self) -> int:
        return next(self._store.ids)

    async def read(self, query: Callable[[State], T]) -> T:
        return await self._call(lambda: query(self._store.committed if self._draft is None else self._draft))

    async def write(self, change: Callable[[State], T]) -> T:
        return await self._call(lambda: change(self._writable()))

    async def commit(self) -> None:
        def publish() -> None:
            self._settle(self._writable())
            self._store.committed = self._writable()
            self.end()

        await self._run(publish)

    def _settle(self, state: State) -> None:
        for change in self.ledger.changes():
            state.stored[change.owner] += change.size
            if change.limited and state.stored[change.owner] > self._store.max_storage:
                raise StorageFull

    def end(self) -> None:
        self._ended = True

    async def _call(self, work: Callable[[], T]) -> T:
        def contended() -> T:
            if self._calls == self._loses_after:
                raise Contention
            self._calls += 1
            return work()

        return await self._run(contended)

    def _writable(self) -> State:
        if self._draft is None:
            raise RuntimeError("this unit of work is read-only")
        return self._draft

    async def _run(self, work: Callable[[], T]) -> T:
        if self._ended:
            raise RuntimeError("this unit of work was committed, failed or left: it takes no more calls")
        try:
            self._store.reach()
            result = work()
        except BaseException:
            self.end()
            raise
        await asyncio.sleep(0)
        return result
