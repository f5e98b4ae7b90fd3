"""Administration of accounts: for administrators, and for the operator's command.

Each change checks in its own transaction that its authority has the role `admin`, so that a demotion has immediate
effect (OWASP ASVS 8.3.1, 8.3.2). The edge checks who may read. One active administrator always remains, however many
leave at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Protocol

from chatcore import audit
from chatcore.authority import ADMINISTERING, ANYTIME, Authority, acting, planning
from chatcore.bounds import PAGE, ROLE, Bounds, Text
from chatcore.deletion import ClosingWork, Deletion, keep_an_admin
from chatcore.entities import (
    ADMIN_ROLE,
    DEFAULT_ROLE,
    MAX_NAME,
    AccountRole,
    Page,
    Session,
    User,
    UserId,
    normal_password,
)
from chatcore.errors import EmailTaken, LastAdmin, NotFound, Raises, UsernameTaken, ValidationFailed
from chatcore.ports import AuthorityWork, Clock, UnitsOfWork
from chatcore.replies import Replies
from chatcore.shielding import retry_on_contention
from chatcore.use_cases.accounts import ACCOUNT, AccountWork, MakeAccount, NewAccount

_MISSING = "There is no such user."


@dataclass(frozen=True, kw_only=True)
class ListUsers:
    """List users, newest first; `q`: only those with this in the username or e-mail address."""

    unit_of_work: UnitsOfWork[AuthorityWork]
    bounds: ClassVar[Bounds] = Bounds(limit=PAGE["limit"], q=Text(0, MAX_NAME))
    raises: ClassVar[Raises] = (*ANYTIME, ValidationFailed)

    async def __call__(self, *, q: str = "", before: UserId | None = None, limit: int = 20) -> Page[User]:
        """`before`: the last user of the previous page."""
        self.bounds.check(limit=limit, q=q)
        async with self.unit_of_work(read_only=True) as work:
            found = await work.administration.users(containing=q, before=before, limit=limit + 1)
        return Page(found[:limit], len(found) > limit)


@dataclass(frozen=True, kw_only=True)
class FindUser:
    """Return the user with this username or e-mail address. For the operator's command."""

    unit_of_work: UnitsOfWork[AccountWork]
    raises: ClassVar[Raises] = (*ANYTIME, NotFound)

    async def __call__(self, *, name: str) -> User:
        async with self.unit_of_work(read_only=True) as work:
            user = await work.users.find(name)
        if user is None:
            raise NotFound(_MISSING)
        return user


@dataclass(frozen=True, kw_only=True)
class ListSessionsOfUser:
    """List a user's sessions, ended ones included, latest sign-in first."""

    unit_of_work: UnitsOfWork[AuthorityWork]
    bounds: ClassVar[Bounds] = PAGE
    raises: ClassVar[Raises] = (*ANYTIME, ValidationFailed, NotFound)

    async def __call__(self, *, user_id: UserId, limit: int = 20, offset: int = 0) -> Page[Session]:
        self.bounds.check(limit=limit, offset=offset)
        async with self.unit_of_work(read_only=True) as work:
            await _existing(work, user_id)
            found: Sequence[Session] = await work.tokens.sessions(user_id, limit=limit + 1, offset=offset)
        return Page(found[:limit], len(found) > limit)


@dataclass(frozen=True, kw_only=True)
class DisableUser:
    """Disable a user: end all their sessions and API keys, and refuse sign-ins (OWASP ASVS 7.4.2). Replies in progress
    continue, and nothing is deleted."""

    unit_of_work: UnitsOfWork[AuthorityWork]
    clock: Clock
    raises: ClassVar[Raises] = (*ADMINISTERING, NotFound, LastAdmin)

    @retry_on_contention
    async def __call__(self, *, by: Authority, user_id: UserId) -> User:
        """A disabled user is left as they are."""
        now = self.clock.now()
        async with acting(self.unit_of_work, by, now=now, role=ADMIN_ROLE) as work:
            await keep_an_admin(work, user_id)
            user = await _existing(work, user_id)
            if user.is_active:
                await work.administration.set_active(user_id, False, now=now)
            await work.tokens.revoke_all(user_id, keys=True, now=now)
            user = await _existing(work, user_id)
            await work.commit()
        audit.record("user_disabled", user_id=user_id)
        return user


@dataclass(frozen=True, kw_only=True)
class EnableUser:
    """Let a disabled user sign in again. Earlier sessions stay ended, also one that began while the user was being
    disabled."""

    unit_of_work: UnitsOfWork[AuthorityWork]
    clock: Clock
    raises: ClassVar[Raises] = (*ADMINISTERING, NotFound)

    @retry_on_contention
    async def __call__(self, *, by: Authority, user_id: UserId) -> User:
        """An enabled user is left as they are."""
        now = self.clock.now()
        async with acting(self.unit_of_work, by, now=now, role=ADMIN_ROLE) as work:
            user = await _enabled(work, await _existing(work, user_id), now=now)
            await work.commit()
        audit.record("user_enabled", user_id=user_id)
        return user


@dataclass(frozen=True, kw_only=True)
class ListRoles:
    """List the roles that can be granted, with their descriptions."""

    unit_of_work: UnitsOfWork[AuthorityWork]
    raises: ClassVar[Raises] = ANYTIME

    async def __call__(self) -> Sequence[AccountRole]:
        async with self.unit_of_work(read_only=True) as work:
            return await work.administration.roles()


@dataclass(frozen=True, kw_only=True)
class _RoleChange:
    unit_of_work: UnitsOfWork[AuthorityWork]
    clock: Clock
    bounds: ClassVar[Bounds] = Bounds(role=ROLE)

    @retry_on_contention
    async def _changed(self, by: Authority, user_id: UserId, role: str, *, granted: bool) -> User:
        self.bounds.check(role=role)
        now = self.clock.now()
        async with acting(self.unit_of_work, by, now=now, role=ADMIN_ROLE) as work:
            if granted:
                await work.administration.lock()  # one after the other
            elif role == ADMIN_ROLE:
                await keep_an_admin(work, user_id)
            await _existing(work, user_id)
            change = work.administration.grant if granted else work.administration.revoke
            await change(user_id, role, now=now)
            user = await _existing(work, user_id)
            await work.commit()
        audit.record("role_changed", user_id=user_id, **{"granted" if granted else "revoked": role})
        return user


@dataclass(frozen=True, kw_only=True)
class GrantRole(_RoleChange):
    """Grant a role to a user, with effect from their next request."""

    raises: ClassVar[Raises] = (*ADMINISTERING, ValidationFailed, NotFound)

    async def __call__(self, *, by: Authority, user_id: UserId, role: str) -> User:
        return await self._changed(by, user_id, role, granted=True)


@dataclass(frozen=True, kw_only=True)
class RevokeRole(_RoleChange):
    """Revoke a user's role, with effect from their next request. The last active administrator keeps `admin`."""

    raises: ClassVar[Raises] = (*ADMINISTERING, ValidationFailed, NotFound, LastAdmin)

    async def __call__(self, *, by: Authority, user_id: UserId, role: str) -> User:
        return await self._changed(by, user_id, role, granted=False)


@dataclass(frozen=True, kw_only=True)
class RevokeSessionsOfUser:
    """End all sessions and API keys of a user (OWASP ASVS 7.4.5). When the request is answered, their tokens and keys
    are refused."""

    unit_of_work: UnitsOfWork[AuthorityWork]
    clock: Clock
    raises: ClassVar[Raises] = (*ADMINISTERING, NotFound)

    @retry_on_contention
    async def __call__(self, *, by: Authority, user_id: UserId) -> None:
        now = self.clock.now()
        async with acting(self.unit_of_work, by, now=now, role=ADMIN_ROLE) as work:
            await _existing(work, user_id)
            await work.tokens.revoke_all(user_id, keys=True, now=now)
            await work.commit()
        audit.record("sessions_revoked", user_id=user_id)


@dataclass(frozen=True, kw_only=True)
class DeleteUser:
    """Delete a user and all that they own. Replies in progress are stopped first. The last active administrator cannot
    be deleted."""

    unit_of_work: UnitsOfWork[ClosingWork]
    replies: Replies
    clock: Clock
    raises: ClassVar[Raises] = (*ADMINISTERING, NotFound, LastAdmin)

    async def __call__(self, *, by: Authority, user_id: UserId) -> None:
        await self._check(by, user_id)
        deletion = Deletion(unit_of_work=self.unit_of_work, replies=self.replies, clock=self.clock)
        await deletion(user_id, by=by, role=ADMIN_ROLE)
        audit.record("account_deleted", user_id=user_id)

    @retry_on_contention
    async def _check(self, by: Authority, user_id: UserId) -> None:
        async with planning(self.unit_of_work, by, now=self.clock.now(), role=ADMIN_ROLE) as work:
            await _existing(work, user_id)


class AdminWork(AccountWork, AuthorityWork, Protocol): ...


@dataclass(frozen=True, kw_only=True)
class CreateAdmin(MakeAccount):
    """Create an administrator, or promote an existing user. For the operator's command."""

    unit_of_work: UnitsOfWork[AdminWork]
    bounds: ClassVar[Bounds] = ACCOUNT
    raises: ClassVar[Raises] = (*ANYTIME, ValidationFailed, UsernameTaken, EmailTaken, NotFound)

    async def __call__(self, *, username: str, password: str, email: str | None = None) -> User:
        roles = frozenset({DEFAULT_ROLE, ADMIN_ROLE})
        new = NewAccount(username=username, password=normal_password(password), email=email, roles=roles)
        self._check(new)
        user = await self._store(new, await self._hash(new))
        audit.record("account_created", user_id=user.id)
        audit.record("role_changed", user_id=user.id, granted=ADMIN_ROLE)
        return user

    @retry_on_contention
    async def promote(self, *, name: str) -> User:
        """Grant `admin` to the user with this username or e-mail address, and enable them. The password stays."""
        now = self.clock.now()
        async with self.unit_of_work() as work:
            await work.administration.lock()
            user = await work.users.find(name)
            if user is None:
                raise NotFound(_MISSING)
            await work.administration.grant(user.id, ADMIN_ROLE, now=now)
            user = await _enabled(work, await _existing(work, user.id), now=now)
            await work.commit()
        audit.record("role_changed", user_id=user.id, granted=ADMIN_ROLE)
        return user


async def _enabled(work: AuthorityWork, user: User, *, now: datetime) -> User:
    if user.is_active:
        return user
    await work.administration.set_active(user.id, True, now=now)
    await work.tokens.revoke_all(user.id, keys=True, now=now)
    return await _existing(work, user.id)


async def _existing(work: AuthorityWork, user_id: UserId) -> User:
    user = await work.administration.user(user_id)
    if user is None:
        raise NotFound(_MISSING)
    return user
