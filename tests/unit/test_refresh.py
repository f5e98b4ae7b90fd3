"""Refreshing: each token is exchanged once, and how long it all lasts."""

import asyncio
from datetime import timedelta

import pytest

from chatcore import SessionPolicy, SignedIn
from chatcore.errors import Unauthenticated
from chatcore.issuing import digest_of
from unit.world import LAST_STEP, PASSWORD, World, at_every_step, refused, step

HOUR, DAY = 3600, 86_400


@pytest.fixture
async def ada(world: World) -> SignedIn:
    return await world.signed_in("ada")


async def test_each_refresh_gives_the_next_token(world: World, ada: SignedIn) -> None:
    seen = [ada]
    for _ in range(5):
        world.clock.advance(HOUR)
        seen.append(await world.refreshed(seen[-1]))
        assert (await world.caller(seen[-1])).session.last_used_at == world.clock.now()
    assert len({tokens.refresh_token for tokens in seen}) == 6
    assert {tokens.session.id for tokens in seen} == {ada.session.id}
    assert {tokens.expires_in for tokens in seen} == {HOUR}


async def test_a_refresh_is_no_password_check(world: World, ada: SignedIn) -> None:
    world.clock.advance(HOUR)
    claims = world.signer.verify((await world.refreshed(ada)).access_token, now=world.clock.now())
    assert (claims.authenticated_at, claims.issued_at) == (ada.session.login_time, world.clock.now())


async def test_no_refresh_token_is_stored(world: World, ada: SignedIn) -> None:
    successor = await world.refreshed(ada)
    stored = repr(world.database._store.committed)  # pyright: ignore[reportPrivateUsage]
    for token in (ada.refresh_token, successor.refresh_token):
        assert token not in stored
    async with world.storage(read_only=True) as work:
        found = await work.tokens.refresh_token(digest_of(successor.refresh_token))
    assert found is not None
    assert found.session_id == ada.session.id


async def test_within_ten_seconds_a_token_gives_the_same_successor_again(world: World, ada: SignedIn) -> None:
    successor = await world.refreshed(ada)
    for seconds in (0, 5, 5):
        world.clock.advance(seconds)
        again = await world.refreshed(ada)
        assert again.refresh_token == successor.refresh_token
        assert (await world.caller(again)).user == ada.user
    world.clock.advance(HOUR)
    await world.refreshed(successor)


async def test_a_token_used_again_after_the_grace_ends_the_session(world: World, ada: SignedIn) -> None:
    successor = await world.refreshed(ada)
    world.clock.advance(10.001)
    with pytest.raises(Unauthenticated, match="used before"):
        await world.refreshed(ada)
    await refused(world, ada, successor)


async def test_a_token_used_again_after_its_successor_was_used_ends_the_session(world: World, ada: SignedIn) -> None:
    successor = await world.refreshed(ada)
    newest = await world.refreshed(successor)
    with pytest.raises(Unauthenticated, match="used before"):
        await world.refreshed(ada)
    await refused(world, ada, successor, newest)


async def test_a_stolen_token_ends_its_own_session_only(world: World, ada: SignedIn) -> None:
    other = await world.sign_in(name="ada", password=PASSWORD)
    bob = await world.signed_in("bob")
    await world.refreshed(ada)
    world.clock.advance(11)
    with pytest.raises(Unauthenticated):
        await world.refreshed(ada)
    await refused(world, ada)
    for tokens in (other, bob):
        await world.caller(tokens)
        await world.refreshed(tokens)


@pytest.mark.parametrize("tabs", [2, 20])
async def test_all_who_refresh_at_once_get_the_same_successor(world: World, ada: SignedIn, tabs: int) -> None:
    results = await asyncio.gather(*(world.refreshed(ada) for _ in range(tabs)))
    assert len({result.refresh_token for result in results}) == 1
    await asyncio.gather(*(world.caller(result) for result in results))
    await world.refreshed(results[-1])


@at_every_step
async def test_who_is_cancelled_while_refreshing_can_refresh(world: World, ada: SignedIn, steps: int) -> None:
    refreshing = asyncio.create_task(world.refreshed(ada))
    await step(steps)
    if steps == LAST_STEP:
        assert refreshing.done()
    refreshing.cancel()
    await asyncio.wait([refreshing])
    successor = await world.refreshed(ada)
    assert successor.refresh_token == world.issuer.successor(ada.refresh_token)
    await world.refreshed(successor)


@at_every_step
async def test_who_uses_a_token_again_cannot_escape_by_leaving(world: World, ada: SignedIn, steps: int) -> None:
    successor = await world.refreshed(ada)
    world.clock.advance(11)
    refreshing = asyncio.create_task(world.refreshed(ada))
    await step(steps + 1)
    refreshing.cancel()
    await asyncio.gather(refreshing, return_exceptions=True)
    await refused(world, successor)


async def test_another_refresh_secret_costs_nobody_the_session(world: World, ada: SignedIn) -> None:
    old = await world.refreshed(ada)
    world.set_policy(SessionPolicy(refresh_secret=b"another secret"))
    new = await world.refreshed(old)
    assert new.session.id == ada.session.id
    assert (await world.refreshed(old)).refresh_token == new.refresh_token
    await world.refreshed(new)


async def test_who_does_not_know_the_secret_cannot_make_the_successor(world: World, ada: SignedIn) -> None:
    mine = world.issuer.successor(ada.refresh_token)
    world.set_policy(SessionPolicy(refresh_secret=b"another secret"))
    assert world.issuer.successor(ada.refresh_token) != mine
    assert b"another secret".decode() not in repr(world.policy)


# ---- lifetimes -------------------------------------------------------------------------------------------


async def test_a_session_that_is_idle_for_seven_days_is_over(world: World, ada: SignedIn) -> None:
    world.clock.advance(7 * DAY - 1)
    ada = await world.refreshed(ada)
    world.clock.advance(7 * DAY)
    await refused(world, ada)


async def test_an_expired_token_does_not_end_the_session(world: World, ada: SignedIn) -> None:
    world.clock.advance(7 * DAY)
    await refused(world, ada)
    assert (await world.session_of(ada)).logout_time is None


async def test_a_session_is_over_after_thirty_days_in_all(world: World, ada: SignedIn) -> None:
    for _ in range(29):
        world.clock.advance(DAY)
        ada = await world.refreshed(ada)
    world.clock.advance(DAY - HOUR / 2)
    ada = await world.refreshed(ada)
    assert ada.expires_in == HOUR / 2
    world.clock.advance(HOUR / 2 - 1)
    await world.caller(ada)
    world.clock.advance(1)
    await refused(world, ada)


async def test_a_session_lives_at_least_as_long_as_an_access_token(world: World) -> None:
    policy = SessionPolicy(refresh_secret=b"", access_ttl=timedelta(days=60))
    world.set_policy(policy)
    ada = await world.signed_in()
    assert ada.expires_in == 60 * DAY
    world.clock.advance(60 * DAY - 1)
    await world.caller(ada)
