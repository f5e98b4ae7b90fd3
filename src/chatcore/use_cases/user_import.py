"""Import of accounts from another system, with their password hashes."""

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import ClassVar, Protocol

from chatcore import audit
from chatcore.authority import ANYTIME
from chatcore.bounds import EMAIL, PROFILE, ROLE, USERNAME, Bounds, Range
from chatcore.entities import identity_key
from chatcore.errors import Contention, EmailTaken, FieldError, Raises, UsernameTaken, ValidationFailed
from chatcore.ports import Administration, Clock, NewUser, PasswordHasher, Transaction, UnitsOfWork
from chatcore.shielding import retry_on_contention

_TRIES = 5
_USER = Bounds(username=USERNAME, email=EMAIL)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class UserRow:
    """A row with its line number: an account, or why it is unreadable."""

    line: int
    user: NewUser | str


@dataclass(frozen=True, slots=True)
class RefusedRow:
    line: int
    why: str


@dataclass(slots=True)
class UsersImported:
    """The progress. `there` and `refused` are of the last batch, the numbers of all."""

    added: int = 0
    there_already: int = 0
    refusals: int = 0
    there: Sequence[tuple[int, str]] = ()
    refused: Sequence[RefusedRow] = ()


class UserImportWork(Transaction, Protocol):
    administration: Administration


@dataclass(frozen=True, kw_only=True)
class ImportUsers:
    """Create accounts from rows, in batches of one transaction each. For the operator's command.

    Existing usernames are skipped, so that an import may run again. A row that breaks a rule is refused alone, and so
    is one whose username differs from an existing one only in case. Passwords keep the other system's hashes, which are
    replaced when their owners first sign in.
    """

    unit_of_work: UnitsOfWork[UserImportWork]
    passwords: PasswordHasher
    clock: Clock
    bounds: ClassVar[Bounds] = Bounds(batch=Range(1, 10_000))
    raises: ClassVar[Raises] = (*ANYTIME, ValidationFailed)

    async def __call__(self, *, rows: Iterable[UserRow], batch: int = 500) -> AsyncGenerator[UsersImported, None]:
        """Yield the progress after each batch."""
        self.bounds.check(batch=batch)
        imported, left = UsersImported(), iter(rows)
        while some := list(islice(left, batch)):
            sorted_out = _SortedOut()
            for row in some:
                sorted_out.take(row, self._broken(row.user) if isinstance(row.user, NewUser) else row.user)
            await self._store(sorted_out)
            imported = UsersImported(
                imported.added + len(sorted_out.new),
                imported.there_already + len(sorted_out.there),
                imported.refusals + len(sorted_out.refused),
                sorted_out.there,
                sorted(sorted_out.refused, key=lambda refused: refused.line),
            )
            yield imported

    def _broken(self, user: NewUser) -> str:
        return "; ".join(f"{error.field}: {error.message}" for error in self._rules(user) if error is not None)

    def _rules(self, user: NewUser) -> Iterator[FieldError | None]:
        yield from _USER.broken(username=user.username, email=user.email)
        if self.passwords.adopted(user.password_hash) is None:
            yield FieldError(
                "password_hash", "is none of bcrypt, Argon2 and SHA-256 in hex, or one that costs too much"
            )
        yield from (ROLE.broken(role, "roles") for role in sorted(user.roles))
        yield from PROFILE.broken(**asdict(user.profile))
        if user.created_at is not None and not _EARLIEST <= user.created_at <= self.clock.now():
            yield FieldError("created_at", "must lie between 1970 and now")

    async def _store(self, sorted_out: "_SortedOut") -> None:
        """Somebody else may take a name between the look and the insert; then they are looked for once more."""
        for _ in range(_TRIES):
            try:
                return await self._store_once(sorted_out)
            except (UsernameTaken, EmailTaken):
                continue
        raise Contention

    @retry_on_contention
    async def _store_once(self, sorted_out: "_SortedOut") -> None:
        async with self.unit_of_work() as work:
            await sorted_out.leave_out_taken(work)
            users = [self._adopted(user) for _, user in sorted_out.new]
            ids = await work.administration.add_users(users, now=self.clock.now())
            await work.commit()
        for user_id, user in zip(ids, users, strict=True):
            audit.record("account_imported", user_id=user_id, roles=" ".join(sorted(user.roles)))

    def _adopted(self, user: NewUser) -> NewUser:
        adopted = self.passwords.adopted(user.password_hash)
        assert adopted is not None  # noqa: S101 - or it would have been refused
        return replace(user, password_hash=adopted)


@dataclass(slots=True)
class _SortedOut:
    """One batch: the rows to store, those of users that are there, and those that are refused."""

    new: list[tuple[int, NewUser]] = field(default_factory=list[tuple[int, NewUser]])
    there: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    refused: list[RefusedRow] = field(default_factory=list[RefusedRow])
    _names: dict[str, str] = field(default_factory=dict[str, str])
    _emails: set[str] = field(default_factory=set[str])

    def take(self, row: UserRow, broken: str) -> None:
        """A name or an address that an earlier row of the batch has is that row's."""
        if broken or isinstance(row.user, str):
            self.refused.append(RefusedRow(row.line, broken))
            return
        user, name = row.user, identity_key(row.user.username)
        email = None if user.email is None else identity_key(user.email)
        if name in self._names:
            self._leave_out(row.line, user.username, self._names[name])
        elif email in self._emails:
            self.refused.append(RefusedRow(row.line, EmailTaken().detail))
        else:
            self._names[name] = user.username
            self._emails.update(() if email is None else (email,))
            self.new.append((row.line, user))

    async def leave_out_taken(self, work: UserImportWork) -> None:
        names = [user.username for _, user in self.new]
        emails = [user.email for _, user in self.new if user.email is not None]
        taken_names, taken_emails = await work.administration.taken(usernames=names, emails=emails)
        known_names = {identity_key(name): name for name in taken_names}
        known_emails = {identity_key(email) for email in taken_emails}
        new, self.new = self.new, []
        for line, user in new:
            if (known := known_names.get(identity_key(user.username))) is not None:
                self._leave_out(line, user.username, known)
            elif user.email is not None and identity_key(user.email) in known_emails:
                self.refused.append(RefusedRow(line, EmailTaken().detail))
            else:
                self.new.append((line, user))

    def _leave_out(self, line: int, username: str, there: str) -> None:
        """Another spelling may be another person's, where the other system told `Bob` from `bob`."""
        if username == there:
            self.there.append((line, username))
        else:
            self.refused.append(RefusedRow(line, f"username: differs from {there}, who is there, only in its spelling"))
