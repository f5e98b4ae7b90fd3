"""The entities of chatcore: frozen values. Their rules are in `bounds`.

Times are aware datetimes in UTC. Text is Unicode and its lengths are counted in code points. No text holds
NUL or a lone surrogate: PostgreSQL cannot store the one, and the other cannot be encoded.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Generic, NewType, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

OwnerId = NewType("OwnerId", int)
UserId = NewType("UserId", OwnerId)
"""An account is one kind of owner."""
SessionId = NewType("SessionId", str)
ModelConfigId = NewType("ModelConfigId", int)
ConversationId = NewType("ConversationId", int)
MessageId = NewType("MessageId", int)
FileId = NewType("FileId", int)
WorkerId = NewType("WorkerId", int)

DEFAULT_ROLE = "user"
ADMIN_ROLE = "admin"
ROLES = frozenset({DEFAULT_ROLE, ADMIN_ROLE})
TITLE_LENGTH = 50
_READ_FOR_TITLE = 2000  # characters of a text
MAX_TITLE = 200
MAX_PASSWORD = 1024
MAX_TYPED = 2 * MAX_PASSWORD
"""Characters of a password before NFC."""
MAX_NAME = 254
"""Of an e-mail address (RFC 5321), and so of whatever may be one."""

NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""A year before the last, so that it is a date in every time zone."""

_NOBODYS_NAME = " "
_NOBODYS_PASSWORD = "\ud800"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A user's profile; every part is optional and at most 200 characters."""

    user_name: str | None = None
    country: str | None = None
    job: str | None = None
    phone: str | None = None
    init_cn_level: str | None = None


@dataclass(frozen=True, slots=True)
class AccountRole:
    """One of `ROLES`, with its description in a sentence."""

    name: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """An account. `password_hash` is a PHC string and never leaves the core."""

    id: UserId
    username: str
    email: str | None
    password_hash: str = field(repr=False)
    roles: frozenset[str] = frozenset({DEFAULT_ROLE})
    is_active: bool = True
    profile: Profile = Profile()
    created_at: datetime
    updated_at: datetime


class Scope(StrEnum):
    """What a personal API key opens: `CHAT` conversations and replies, `READ` reading them, `FILES` files."""

    CHAT = "chat"
    FILES = "files"
    READ = "read"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyGrant:
    """What is stored of a personal API key: its SHA-256, never the key. `hint`: its last four characters."""

    name: str
    hint: str
    scopes: frozenset[Scope]
    digest: bytes = field(repr=False)

    def allows(self, scope: Scope) -> bool:
        """`CHAT` includes `READ`."""
        return scope in self.scopes or (scope is Scope.READ and Scope.CHAT in self.scopes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One sign-in, or one personal API key. It is alive while `logout_time` is empty and `expires_at` lies ahead.

    `authenticated_at` is the last password check within it (the token's `auth_time`). A key that does not expire does
    so at `NEVER`; until its first use `last_used_at` is `login_time`.
    """

    id: SessionId
    user_id: UserId
    login_time: datetime
    authenticated_at: datetime
    last_used_at: datetime
    expires_at: datetime
    logout_time: datetime | None = None
    user_agent: str = ""
    address: str = ""
    key: KeyGrant | None = None

    def alive(self, now: datetime) -> bool:
        return self.logout_time is None and now < self.expires_at


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshToken:
    """A stored refresh token: its SHA-256, never the token. `used_at`: when it was exchanged."""

    digest: bytes = field(repr=False)
    session_id: SessionId
    user_id: UserId
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A user's own OpenAI-compatible endpoint. `sealed_key` opens only for this owner and this id.

    `sealed_with` is the name of the encryption key (`Cipher.newest`); empty where nothing is sealed.
    """

    id: ModelConfigId
    user_id: OwnerId
    model_url: str
    model_name: str
    sealed_key: str = field(repr=False)
    api_key_hint: str
    sealed_with: str = ""
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """`writing_reply_id` is the claim: the one reply in progress there, if any.

    `titled_by_user`: the title is the user's own, and only the user changes it. `client_id`: the name that a client
    gave it, unique for its owner. `metadata`: what the program that made it says of it.
    """

    id: ConversationId
    user_id: OwnerId
    title: str
    titled_by_user: bool = False
    config_id: ModelConfigId | None = None
    writing_reply_id: MessageId | None = None
    client_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)
    created_at: datetime
    updated_at: datetime


class Role(StrEnum):
    """The author of a message (the permissions of an account are `User.roles`)."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Status(StrEnum):
    """The state of a message. All but `WRITING` are final."""

    COMPLETE = "complete"
    WRITING = "writing"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    DELETED = "deleted"


SPOKEN = frozenset({Status.COMPLETE, Status.STOPPED, Status.INTERRUPTED})
"""Messages with these states are in prompts."""


class FinishReason(StrEnum):
    """Why a model ended its answer, as OpenAI names it. `ERROR`: it failed."""

    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    TOOL_CALLS = "tool_calls"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens, as the model counted them, or `estimated`, where its reply was cut short before it did."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    estimated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a reply failed: a stable code, and a sentence."""

    code: str
    detail: str


INTERNAL = Failure(code="internal", detail="Internal server error.")
"""An error of chatcore or its database, not of the model."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image of a user's message. `detail`: how closely the model is to look, in OpenAI's words."""

    media_type: str
    data: bytes = field(repr=False)
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of an owner's. Its bytes are stored apart (`FileRepo.read`). `collection`: a name for files that belong
    together. `digest`: the SHA-256 of its bytes; in a collection there is one file with it."""

    id: FileId
    user_id: OwnerId
    collection: str
    name: str
    media_type: str
    size: int
    digest: bytes
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message; an assistant's message is a reply. The reply's text is `reasoning`, then `content`.

    `parent_id` is the message that it follows: for a reply, the user's message that it answers. `siblings` are the ids
    of all messages with this parent, its own included, lowest first: the conversation's branches. `metadata`: what the
    program that sent it says of it. `images`: how many it has. `ended_at`: of a reply, when it ended.
    """

    id: MessageId
    user_id: OwnerId
    conversation_id: ConversationId
    parent_id: MessageId | None = None
    siblings: tuple[MessageId, ...] = field(default=(), compare=False)
    role: Role
    content: str
    reasoning: str | None = None
    status: Status = Status.COMPLETE
    model: str | None = None
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    error: Failure | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)
    images: int = 0
    created_at: datetime
    ended_at: datetime | None = None

    @property
    def length(self) -> int:
        """Return the code points of its text: the offset of its end."""
        return len(self.reasoning or "") + len(self.content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """How a client of another protocol asked for a reply, in that protocol's words, which its answers repeat for ever.

    `kind`: the protocol's name for the reply, such as `response`. `body`: JSON, at most 256 KiB of it.
    """

    user_id: OwnerId
    conversation_id: ConversationId
    reply_id: MessageId
    kind: str
    body: Mapping[str, Any] = field(hash=False)
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing, and whether another follows."""

    items: Sequence[T]
    has_more: bool


# ---- texts -----------------------------------------------------------------------------------------------

_MAX_PASTED = 4096  # characters
_CALL = re.compile(r"/+(chat/completions|completions|responses|embeddings|models)/*$")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def identity_key(name: str) -> str:
    """Return the key by which two usernames or two e-mail addresses are the same: NFKC, without case (UAX #31). For a
    text over the maximum length, return a key that no account has and no key contains: normalising takes quadratic
    time."""
    if len(name) > MAX_NAME:
        return _NOBODYS_NAME
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def normal_password(password: str) -> str:
    """The same password whatever the keyboard composes (NFC; NIST SP 800-63B §3.1.1.2). Of one that is too long: a
    password that nobody can have. Normalising takes quadratic time."""
    if len(password) > MAX_TYPED:
        return _NOBODYS_PASSWORD
    return unicodedata.normalize("NFC", password)


def normal_model_url(url: str) -> str:
    """A pasted URL as the base of an endpoint's paths: without blanks around it and the path of one call."""
    if len(url) > _MAX_PASTED:
        return url
    path, mark, query = url.strip().partition("?")
    return _CALL.sub("", path) + (mark if query else "") + query


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port (RFC 6454) of a URL that keeps the rules of a `ModelUrl`."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or {"http": 80, "https": 443}[parts.scheme]


def key_hint(api_key: str) -> str:
    """The last four characters, so that a person knows their keys apart; nothing of a short key."""
    return api_key[-4:] if len(api_key) >= 12 else ""


def title_from(content: str) -> str:
    """The first 50 characters of a message, on one line."""
    return " ".join(content.lstrip()[:_READ_FOR_TITLE].split())[:TITLE_LENGTH].rstrip()


def title_of(answer: str) -> str:
    """A model's proposal for a title, without the quotes and marks that models put around one, cut at 80 characters."""
    answer = without_thinking(answer).lstrip()[:_READ_FOR_TITLE]
    return " ".join(answer.split()).strip("\"'`*#.:“”‘’「」 ")[:80].rstrip()


def without_thinking(answer: str) -> str:
    """The answer without the reasoning in `<think>` tags that it begins with; the first tag may be missing."""
    if "</think>" not in answer:
        return "" if answer.lstrip().startswith("<think>") else answer
    reasoning, _, rest = answer.partition("</think>")
    opened = reasoning.lstrip().startswith("<think>")
    return rest.lstrip() if opened or not ("<think>" in reasoning or reasoning.endswith("`")) else answer


def storable(text: str) -> str:
    """Foreign text made fit to store: NUL and lone surrogates become U+FFFD, one for one."""
    if text.isascii() and "\0" not in text:  # by far the quickest to see, and by far the most frequent
        return text
    return _UNSTORABLE.sub("\ufffd", text)
