"""Signing in and out, and knowing who asks."""

import base64
import itertools
from dataclasses import replace
from datetime import timedelta

import pytest

from chatcore import Session, SignedIn
from chatcore.errors import AccountDisabled, InvalidCredentials, Unauthenticated
from chatcore_testing.normalising import MARKS
from unit.world import PASSWORD, World, refused

MINUTE, HOUR = 60, 3600


@pytest.fixture
async def ada(world: World) -> SignedIn:
    return await world.signed_in("ada")


def disable(world: World, signed_in: SignedIn, *, is_active: bool = False) -> None:
    state = world.database._store.committed  # pyright: ignore[reportPrivateUsage] - no port disables users yet
    state.users[signed_in.user.id] = replace(signed_in.user, is_active=is_active)


# ---- signing in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ada", "ADA", "ada@example.org", "Ada@EXAMPLE.org"])
async def test_a_name_or_an_address_and_the_password_open_a_session(world: World, ada: SignedIn, name: str) -> None:
    world.clock.advance(MINUTE)
    now = world.clock.now()
    signed_in = await world.sign_in(name=name, password=PASSWORD, user_agent="curl", address="192.0.2.1")
    assert signed_in.user == ada.user
    assert signed_in.session == Session(
        id=signed_in.session.id,
        user_id=ada.user.id,
        login_time=now,
        authenticated_at=now,
        last_used_at=now,
        expires_at=now + timedelta(days=30),
        user_agent="curl",
        address="192.0.2.1",
    )
    assert signed_in.expires_in == HOUR
    assert (await world.caller(signed_in)).session == signed_in.session
    assert (await world.caller(ada)).session.id == ada.session.id != signed_in.session.id


@pytest.mark.parametrize("name", ["nobody", "nobody@example.org", "", "\0", "\ud800", "ada ", "x" * 10_000, MARKS])
async def test_an_unknown_name_and_a_wrong_password_look_the_same(
    world: World, ada: SignedIn, normalised: list[int], name: str
) -> None:
    with pytest.raises(InvalidCredentials) as unknown:
        await world.sign_in(name=name, password=PASSWORD)
    with pytest.raises(InvalidCredentials) as wrong:
        await world.sign_in(name="ada", password=PASSWORD + "!")
    assert (unknown.value.code, unknown.value.detail) == (wrong.value.code, wrong.value.detail)
    assert max(normalised) < 1000


@pytest.mark.parametrize("password", ["", "\0", "\ud800", "x" * 100_000, MARKS])
async def test_no_password_is_more_than_wrong(
    world: World, ada: SignedIn, normalised: list[int], password: str
) -> None:
    with pytest.raises(InvalidCredentials):
        await world.sign_in(name="ada", password=password)
    caller = await world.caller(ada)
    with pytest.raises(InvalidCredentials):
        await world.change_password(caller=caller, password="another horse", current_password=password)
    assert max(normalised) < 3000


async def test_an_unknown_name_is_hashed_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    async def verify(password: str, password_hash: str | None) -> bool:
        asked.append(password_hash)
        return True

    monkeypatch.setattr(world.passwords, "verify", verify)
    with pytest.raises(InvalidCredentials):
        await world.sign_in(name="nobody", password=PASSWORD)
    assert asked == [None]


async def test_only_who_knows_the_password_learns_that_an_account_is_disabled(world: World, ada: SignedIn) -> None:
    disable(world, ada)
    with pytest.raises(InvalidCredentials):
        await world.sign_in(name="ada", password="wrong")
    with pytest.raises(AccountDisabled):
        await world.sign_in(name="ada", password=PASSWORD)


async def test_an_older_hash_is_replaced_on_signing_in(world: World, ada: SignedIn) -> None:
    async def hashed() -> str:
        async with world.storage(read_only=True) as work:
            user = await work.users.find("ada")
        assert user is not None
        return user.password_hash

    await world.sign_in(name="ada", password=PASSWORD)
    assert await hashed() == ada.user.password_hash

    world.passwords.version = 2
    with pytest.raises(InvalidCredentials):
        await world.sign_in(name="ada", password="wrong")
    assert await hashed() == ada.user.password_hash
    await world.sign_in(name="ada", password=PASSWORD)
    assert (await hashed()).startswith("$plain$v=2$")
    await world.sign_in(name="ada", password=PASSWORD)


async def test_what_a_client_says_about_itself_is_made_fit_to_store(world: World, ada: SignedIn) -> None:
    agent = "\0" + "🦄" * 300
    signed_in = await world.sign_in(name="ada", password=PASSWORD, user_agent=agent, address="x" * 100)
    assert (signed_in.session.user_agent, signed_in.session.address) == ("\ufffd" + "🦄" * 254, "x" * 64)


# ---- access tokens ---------------------------------------------------------------------------------------


async def test_an_access_token_holds_for_an_hour(world: World, ada: SignedIn) -> None:
    world.clock.advance(HOUR - 1)
    await world.caller(ada)
    world.clock.advance(1)
    with pytest.raises(Unauthenticated):
        await world.caller(ada)


@pytest.mark.parametrize("token", ["", "x", "token.x.y", "🦄", "\ud800", "\0", "token." + "e" * 10_000 + ".x"])
async def test_what_nobody_signed_proves_nothing(world: World, ada: SignedIn, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await world.authenticate(access_token=token)
    with pytest.raises(Unauthenticated):
        await world.refresh(refresh_token=token)


async def test_a_session_and_its_tokens_cannot_be_guessed(world: World) -> None:
    """Of 128 and 256 random bits: no two are alike in more than happens to be."""
    signed_in = [await world.signed_in(f"ada{number}") for number in range(20)]
    for bits, texts in (
        (128, [each.session.id for each in signed_in]),
        (256, [each.refresh_token for each in signed_in]),
        (256, [(await world.refreshed(each)).refresh_token for each in signed_in]),
    ):
        values = [int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))) for text in texts]
        assert all(value < 1 << bits for value in values)
        for one, other in itertools.combinations(values, 2):
            assert bits // 4 < (one ^ other).bit_count() < bits * 3 // 4


async def test_neither_token_does_for_the_other(world: World, ada: SignedIn) -> None:
    with pytest.raises(Unauthenticated):
        await world.authenticate(access_token=ada.refresh_token)
    with pytest.raises(Unauthenticated):
        await world.refresh(refresh_token=ada.access_token)


async def test_a_disabled_account_is_out_at_once_and_in_again_when_it_is_enabled(world: World, ada: SignedIn) -> None:
    disable(world, ada)
    with pytest.raises(AccountDisabled):
        await world.caller(ada)
    with pytest.raises(AccountDisabled):
        await world.refreshed(ada)
    disable(world, ada, is_active=True)
    world.clock.advance(11)
    await world.caller(ada)
    await world.refreshed(ada)


async def test_use_is_noted_at_most_once_a_minute(world: World, ada: SignedIn) -> None:
    async def noted_after(seconds: float) -> float:
        world.clock.advance(seconds)
        await world.caller(ada)
        return (await world.session_of(ada)).last_used_at.timestamp() - ada.session.login_time.timestamp()

    commits = world.storage.commits
    assert [await noted_after(step) for step in (1, 29, 30, 1, 1, 59, 1)] == [0, 0, 0, 61, 61, 61, 122]
    assert world.storage.commits == commits + 2


# ---- signing out -----------------------------------------------------------------------------------------


async def test_signing_out_ends_both_tokens_at_once(world: World, ada: SignedIn) -> None:
    other = await world.sign_in(name="ada", password=PASSWORD)
    world.clock.advance(5)
    await world.sign_out(caller=await world.caller(ada))
    await refused(world, ada)
    assert (await world.session_of(ada)).logout_time == world.clock.now()
    await world.caller(other)
    await world.refreshed(other)


async def test_signing_out_again_changes_nothing(world: World, ada: SignedIn) -> None:
    me = await world.caller(ada)
    await world.sign_out(caller=me)
    ended = (await world.session_of(ada)).logout_time
    world.clock.advance(5)
    with pytest.raises(Unauthenticated):
        await world.sign_out(caller=me)
    assert (await world.session_of(ada)).logout_time == ended


async def test_the_own_other_session_is_ended_by_its_refresh_token(world: World, ada: SignedIn) -> None:
    other = await world.sign_in(name="ada", password=PASSWORD)
    await world.sign_out(caller=await world.caller(ada), refresh_token=other.refresh_token)
    await refused(world, ada, other)


async def test_nobody_elses_session_is_ended_by_its_refresh_token(world: World, ada: SignedIn) -> None:
    bob = await world.signed_in("bob")
    await world.sign_out(caller=await world.caller(ada), refresh_token=bob.refresh_token)
    await refused(world, ada)
    await world.caller(bob)
    await world.refreshed(bob)


@pytest.mark.parametrize("token", ["", "unknown", "\ud800", "\0"])
async def test_an_unknown_refresh_token_does_not_keep_one_from_signing_out(
    world: World, ada: SignedIn, token: str
) -> None:
    await world.sign_out(caller=await world.caller(ada), refresh_token=token)
    await refused(world, ada)
