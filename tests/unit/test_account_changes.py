"""Accounts: changing, and proving that it is still oneself who changes them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeAlias

import pytest

from chatcore import Caller, PasswordPolicy, SignedIn, User
from chatcore.errors import (
    ChatcoreError,
    EmailTaken,
    InsufficientUserAuthentication,
    InvalidCredentials,
    Unauthenticated,
    UsernameTaken,
    ValidationFailed,
)
from unit.world import PASSWORD, Process, World, at_every_step, refused, step

MINUTE, HOUR = 60, 3600
NEW_PASSWORD = "battery staple"


@pytest.fixture
async def ada(world: World) -> SignedIn:
    return await world.signed_in("ada")


async def stored(world: World, name: str) -> User | None:
    async with world.storage(read_only=True) as work:
        return await work.users.find(name)


# ---- names -----------------------------------------------------------------------------------------------


async def test_a_username_is_changed_at_any_time(world: World, ada: SignedIn) -> None:
    world.clock.advance(HOUR - 1)
    changed = await world.change_username(caller=await world.caller(ada), username="Grace🦄")
    assert changed == replace(ada.user, username="Grace🦄", updated_at=world.clock.now())
    assert (await world.caller(ada)).user == await stored(world, "gRACE🦄") == changed
    assert await stored(world, "ada") is None
    assert (await world.sign_in(name="grace🦄", password=PASSWORD)).user == changed


async def test_an_address_is_changed(world: World, ada: SignedIn) -> None:
    world.clock.advance(MINUTE)
    changed = await world.change_email(caller=await world.caller(ada), email="Grace@Example.com")
    assert changed == replace(ada.user, email="Grace@Example.com", updated_at=world.clock.now())
    assert (await world.caller(ada)).user == await stored(world, "grace@example.COM") == changed
    assert await stored(world, "ada@example.org") is None


async def test_who_has_no_address_takes_one(world: World) -> None:
    bob = await world.register(username="bob", password=PASSWORD)
    await world.change_email(caller=await world.caller(bob), email="bob@example.org")
    assert (await world.sign_in(name="bob@example.org", password=PASSWORD)).user.id == bob.user.id


@pytest.mark.parametrize("username", ["ADA", "ａｄａ", "Ada", "ada"])
async def test_ones_own_name_may_be_spelt_in_another_way(world: World, ada: SignedIn, username: str) -> None:
    caller = await world.caller(ada)
    await world.change_username(caller=caller, username=username)
    await world.change_email(caller=caller, email=f"{username}@Example.ORG")
    user = await stored(world, "ada")
    assert user is not None
    assert (user.id, user.username, user.email) == (ada.user.id, username, f"{username}@Example.ORG")


@pytest.mark.parametrize("name", ["bob", "BOB", "ｂｏｂ"])
async def test_anothers_is_taken_whatever_its_case(world: World, ada: SignedIn, name: str) -> None:
    await world.signed_in("bob")
    caller = await world.caller(ada)
    with pytest.raises(UsernameTaken):
        await world.change_username(caller=caller, username=name)
    with pytest.raises(EmailTaken):
        await world.change_email(caller=caller, email=f"{name}@EXAMPLE.org")
    assert await world.caller(ada) == caller


async def test_of_many_who_want_a_name_at_once_one_gets_it(world: World) -> None:
    callers = [await world.caller(await world.signed_in(f"user{number}")) for number in range(5)]
    tries = [world.change_username(caller=caller, username="ada") for caller in callers]
    results = await asyncio.gather(*tries, world.register(username="Ada", password=PASSWORD), return_exceptions=True)
    assert sum(isinstance(result, UsernameTaken) for result in results) == 5


@pytest.mark.parametrize("username", ["", "ab", "x" * 65, "a b", "a@b", "a\0b", "\ud800ab", "a\nb"])
async def test_a_username_has_a_form(world: World, ada: SignedIn, username: str) -> None:
    with pytest.raises(ValidationFailed) as raised:
        await world.change_username(caller=await world.caller(ada), username=username)
    assert [error.field for error in raised.value.errors] == ["username"]
    assert await stored(world, "ada") == ada.user


@pytest.mark.parametrize("email", ["", "ada", "@example.org", "ada@example", "a b@example.org", "a\0@example.org"])
async def test_an_address_has_a_form(world: World, ada: SignedIn, email: str) -> None:
    with pytest.raises(ValidationFailed) as raised:
        await world.change_email(caller=await world.caller(ada), email=email)
    assert [error.field for error in raised.value.errors] == ["email"]
    assert await stored(world, "ada") == ada.user


# ---- proving who one is ----------------------------------------------------------------------------------

Change: TypeAlias = Callable[[World, Process, Caller, str | None], Awaitable[object]]
"""With the current password, or without one."""

CHANGES: dict[str, Change] = {
    "email": lambda world, process, caller, current: world.change_email(
        caller=caller, email="new@example.org", current_password=current
    ),
    "password": lambda world, process, caller, current: world.change_password(
        caller=caller, password=NEW_PASSWORD, current_password=current
    ),
    "delete": lambda world, process, caller, current: process.delete_account(caller=caller, current_password=current),
}
changes = pytest.mark.parametrize("change", list(CHANGES.values()), ids=list(CHANGES))


@changes
async def test_within_five_minutes_of_signing_in_no_password_is_asked(
    world: World, process: Process, ada: SignedIn, change: Change
) -> None:
    world.clock.advance(5 * MINUTE)
    await change(world, process, await world.caller(ada), None)
    assert await stored(world, "ada") != ada.user


@changes
async def test_later_it_is(world: World, process: Process, ada: SignedIn, change: Change) -> None:
    world.clock.advance(5 * MINUTE + 0.000_001)
    caller = await world.caller(ada)
    with pytest.raises(InsufficientUserAuthentication, match="current_password"):
        await change(world, process, caller, None)
    assert await stored(world, "ada") == ada.user
    await change(world, process, caller, PASSWORD)
    assert await stored(world, "ada") != ada.user


@changes
@pytest.mark.parametrize("minutes", [0, 6])
@pytest.mark.parametrize("wrong", ["", "wrong", PASSWORD + " ", NEW_PASSWORD, "\0", "\ud800"])
async def test_a_wrong_one_changes_nothing(
    world: World, process: Process, ada: SignedIn, change: Change, minutes: int, wrong: str
) -> None:
    other = await world.sign_in(name="ada", password=PASSWORD)
    world.clock.advance(minutes * MINUTE)
    caller = await world.caller(ada)
    with pytest.raises(InvalidCredentials, match="current password"):
        await change(world, process, caller, wrong)
    assert await stored(world, "ada") == ada.user
    for tokens in (ada, other):
        await world.refreshed(tokens)
    if minutes:
        with pytest.raises(InsufficientUserAuthentication):
            await change(world, process, await world.caller(ada), None)


@changes
async def test_where_it_is_always_asked_a_recent_check_does_not_do(world: World, change: Change) -> None:
    world.set_password_policy(PasswordPolicy(always_ask=True))
    ada = await world.signed_in("ada")
    async with world.process() as process:
        caller = await world.caller(ada)
        with pytest.raises(InsufficientUserAuthentication):
            await change(world, process, caller, None)
        assert await stored(world, "ada") == ada.user
        await change(world, process, caller, PASSWORD)
        assert await stored(world, "ada") != ada.user


@changes
async def test_a_check_in_another_session_and_a_refresh_are_none_in_this(
    world: World, process: Process, ada: SignedIn, change: Change
) -> None:
    world.clock.advance(6 * MINUTE)
    await world.sign_in(name="ada", password=PASSWORD)
    ada = await world.refreshed(ada)
    with pytest.raises(InsufficientUserAuthentication):
        await change(world, process, await world.caller(ada), None)


async def test_a_change_of_the_password_with_a_check_holds_for_five_minutes(world: World, ada: SignedIn) -> None:
    """For the new tokens, which nobody else has."""
    world.clock.advance(HOUR - 10 * MINUTE)
    caller = await world.caller(ada)
    changed = await world.change_password(caller=caller, password=NEW_PASSWORD, current_password=PASSWORD)
    world.clock.advance(5 * MINUTE)
    caller = await world.caller(changed)
    assert (await world.change_email(caller=caller, email="last@example.org")).email == "last@example.org"
    world.clock.advance(1)
    with pytest.raises(InsufficientUserAuthentication):
        await world.change_email(caller=await world.caller(changed), email="later@example.org")


async def test_a_check_is_for_its_own_change_and_for_no_holder_of_the_same_token(
    world: World, process: Process, ada: SignedIn
) -> None:
    world.clock.advance(10 * MINUTE)
    await world.change_email(caller=await world.caller(ada), email="new@example.org", current_password=PASSWORD)
    thief = await world.caller(ada)  # has copied the access token
    for change in CHANGES.values():
        with pytest.raises(InsufficientUserAuthentication):
            await change(world, process, thief, None)
    refreshed = await world.refreshed(ada)
    with pytest.raises(InsufficientUserAuthentication):
        await world.change_password(caller=await world.caller(refreshed), password="stolen account")


async def test_a_change_without_a_check_does_not_prolong_it(world: World, ada: SignedIn) -> None:
    world.clock.advance(4 * MINUTE)
    await world.change_email(caller=await world.caller(ada), email="new@example.org")
    tokens = await world.change_password(caller=await world.caller(ada), password=NEW_PASSWORD)
    claims = world.signer.verify(tokens.access_token, now=world.clock.now())
    assert claims.authenticated_at == ada.session.login_time
    world.clock.advance(2 * MINUTE)
    with pytest.raises(InsufficientUserAuthentication):
        await world.change_email(caller=await world.caller(tokens), email="newer@example.org")


async def test_the_current_password_opens_whatever_the_keyboard_composes(world: World) -> None:
    bob = await world.register(username="bob", password="passw\u00f6rd")
    world.clock.advance(HOUR - 1)
    await world.change_email(caller=await world.caller(bob), email="bob@example.org", current_password="passwo\u0308rd")
    assert await stored(world, "bob@example.org") is not None


# ---- another password ------------------------------------------------------------------------------------


async def test_the_new_password_opens_and_the_old_one_does_not(world: World, ada: SignedIn) -> None:
    changed = await world.change_password(caller=await world.caller(ada), password=NEW_PASSWORD)
    assert (await world.sign_in(name="ada", password=NEW_PASSWORD)).user == changed.user == await stored(world, "ada")
    with pytest.raises(InvalidCredentials):
        await world.sign_in(name="ada", password=PASSWORD)


async def test_all_sessions_end_and_a_new_one_goes_on(world: World, ada: SignedIn) -> None:
    others = [await world.sign_in(name="ada", password=PASSWORD) for _ in range(3)]
    others[0] = await world.refreshed(others[0])
    bob = await world.signed_in("bob")
    world.clock.advance(MINUTE)
    changed = await world.change_password(caller=await world.caller(ada), password=NEW_PASSWORD)
    await refused(world, *others, ada)
    assert changed.session == replace(
        ada.session, id=changed.session.id, login_time=world.clock.now(), last_used_at=world.clock.now()
    )
    assert (await world.caller(changed)).user == changed.user
    again = await world.refreshed(changed)
    assert (await world.caller(again)).session.id == changed.session.id != ada.session.id
    await world.refreshed(bob)


@pytest.mark.parametrize("minutes", [0, 6])
async def test_older_tokens_of_the_session_are_worth_nothing_after_a_change(
    world: World, ada: SignedIn, minutes: int
) -> None:
    """Whether or not the password was shown for it, and however young they are."""
    older = [ada, await world.refreshed(ada)]
    world.clock.advance(minutes * MINUTE)
    older.append(await world.refreshed(older[-1]))
    caller = await world.caller(ada)
    changed = await world.change_password(caller=caller, password=NEW_PASSWORD, current_password=PASSWORD)
    await refused(world, *older)
    with pytest.raises(Unauthenticated):
        await world.change_password(caller=caller, password="stolen account")
    await world.caller(await world.refreshed(changed))
    assert (await world.sign_in(name="ada", password=NEW_PASSWORD)).user == changed.user


@at_every_step
async def test_who_refreshes_meanwhile_is_not_left_with_a_token(world: World, ada: SignedIn, steps: int) -> None:
    caller = await world.caller(ada)
    changing = asyncio.create_task(world.change_password(caller=caller, password=NEW_PASSWORD))
    await step(steps)
    thief, _ = await asyncio.gather(world.refreshed(ada), changing, return_exceptions=True)
    if isinstance(thief, SignedIn):
        with pytest.raises(Unauthenticated):
            await world.refreshed(thief)


@pytest.mark.parametrize("password", ["", "short", "x" * 1025, "\ud800" * 8])
async def test_a_password_that_breaks_the_rule_is_refused(world: World, ada: SignedIn, password: str) -> None:
    with pytest.raises(ValidationFailed) as raised:
        await world.change_password(caller=await world.caller(ada), password=password)
    assert [error.field for error in raised.value.errors] == ["password"]
    assert not password or password not in raised.value.detail
    assert await stored(world, "ada") == ada.user


@pytest.mark.parametrize("password", ["Password1", "password1", "passwo\u0308rd"])
async def test_a_password_that_is_blocked_is_refused_whatever_its_case(world: World, password: str) -> None:
    world.set_password_policy(PasswordPolicy(blocked={"password1", "passw\u00f6rd"}))
    ada = await world.signed_in("ada")
    with pytest.raises(ValidationFailed, match="most common"):
        await world.register(username="bob", password=password)
    with pytest.raises(ValidationFailed, match="most common"):
        await world.change_password(caller=await world.caller(ada), password=password)
    assert await stored(world, "bob") is None
    assert await stored(world, "ada") == ada.user
    await world.change_password(caller=await world.caller(ada), password=password + "!")


# ---- what a change that fails leaves ---------------------------------------------------------------------


@pytest.mark.parametrize("change", ["email", "password", "delete"])
async def test_a_commit_that_failed_changes_nothing(world: World, process: Process, ada: SignedIn, change: str) -> None:
    other = await world.sign_in(name="ada", password=PASSWORD)
    caller = await world.caller(ada)
    world.storage.fail_once(after=False)
    with pytest.raises(ChatcoreError):
        await CHANGES[change](world, process, caller, None)
    assert await stored(world, "ada") == ada.user
    for tokens in (ada, other):
        await world.refreshed(tokens)


async def test_an_account_that_was_deleted_meanwhile_stays_so(world: World, process: Process, ada: SignedIn) -> None:
    caller = await world.caller(ada)
    await process.delete_account(caller=caller)
    for change in (
        world.change_username(caller=caller, username="grace"),
        world.change_email(caller=caller, email="grace@example.org"),
        world.change_password(caller=caller, password=NEW_PASSWORD),
    ):
        with pytest.raises(Unauthenticated):
            await change
    assert await stored(world, "grace") is await stored(world, "grace@example.org") is None
