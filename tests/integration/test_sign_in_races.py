"""Signing in, and going on with a session, at the very moment when the password is changed, or the user disabled or
deleted: once that is answered, nothing lives that began with what held before.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pytest

from chatcore import (
    Caller,
    ChangePassword,
    CreateAccount,
    DisableUser,
    EnableUser,
    Operator,
    PasswordPolicy,
    Refresh,
    Session,
    SessionIssuer,
    SessionPolicy,
    SignedIn,
    SignIn,
    StepUp,
    SystemClock,
    UserId,
)
from chatcore.errors import AccountDisabled, InvalidCredentials, Unauthenticated
from chatcore.ports import NewUser
from chatcore_memory import PlainPasswords, PlainSigner
from chatcore_sql import Database
from integration.databases import idle, nobody_in_a_transaction, only_servers

ROUNDS = 20
AT_ONCE = 6
OLD, NEW = "the old password", "the new password"


class UseCases:
    def __init__(self, database: Database) -> None:
        passwords, policy, clock = PlainPasswords(), PasswordPolicy(), SystemClock()
        sessions = SessionIssuer(signer=PlainSigner(), policy=SessionPolicy(refresh_secret=b"secret"))
        parts: dict[str, Any] = {"unit_of_work": database.unit_of_work, "clock": clock}
        self.database = database
        self.clock = clock
        self.create = CreateAccount(passwords=passwords, policy=policy, **parts)
        self.sign_in = SignIn(passwords=passwords, sessions=sessions, **parts)
        self.refresh = Refresh(sessions=sessions, **parts)
        step_up = StepUp(passwords=passwords, policy=policy)
        self.change = ChangePassword(passwords=passwords, policy=policy, step_up=step_up, sessions=sessions, **parts)
        self.disable, self.enable = DisableUser(**parts), EnableUser(**parts)

    async def living(self, user_id: UserId) -> list[Session]:
        async with self.database.unit_of_work(read_only=True) as work:
            sessions = await work.tokens.sessions(user_id, limit=100, offset=0)
        return [session for session in sessions if session.alive(self.clock.now())]


@pytest.fixture
def use_cases(database: Database) -> UseCases:
    return UseCases(database)


async def new_user(use_cases: UseCases, name: str) -> UserId:
    return (await use_cases.create(username=name, password=OLD)).id


async def imported_user(use_cases: UseCases, name: str) -> UserId:
    """Whose hash is replaced at the first sign-in."""
    new = NewUser(username=name, password_hash=f"sha256${sha256(OLD.encode()).hexdigest()}")
    async with use_cases.database.unit_of_work() as work:
        (user_id,) = await work.administration.add_users([new], now=use_cases.clock.now())
        await work.commit()
    return user_id


@dataclass(frozen=True)
class Race:
    """One round: who is signed in already, as `name`."""

    use_cases: UseCases
    name: str
    user_id: UserId
    caller: SignedIn | None = None
    others: Sequence[SignedIn] = ()


async def begun(use_cases: UseCases, make: Callable[[UseCases, str], Awaitable[UserId]], number: int) -> Race:
    name = f"user{number}"
    user_id = await make(use_cases, name)
    caller, *others = [await use_cases.sign_in(name=name, password=OLD) for _ in range(1 + AT_ONCE)]
    return Race(use_cases, name, user_id, caller, others)


def signing_in(race: Race) -> list[Awaitable[SignedIn]]:
    return [race.use_cases.sign_in(name=race.name, password=OLD) for _ in range(AT_ONCE)]


def refreshing(race: Race) -> list[Awaitable[SignedIn]]:
    return [race.use_cases.refresh(refresh_token=other.refresh_token) for other in race.others]


async def change(race: Race) -> SignedIn:
    assert race.caller is not None
    caller = Caller(race.caller.user, race.caller.session)
    return await race.use_cases.change(caller=caller, password=NEW)


async def disable(race: Race) -> None:
    await race.use_cases.disable(by=Operator(), user_id=race.user_id)


async def delete(race: Race) -> None:
    async with race.use_cases.database.unit_of_work() as work:
        assert await work.owners.delete(race.user_id)
        await work.commit()


async def late(turns: int, work: Awaitable[object]) -> object:
    """So that each round begins at another moment of the others' work."""
    for _ in range(turns):
        await asyncio.sleep(0.0005)
    return await work


@only_servers
@pytest.mark.parametrize("end", [change, disable, delete])
@pytest.mark.parametrize("others", [signing_in, refreshing])
async def test_no_session_of_before_lives_after_the_answer(
    use_cases: UseCases,
    database_url: str,
    others: Callable[[Race], list[Awaitable[SignedIn]]],
    end: Callable[[Race], Awaitable[SignedIn | None]],
) -> None:
    outlived = 0
    for number in range(ROUNDS):
        race = await begun(use_cases, new_user, number)
        results = await asyncio.gather(late(number % 10, end(race)), *others(race), return_exceptions=True)
        kept, *tried = results
        assert isinstance(kept, SignedIn | None), kept
        for each in tried:
            assert isinstance(each, SignedIn | InvalidCredentials | AccountDisabled | Unauthenticated), each
        if end is disable:
            await use_cases.enable(by=Operator(), user_id=race.user_id)
        living = {session.id for session in await use_cases.living(race.user_id)}
        outlived += len(living - ({kept.session.id} if kept else set()))
        assert kept is None or kept.session.id in living
    assert outlived == 0
    assert idle(use_cases.database)
    await nobody_in_a_transaction(database_url)


@only_servers
async def test_an_imported_hash_that_is_replaced_does_not_bring_the_old_password_back(use_cases: UseCases) -> None:
    """Those who sign in with the old password verify the imported hash, and replace it later than the change does."""
    restored = lost = outlived = 0
    for number in range(ROUNDS):
        name = f"user{number}"
        user_id = await imported_user(use_cases, name)
        async with use_cases.database.unit_of_work(read_only=True) as work:
            user = await work.users.find(name)
        assert user is not None
        now = use_cases.clock.now()
        async with use_cases.database.unit_of_work() as work:  # without a sign-in, which would replace the hash
            opened = await use_cases.sign_in.sessions.open(work, user, user_agent="", address="", now=now)
            await work.commit()
        race = Race(use_cases, name, user_id, opened)
        changed, *_ = await asyncio.gather(late(number % 10, change(race)), *signing_in(race), return_exceptions=True)
        assert isinstance(changed, SignedIn), changed
        living = {session.id for session in await use_cases.living(user_id)}
        outlived += len(living - {changed.session.id})
        restored += await opens(use_cases, name, OLD)
        lost += not await opens(use_cases, name, NEW)
    assert (restored, lost, outlived) == (0, 0, 0)


@only_servers
async def test_all_who_replace_a_hash_at_once_are_signed_in(use_cases: UseCases) -> None:
    """The later ones find another hash than the one that they verified, of the same password."""
    for number in range(ROUNDS // 4):
        name = f"user{number}"
        user_id = await imported_user(use_cases, name)
        signed_in = await asyncio.gather(*signing_in(Race(use_cases, name, user_id)))
        assert {session.id for session in await use_cases.living(user_id)} == {each.session.id for each in signed_in}


async def opens(use_cases: UseCases, name: str, password: str) -> bool:
    try:
        await use_cases.sign_in(name=name, password=password)
    except InvalidCredentials:
        return False
    return True
