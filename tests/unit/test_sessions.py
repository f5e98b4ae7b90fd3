"""Signing in and out, and knowing who asks."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from chatcore import Caller, Session, SessionPolicy, SignedIn
from chatcore.errors import AccountDisabled, InvalidCredentials, Unauthenticated
from chatcore.use_cases.sessions import digest_of
from unit.world import LAST_STEP, PASSWORD, World, at_every_step, step

MINUTE, HOUR, DAY = 60, 3600, 86_400


@pytest.fixture
async def ada(world: World) -> SignedIn:
    return await world.signed_in("ada")


async def caller(world: World, signed_in: SignedIn) -> Caller:
    return await world.authenticate(access_token=signed_in.access_token)


async def refresh(world: World, signed_in: SignedIn) -> SignedIn:
    return await world.refresh(refresh_token=signed_in.refresh_token)


async def session(world: World, signed_in: SignedIn) -> Session:
    """As it is stored now."""
    async with world.storage(read_only=True) as work:
        found = await work.tokens.caller(signed_in.user.id, signed_in.session.id)
    assert found is not None
    return found.session


async def refused(world: World, *signed_in: SignedIn) -> None:
    """Neither token of any of these is worth anything."""
    for tokens in signed_in:
        with pytest.raises(Unauthenticated):
            await caller(world, tokens)
        with pytest.raises(Unauthenticated):
            await refresh(world, tokens)


def disable(world: World, signed_in: SignedIn) -> None:
    state = world.database._store.committed  # pyright: ignore[reportPrivateUsage] - no port disables users yet
    state.users[signed_in.user.id] = replace(signed_in.user, is_active=False)


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
    assert (await caller(world, signed_in)).session == signed_in.session
    assert (await caller(world, ada)).session.id == ada.session.id != signed_in.session.id


@pytest.mark.parametrize("name", ["nobody", "nobody@example.org", "", "\0", "\ud800", "ada ", "x" * 10_000])
async def test_an_unknown_name_and_a_wrong_password_look_the_same(world: World, ada: SignedIn, name: str) -> None:
    with pytest.raises(InvalidCredentials) as unknown:
        await world.sign_in(name=name, password=PASSWORD)
    with pytest.raises(InvalidCredentials) as wrong:
        await world.sign_in(name="ada", password=PASSWORD + "!")
    assert (unknown.value.code, unknown.value.detail) == (wrong.value.code, wrong.value.detail)


@pytest.mark.parametrize("password", ["", "\0", "\ud800", "x" * 100_000])
async def test_no_password_is_more_than_wrong(world: World, ada: SignedIn, password: str) -> None:
    with pytest.raises(InvalidCredentials):
        await world.sign_in(name="ada", password=password)


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
    await caller(world, ada)
    world.clock.advance(1)
    with pytest.raises(Unauthenticated):
        await caller(world, ada)


@pytest.mark.parametrize("token", ["", "x", "token.x.y", "🦄", "\ud800", "\0", "token." + "e" * 10_000 + ".x"])
async def test_what_nobody_signed_proves_nothing(world: World, ada: SignedIn, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await world.authenticate(access_token=token)
    with pytest.raises(Unauthenticated):
        await world.refresh(refresh_token=token)


async def test_neither_token_does_for_the_other(world: World, ada: SignedIn) -> None:
    with pytest.raises(Unauthenticated):
        await world.authenticate(access_token=ada.refresh_token)
    with pytest.raises(Unauthenticated):
        await world.refresh(refresh_token=ada.access_token)


async def test_a_disabled_account_is_out_at_once(world: World, ada: SignedIn) -> None:
    disable(world, ada)
    with pytest.raises(AccountDisabled):
        await caller(world, ada)
    with pytest.raises(AccountDisabled):
        await refresh(world, ada)


async def test_use_is_noted_at_most_once_a_minute(world: World, ada: SignedIn) -> None:
    async def noted_after(seconds: float) -> float:
        world.clock.advance(seconds)
        await caller(world, ada)
        return (await session(world, ada)).last_used_at.timestamp() - ada.session.login_time.timestamp()

    commits = world.storage.commits
    assert [await noted_after(step) for step in (1, 29, 30, 1, 1, 59, 1)] == [0, 0, 0, 61, 61, 61, 122]
    assert world.storage.commits == commits + 2


# ---- refreshing ------------------------------------------------------------------------------------------


async def test_each_refresh_gives_the_next_token(world: World, ada: SignedIn) -> None:
    seen = [ada]
    for _ in range(5):
        world.clock.advance(HOUR)
        seen.append(await refresh(world, seen[-1]))
        assert (await caller(world, seen[-1])).session.last_used_at == world.clock.now()
    assert len({tokens.refresh_token for tokens in seen}) == 6
    assert {tokens.session.id for tokens in seen} == {ada.session.id}
    assert {tokens.expires_in for tokens in seen} == {HOUR}


async def test_a_refresh_is_no_password_check(world: World, ada: SignedIn) -> None:
    world.clock.advance(HOUR)
    claims = world.signer.verify((await refresh(world, ada)).access_token, now=world.clock.now())
    assert (claims.authenticated_at, claims.issued_at) == (ada.session.login_time, world.clock.now())


async def test_no_refresh_token_is_stored(world: World, ada: SignedIn) -> None:
    successor = await refresh(world, ada)
    stored = repr(world.database._store.committed)  # pyright: ignore[reportPrivateUsage]
    for token in (ada.refresh_token, successor.refresh_token):
        assert token not in stored
    async with world.storage(read_only=True) as work:
        found = await work.tokens.refresh_token(digest_of(successor.refresh_token))
    assert found is not None
    assert found.session_id == ada.session.id


async def test_within_ten_seconds_a_token_gives_the_same_successor_again(world: World, ada: SignedIn) -> None:
    successor = await refresh(world, ada)
    for seconds in (0, 5, 5):
        world.clock.advance(seconds)
        again = await refresh(world, ada)
        assert again.refresh_token == successor.refresh_token
        assert (await caller(world, again)).user == ada.user
    world.clock.advance(HOUR)
    await refresh(world, successor)


async def test_a_token_used_again_after_the_grace_ends_the_session(world: World, ada: SignedIn) -> None:
    successor = await refresh(world, ada)
    world.clock.advance(10.001)
    with pytest.raises(Unauthenticated, match="used before"):
        await refresh(world, ada)
    await refused(world, ada, successor)


async def test_a_token_used_again_after_its_successor_was_used_ends_the_session(world: World, ada: SignedIn) -> None:
    successor = await refresh(world, ada)
    newest = await refresh(world, successor)
    with pytest.raises(Unauthenticated, match="used before"):
        await refresh(world, ada)
    await refused(world, ada, successor, newest)


async def test_a_stolen_token_ends_its_own_session_only(world: World, ada: SignedIn) -> None:
    other = await world.sign_in(name="ada", password=PASSWORD)
    bob = await world.signed_in("bob")
    await refresh(world, ada)
    world.clock.advance(11)
    with pytest.raises(Unauthenticated):
        await refresh(world, ada)
    await refused(world, ada)
    for tokens in (other, bob):
        await caller(world, tokens)
        await refresh(world, tokens)


@pytest.mark.parametrize("tabs", [2, 20])
async def test_all_who_refresh_at_once_get_the_same_successor(world: World, ada: SignedIn, tabs: int) -> None:
    results = await asyncio.gather(*(refresh(world, ada) for _ in range(tabs)))
    assert len({result.refresh_token for result in results}) == 1
    await asyncio.gather(*(caller(world, result) for result in results))
    await refresh(world, results[-1])


@at_every_step
async def test_who_is_cancelled_while_refreshing_can_refresh(world: World, ada: SignedIn, steps: int) -> None:
    refreshing = asyncio.create_task(refresh(world, ada))
    await step(steps)
    if steps == LAST_STEP:
        assert refreshing.done()
    refreshing.cancel()
    await asyncio.wait([refreshing])
    successor = await refresh(world, ada)
    assert successor.refresh_token == world.issuer.successor(ada.refresh_token)
    await refresh(world, successor)


async def test_another_refresh_secret_costs_nobody_the_session(world: World, ada: SignedIn) -> None:
    old = await refresh(world, ada)
    world.set_policy(SessionPolicy(refresh_secret=b"another secret"))
    new = await refresh(world, old)
    assert new.session.id == ada.session.id
    assert (await refresh(world, old)).refresh_token == new.refresh_token
    await refresh(world, new)


async def test_who_does_not_know_the_secret_cannot_make_the_successor(world: World, ada: SignedIn) -> None:
    mine = world.issuer.successor(ada.refresh_token)
    world.set_policy(SessionPolicy(refresh_secret=b"another secret"))
    assert world.issuer.successor(ada.refresh_token) != mine
    assert b"another secret".decode() not in repr(world.policy)


# ---- lifetimes -------------------------------------------------------------------------------------------


async def test_a_session_that_is_idle_for_seven_days_is_over(world: World, ada: SignedIn) -> None:
    world.clock.advance(7 * DAY - 1)
    ada = await refresh(world, ada)
    world.clock.advance(7 * DAY)
    await refused(world, ada)


async def test_an_expired_token_does_not_end_the_session(world: World, ada: SignedIn) -> None:
    world.clock.advance(7 * DAY)
    await refused(world, ada)
    assert (await session(world, ada)).logout_time is None


async def test_a_session_is_over_after_thirty_days_in_all(world: World, ada: SignedIn) -> None:
    for _ in range(29):
        world.clock.advance(DAY)
        ada = await refresh(world, ada)
    world.clock.advance(DAY - HOUR / 2)
    ada = await refresh(world, ada)
    assert ada.expires_in == HOUR / 2
    world.clock.advance(HOUR / 2 - 1)
    await caller(world, ada)
    world.clock.advance(1)
    await refused(world, ada)


async def test_a_session_lives_at_least_as_long_as_an_access_token(world: World) -> None:
    policy = SessionPolicy(refresh_secret=b"", access_ttl=timedelta(days=60))
    world.set_policy(policy)
    ada = await world.signed_in()
    assert ada.expires_in == 60 * DAY
    world.clock.advance(60 * DAY - 1)
    await caller(world, ada)


# ---- signing out -----------------------------------------------------------------------------------------


async def test_signing_out_ends_both_tokens_at_once(world: World, ada: SignedIn) -> None:
    other = await world.sign_in(name="ada", password=PASSWORD)
    world.clock.advance(5)
    await world.sign_out(caller=await caller(world, ada))
    await refused(world, ada)
    assert (await session(world, ada)).logout_time == world.clock.now()
    await caller(world, other)
    await refresh(world, other)


async def test_signing_out_again_changes_nothing(world: World, ada: SignedIn) -> None:
    me = await caller(world, ada)
    await world.sign_out(caller=me)
    ended = (await session(world, ada)).logout_time
    world.clock.advance(5)
    await world.sign_out(caller=me)
    assert (await session(world, ada)).logout_time == ended


async def test_the_own_other_session_is_ended_by_its_refresh_token(world: World, ada: SignedIn) -> None:
    other = await world.sign_in(name="ada", password=PASSWORD)
    await world.sign_out(caller=await caller(world, ada), refresh_token=other.refresh_token)
    await refused(world, ada, other)


async def test_nobody_elses_session_is_ended_by_its_refresh_token(world: World, ada: SignedIn) -> None:
    bob = await world.signed_in("bob")
    await world.sign_out(caller=await caller(world, ada), refresh_token=bob.refresh_token)
    await refused(world, ada)
    await caller(world, bob)
    await refresh(world, bob)


@pytest.mark.parametrize("token", ["", "unknown", "\ud800", "\0"])
async def test_an_unknown_refresh_token_does_not_keep_one_from_signing_out(
    world: World, ada: SignedIn, token: str
) -> None:
    await world.sign_out(caller=await caller(world, ada), refresh_token=token)
    await refused(world, ada)
