"""One's sessions: listed, ended one by one, or all but this one."""

import pytest

from chatcore import Page, Session, SessionId, SignedIn
from chatcore.errors import NotFound, ValidationFailed
from unit.world import PASSWORD, World, refused


@pytest.fixture
async def ada(world: World) -> SignedIn:
    return await world.signed_in("ada")


async def listed(world: World, signed_in: SignedIn, limit: int = 20, offset: int = 0) -> Page[Session]:
    return await world.list_sessions(caller=await world.caller(signed_in), limit=limit, offset=offset)


async def sign_in_again(world: World) -> SignedIn:
    world.clock.advance(60)
    return await world.sign_in(name="ada", password=PASSWORD, user_agent="curl", address="192.0.2.1")


async def works(world: World, signed_in: SignedIn) -> None:
    await world.caller(signed_in)
    await world.refreshed(signed_in)


# ---- the list --------------------------------------------------------------------------------------------


async def test_the_latest_sign_in_comes_first(world: World, ada: SignedIn) -> None:
    await world.signed_in("bob")
    again = [await sign_in_again(world) for _ in range(2)]
    world.clock.advance(120)
    await world.caller(ada)  # used last, and signed in first
    page = await listed(world, again[0])
    assert [session.id for session in page.items] == [tokens.session.id for tokens in (again[1], again[0], ada)]
    assert page.has_more is False
    assert (page.items[0].user_agent, page.items[0].address) == ("curl", "192.0.2.1")
    assert page.items[2].last_used_at == world.clock.now()


async def test_sessions_that_have_ended_are_listed_too(world: World, ada: SignedIn) -> None:
    ended = await sign_in_again(world)
    world.clock.advance(5)
    await world.sign_out(caller=await world.caller(ended))
    page = await listed(world, ada)
    assert [session.logout_time for session in page.items] == [world.clock.now(), None]


@pytest.mark.parametrize(
    ("limit", "offset", "numbers", "has_more"),
    [
        (20, 0, [2, 1, 0], False),
        (3, 0, [2, 1, 0], False),
        (2, 0, [2, 1], True),
        (2, 1, [1, 0], False),
        (1, 1, [1], True),
        (100, 3, [], False),
        (1, 10**6, [], False),
    ],
)
async def test_the_list_goes_page_by_page(
    world: World, ada: SignedIn, limit: int, offset: int, numbers: list[int], has_more: bool
) -> None:
    ids = [ada.session.id, *[(await sign_in_again(world)).session.id for _ in range(2)]]
    page = await listed(world, ada, limit, offset)
    assert [session.id for session in page.items] == [ids[number] for number in numbers]
    assert page.has_more is has_more


@pytest.mark.parametrize(
    ("limit", "offset", "fields"),
    [
        (0, 0, ["limit"]),
        (101, 0, ["limit"]),
        (20, -1, ["offset"]),
        (20, 10**6 + 1, ["offset"]),
        (-1, -1, ["limit", "offset"]),
    ],
)
async def test_the_list_has_bounds(world: World, ada: SignedIn, limit: int, offset: int, fields: list[str]) -> None:
    with pytest.raises(ValidationFailed) as raised:
        await listed(world, ada, limit, offset)
    assert [error.field for error in raised.value.errors] == fields


# ---- ending one ------------------------------------------------------------------------------------------


async def test_a_session_that_is_ended_is_out_at_once(world: World, ada: SignedIn) -> None:
    other = await sign_in_again(world)
    world.clock.advance(5)
    await world.revoke_session(caller=await world.caller(ada), session_id=other.session.id)
    await refused(world, other)
    assert (await listed(world, ada)).items[0].logout_time == world.clock.now()
    await works(world, ada)


async def test_one_may_end_the_session_that_one_is_in(world: World, ada: SignedIn) -> None:
    other = await sign_in_again(world)
    await world.revoke_session(caller=await world.caller(ada), session_id=ada.session.id)
    await refused(world, ada)
    await works(world, other)


async def test_ending_one_again_changes_nothing(world: World, ada: SignedIn) -> None:
    other = await sign_in_again(world)
    caller = await world.caller(ada)
    await world.revoke_session(caller=caller, session_id=other.session.id)
    before = await world.list_sessions(caller=caller)
    world.clock.advance(5)
    await world.revoke_session(caller=caller, session_id=other.session.id)
    assert await world.list_sessions(caller=caller) == before


async def test_anothers_and_a_missing_one_look_the_same(world: World, ada: SignedIn) -> None:
    bob = await world.signed_in("bob")
    details: set[str] = set()
    for session_id in (bob.session.id, SessionId("unknown"), SessionId("")):
        with pytest.raises(NotFound) as raised:
            await world.revoke_session(caller=await world.caller(ada), session_id=session_id)
        details.add(raised.value.detail)
    assert len(details) == 1
    await works(world, bob)


# ---- ending all others -----------------------------------------------------------------------------------


async def test_all_others_are_ended_and_nobody_elses(world: World, ada: SignedIn) -> None:
    others = [await sign_in_again(world) for _ in range(3)]
    bob = await world.signed_in("bob")
    await world.sign_out(caller=await world.caller(others[2]))
    signed_out = world.clock.now()
    world.clock.advance(5)
    await world.revoke_other_sessions(caller=await world.caller(ada))
    for other in others:
        await refused(world, other)
    ends = [session.logout_time for session in (await listed(world, ada)).items]
    assert ends == [signed_out, world.clock.now(), world.clock.now(), None]
    await works(world, ada)
    await works(world, bob)


async def test_who_has_no_others_ends_none(world: World, ada: SignedIn) -> None:
    for _ in range(2):
        await world.revoke_other_sessions(caller=await world.caller(ada))
    await works(world, ada)
