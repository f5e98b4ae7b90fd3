"""What the core asks of the outside: one Protocol per conversation with it.

Adapters subclass these, so that a missing method fails when the adapter is made. What a docstring promises
here is held by the abstract tests in tests/contracts, for the in-memory adapters and the real ones alike.

Owned things are asked for with their owner; another's thing and a missing thing give the same answer, `None`
or `False`. The ports that see across owners say so: `TokenStore`, where the secret itself is the proof, `Workers`,
`UnfinishedReplies`, `Administration` and `SealedKeys`.

Any method that reaches a database raises `Unavailable` when that is gone, and `Contention` when the database gives the
unit of work up for the sake of others: a deadlock, a lock that was waited for too long, or a commit that lost to one on
another node. Nothing of that unit is stored then, and it may be run again from its beginning.

No method is interrupted by the cancellation of its caller: it goes on to its end, and then the cancellation is raised.
"""

from abc import abstractmethod
from collections.abc import AsyncGenerator, Collection, Sequence, Set
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from chatcore.authority import Caller
from chatcore.entities import (
    DEFAULT_ROLE,
    AccountRole,
    Conversation,
    ConversationId,
    FinishReason,
    Message,
    MessageId,
    ModelConfig,
    ModelConfigId,
    Profile,
    RefreshToken,
    Role,
    Session,
    SessionId,
    Usage,
    User,
    UserId,
    WorkerId,
)
from chatcore.texts import Excerpt

T = TypeVar("T")

PAGE_BYTES = 4 * 1024 * 1024
"""Of text, in UTF-8, on one page of messages."""


class Clock(Protocol):
    @abstractmethod
    def now(self) -> datetime:
        """The time, aware, in UTC."""


# ---- storage ---------------------------------------------------------------------------------------------


class UserRepo(Protocol):
    @abstractmethod
    async def add(
        self,
        *,
        username: str,
        email: str | None,
        password_hash: str,
        roles: frozenset[str],
        profile: Profile,
        now: datetime,
    ) -> User:
        """Stores a new, active user. Names are compared by `identity_key`.

        Raises `UsernameTaken` or `EmailTaken`; the unit of work is then only good for rolling back.
        """

    @abstractmethod
    async def find(self, name: str) -> User | None:
        """The user with this username or, if there is an `@` in it, this e-mail address."""

    @abstractmethod
    async def stored_bytes(self, user_id: UserId) -> int:
        """How much the user has stored, as `chatcore.storage` counts it."""

    @abstractmethod
    async def hold(self, user_id: UserId, *, password_hash: str) -> bool:
        """Whether the user is active and has this hash. If so, that stays so until this unit of work is closed; others
        may ask the same meanwhile."""

    @abstractmethod
    async def set_password_hash(
        self, user_id: UserId, password_hash: str, *, known: str | None = None, now: datetime
    ) -> bool:
        """Overwrites the hash if it is still the `known` one (None: whatever it is) and the user is active: one
        conditional UPDATE. False: it was not."""

    @abstractmethod
    async def set_username(self, user_id: UserId, username: str, *, now: datetime) -> None:
        """Nothing happens if the user is gone. Raises `UsernameTaken`, but not for another spelling of one's own."""

    @abstractmethod
    async def set_email(self, user_id: UserId, email: str, *, now: datetime) -> None:
        """As `set_username`. Raises `EmailTaken`, but not for another spelling of one's own."""

    @abstractmethod
    async def close(self, user_id: UserId, *, now: datetime) -> bool:
        """From now on no account has this id or its names, which are free, and its sessions are gone; what else it owns
        stays until `delete_some` and `delete`. False: there is none."""

    @abstractmethod
    async def delete_some(self, user_id: UserId, *, limit: int) -> int:
        """Of a closed account: deletes at most `limit` of its messages, of what the log holds of its replies, or of its
        conversations. How many these were; 0: it has none."""

    @abstractmethod
    async def delete(self, user_id: UserId) -> bool:
        """Deletes the account, closed or not, and all that it owns; to add to it after that raises `NotFound`. False:
        there is none."""


class TokenStore(Protocol):
    """Sessions and their refresh tokens. A refresh token's digest is looked up without an owner: to know
    256 random bits is to be the owner."""

    @abstractmethod
    async def add_session(self, session: Session) -> None: ...

    @abstractmethod
    async def caller(self, user_id: UserId, session_id: SessionId) -> Caller | None:
        """The user and the session as they are now, revoked or expired or not, in one query."""

    @abstractmethod
    async def hold(
        self, user_id: UserId, session_id: SessionId, *, role: str | None = None, alone: bool = False, now: datetime
    ) -> bool:
        """Whether the session is neither revoked nor expired, and its user active and with this role. If so, that stays
        so until this unit of work is closed: what would change it waits. Others may ask the same meanwhile, unless one
        of them asks `alone` or for a role."""

    @abstractmethod
    async def alive(self, session_ids: Collection[SessionId], *, now: datetime) -> Set[SessionId]:
        """Those among them, of whatever users, that are neither revoked nor expired and whose user is active."""

    @abstractmethod
    async def touch(self, user_id: UserId, session_id: SessionId, *, now: datetime) -> None:
        """Sets `last_used_at`."""

    @abstractmethod
    async def sessions(self, user_id: UserId, *, limit: int, offset: int) -> Sequence[Session]:
        """All of the user's, also those that have ended, the latest `login_time` first."""

    @abstractmethod
    async def revoke(self, user_id: UserId, session_id: SessionId, *, now: datetime) -> bool:
        """Sets `logout_time` if it is empty. False: there is no such session, or it was revoked before."""

    @abstractmethod
    async def revoke_others(self, user_id: UserId, session_id: SessionId, *, now: datetime) -> None:
        """As `revoke`, all of the user's sessions but this one."""

    @abstractmethod
    async def revoke_all(self, user_id: UserId, *, now: datetime) -> None:
        """As `revoke`, all of the user's sessions."""

    @abstractmethod
    async def add_refresh_token(self, token: RefreshToken) -> None: ...

    @abstractmethod
    async def refresh_token(self, digest: bytes) -> RefreshToken | None: ...

    @abstractmethod
    async def exchange(self, digest: bytes, *, now: datetime) -> bool:
        """Marks the token as used if it is neither used nor expired: one conditional UPDATE.

        Of any number of callers at once exactly one gets True; the others, once that one has committed, False.
        """

    @abstractmethod
    async def delete_expired(self, *, before: datetime, limit: int) -> int:
        """Deletes, of whatever users, at most `limit` sessions that expired before then, with their refresh tokens, and
        at most `limit` other refresh tokens that did. How many rows that were; 0 as well if somebody else was quicker.
        """


class ModelConfigRepo(Protocol):
    @abstractmethod
    async def add(self, owner: UserId, *, model_url: str, model_name: str, now: datetime) -> ModelConfig:
        """Stores a configuration without a key (`sealed_key` and `api_key_hint` are empty)."""

    @abstractmethod
    async def list(self, owner: UserId, *, limit: int, offset: int) -> Sequence[ModelConfig]:
        """The highest id first."""

    @abstractmethod
    async def get(self, owner: UserId, config_id: ModelConfigId) -> ModelConfig | None: ...

    @abstractmethod
    async def lock(self, owner: UserId, config_id: ModelConfigId) -> ModelConfig | None:
        """As `get`, and nobody else changes it until this unit of work is closed."""

    @abstractmethod
    async def newest(self, owner: UserId) -> ModelConfig | None:
        """The one with the highest id."""

    @abstractmethod
    async def save(self, config: ModelConfig) -> bool:
        """Overwrites URL, name, all about the key, and `updated_at`. False: there is none with this owner and id."""

    @abstractmethod
    async def delete(self, owner: UserId, config_id: ModelConfigId) -> bool:
        """Conversations that used it keep their messages and have no `config_id` any more."""


@dataclass(frozen=True, slots=True)
class Matches(Generic[T]):
    """What a search found so far. `looked_to`: the id up to which it looked; None: to the end."""

    items: Sequence[T]
    looked_to: int | None


@dataclass(frozen=True, slots=True)
class MessageRef:
    """A message without its text."""

    id: MessageId
    role: Role
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Hit:
    """Where a text was found: in a message of this conversation or, without a message, in its title."""

    conversation: Conversation
    excerpt: Excerpt
    message: MessageRef | None = None


class ConversationRepo(Protocol):
    @abstractmethod
    async def add(self, owner: UserId, *, title: str, config_id: ModelConfigId | None, now: datetime) -> Conversation:
        """A title that is not empty is the user's own.

        Raises `NotFound` if the configuration does not exist; whose it is, the caller has looked up.
        """

    @abstractmethod
    async def get(self, owner: UserId, conversation_id: ConversationId) -> Conversation | None: ...

    @abstractmethod
    async def lock(self, owner: UserId, conversation_id: ConversationId) -> Conversation | None:
        """As `get`, and nobody else locks or changes it until this unit of work is closed."""

    @abstractmethod
    async def list(self, owner: UserId, *, limit: int, offset: int) -> Sequence[Conversation]:
        """Newest `updated_at` first, then highest id first."""

    @abstractmethod
    async def list_below(
        self, owner: UserId, *, updated_at: datetime, before: ConversationId, limit: int
    ) -> Sequence[Conversation]:
        """As `list`, those that come after the one with this time and this id."""

    @abstractmethod
    async def used_since(
        self, owner: UserId, since: datetime, *, limit: int
    ) -> Sequence[tuple[Conversation, datetime]]:
        """Those that were there at `since` and are used later, in any order, and what their `updated_at` was then: the
        last time at which a message of theirs was added or, being a reply, ended, or that with which they were restored
        or added."""

    @abstractmethod
    async def by_id(self, owner: UserId, *, after: ConversationId | None, limit: int) -> Sequence[Conversation]:
        """The lowest id first, those above `after` if given."""

    @abstractmethod
    async def restore(self, conversation: Conversation) -> Conversation:
        """Stores a conversation as it is, but for its id, which is new. Its messages are not newer than its
        `updated_at`. No reply is being written there, and it has no configuration."""

    @abstractmethod
    async def titled(
        self, owner: UserId, text: str, *, before: ConversationId | None, limit: int, within: int
    ) -> Matches[Conversation]:
        """Those with the text in the title, as `MessageRepo.containing` finds messages."""

    @abstractmethod
    async def set_title(
        self, owner: UserId, conversation_id: ConversationId, title: str, *, by_user: bool = False
    ) -> bool:
        """Leaves `updated_at` as it is. A title that the user gave gives way to none but another of theirs: one
        conditional UPDATE. False: it was not set, or there is no such conversation."""

    @abstractmethod
    async def touch(self, owner: UserId, conversation_id: ConversationId, *, now: datetime) -> None:
        """Sets `updated_at`, if there is such a conversation."""

    @abstractmethod
    async def delete(self, owner: UserId, conversation_id: ConversationId, *, limit: int, now: datetime) -> int:
        """Deletes at most `limit` of its messages with what the log holds of them, and itself, if these were all. If
        not, nobody finds it any more, and another call goes on. How many messages and conversations were deleted:
        `limit`, if something may be left; 0 if there is none. Who calls first has its `lock`."""

    @abstractmethod
    async def claim(
        self,
        owner: UserId,
        conversation_id: ConversationId,
        reply_id: MessageId,
        worker_id: WorkerId,
        *,
        now: datetime,
    ) -> bool:
        """Makes this reply the one being written, by this worker, and sets `updated_at`. One conditional UPDATE: False
        if there is no such conversation or another reply is being written in it."""

    @abstractmethod
    async def release(
        self, owner: UserId, conversation_id: ConversationId, reply_id: MessageId, *, now: datetime
    ) -> bool:
        """Gives the claim back and sets `updated_at`. One conditional UPDATE: of any number of callers at once exactly
        one gets True, and may say how the reply ended. False if this reply did not hold it."""

    @abstractmethod
    async def request_stop(self, owner: UserId, conversation_id: ConversationId, reply_id: MessageId) -> bool:
        """Asks the worker that writes this reply to stop; it hears of it when it next renews its lease. False: the
        reply is not being written."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The client's name for one send, and the SHA-256 of what was sent under it."""

    key: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Node:
    """A message's place in its conversation. `active`: it is in the branch that the history shows."""

    id: MessageId
    parent_id: MessageId | None
    active: bool


class MessageRepo(Protocol):
    @abstractmethod
    async def add(
        self,
        owner: UserId,
        conversation_id: ConversationId,
        *,
        parent_id: MessageId | None,
        role: Role,
        content: str,
        writing: bool,
        model: str | None,
        now: datetime,
        idempotency: Idempotency | None = None,
    ) -> Message:
        """Ids grow in the order of adding within a conversation. The message is in the active branch, where `parent_id`
        has to be the last one. `writing`: a reply that is yet to be written. `siblings` are not looked up.

        Raises `NotFound` if there is no such conversation, `IdempotencyKeyReused` if a message of it has this key.
        """

    @abstractmethod
    async def get(self, owner: UserId, conversation_id: ConversationId, message_id: MessageId) -> Message | None: ...

    @abstractmethod
    async def sent_with(
        self, owner: UserId, conversation_id: ConversationId, key: str, *, since: datetime
    ) -> tuple[Message, Idempotency] | None:
        """The message that was added with this idempotency key at `since` or later."""

    @abstractmethod
    async def forget_key(self, owner: UserId, conversation_id: ConversationId, key: str, *, before: datetime) -> None:
        """An idempotency key that a message was added with before then may be used again."""

    @abstractmethod
    async def reply_to(self, owner: UserId, conversation_id: ConversationId, message_id: MessageId) -> Message | None:
        """The first reply whose `parent_id` this is."""

    @abstractmethod
    async def last(
        self, owner: UserId, conversation_id: ConversationId, *, before: MessageId | None = None
    ) -> MessageId | None:
        """The last message of the active branch, of those older than `before` if given."""

    @abstractmethod
    async def history(
        self,
        owner: UserId,
        conversation_id: ConversationId,
        *,
        limit: int,
        before: MessageId | None = None,
        max_bytes: int = PAGE_BYTES,
    ) -> tuple[Conversation, Sequence[Message]] | None:
        """The conversation and the newest messages of its active branch, those older than `before` if given, oldest
        first: at most `limit`, with at most `max_bytes` of text, but at least one. One query, by key: a deep page costs
        what the first costs. None: there is no such conversation."""

    @abstractmethod
    async def told(
        self,
        owner: UserId,
        conversation_id: ConversationId,
        *,
        limit: int,
        max_bytes: int,
        before: MessageId | None = None,
        among: Sequence[MessageId] | None = None,
    ) -> Sequence[Message]:
        """For a prompt: the newest `limit` messages of the active branch older than `before`, or the last `limit` of
        `among`, oldest first, without reasoning and siblings. The content is empty of those that failed or are being
        written, and of those from where on, backwards, there are more than `max_bytes` of it, which is not read
        either."""

    @abstractmethod
    async def by_id(
        self,
        owner: UserId,
        conversation_id: ConversationId,
        *,
        after: MessageId | None,
        limit: int,
        max_bytes: int = PAGE_BYTES,
    ) -> Sequence[Message]:
        """Messages of all branches without their siblings, the lowest id first, those above `after` if given: at most
        `limit`, with at most `max_bytes` of text, but at least one."""

    @abstractmethod
    async def restore(self, message: Message, *, active: bool) -> MessageId:
        """Stores a message as it is, but for its id, which is new and returned. `active`: it is in the active branch.

        Raises `NotFound` if there is no such conversation; the message that it follows, the caller has stored.
        """

    @abstractmethod
    async def containing(
        self,
        owner: UserId,
        text: str,
        *,
        before: MessageId | None,
        limit: int,
        within: int,
        max_bytes: int = PAGE_BYTES,
    ) -> Matches[Hit]:
        """The owner's messages with the text in their content, in whatever branch: the highest id first, those below
        `before` if given. It ends with the message that is number `limit` of those found, or number `within` of those
        looked at, or before these have more than `max_bytes` of text; one is looked at in any case.

        The text is compared code point by code point, in capitals or not (`str.casefold`), and in a time that grows
        with what is looked at alone. The event loop goes on meanwhile.
        """

    @abstractmethod
    async def begun_with(self, owner: UserId, text: str, *, among: Collection[ConversationId]) -> Set[ConversationId]:
        """Those among the owner's conversations whose first message, in whatever branch, has the text, compared as in
        `containing`. Of messages longer than 16 KiB, and of more than 200 in all, nothing is said."""

    @abstractmethod
    async def last_reply(self, owner: UserId, conversation_id: ConversationId) -> Message | None:
        """The reply that is being written, else the last one of the active branch."""

    @abstractmethod
    async def tree(self, owner: UserId, conversation_id: ConversationId) -> Sequence[Node]:
        """All messages of the conversation without their texts, by id. Its cost grows with the conversation."""

    @abstractmethod
    async def activate(
        self, owner: UserId, conversation_id: ConversationId, *, after: MessageId | None, path: Sequence[MessageId]
    ) -> None:
        """The active branch is what it was up to the message `after` (None: nothing of it), and then `path`. The caller
        has the conversation's lock."""

    @abstractmethod
    async def finish(self, reply: Message, cuts: Sequence[int] = (), *, now: datetime | None = None) -> None:
        """Overwrite content, reasoning, status, usage, finish reason and error. `cuts`: the lengths of the pieces of
        its reasoning and its answer, each 1 to 10,000 code points. `now`: what `release` was told."""

    @abstractmethod
    async def cuts(self, owner: UserId, conversation_id: ConversationId, reply_id: MessageId) -> Sequence[int]:
        """Return those that the reply was finished with; none if none were given."""


class TextKind(StrEnum):
    REASONING = "reasoning"
    ANSWER = "answer"


@dataclass(slots=True)  # and not frozen, which makes it three times as dear to make: there are thousands a second
class LogEntry:
    """Some text of a reply that is being written. `offset`: how many code points of the reply precede it. `cuts`: the
    lengths of the pieces that end in it, each 1 to 10,000 code points; the last may go on in the next entry."""

    user_id: UserId
    reply_id: MessageId
    offset: int
    kind: TextKind
    text: str
    cuts: Sequence[int] = ()

    @property
    def end(self) -> int:
        return self.offset + len(self.text)


@dataclass(frozen=True, slots=True)
class Cursor:
    """How many code points of a reply somebody has."""

    user_id: UserId
    reply_id: MessageId
    offset: int


class ReplyLog(Protocol):
    """What replies being written have said so far, as rows that may be cut and merged at will."""

    @abstractmethod
    async def append(self, entries: Sequence[LogEntry]) -> None:
        """Stores all of them in one statement. An entry at an offset that is stored already takes its place: the answer
        to an earlier commit may have been lost."""

    @abstractmethod
    async def read(self, owner: UserId, reply_id: MessageId) -> Sequence[LogEntry]:
        """By offset, without gaps, from 0; empty if nothing has reached the log."""

    @abstractmethod
    async def since(self, cursors: Sequence[Cursor], *, within: int) -> Sequence[LogEntry]:
        """The entries that begin at each reply's offset or after it, by less than `within` code points, by reply and
        offset: one query for them all."""

    @abstractmethod
    async def delete(self, owner: UserId, reply_id: MessageId) -> None: ...


@dataclass(frozen=True, slots=True)
class Pulse:
    """`at`: the database's time. `stops`: replies of the worker that somebody asked to stop."""

    at: datetime
    stops: Set[MessageId]


class Workers(Protocol):
    """The processes that write replies to this database, each with a lease that it has to renew. Its id is its epoch:
    none is given twice. Time is the database's. Sees across owners."""

    @abstractmethod
    async def join(self) -> tuple[WorkerId, datetime]:
        """A new worker, and the time."""

    @abstractmethod
    async def renew(self, worker_id: WorkerId) -> Pulse | None:
        """None: it was taken for dead."""

    @abstractmethod
    async def is_alive(self, worker_id: WorkerId) -> bool:
        """False: it was taken for dead. Otherwise nobody can take it for dead before this unit of work is over, so that
        what else is written in it is written by a living worker. A renewal waits for that, too: ask last."""

    @abstractmethod
    async def silent(self, *, longer_than: timedelta) -> Sequence[WorkerId]:
        """Those that have not renewed for longer than that."""

    @abstractmethod
    async def bury(self, worker_id: WorkerId, *, longer_than: timedelta) -> None:
        """Takes a worker for dead if it still has not renewed for longer than that. It waits for one that is just
        renewing."""


class UnfinishedReplies(Protocol):
    """Replies that are being written. Sees across owners."""

    @abstractmethod
    async def orphans(self, *, limit: int) -> Sequence[Message]:
        """Those whose worker is dead, at most `limit` of them."""

    @abstractmethod
    async def still(self, reply_ids: Collection[MessageId]) -> Set[MessageId]:
        """Those among these that are being written."""

    @abstractmethod
    async def of(self, owner: UserId) -> Sequence[Message]:
        """All of one user's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """An account that comes from another system. `created_at`: None for one that has forgotten it."""

    username: str
    email: str | None = None
    password_hash: str = field(repr=False)
    roles: frozenset[str] = frozenset({DEFAULT_ROLE})
    is_active: bool = True
    profile: Profile = Profile()
    created_at: datetime | None = None


class Administration(Protocol):
    """Accounts, for whoever administers them. Sees across owners."""

    @abstractmethod
    async def users(self, *, containing: str = "", before: UserId | None = None, limit: int) -> Sequence[User]:
        """The highest id first, those below `before` if given; only those with this in the username or the e-mail
        address, compared by `identity_key`. Its cost grows with how many do not match."""

    @abstractmethod
    async def user(self, user_id: UserId) -> User | None: ...

    @abstractmethod
    async def closed(self, *, limit: int) -> Sequence[UserId]:
        """Accounts that were closed and are not deleted yet."""

    @abstractmethod
    async def closed_conversations(self, *, limit: int) -> Sequence[tuple[UserId, ConversationId]]:
        """Conversations that `ConversationRepo.delete` has begun with."""

    @abstractmethod
    async def roles(self) -> Sequence[AccountRole]:
        """All that there are, by name."""

    @abstractmethod
    async def taken(self, *, usernames: Collection[str], emails: Collection[str]) -> tuple[Set[str], Set[str]]:
        """The usernames, and the e-mail addresses, that somebody has and that are the same as one of these
        (`identity_key`), as they are written there."""

    @abstractmethod
    async def add_users(self, users: Sequence["NewUser"], *, now: datetime) -> Sequence[UserId]:
        """Stores them all; `now` is when those came into being who do not say, and when all were last changed.

        Their ids, in their order.

        Raises `UsernameTaken` or `EmailTaken`; the unit of work is then only good for rolling back.
        """

    @abstractmethod
    async def lock(self) -> None:
        """Nobody else returns from here until this unit of work is closed: those who act with a role, and those who
        make or end administrators, come one after the other. It has to be the unit's first call."""

    @abstractmethod
    async def only_admin(self) -> UserId | None:
        """The one active user with the role `admin`, if there is one and no second. It takes the `lock`: of two admins
        that go at once, the later one is the last."""

    @abstractmethod
    async def set_active(self, user_id: UserId, active: bool, *, now: datetime) -> bool:
        """False: there is no such user."""

    @abstractmethod
    async def grant(self, user_id: UserId, role: str, *, now: datetime) -> None:
        """Nothing happens if the user has the role. Raises `NotFound` if there is no such user, or no such role."""

    @abstractmethod
    async def revoke(self, user_id: UserId, role: str, *, now: datetime) -> None:
        """Nothing happens if the user does not have the role, or is gone."""


class SealedKeys(Protocol):
    """Everybody's sealed API keys, for a change of the encryption key. Sees across owners."""

    @abstractmethod
    async def count(self, *, but: str, limit: int) -> int:
        """How many are sealed with any encryption key but the one of this name; `limit` means that many or more."""

    @abstractmethod
    async def list(self, *, but: str, after: ModelConfigId | None = None, limit: int) -> Sequence[ModelConfig]:
        """Those of them with an id above `after`, by id."""

    @abstractmethod
    async def replace(self, config: ModelConfig, *, sealed_key: str, sealed_with: str) -> bool:
        """Overwrites these two if the sealed key is still that of `config`: one conditional UPDATE. False: it was
        changed or deleted meanwhile, and stays so."""


class UnitOfWork(Protocol):
    """One transaction and the repositories that work in it."""

    users: UserRepo
    tokens: TokenStore
    model_configs: ModelConfigRepo
    conversations: ConversationRepo
    messages: MessageRepo
    reply_log: ReplyLog
    workers: Workers
    unfinished: UnfinishedReplies
    administration: Administration
    sealed_keys: SealedKeys

    @abstractmethod
    async def commit(self) -> None:
        """When this returns, what was written is durable, and counted (`chatcore.storage`). Once per unit.

        Raises `StorageFull` if a user would have more stored than one may; nothing is stored then.
        Raises `Contention` if the database answers that it rolled back: a cluster may find only here that another node
        was quicker. Whether a commit that failed in any other way took place is not known: `Unavailable`, and not to
        be run again blindly.
        """


class UnitOfWorkFactory(Protocol):
    """`async with unit_of_work() as work:` rolls back on leaving, unless `work.commit()` was called.

    A unit sees what was committed before it began and what it wrote itself. `read_only` costs no transaction:
    each read then sees the newest committed state, and writing or committing is a `RuntimeError`. `urgent` units
    have a few connections of their own: a process under load must still show that it is alive, and take what is said
    to the log.
    """

    @abstractmethod
    def __call__(self, *, read_only: bool = False, urgent: bool = False) -> AbstractAsyncContextManager[UnitOfWork]: ...


# ---- secrets ---------------------------------------------------------------------------------------------


class PasswordHasher(Protocol):
    @abstractmethod
    async def hash(self, password: str) -> str:
        """A PHC string with its own random salt. Runs beside the event loop, a bounded number at once.

        Raises `Unavailable` if too many wait already; so does `verify`.
        """

    @abstractmethod
    async def verify(self, password: str, password_hash: str | None) -> bool:
        """False for a wrong password, an unknown form of hash, and None, which takes as long as a wrong password:
        an unknown name must not answer sooner than a known one."""

    @abstractmethod
    def needs_rehash(self, password_hash: str) -> bool:
        """True if `hash` would use other parameters today."""

    @abstractmethod
    def adopted(self, foreign_hash: str) -> str | None:
        """The form in which another system's hash has to be stored so that `verify` knows it, at most 255 characters.
        None: it never would, or it would cost more than a sign-in may."""


class Cipher(Protocol):
    """Seals API keys. What was sealed for one owner and configuration opens for no other.

    `newest` names the encryption key that `seal` uses, in at most 32 ASCII characters that tell nothing else about it.
    """

    newest: str

    @abstractmethod
    def seal(self, api_key: str, *, owner: UserId, config_id: ModelConfigId) -> str: ...

    @abstractmethod
    def open(self, sealed: str, *, owner: UserId, config_id: ModelConfigId) -> str:
        """Raises `ValueError`, without any of the text, if it does not open: copied, changed, or its key is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessClaims:
    """What an access token says. `authenticated_at` is the session's last password check (`auth_time`)."""

    user_id: UserId
    session_id: SessionId
    issued_at: datetime
    expires_at: datetime
    authenticated_at: datetime


class TokenSigner(Protocol):
    @abstractmethod
    def sign(self, claims: AccessClaims) -> str:
        """Times are kept to the second."""

    @abstractmethod
    def verify(self, token: str, *, now: datetime) -> AccessClaims:
        """Raises `Unauthenticated` for whatever `sign` did not make, and once `expires_at` has come."""


# ---- limits ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rate:
    """So many times (at least 1) in so many seconds."""

    times: int
    seconds: int


class RateLimiter(Protocol):
    @abstractmethod
    async def hit(self, rate: Rate, *who: str) -> int | None:
        """Counts one try, and says None as long as there were no more than `rate.times` since the first of them, which
        is forgotten after `rate.seconds`. Else: how many whole seconds are left until then, at least 1.

        Each `rate` and each `who` is counted by itself. It never raises: a limiter that has lost what it counts in
        goes on with something else.
        """


# ---- the model -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEndpoint:
    """An OpenAI-compatible base URL (such as https://api.openai.com/v1), a model there, and the key for it.

    `trusted`: named by the operator, not by a user. `owner`: the user whose endpoint it is, whose calls share limits.
    """

    url: str
    model: str
    api_key: str = field(repr=False)
    trusted: bool = False
    owner: UserId | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class PromptMessage:
    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """`temperature` 0 to 2 and `max_tokens` ≥ 1; None leaves the choice to the model."""

    messages: Sequence[PromptMessage]
    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(slots=True)  # not frozen, as `LogEntry`
class Delta:
    """What arrived together. `usage` comes with the last one, if the endpoint counts; `finish_reason` once the model
    has ended its answer, if it says why.

    `reasoned`: all that was said before this, as text, was reasoning too. Only then does a model show that its answer
    begins: with a `</think>` that nothing has opened.
    """

    reasoning: str = ""
    text: str = ""
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    reasoned: bool = False


class LLMGateway(Protocol):
    @abstractmethod
    def stream(self, endpoint: ModelEndpoint, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        """What the model says, as it comes; all its text is fit to store (`entities.storable`).

        It ends when the model has finished, and raises a `ModelError` when it has not: what was yielded before
        stays said. It calls once, never again after the first byte, and closes its connection when the iterator
        is closed or its task cancelled. No text of the endpoint's reaches an error.
        """

    @abstractmethod
    async def models(self, endpoint: ModelEndpoint) -> Sequence[str]:
        """The names of the models that the endpoint offers, sorted, at most 1,000, each fit to store.

        Raises a `ModelError` if it does not answer as an OpenAI-compatible endpoint does.
        """

    @abstractmethod
    async def may_call(self, url: str, *, owner: UserId) -> bool:
        """Whether this user's endpoint may be at this URL, as far as its addresses are known now. False is an answer
        for good; True is not: the address is looked at again whenever it is called."""
