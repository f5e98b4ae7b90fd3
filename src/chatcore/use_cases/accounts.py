"""Accounts: creation, changes, deletion."""

from collections.abc import Container
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import ClassVar, Protocol

from chatcore import audit
from chatcore.authority import ADMINISTERING, ANYTIME, CHANGING, Caller, acting
from chatcore.bounds import EMAIL, PASSWORD, PROFILE, USERNAME, Bounds, check
from chatcore.deletion import ClosingWork, Deletion
from chatcore.entities import (
    ADMIN_ROLE,
    DEFAULT_ROLE,
    Profile,
    User,
    normal_password,
)
from chatcore.errors import (
    EmailTaken,
    FieldError,
    InsufficientScope,
    InsufficientUserAuthentication,
    InvalidCredentials,
    LastAdmin,
    Raises,
    RateLimited,
    UsernameTaken,
    ValidationFailed,
)
from chatcore.issuing import IssuingWork, SessionIssuer, SignedIn, note_sign_in
from chatcore.ports import AuthorityWork, Clock, PasswordHasher, Transaction, UnitsOfWork, UserRepo
from chatcore.rate_limits import UNLIMITED, RateLimits
from chatcore.replies import Replies
from chatcore.shielding import retry_on_contention


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordPolicy:
    """`minimum` code points after NFC (ASVS 6.2.1 asks for at least 8). `blocked`: lower-case passwords that are
    refused (ASVS 6.2.4).

    Within `recent` of its sign-in a session may change the account without another password check (RFC 9470), unless
    `always_ask`. A check of the current password counts only for the request that carries it.
    """

    minimum: int = 8
    blocked: Container[str] = field(default=frozenset[str](), repr=False)
    recent: timedelta = timedelta(minutes=5)
    always_ask: bool = False

    def rule(self, password: str) -> FieldError | None:
        password = normal_password(password)
        if password.lower() in self.blocked:
            return FieldError("password", "is among the most common ones; choose another")
        return replace(PASSWORD, minimum=self.minimum).broken(password, "password")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAccount:
    """An account to create. `password` is the result of `normal_password`."""

    username: str
    password: str = field(repr=False)
    email: str | None = None
    profile: Profile = Profile()
    roles: frozenset[str] = frozenset({DEFAULT_ROLE})


ACCOUNT = Bounds(username=USERNAME, email=EMAIL, password=PASSWORD)


class AccountWork(Transaction, Protocol):
    users: UserRepo


@dataclass(frozen=True, kw_only=True)
class MakeAccount:
    """What all ways to create an account share."""

    unit_of_work: UnitsOfWork[AccountWork]
    passwords: PasswordHasher
    policy: PasswordPolicy
    clock: Clock

    def _check(self, new: NewAccount) -> None:
        check(
            *ACCOUNT.broken(username=new.username, email=new.email),
            self.policy.rule(new.password),
            *PROFILE.broken(**asdict(new.profile)),
        )

    async def _hash(self, new: NewAccount) -> str:
        return await self.passwords.hash(new.password)

    async def _add(self, work: AccountWork, new: NewAccount, password_hash: str, now: datetime) -> User:
        return await work.users.add(
            username=new.username,
            email=new.email,
            password_hash=password_hash,
            roles=new.roles,
            profile=new.profile,
            now=now,
        )

    @retry_on_contention
    async def _store(self, new: NewAccount, password_hash: str) -> User:
        """Store the account, and nothing else."""
        async with self.unit_of_work() as work:
            user = await self._add(work, new, password_hash, self.clock.now())
            await work.commit()
        return user


@dataclass(frozen=True, kw_only=True)
class OpenRegistration(MakeAccount):
    """What the public ways to create an account share."""

    limits: RateLimits = UNLIMITED
    bounds: ClassVar[Bounds] = Bounds(**ACCOUNT, **PROFILE)
    raises: ClassVar[Raises] = (*ANYTIME, ValidationFailed, UsernameTaken, EmailTaken, RateLimited)

    async def _admitted(self, new: NewAccount, address: str) -> str:
        """Return the password's hash. Raise `ValidationFailed`, `RateLimited`."""
        self._check(new)
        await self.limits.try_register(address)
        return await self._hash(new)


@dataclass(frozen=True, kw_only=True)
class CreateAccount(OpenRegistration):
    """Create an account with the role `user`, without a session. Needs no token."""

    async def __call__(
        self,
        *,
        username: str,
        password: str,
        email: str | None = None,
        profile: Profile = Profile(),
        user_agent: str = "",
        address: str = "",
    ) -> User:
        new = NewAccount(username=username, password=normal_password(password), email=email, profile=profile)
        user = await self._store(new, await self._admitted(new, address))
        audit.record("account_created", user_id=user.id, session_id=None, address=address, user_agent=user_agent)
        return user


class RegistrationWork(AccountWork, IssuingWork, Protocol): ...


@dataclass(frozen=True, kw_only=True)
class Register(OpenRegistration):
    """Create an account with the role `user`, and sign it in. Needs no token."""

    unit_of_work: UnitsOfWork[RegistrationWork]
    sessions: SessionIssuer

    async def __call__(
        self,
        *,
        username: str,
        password: str,
        email: str | None = None,
        profile: Profile = Profile(),
        user_agent: str = "",
        address: str = "",
    ) -> SignedIn:
        new = NewAccount(username=username, password=normal_password(password), email=email, profile=profile)
        signed_in = await self._store_signed_in(new, await self._admitted(new, address), user_agent, address)
        note_sign_in("account_created", signed_in)
        return signed_in

    @retry_on_contention
    async def _store_signed_in(self, new: NewAccount, password_hash: str, user_agent: str, address: str) -> SignedIn:
        now = self.clock.now()
        async with self.unit_of_work() as work:
            user = await self._add(work, new, password_hash, now)
            signed_in = await self.sessions.open(work, user, user_agent=user_agent, address=address, now=now)
            await work.commit()
        return signed_in


@dataclass(frozen=True, kw_only=True)
class StepUp:
    """Check that the caller may change the account: by a recent password check in this session, or by one now."""

    passwords: PasswordHasher
    policy: PasswordPolicy
    limits: RateLimits = UNLIMITED
    raises: ClassVar[Raises] = (InsufficientScope, InsufficientUserAuthentication, InvalidCredentials, RateLimited)

    async def __call__(self, caller: Caller, current_password: str | None, *, now: datetime) -> bool:
        """Return whether the password was checked just now."""
        caller.require(None)
        if current_password is not None:
            await self.limits.try_password(caller.user.id)
            given = normal_password(current_password)
            if not await self.passwords.verify(given, caller.user.password_hash):
                _note_change("password_failed", caller)
                raise InvalidCredentials("The current password is wrong.")
            return True
        if self.policy.always_ask or now - caller.session.authenticated_at > self.policy.recent:
            raise InsufficientUserAuthentication
        return False


class ChangeWork(AuthorityWork, Protocol):
    users: UserRepo


@dataclass(frozen=True, kw_only=True)
class ChangeUsername:
    """Change the caller's username, or its spelling."""

    unit_of_work: UnitsOfWork[ChangeWork]
    clock: Clock
    limits: RateLimits = UNLIMITED
    bounds: ClassVar[Bounds] = Bounds(username=USERNAME)
    raises: ClassVar[Raises] = (*CHANGING, ValidationFailed, UsernameTaken, RateLimited)

    async def __call__(self, *, caller: Caller, username: str, address: str = "") -> User:
        self.bounds.check(username=username)
        caller.require(None)
        await self.limits.try_rename(caller.user.id, address)
        return await self._store(caller, username)

    @retry_on_contention
    async def _store(self, caller: Caller, username: str) -> User:
        now = self.clock.now()
        async with acting(self.unit_of_work, caller, now=now, alone=True) as work:
            await work.users.set_username(caller.user.id, username, now=now)
            await work.commit()
        _note_change("username_changed", caller, username=username)
        return replace(caller.user, username=username, updated_at=now)


@dataclass(frozen=True, kw_only=True)
class ChangeEmail:
    """Change the caller's e-mail address. Later than five minutes after the sign-in, this needs the current
    password."""

    unit_of_work: UnitsOfWork[ChangeWork]
    step_up: StepUp
    clock: Clock
    limits: RateLimits = UNLIMITED
    bounds: ClassVar[Bounds] = Bounds(email=EMAIL)
    raises: ClassVar[Raises] = (*CHANGING, *StepUp.raises, ValidationFailed, EmailTaken)

    async def __call__(
        self, *, caller: Caller, email: str, current_password: str | None = None, address: str = ""
    ) -> User:
        self.bounds.check(email=email)
        now = self.clock.now()
        await self.step_up(caller, current_password, now=now)
        await self.limits.try_rename(caller.user.id, address)
        await self._store(caller, email, now)
        _note_change("email_changed", caller)
        return replace(caller.user, email=email, updated_at=now)

    @retry_on_contention
    async def _store(self, caller: Caller, email: str, now: datetime) -> None:
        async with acting(self.unit_of_work, caller, now=now, alone=True) as work:
            await work.users.set_email(caller.user.id, email, now=now)
            await work.commit()


@dataclass(frozen=True, kw_only=True)
class ChangePassword:
    """Change the caller's password. All sign-ins end, and API keys do not; the answer has the tokens of a new session.
    Later than five minutes after the sign-in, this needs the current password, whose check counts as a sign-in for the
    new session."""

    unit_of_work: UnitsOfWork[ChangeWork]
    passwords: PasswordHasher
    policy: PasswordPolicy
    step_up: StepUp
    sessions: SessionIssuer
    clock: Clock
    bounds: ClassVar[Bounds] = Bounds(password=PASSWORD)
    raises: ClassVar[Raises] = (*CHANGING, *StepUp.raises, ValidationFailed)

    async def __call__(self, *, caller: Caller, password: str, current_password: str | None = None) -> SignedIn:
        password = normal_password(password)
        check(self.policy.rule(password))
        now = self.clock.now()
        checked = await self.step_up(caller, current_password, now=now)
        password_hash = await self.passwords.hash(password)
        signed_in = await self._store(caller, password_hash, checked, now)
        _note_change("password_changed", caller)
        return signed_in

    @retry_on_contention
    async def _store(self, caller: Caller, password_hash: str, checked: bool, now: datetime) -> SignedIn:
        async with acting(self.unit_of_work, caller, now=now, alone=True) as work:
            await work.users.set_password_hash(caller.user.id, password_hash, now=now)
            await work.tokens.revoke_all(caller.user.id, keys=False, now=now)
            user = replace(caller.user, password_hash=password_hash, updated_at=now)
            signed_in = await self.sessions.renewed(work, user, caller.session, checked=checked, now=now)
            await work.commit()
        return signed_in


@dataclass(frozen=True, kw_only=True)
class DeleteAccount:
    """Delete the caller's account and all that it owns. Replies in progress are stopped first. Later than five minutes
    after the sign-in, this needs the current password. The last active administrator cannot be deleted."""

    unit_of_work: UnitsOfWork[ClosingWork]
    replies: Replies
    step_up: StepUp
    clock: Clock
    raises: ClassVar[Raises] = (*ADMINISTERING, *StepUp.raises, LastAdmin)

    async def __call__(self, *, caller: Caller, current_password: str | None = None) -> None:
        await self.step_up(caller, current_password, now=self.clock.now())
        deletion = Deletion(unit_of_work=self.unit_of_work, replies=self.replies, clock=self.clock)
        await deletion(caller.user.id, by=caller, role=ADMIN_ROLE if ADMIN_ROLE in caller.user.roles else None)
        _note_change("account_deleted", caller)


def _note_change(event: str, caller: Caller, **more: str) -> None:
    audit.record(event, user_id=caller.user.id, session_id=caller.session.id, **more)
