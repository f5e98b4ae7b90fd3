"""What chatcore knows about: frozen values, and the rules that a value must keep.

Times are aware datetimes in UTC. Text is Unicode and its lengths are counted in code points. No text holds
NUL or a lone surrogate: the one cannot be stored by PostgreSQL, the other cannot be encoded.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Generic, NewType, TypeVar
from urllib.parse import urlsplit

from chatcore.errors import FieldError, ValidationFailed

T = TypeVar("T")

UserId = NewType("UserId", int)
SessionId = NewType("SessionId", str)
ModelConfigId = NewType("ModelConfigId", int)
ConversationId = NewType("ConversationId", int)
MessageId = NewType("MessageId", int)
WorkerId = NewType("WorkerId", int)

DEFAULT_ROLE = "user"
ADMIN_ROLE = "admin"
ROLES = frozenset({DEFAULT_ROLE, ADMIN_ROLE})
TITLE_LENGTH = 50
_READ_FOR_TITLE = 2000  # characters of a text
MAX_TITLE = 200
MAX_CONTENT = 200_000
MAX_PASSWORD = 1024
MAX_NAME = 254
"""Of an e-mail address (RFC 5321), and so of whatever may be one."""

_MAX_TYPED = 2 * MAX_PASSWORD  # characters of a password before NFC
_NOBODYS_NAME = " "
_NOBODYS_PASSWORD = "\ud800"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a user tells about themself; every part is optional and at most 200 characters."""

    user_name: str | None = None
    country: str | None = None
    job: str | None = None
    phone: str | None = None
    init_cn_level: str | None = None


@dataclass(frozen=True, slots=True)
class AccountRole:
    """One of `ROLES`, and what it is for, in a sentence."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One sign-in. It is alive while `logout_time` is empty and `expires_at` lies ahead.

    `authenticated_at` is the last password check within it (the token's `auth_time`).
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

    def alive(self, now: datetime) -> bool:
        return self.logout_time is None and now < self.expires_at


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshToken:
    """What is stored of a refresh token: the SHA-256 of it, never the token. `used_at`: when it was exchanged."""

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
    user_id: UserId
    model_url: str
    model_name: str
    sealed_key: str = field(repr=False)
    api_key_hint: str
    sealed_with: str = ""
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """`writing_reply_id` is the claim: the one reply that is being written there, if any.

    `titled_by_user`: the title is the user's own, and nobody else changes it.
    """

    id: ConversationId
    user_id: UserId
    title: str
    titled_by_user: bool = False
    config_id: ModelConfigId | None = None
    writing_reply_id: MessageId | None = None
    created_at: datetime
    updated_at: datetime


class Role(StrEnum):
    """Who speaks in a message (not what an account may do: that is `User.roles`)."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Status(StrEnum):
    """How far a message is. Everything but `WRITING` is final."""

    COMPLETE = "complete"
    WRITING = "writing"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


SPOKEN = frozenset({Status.COMPLETE, Status.STOPPED, Status.INTERRUPTED})
"""What a model is told of in its prompt."""


class FinishReason(StrEnum):
    """Why a model ended its answer, in OpenAI's words. `ERROR`: it broke down."""

    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    TOOL_CALLS = "tool_calls"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens, as the model counted them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a reply failed: a stable code and a sentence."""

    code: str
    detail: str


INTERNAL = Failure(code="internal", detail="Internal server error. The server's log says more.")
"""A fault of chatcore itself, or of its database: not the model's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message; an assistant's message is a reply. The reply's text is `reasoning`, then `content`.

    `parent_id` is the message that it follows: of a reply, the user's message that it answers. `siblings` are the ids
    of all messages that follow the same one, its own among them, oldest first: the conversation's branches.
    """

    id: MessageId
    user_id: UserId
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
    created_at: datetime

    @property
    def length(self) -> int:
        """Code points of its text: where a reader of all of it has arrived."""
        return len(self.reasoning or "") + len(self.content)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing, and whether more follows it."""

    items: Sequence[T]
    has_more: bool


# ---- rules -----------------------------------------------------------------------------------------------

_EMAIL = re.compile(r"[^\s@\x00-\x1f\x7f]{1,64}@[^\s@\x00-\x1f\x7f]{1,187}\.[^\s@.\x00-\x1f\x7f]{2,}")
# Letters, marks and symbols that show nothing: of Default_Ignorable_Code_Point (UAX #44) what is of none of the
# categories that are refused anyway, and the empty Braille pattern.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_MAX_PASTED = 4096  # characters
_CALL = re.compile(r"/+(chat/completions|completions|responses|embeddings|models)/*$")
_AZURE_QUERY = re.compile(r"api-version=[\w.-]{1,64}")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def identity_key(name: str) -> str:
    """What makes two usernames or two e-mail addresses the same one: NFKC, without case (UAX #31). Of a text that is
    longer than either may be: a key that no account has and no key contains. Normalising takes quadratic time."""
    if len(name) > MAX_NAME:
        return _NOBODYS_NAME
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def check(*broken: FieldError | None) -> None:
    """Raises `ValidationFailed` with every rule that is broken, if any is."""
    errors = [error for error in broken if error is not None]
    if errors:
        raise ValidationFailed(errors)


def username_rule(username: str, field: str = "username") -> FieldError | None:
    """3 to 64 visible characters, also once normalised; no `@`, so that a name is never taken for an address."""
    if 3 <= len(username) <= 64 and _is_username(username, identity_key(username)):
        return None
    return FieldError(field, "must be 3 to 64 visible characters without spaces or '@'")


def _is_username(username: str, key: str) -> bool:
    visible = all(unicodedata.category(character)[0] not in "CZ" for character in username + key)
    visible = visible and not _INVISIBLE.search(username + key)
    return visible and "@" not in key and 3 <= len(key) <= 64


def email_rule(email: str, field: str = "email") -> FieldError | None:
    """The form `local@domain.tld`, at most 254 characters (RFC 5321); whether it exists is not asked."""
    wellformed = len(email) <= MAX_NAME and _EMAIL.fullmatch(email) and _storable(email)
    if wellformed and len(identity_key(email)) <= MAX_NAME:
        return None
    return FieldError(field, "must be an e-mail address of at most 254 characters")


def password_rule(password: str, minimum: int, field: str = "password") -> FieldError | None:
    """`minimum` to 1,024 code points after NFC, and at most twice as many before it; nothing truncated, any character
    (ASVS 6.2.1, 6.2.9)."""
    if minimum <= len(normal_password(password)) <= MAX_PASSWORD and not _SURROGATE.search(password):
        return None
    return FieldError(field, f"must be {minimum} to {MAX_PASSWORD} characters")


def normal_password(password: str) -> str:
    """The same password whatever the keyboard composes (NFC; NIST SP 800-63B §3.1.1.2). Of one that is too long: a
    password that nobody can have. Normalising takes quadratic time."""
    if len(password) > _MAX_TYPED:
        return _NOBODYS_PASSWORD
    return unicodedata.normalize("NFC", password)


def text_rule(text: str, field: str, *, minimum: int = 0, maximum: int) -> FieldError | None:
    """`minimum` to `maximum` code points; where there is a minimum, not only white space."""
    if len(text) > maximum:
        return FieldError(field, f"must be at most {maximum} characters")
    if not _storable(text):
        return FieldError(field, "must not contain NUL or unpaired surrogates")
    if minimum and not text.strip():
        return FieldError(field, "must not be empty")
    return None


def profile_rules(profile: Profile) -> Iterable[FieldError | None]:
    for name in ("user_name", "country", "job", "phone", "init_cn_level"):
        yield text_rule(getattr(profile, name) or "", name, maximum=200)


def role_rule(role: str, field: str = "role") -> FieldError | None:
    return None if role in ROLES else FieldError(field, f"must be one of: {', '.join(sorted(ROLES))}")


def normal_model_url(url: str) -> str:
    """A pasted URL as the base of an endpoint's paths: without blanks around it and the path of one call."""
    if len(url) > _MAX_PASTED:
        return url
    path, mark, query = url.strip().partition("?")
    return _CALL.sub("", path) + (mark if query else "") + query


def model_url_rule(url: str, field: str = "model_url") -> FieldError | None:
    """An absolute http or https URL of at most 2,048 printable ASCII characters.

    No user info, fragment, zone of a network or query but Azure's `api-version`: the gateway appends a path, and a
    secret in a URL ends up in logs. Whether the host may be called is the egress guard's question.
    """
    problem = FieldError(field, "must be an http(s) URL such as https://api.openai.com/v1")
    if len(url) > 2048 or not re.fullmatch(r"[!-\[\]-~]+", url):
        return problem
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return problem
    if not (parts.scheme in ("http", "https") and parts.hostname and port != 0):
        return problem
    if "@" in parts.netloc or "%" in parts.netloc or "#" in url:
        return problem
    if "?" in url and not _AZURE_QUERY.fullmatch(parts.query):
        return FieldError(field, "must have no query, but for Azure's ?api-version=…; the key is a field of its own")
    return None


def model_name_rule(model_name: str, field: str = "model_name") -> FieldError | None:
    """1 to 200 characters on one line."""
    broken = text_rule(model_name, field, minimum=1, maximum=200)
    if broken is None and not model_name.isprintable():
        return FieldError(field, "must be one line of visible characters, such as gpt-4o-mini")
    return broken


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port (RFC 6454) of a URL that keeps `model_url_rule`."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or {"http": 80, "https": 443}[parts.scheme]


def range_rule(value: float | None, field: str, *, minimum: float, maximum: float) -> FieldError | None:
    if value is None or minimum <= value <= maximum:
        return None
    return FieldError(field, f"must be between {minimum} and {maximum}")


def check_page(limit: int, offset: int) -> None:
    """The bounds of a listing: `limit` 1 to 100, `offset` 0 to 1,000,000. Raises `ValidationFailed`."""
    check(range_rule(limit, "limit", minimum=1, maximum=100), range_rule(offset, "offset", minimum=0, maximum=10**6))


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


_SURROGATE = re.compile("[\ud800-\udfff]")


def _storable(text: str) -> bool:
    if "\0" in text:
        return False
    try:
        text.encode()  # twenty times as fast as to search for what cannot be encoded
    except UnicodeEncodeError:
        return False
    return True
