"""Accounts: coming into being."""

import asyncio

import pytest

from chatcore import Profile, SignedIn, User
from chatcore.errors import ChatcoreError, EmailTaken, InvalidCredentials, UsernameTaken, ValidationFailed
from unit.world import PASSWORD, World

COMPOSED, DECOMPOSED = "passwörd", "passwo\u0308rd"


async def stored(world: World, name: str) -> User | None:
    async with world.storage(read_only=True) as work:
        return await work.users.find(name)


async def test_an_account_is_stored_and_signed_in(world: World) -> None:
    profile = Profile(user_name="Ada 🦄", job="")
    signed_in = await world.register(
        username="Ada",
        password=PASSWORD,
        email="Ada@Example.org",
        profile=profile,
        user_agent="curl",
        address="192.0.2.1",
    )
    user = signed_in.user
    assert (user.username, user.email, user.profile) == ("Ada", "Ada@Example.org", profile)
    assert (user.roles, user.is_active) == (frozenset({"user"}), True)
    assert user.created_at == user.updated_at == world.clock.now()
    assert await stored(world, "ADA") == await stored(world, "ada@example.ORG") == user
    assert (signed_in.session.user_agent, signed_in.session.address) == ("curl", "192.0.2.1")
    assert (await world.authenticate(access_token=signed_in.access_token)).user == user
    assert (await world.refresh(refresh_token=signed_in.refresh_token)).user == user


async def test_an_email_address_is_optional(world: World) -> None:
    users = [(await world.register(username=name, password=PASSWORD)).user for name in ("ada", "bob")]
    assert [user.email for user in users] == [None, None]


async def test_secrets_show_in_no_representation(world: World) -> None:
    signed_in = await world.signed_in()
    shown = repr(signed_in)
    for secret in (signed_in.access_token, signed_in.refresh_token, signed_in.user.password_hash, PASSWORD):
        assert secret not in shown


async def test_every_broken_rule_is_named_at_once(world: World) -> None:
    with pytest.raises(ValidationFailed) as raised:
        await world.register(
            username="x", password="short", email="nowhere", profile=Profile(phone="1" * 201), address="192.0.2.1"
        )
    assert [error.field for error in raised.value.errors] == ["username", "email", "password", "phone"]
    assert "short" not in raised.value.detail
    assert await stored(world, "x") is None


@pytest.mark.parametrize(
    ("username", "email", "error"),
    [
        ("ADA", "new@example.org", UsernameTaken),
        ("ａｄａ", None, UsernameTaken),
        ("bob", "ADA@EXAMPLE.ORG", EmailTaken),
    ],
)
async def test_a_name_is_taken_once_whatever_its_case(
    world: World, username: str, email: str | None, error: type[ChatcoreError]
) -> None:
    await world.register(username="ada", password=PASSWORD, email="ada@example.org")
    with pytest.raises(error):
        await world.register(username=username, password=PASSWORD, email=email)
    assert await stored(world, "bob") is None


async def test_of_many_who_want_a_name_at_once_one_gets_it(world: World) -> None:
    tries = [world.register(username="ada", password=PASSWORD) for _ in range(5)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert [isinstance(result, SignedIn) for result in results].count(True) == 1
    assert [isinstance(result, UsernameTaken) for result in results].count(True) == 4


@pytest.mark.parametrize(("registered", "typed"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
async def test_a_password_opens_whatever_the_keyboard_composes(world: World, registered: str, typed: str) -> None:
    await world.register(username="ada", password=registered)
    await world.sign_in(name="ada", password=typed)


@pytest.mark.parametrize("password", ["  spaces  ", "nul\0nul\0nul", "🦄" * 8, "x" * 1024, "\ufffd" * 8])
async def test_every_password_that_was_accepted_opens(world: World, password: str) -> None:
    await world.register(username="ada", password=password)
    await world.sign_in(name="ada", password=password)


@pytest.mark.parametrize(
    ("password", "typed"),
    [
        ("nul\0nul\0nul", "nul\ufffdnul\ufffdnul"),
        ("x" * 1024, "x" * 1023),
        ("x" * 1024, "x" * 1025),
        ("PASSWORD", "password"),
    ],
)
async def test_no_other_password_opens(world: World, password: str, typed: str) -> None:
    await world.register(username="ada", password=password)
    with pytest.raises(InvalidCredentials):
        await world.sign_in(name="ada", password=typed)


# ---- without signing in ----------------------------------------------------------------------------------


async def test_an_account_is_made_and_nobody_is_signed_in(world: World) -> None:
    profile = Profile(user_name="Ada 🦄", country="GB")
    user = await world.create_account(username="Ada", password=PASSWORD, email="ada@example.org", profile=profile)
    assert await stored(world, "ada") == user
    assert (user.username, user.email, user.profile) == ("Ada", "ada@example.org", profile)
    assert (user.roles, user.is_active) == (frozenset({"user"}), True)
    async with world.storage(read_only=True) as work:
        assert list(await work.tokens.sessions(user.id, limit=10, offset=0)) == []
    assert (await world.sign_in(name="ada", password=PASSWORD)).user == user


async def test_it_keeps_the_rules_of_registering(world: World) -> None:
    with pytest.raises(ValidationFailed) as raised:
        await world.create_account(username="x", password="short", email="nowhere", profile=Profile(job="1" * 201))
    assert [error.field for error in raised.value.errors] == ["username", "email", "password", "job"]
    await world.register(username="ada", password=PASSWORD, email="ada@example.org")
    with pytest.raises(UsernameTaken):
        await world.create_account(username="ADA", password=PASSWORD)
    with pytest.raises(EmailTaken):
        await world.create_account(username="bob", password=PASSWORD, email="ADA@example.org")
    assert await stored(world, "bob") is None
