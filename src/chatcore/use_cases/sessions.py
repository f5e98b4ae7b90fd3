"""Signing in and out, and authenticating requests.

An access token is only as good as its session: each request looks up user and session, so that signing out, disabling
and demotion have immediate effect.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Protocol

from chatcore import audit
from chatcore.authority import ANYTIME, CHANGING, Caller, acting
from chatcore.bounds import PAGE, Bounds
from chatcore.entities import Page, Session, SessionId, User, UserId, normal_password
from chatcore.errors import (
    AccountDisabled,
    Contention,
    InsufficientScope,
    InvalidCredentials,
    NotFound,
    Raises,
    RateLimited,
    Unauthenticated,
    ValidationFailed,
)
from chatcore.issuing import IssuingWork, SessionIssuer, SignedIn, digest_of, note_sign_in
from chatcore.ports import (
    AuthorityWork,
    Clock,
    PasswordHasher,
    TokenSigner,
    UnitsOfWork,
    UserRepo,
)
from chatcore.rate_limits import UNLIMITED, RateLimits
from chatcore.shielding import retry_on_contention, shielded

_TOUCH_EVERY = timedelta(minutes=1)
_LONGEST_ID = 64
_TRIES = 5  # of a sign-in whose hash was replaced meanwhile, which happens once: by a change, or by another sign-in


class SignInWork(IssuingWork, Protocol):
    users: UserRepo


@dataclass(frozen=True, kw_only=True)
class SignIn:
    """Open a session with a username or an e-mail address, and the password. Needs no token.

    An unknown name and a wrong password give the same error after the same time. `account_disabled` needs the right
    password. A password hash with older parameters is replaced.
    """

    unit_of_work: UnitsOfWork[SignInWork]
    passwords: PasswordHasher
    sessions: SessionIssuer
    clock: Clock
    limits: RateLimits = UNLIMITED
    raises: ClassVar[Raises] = (*ANYTIME, InvalidCredentials, AccountDisabled, RateLimited)

    async def __call__(self, *, name: str, password: str, user_agent: str = "", address: str = "") -> SignedIn:
        await self.limits.try_address(address)
        password = normal_password(password)
        user = await self._find(name)
        await self.limits.try_account(user.id if user else None, name, address)
        for _ in range(_TRIES):
            verified = await self._verified(user, password, user_agent, address)
            rehashed = None
            if self.passwords.needs_rehash(verified.password_hash):
                rehashed = await self.passwords.hash(password)
            if (signed_in := await self._open(verified, rehashed, user_agent, address)) is not None:
                note_sign_in("sign_in", signed_in)
                return signed_in
            user = await self._find(name)
        raise Contention

    async def _find(self, name: str) -> User | None:
        async with self.unit_of_work(read_only=True) as work:
            return await work.users.find(name)

    async def _verified(self, user: User | None, password: str, user_agent: str, address: str) -> User:
        if not await self.passwords.verify(password, user.password_hash if user else None) or user is None:
            _note_failure(user, "wrong password" if user else "unknown name", user_agent, address)
            raise InvalidCredentials
        if not user.is_active:
            _note_failure(user, "disabled", user_agent, address)
            raise AccountDisabled
        return user

    @retry_on_contention
    async def _open(self, user: User, rehashed: str | None, user_agent: str, address: str) -> SignedIn | None:
        """Return None if, since the check, the password or its hash changed or the user was disabled or deleted."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            if not await self._still(work, user, rehashed, now):
                return None
            signed_in = await self.sessions.open(work, user, user_agent=user_agent, address=address, now=now)
            await work.commit()
        return signed_in

    async def _still(self, work: SignInWork, user: User, rehashed: str | None, now: datetime) -> bool:
        if rehashed is None:
            return await work.users.hold(user.id, password_hash=user.password_hash)
        return await work.users.set_password_hash(user.id, rehashed, known=user.password_hash, now=now)


@dataclass(frozen=True, kw_only=True)
class Refresh:
    """Exchange a refresh token for its successor and a new access token. Needs no access token.

    Within ten seconds of the exchange, and while the successor is unused, the same token gets the same successor again.
    Any other use of a spent token ends the whole session: one of its two users stole it.
    """

    unit_of_work: UnitsOfWork[IssuingWork]
    sessions: SessionIssuer
    clock: Clock
    raises: ClassVar[Raises] = (*ANYTIME, Unauthenticated, AccountDisabled)

    async def __call__(self, *, refresh_token: str) -> SignedIn:
        return await shielded(self._refresh(refresh_token))

    @retry_on_contention
    async def _refresh(self, token: str) -> SignedIn:
        now, digest, successor = self.clock.now(), digest_of(token), self.sessions.successor(token)
        async with self.unit_of_work() as work:
            exchanged = await work.tokens.exchange(digest, now=now)
            stored = await work.tokens.refresh_token(digest)
            caller = await work.tokens.caller(stored.user_id, stored.session_id) if stored else None
            if stored is None or caller is None or not caller.session.alive(now):
                raise Unauthenticated
            if not caller.user.is_active:
                raise AccountDisabled
            if exchanged:
                await self.sessions.store(work, caller.session, successor, now=now)
                await work.tokens.touch(caller.user.id, caller.session.id, now=now)
            elif stored.used_at is None:  # expired
                raise Unauthenticated
            elif not await self._in_grace(work, stored.used_at, successor, now):
                await work.tokens.revoke(caller.user.id, caller.session.id, now=now)
                await work.commit()
                audit.record("refresh_reused", user_id=caller.user.id, session_id=caller.session.id)
                raise Unauthenticated("This refresh token was used before. The session has been ended.")
            await work.commit()
        audit.record("refresh", user_id=caller.user.id, session_id=caller.session.id)
        return self.sessions.signed_in(caller.user, caller.session, successor, now=now)

    async def _in_grace(self, work: IssuingWork, used_at: datetime, successor: str, now: datetime) -> bool:
        if now - used_at > self.sessions.policy.grace:
            return False
        child = await work.tokens.refresh_token(digest_of(successor))
        return child is not None and child.used_at is None


@dataclass(frozen=True, kw_only=True)
class NoteUse:
    """Note when a session or an API key was last used, at most once a minute."""

    unit_of_work: UnitsOfWork[IssuingWork]

    async def __call__(self, caller: Caller, *, now: datetime) -> None:
        session = caller.session
        is_new_key = session.key is not None and session.last_used_at == session.login_time
        if is_new_key or now - session.last_used_at > _TOUCH_EVERY:
            await self._touch(caller, now)

    @retry_on_contention
    async def _touch(self, caller: Caller, now: datetime) -> None:
        async with self.unit_of_work() as work:
            await work.tokens.touch(caller.user.id, caller.session.id, now=now)
            await work.commit()


@dataclass(frozen=True, kw_only=True)
class Authenticate:
    """Return the user of an access token, as of now. The session's last use is noted at most once a minute."""

    unit_of_work: UnitsOfWork[IssuingWork]
    note_use: NoteUse
    signer: TokenSigner
    clock: Clock
    raises: ClassVar[Raises] = (*ANYTIME, Unauthenticated, AccountDisabled)

    async def __call__(self, *, access_token: str) -> Caller:
        now = self.clock.now()
        claims = self.signer.verify(access_token, now=now)
        async with self.unit_of_work(read_only=True) as work:
            caller = await work.tokens.caller(claims.user_id, claims.session_id)
        if caller is None or not caller.session.alive(now):
            raise Unauthenticated
        if not caller.user.is_active:
            raise AccountDisabled
        await self.note_use(caller, now=now)
        return caller


@dataclass(frozen=True, kw_only=True)
class SignOut:
    """End the caller's session. When the request is answered, its tokens are refused.

    With a refresh token of another session of the same user, that session ends too.
    """

    unit_of_work: UnitsOfWork[AuthorityWork]
    clock: Clock
    raises: ClassVar[Raises] = CHANGING

    @retry_on_contention
    async def __call__(self, *, caller: Caller, refresh_token: str | None = None) -> None:
        now, user_id, this = self.clock.now(), caller.user.id, caller.session.id
        other: SessionId | None = None
        async with acting(self.unit_of_work, caller, now=now, alone=True) as work:
            await work.tokens.revoke(user_id, this, now=now)
            given = await work.tokens.refresh_token(digest_of(refresh_token)) if refresh_token else None
            if given and given.user_id == user_id and given.session_id != this:
                other = given.session_id
                await work.tokens.revoke(user_id, other, now=now)
            await work.commit()
        audit.record("sign_out", user_id=user_id, session_id=this)
        if other is not None:
            audit.record("session_revoked", user_id=user_id, session_id=other, by_session_id=this)


@dataclass(frozen=True, kw_only=True)
class ListSessions:
    """List the caller's sign-ins, ended ones included, latest sign-in first."""

    unit_of_work: UnitsOfWork[IssuingWork]
    bounds: ClassVar[Bounds] = PAGE
    raises: ClassVar[Raises] = (*ANYTIME, InsufficientScope, ValidationFailed)

    async def __call__(self, *, caller: Caller, limit: int = 20, offset: int = 0) -> Page[Session]:
        caller.require(None)
        self.bounds.check(limit=limit, offset=offset)
        async with self.unit_of_work(read_only=True) as work:
            found = await work.tokens.sessions(caller.user.id, limit=limit + 1, offset=offset)
        return Page(found[:limit], len(found) > limit)


async def revoke_one(
    work: AuthorityWork, user_id: UserId, session_id: SessionId, *, is_key: bool, now: datetime
) -> bool:
    """End a sign-in, or a personal API key, of the user. Return whether there is such a one, alive or ended."""
    found = None if len(session_id) > _LONGEST_ID else await work.tokens.caller(user_id, session_id)
    if found is None or (found.session.key is not None) is not is_key:
        return False
    await work.tokens.revoke(user_id, session_id, now=now)
    return True


@dataclass(frozen=True, kw_only=True)
class RevokeSession:
    """End one of the caller's sign-ins. When the request is answered, its tokens are refused."""

    unit_of_work: UnitsOfWork[AuthorityWork]
    clock: Clock
    raises: ClassVar[Raises] = (*CHANGING, NotFound)

    @retry_on_contention
    async def __call__(self, *, caller: Caller, session_id: SessionId) -> None:
        """An ended session is left as it is."""
        now = self.clock.now()
        async with acting(self.unit_of_work, caller, now=now, alone=True) as work:
            if not await revoke_one(work, caller.user.id, session_id, is_key=False, now=now):
                raise NotFound("There is no such session.")
            await work.commit()
        audit.record("session_revoked", user_id=caller.user.id, session_id=session_id, by_session_id=caller.session.id)


@dataclass(frozen=True, kw_only=True)
class RevokeOtherSessions:
    """End all of the caller's sign-ins but this one. API keys remain."""

    unit_of_work: UnitsOfWork[AuthorityWork]
    clock: Clock
    raises: ClassVar[Raises] = CHANGING

    @retry_on_contention
    async def __call__(self, *, caller: Caller) -> None:
        now = self.clock.now()
        async with acting(self.unit_of_work, caller, now=now, alone=True) as work:
            await work.tokens.revoke_others(caller.user.id, caller.session.id, now=now)
            await work.commit()
        audit.record("sessions_revoked", user_id=caller.user.id, by_session_id=caller.session.id)


def _note_failure(user: User | None, reason: str, user_agent: str, address: str) -> None:
    """Record no name: it may be a password, typed into the wrong field."""
    user_id = user.id if user else None
    audit.record("sign_in_failed", user_id=user_id, address=address, user_agent=user_agent, reason=reason)
