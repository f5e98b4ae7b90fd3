"""Personal API keys: long-lived sessions for programs, which send `ck-` and 256 random bits as their bearer token.

A key is stored as its SHA-256, and judged in the database at every request and in every transaction, as sessions are.
It opens what its scopes name, and never an account, its sessions, its keys or the administration.
"""

import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar

from chatcore import audit
from chatcore.authority import ANYTIME, CHANGING, Caller, acting
from chatcore.bounds import PAGE, Bounds, Text, check
from chatcore.entities import NEVER, KeyGrant, Page, Scope, Session, SessionId
from chatcore.errors import (
    AccountDisabled,
    FieldError,
    InsufficientScope,
    NotFound,
    Raises,
    RateLimited,
    TooManyApiKeys,
    Unauthenticated,
    ValidationFailed,
)
from chatcore.issuing import IssuingWork, digest_of, encoded, new_id
from chatcore.ports import AuthorityWork, Clock, UnitsOfWork
from chatcore.rate_limits import UNLIMITED, RateLimits
from chatcore.shielding import retry_on_contention
from chatcore.use_cases.sessions import NoteUse, revoke_one

PREFIX = "ck-"
MAX_KEYS = 50
DEFAULT_SCOPES = frozenset({Scope.CHAT})

_KEY = re.compile(r"ck-[A-Za-z0-9_-]{43}")
_KEY_LENGTH = 46
_MISSING = "There is no such API key."


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """The key, which is shown only now, and what is stored of it."""

    session: Session
    key: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class CreateApiKey:
    """Create a personal API key. The answer shows it once. `scopes`: `chat` (default) for conversations and replies,
    `read` for reading them, `files` for files; `chat` includes `read`. Without `expires_at` it does not expire. A user
    has at most 50 live keys."""

    unit_of_work: UnitsOfWork[AuthorityWork]
    clock: Clock
    limits: RateLimits = UNLIMITED
    bounds: ClassVar[Bounds] = Bounds(name=Text(1, 100))
    raises: ClassVar[Raises] = (*CHANGING, ValidationFailed, RateLimited, TooManyApiKeys)

    async def __call__(
        self,
        *,
        caller: Caller,
        name: str,
        scopes: Collection[Scope] = DEFAULT_SCOPES,
        expires_at: datetime | None = None,
    ) -> NewApiKey:
        caller.require(None)
        check(
            *self.bounds.broken(name=name),
            None if scopes else FieldError("scopes", "must name at least one scope"),
            None
            if self._may_expire_at(expires_at)
            else FieldError("expires_at", "must be a time to come, with its zone"),
        )
        await self.limits.try_new_key(caller.user.id)
        return await self._store(caller, name, frozenset(scopes), (expires_at or NEVER).astimezone(UTC))

    def _may_expire_at(self, time: datetime | None) -> bool:
        return time is None or (time.tzinfo is not None and self.clock.now() < time <= NEVER)

    @retry_on_contention
    async def _store(self, caller: Caller, name: str, scopes: frozenset[Scope], expires_at: datetime) -> NewApiKey:
        key, now = PREFIX + encoded(secrets.token_bytes(32)), self.clock.now()
        session = Session(
            id=new_id(),
            user_id=caller.user.id,
            login_time=now,
            authenticated_at=caller.session.authenticated_at,
            last_used_at=now,
            expires_at=expires_at,
            key=KeyGrant(name=name, hint=key[-4:], scopes=scopes, digest=digest_of(key)),
        )
        async with acting(self.unit_of_work, caller, now=now, alone=True) as work:  # two would not count each other
            if await work.tokens.live_keys(caller.user.id, limit=MAX_KEYS, now=now) == MAX_KEYS:
                raise TooManyApiKeys
            await work.tokens.add_session(session)
            await work.commit()
        audit.record(
            "key_created",
            user_id=caller.user.id,
            key_id=session.id,
            scopes=" ".join(sorted(scopes)),
            by_session_id=caller.session.id,
        )
        return NewApiKey(session, key)


@dataclass(frozen=True, kw_only=True)
class ListApiKeys:
    """List the caller's API keys, newest first; revoked and expired ones for a day."""

    unit_of_work: UnitsOfWork[IssuingWork]
    bounds: ClassVar[Bounds] = PAGE
    raises: ClassVar[Raises] = (*ANYTIME, InsufficientScope, ValidationFailed)

    async def __call__(self, *, caller: Caller, limit: int = 100, offset: int = 0) -> Page[Session]:
        caller.require(None)
        self.bounds.check(limit=limit, offset=offset)
        async with self.unit_of_work(read_only=True) as work:
            found = await work.tokens.keys(caller.user.id, limit=limit + 1, offset=offset)
        return Page(found[:limit], len(found) > limit)


@dataclass(frozen=True, kw_only=True)
class RevokeApiKey:
    """Revoke one of the caller's API keys. When the request is answered, the key is refused; streams that it opened end
    within a second."""

    unit_of_work: UnitsOfWork[AuthorityWork]
    clock: Clock
    raises: ClassVar[Raises] = (*CHANGING, NotFound)

    @retry_on_contention
    async def __call__(self, *, caller: Caller, key_id: SessionId) -> None:
        """A revoked key is left as it is."""
        now = self.clock.now()
        async with acting(self.unit_of_work, caller, now=now, alone=True) as work:
            if not await revoke_one(work, caller.user.id, key_id, is_key=True, now=now):
                raise NotFound("There is no such API key.")
            await work.commit()
        audit.record("key_revoked", user_id=caller.user.id, key_id=key_id, by_session_id=caller.session.id)


@dataclass(frozen=True, kw_only=True)
class AuthenticateKey:
    """Return the user of a personal API key, as of now. Its last use is noted at most once a minute."""

    unit_of_work: UnitsOfWork[IssuingWork]
    note_use: NoteUse
    clock: Clock
    limits: RateLimits = UNLIMITED
    raises: ClassVar[Raises] = (*ANYTIME, Unauthenticated, AccountDisabled, InsufficientScope, RateLimited)

    async def __call__(self, *, key: str, needs: Scope | None) -> Caller:
        """`needs`: the scope of what was requested; None: no key opens it."""
        now = self.clock.now()
        if len(key) != _KEY_LENGTH or not _KEY.fullmatch(key):
            raise Unauthenticated
        async with self.unit_of_work(read_only=True) as work:
            caller = await work.tokens.key_holder(digest_of(key))
        if caller is None or not caller.session.alive(now):
            raise Unauthenticated
        if not caller.user.is_active:
            raise AccountDisabled
        await self.limits.try_key(caller.user.id, caller.session.id)
        caller.require(needs)
        await self.note_use(caller, now=now)
        return caller
