"""The tables, as the statements see them; `migrations/` makes them.

Whatever an owner has refers to `owners` by its `user_id`: accounts were once the only owners, and processes of an
earlier version, which end their replies in progress during an update, know the column by this name. Its secondary
indexes start with it, and what refers to a conversation or a session refers to it together with its owner: another's
cannot even be referred to, and the tables can be distributed by owner. Text is compared exactly on every database (see
migration 0001 for MySQL); names and addresses are compared by a `_key` column, which holds their
`chatcore.entities.identity_key`.
"""

import json
from collections.abc import Mapping, Set
from dataclasses import asdict, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    true,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeDecorator, TypeEngine

from chatcore.entities import FinishReason, Profile, Role, Scope, Status
from chatcore.ports import NO_METADATA
from chatcore_sql.naming import TableName

LARGEST_ID = 2**63 - 1
# Of a message that a process of an earlier version has added, and of what follows it: they have the order of their ids.
UNKNOWN_DEPTH = 2**31 - 1
UNKNOWN_KEY = "unknown"  # what sealed a key before that was written down
_PROFILE = tuple(field.name for field in fields(Profile))


class Id(TypeDecorator[int]):
    """A BIGINT. To ask for a number that does not fit is to ask for something that is not there, not an error."""

    impl: Any = BigInteger().with_variant(Integer(), "sqlite")  # where only an INTEGER key numbers rows
    cache_ok: bool | None = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        return value if value is None or 0 <= value <= LARGEST_ID else -1


class Moment(TypeDecorator[datetime]):
    """An aware datetime, in UTC, to the microsecond."""

    impl: Any = DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql")
    cache_ok: bool | None = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without its offset cannot be stored")
        return value and value.astimezone(UTC)

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """What `process_result_value` would be, with one call less for each value."""
        read = self.impl_instance.result_processor(dialect, coltype)
        if read is None:
            return _utc

        def process(value: Any) -> datetime | None:
            return _utc(read(value))

        return process


def _utc(value: datetime | None) -> datetime | None:
    return value and value.replace(tzinfo=UTC)


def _parent(value: int | None) -> int | None:
    return value or None


def _count(value: int | None) -> int:
    return value or 0


class ProfileText(TypeDecorator[Profile]):
    """JSON of the parts that there are; NULL if there are none. Parts of a newer version are ignored."""

    impl: Any = Text
    cache_ok: bool | None = True

    def process_bind_param(self, value: Profile | None, dialect: Dialect) -> str | None:
        parts = {name: part for name, part in asdict(value or Profile()).items() if part is not None}
        return json.dumps(parts, ensure_ascii=False) if parts else None

    def process_result_value(self, value: str | None, dialect: Dialect) -> Profile:
        parts: dict[str, str] = json.loads(value) if value else {}
        return Profile(**{name: parts.get(name) for name in _PROFILE})


class PairsText(TypeDecorator[Mapping[str, str]]):
    """JSON of the pairs; NULL if there are none."""

    impl: Any = Text
    cache_ok: bool | None = True

    def process_bind_param(self, value: Mapping[str, str] | None, dialect: Dialect) -> str | None:
        return json.dumps(dict(value), ensure_ascii=False) if value else None

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """What `process_result_value` would be, without a call for each NULL."""
        return _Pairs({None: NO_METADATA}).__getitem__


class JsonText(TypeDecorator[Mapping[str, Any]]):
    """An object of JSON."""

    impl: Any = Text().with_variant(mysql.MEDIUMTEXT(), "mysql")
    cache_ok: bool | None = True

    def process_bind_param(self, value: Mapping[str, Any] | None, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value, ensure_ascii=False)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads(value) if value else {}
        return found


class _Pairs(dict[str | None, Mapping[str, str]]):
    def __missing__(self, text: str) -> Mapping[str, str]:
        pairs: Mapping[str, str] = json.loads(text)
        return pairs


class Flag(TypeDecorator[bool]):
    """NULL is false."""

    impl: Any = Boolean
    cache_ok: bool | None = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """As that of `PairsText`."""
        return {None: False, False: False, True: True}.__getitem__  # 0 and 1 are their equals


class Count(TypeDecorator[int]):
    """NULL is 0."""

    impl: Any = SmallInteger
    cache_ok: bool | None = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        return value or None

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        return _count


class Word(TypeDecorator[StrEnum]):
    """One of an enumeration's."""

    impl: Any = String
    cache_ok: bool | None = True

    def __init__(self, words: type[StrEnum]) -> None:
        super().__init__(16)
        self.words = words

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return value and str(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """What `process_result_value` would be, without a call for each value."""
        words: dict[str | None, StrEnum | None] = {None: None, **{word.value: word for word in self.words}}
        return words.__getitem__


class Scopes(TypeDecorator[Set[Scope]]):
    """Words with blanks between them. Those of a newer version are ignored."""

    impl: Any = String(64)
    cache_ok: bool | None = True

    def process_bind_param(self, value: Set[Scope] | None, dialect: Dialect) -> str | None:
        return None if value is None else " ".join(sorted(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Set[Scope]:
        words = (value or "").split()
        return frozenset(scope for scope in Scope if scope in words)


class Parent(Id):
    """The id of a message that another follows. 0 is none: siblings are found by their parent."""

    cache_ok: bool | None = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        return super().process_bind_param(value or 0, dialect)

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        return _parent


LongText: TypeEngine[str] = Text().with_variant(mysql.MEDIUMTEXT(), "mysql")  # a TEXT of MySQL's ends at 64 KiB
Blob: TypeEngine[bytes] = LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql")  # a BLOB of MySQL's ends at 64 KiB
Digest: TypeEngine[bytes] = LargeBinary(32).with_variant(mysql.BINARY(32), "mysql")

metadata: MetaData = MetaData(  # no names for primary keys: MySQL ignores them, with a warning
    naming_convention={
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

owners: Table = Table(
    TableName("owners"),
    metadata,
    Column("id", Id, primary_key=True),
    # NULL for an account, and once the owner is closed. A key of MySQL's has at most 3,072 bytes; these have 2,040.
    Column("tenant", String(255)),
    Column("external_id", String(255)),
    Column("created_at", Moment, nullable=False),
    # Nobody finds an owner that is closed; what it owns is being deleted.
    Column("closed_at", Moment, index=True),
    UniqueConstraint("tenant", "external_id"),
    sqlite_autoincrement=True,
)

users: Table = Table(
    TableName("users"),
    metadata,
    Column("id", Id, ForeignKey("owners.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("username", String(64), nullable=False),
    Column("username_key", String(64), nullable=False, unique=True),
    Column("email", String(254)),
    Column("email_key", String(254), unique=True),
    Column("password_hash", String(255), nullable=False),
    Column("is_active", Boolean, nullable=False),
    Column("profile", ProfileText),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
)

roles: Table = Table(
    TableName("roles"),
    metadata,
    Column("name", String(64), primary_key=True),
    Column("description", String(200), nullable=False),
)

user_roles: Table = Table(
    TableName("user_roles"),
    metadata,
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("role", String(64), ForeignKey("roles.name", ondelete="CASCADE"), primary_key=True),
    Index(None, "role"),
)

sessions: Table = Table(
    TableName("sessions"),
    metadata,
    Column("id", String(64), primary_key=True),
    Column("user_id", Id, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("login_time", Moment, nullable=False),
    Column("authenticated_at", Moment, nullable=False),
    Column("last_used_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("logout_time", Moment),
    Column("user_agent", String(255), nullable=False),
    Column("address", String(64), nullable=False),
    # Of a sign-in the rest is empty. `is_key` is for the index: one that goes on with a NULL is no good (`messages`).
    Column("is_key", Boolean, nullable=False, server_default=false()),
    Column("key_name", String(100)),
    Column("key_hint", String(4)),
    Column("key_scopes", Scopes),
    Column("key_digest", Digest),
    UniqueConstraint("user_id", "id"),
    Index(None, "user_id", "is_key", "login_time", "id"),
    Index("uq_sessions_key_digest", "key_digest", unique=True),  # as that of the messages' idempotency keys
    Index(None, "expires_at"),  # without the owner, as that of the refresh tokens: what has expired is swept away
)

refresh_tokens: Table = Table(
    TableName("refresh_tokens"),
    metadata,
    Column("digest", Digest, primary_key=True),
    Column("session_id", String(64), nullable=False),
    Column("user_id", Id, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("used_at", Moment),
    ForeignKeyConstraint(["user_id", "session_id"], ["sessions.user_id", "sessions.id"], ondelete="CASCADE"),
    Index(None, "user_id", "session_id"),
    Index(None, "expires_at"),
)

model_configs: Table = Table(
    TableName("model_configs"),
    metadata,
    Column("id", Id, primary_key=True),
    Column("user_id", Id, ForeignKey("owners.id", ondelete="CASCADE"), nullable=False),
    Column("model_url", String(2048), nullable=False),
    Column("model_name", String(200), nullable=False),
    Column("sealed_key", Text, nullable=False),
    Column("api_key_hint", String(4), nullable=False),
    # Which encryption key, by `Cipher.newest`. Indexed without the owner: what old keys have sealed is everybody's.
    Column("sealed_with", String(32), nullable=False, server_default=UNKNOWN_KEY, index=True),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Index(None, "user_id", "id"),
    sqlite_autoincrement=True,
)

# One row for each owner, apart from `owners`, whose row others hold while they add to what it owns.
user_storage: Table = Table(
    TableName("user_storage"),
    metadata,
    Column("user_id", Id, ForeignKey("owners.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("stored_bytes", BigInteger, nullable=False),
)

conversations: Table = Table(
    TableName("conversations"),
    metadata,
    Column("id", Id, primary_key=True),
    Column("user_id", Id, ForeignKey("owners.id", ondelete="CASCADE"), nullable=False),
    Column("title", String(200), nullable=False),
    Column("titled_by_user", Boolean, nullable=False, server_default=false()),
    # Alone, without the owner: ON DELETE SET NULL would empty the owner too. Its index is what the foreign key needs.
    Column("config_id", Id, ForeignKey("model_configs.id", ondelete="SET NULL"), index=True),
    Column("writing_reply_id", Id, unique=True),
    Column("writing_worker_id", Id),
    Column("stop_requested", Boolean, nullable=False, server_default=false()),
    Column("client_id", String(255)),
    Column("metadata", PairsText),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    # Its `updated_at` before the first message that tells when that was set: of one that was imported, or is older.
    Column("used_before", Moment),
    # Nobody finds one that is closed; its messages are being deleted.
    Column("closed_at", Moment, index=True),
    UniqueConstraint("user_id", "id"),
    Index("uq_conversations_user_id_client_id", "user_id", "client_id", unique=True),
    Index(None, "user_id", "updated_at", "id"),
    # Without the owner: a worker asks for what it is to stop, and all of them for what a dead one has left.
    Index(None, "writing_worker_id", "stop_requested"),
    sqlite_autoincrement=True,
)

messages: Table = Table(
    TableName("messages"),
    metadata,
    Column("id", Id, primary_key=True),
    Column("user_id", Id, nullable=False),
    Column("conversation_id", Id, nullable=False),
    # No foreign key: a cascade down a long conversation would recurse once per message. 0: it follows no message.
    Column("parent_id", Parent),
    # The number of messages above it, by which a branch has its order.
    Column("depth", Integer, nullable=False, server_default=str(UNKNOWN_DEPTH)),
    Column("active", Boolean, nullable=False, server_default=true()),
    Column("role", Word(Role), nullable=False),
    Column("content", LongText, nullable=False),
    Column("reasoning", LongText),
    Column("content_bytes", Integer),  # in UTF-8, as the other; NULL: written by an earlier version, not counted yet
    Column("reasoning_bytes", Integer),
    Column("status", Word(Status), nullable=False),
    Column("model", String(200)),
    Column("prompt_tokens", Integer),
    Column("completion_tokens", Integer),
    Column("total_tokens", Integer),
    Column("estimated", Flag),
    Column("finish_reason", Word(FinishReason)),
    Column("cuts", Blob),  # of pieces: two bytes each
    Column("error_code", String(64)),
    Column("error_detail", Text),
    Column("metadata", PairsText),
    Column("images", Count),
    Column("ended_at", Moment),  # of a reply, since that sets its conversation's `updated_at`
    Column("idempotency_key", String(255)),
    Column("idempotency_digest", Digest),
    Column("created_at", Moment, nullable=False),
    ForeignKeyConstraint(
        ["user_id", "conversation_id"], ["conversations.user_id", "conversations.id"], ondelete="CASCADE"
    ),
    Index(None, "user_id", "conversation_id", "active", "depth", "id"),
    Index(None, "user_id", "id"),
    # The owner alone before a column that may be NULL: an index that begins as the foreign key does and goes on with a
    # NULL makes MySQL 9.7 take the reference for absent, and anything is accepted.
    Index(None, "user_id", "parent_id", "conversation_id", "id"),
    # An index, not a constraint: those SQLite cannot add to a table that is there.
    Index(
        "uq_messages_user_id_idempotency_key_conversation_id",
        "user_id",
        "idempotency_key",
        "conversation_id",
        unique=True,
    ),
    sqlite_autoincrement=True,
)

requests: Table = Table(
    TableName("requests"),
    metadata,
    Column("user_id", Id, primary_key=True, autoincrement=False),
    Column("reply_id", Id, primary_key=True, autoincrement=False),
    Column("conversation_id", Id, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("body", JsonText, nullable=False),
    Column("created_at", Moment, nullable=False),
    ForeignKeyConstraint(
        ["user_id", "conversation_id"], ["conversations.user_id", "conversations.id"], ondelete="CASCADE"
    ),
    Index(None, "user_id", "conversation_id"),
    Index(None, "user_id", "kind", "reply_id"),
)

message_images: Table = Table(
    TableName("message_images"),
    metadata,
    Column("user_id", Id, primary_key=True, autoincrement=False),
    Column("message_id", Id, primary_key=True, autoincrement=False),
    Column("number", SmallInteger, primary_key=True, autoincrement=False),
    Column("conversation_id", Id, nullable=False),
    Column("media_type", String(32), nullable=False),
    Column("detail", String(16)),
    Column("size", Integer, nullable=False),  # of the data, in bytes
    Column("data", Blob, nullable=False),
    ForeignKeyConstraint(
        ["user_id", "conversation_id"], ["conversations.user_id", "conversations.id"], ondelete="CASCADE"
    ),
    Index(None, "user_id", "conversation_id"),
)

files: Table = Table(
    TableName("files"),
    metadata,
    Column("id", Id, primary_key=True),
    Column("user_id", Id, ForeignKey("owners.id", ondelete="CASCADE"), nullable=False),
    Column("collection", String(100), nullable=False),
    Column("name", String(255), nullable=False),
    Column("media_type", String(100), nullable=False),
    Column("size", BigInteger, nullable=False),  # in bytes
    Column("digest", Digest, nullable=False),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("user_id", "id"),
    UniqueConstraint("user_id", "digest", "collection"),
    Index(None, "user_id", "id"),
    sqlite_autoincrement=True,
)

file_parts: Table = Table(
    TableName("file_parts"),
    metadata,
    Column("user_id", Id, primary_key=True, autoincrement=False),
    Column("file_id", Id, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("data", Blob, nullable=False),
    ForeignKeyConstraint(["user_id", "file_id"], ["files.user_id", "files.id"], ondelete="CASCADE"),
)

# No foreign keys: one reply that was deleted meanwhile must not keep a whole batch out of the log.
reply_log: Table = Table(
    TableName("reply_log"),
    metadata,
    Column("user_id", Id, primary_key=True, autoincrement=False),
    Column("reply_id", Id, primary_key=True, autoincrement=False),
    Column("text_offset", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("text", LongText, nullable=False),
    Column("cuts", Blob),
)

# A worker's id is its epoch. Its time is the database's, as microseconds since 1970: all can reckon with that.
workers: Table = Table(
    TableName("workers"),
    metadata,
    Column("id", Id, primary_key=True),
    Column("renewed_at", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
