"""Who may do what how often, as the use cases see it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from chatcore import Caller, Rate, RateLimits, SignedIn
from chatcore.errors import ChatcoreError, Conflict, InvalidCredentials, RateLimited, ValidationFailed
from chatcore.rate_limits import ACCOUNTS_PER_ADDRESS, UNLIMITED, network_of
from chatcore_memory import MemoryLimiter, ScriptedModel, Stall
from unit.world import PASSWORD, World

HERE, ELSEWHERE = "192.0.2.1", "198.51.100.7"
MINUTE = 60


@pytest.fixture
def world(world: World) -> World:
    world.set_limits(
        RateLimits(
            limiter=MemoryLimiter(world.clock),
            sign_in=Rate(3, MINUTE),
            register=Rate(4, MINUTE),
            send=Rate(5, MINUTE),
            replies=2,
        )
    )
    return world


@pytest.fixture
async def ada(world: World) -> SignedIn:
    return await world.signed_in("ada")


async def limited(work: Callable[[], Awaitable[object]], after: int) -> RateLimited:
    """The error that comes once this was done so often, well or not."""
    for _ in range(after):
        try:
            await work()
        except RateLimited:
            raise
        except ChatcoreError:
            pass
    with pytest.raises(RateLimited) as raised:
        await work()
    return raised.value


# ---- signing in ------------------------------------------------------------------------------------------


async def test_an_attacked_account_opens_from_another_address(world: World, ada: SignedIn) -> None:
    error = await limited(lambda: world.sign_in(name="ada", password="wrong", address=HERE), after=3)
    assert (error.code, error.retry_after) == ("rate_limited", MINUTE)
    with pytest.raises(RateLimited):
        await world.sign_in(name="ada", password=PASSWORD, address=HERE)
    assert (await world.sign_in(name="ada", password=PASSWORD, address=ELSEWHERE)).user == ada.user
    world.clock.advance(MINUTE)
    assert (await world.sign_in(name="ada", password=PASSWORD, address=HERE)).user == ada.user


async def test_other_accounts_open_from_the_same_address_but_not_any_number_of_them(world: World) -> None:
    for number in range(ACCOUNTS_PER_ADDRESS * 3):
        with pytest.raises(InvalidCredentials):
            await world.sign_in(name=f"user{number}", password="wrong", address=HERE)
    with pytest.raises(RateLimited):
        await world.sign_in(name="one more", password="wrong", address=HERE)


async def test_success_counts_as_failure_does(world: World, ada: SignedIn) -> None:
    await limited(lambda: world.sign_in(name="ada", password=PASSWORD, address=HERE), after=3)


@pytest.mark.parametrize("spelling", ["ADA", "ａｄａ"])
async def test_another_spelling_is_the_same_account(world: World, ada: SignedIn, spelling: str) -> None:
    for name in ("ada", spelling, "ada"):
        await world.sign_in(name=name, password=PASSWORD, address=HERE)
    with pytest.raises(RateLimited):
        await world.sign_in(name=spelling, password=PASSWORD, address=HERE)


async def test_name_and_address_are_the_same_account(world: World, ada: SignedIn) -> None:
    for name in ("ada", "ada@example.org", "ADA"):
        with pytest.raises(InvalidCredentials):
            await world.sign_in(name=name, password="wrong", address=HERE)
    for name in ("ada", "ada@example.org"):
        with pytest.raises(RateLimited):
            await world.sign_in(name=name, password=PASSWORD, address=HERE)


async def test_unknown_names_are_limited_as_known_ones(world: World, ada: SignedIn) -> None:
    known = await limited(lambda: world.sign_in(name="ada", password="wrong", address=HERE), after=3)
    unknown = await limited(lambda: world.sign_in(name="\ud800", password="wrong", address=HERE), after=3)
    assert (known.detail, known.retry_after) == (unknown.detail, unknown.retry_after)


async def test_what_is_limited_costs_no_hash(world: World, ada: SignedIn, monkeypatch: pytest.MonkeyPatch) -> None:
    await limited(lambda: world.sign_in(name="ada", password="wrong", address=HERE), after=3)
    await limited(lambda: world.register(username="ada", password=PASSWORD, address=HERE), after=4)

    async def never(*_: object) -> bool:
        raise AssertionError("hashed")

    monkeypatch.setattr(world.passwords, "verify", never)
    monkeypatch.setattr(world.passwords, "hash", never)
    with pytest.raises(RateLimited):
        await world.sign_in(name="ada", password=PASSWORD, address=HERE)
    with pytest.raises(RateLimited):
        await world.register(username="newcomer", password=PASSWORD, address=HERE)


async def test_the_current_password_cannot_be_tried_at_will_either(world: World, ada: SignedIn) -> None:
    caller = await world.caller(ada)
    await limited(lambda: world.change_email(caller=caller, email="b@example.org", current_password="wrong"), after=3)
    with pytest.raises(RateLimited):
        await world.change_password(caller=caller, password="another horse", current_password=PASSWORD)
    await world.change_email(caller=caller, email="b@example.org")  # without a try


# ---- registering -----------------------------------------------------------------------------------------


async def test_registrations_are_counted_per_address_once_they_are_well_formed(world: World) -> None:
    for _ in range(9):
        with pytest.raises(ValidationFailed):
            await world.register(username="a", password=PASSWORD, address=HERE)
    for number in range(4):
        await world.register(username=f"user{number}", password=PASSWORD, address=HERE)
    with pytest.raises(RateLimited):
        await world.register(username="user4", password=PASSWORD, address=HERE)
    with pytest.raises(RateLimited):
        await world.create_account(username="user4", password=PASSWORD, address=HERE)
    await world.register(username="user4", password=PASSWORD, address=ELSEWHERE)


@pytest.mark.parametrize("rename", ["username", "email"])
async def test_another_name_tells_who_is_there_no_more_often_than_registering(world: World, rename: str) -> None:
    """From one address, and for one user from any."""
    ada, bob = [await world.caller(await world.signed_in(name)) for name in ("ada", "bob")]
    await world.register(username="eve", password=PASSWORD, address=HERE)

    async def another(caller: Caller, name: str, address: str) -> None:
        if rename == "username":
            await world.change_username(caller=caller, username=name, address=address)
        else:
            await world.change_email(caller=caller, email=f"{name}@example.org", address=address)

    for _ in range(3):
        with pytest.raises(Conflict):
            await another(ada, "bob", HERE)
    for caller in (ada, bob):
        with pytest.raises(RateLimited):
            await another(caller, "ada2", HERE)
    with pytest.raises(RateLimited):
        await world.register(username="ivy", password=PASSWORD, address=HERE)
    await another(bob, "bob2", ELSEWHERE)
    with pytest.raises(RateLimited):
        await another(ada, "ada2", ELSEWHERE)
    with pytest.raises(ValidationFailed):
        await another(ada, "", ELSEWHERE)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("2001:db8::1", "2001:DB8:0::2", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "", True),
        ("not an address", "nor this", False),
    ],
)
def test_whose_an_address_is(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same


# ---- talking ---------------------------------------------------------------------------------------------


async def test_sends_are_counted_per_user_whatever_the_conversation(world: World) -> None:
    async with world.process() as process:
        ada, bob = await process.chat("ada"), await process.chat("bob")
        others = [await process.chat_of(ada.owner) for _ in range(5)]
        for chat in others:
            await chat.ask()
        with pytest.raises(RateLimited):
            await ada.send()
        assert await ada.messages() == []
        await bob.ask()


async def test_so_many_replies_at_once_and_no_more(world: World) -> None:
    stall = Stall()
    world.model = ScriptedModel("Hello", stall, " world")
    async with world.process() as one, world.process() as other:
        chats = [await one.chat("ada")]
        chats += [await one.chat_of(chats[0].owner) for _ in range(3)]
        await chats[0].send()
        await chats[1].send()
        with pytest.raises(RateLimited) as raised:
            await chats[2].send()
        assert raised.value.retry_after >= 1
        assert await chats[2].messages() == []
        assert (await chats[2].stored()).writing_reply_id is None
        await (await one.chat("bob")).send()
        await chats[3].seen_from(other).send()  # each process counts its own
        stall.release()
        await chats[0].end()
        await chats[2].send()
        for chat in chats[1:3]:
            await chat.end()


async def test_who_has_too_many_replies_costs_no_work(world: World) -> None:
    """No transaction is begun."""
    stall = Stall()
    world.model = ScriptedModel("Hello", stall)
    world.set_limits(RateLimits(replies=1))
    async with world.process() as process:
        first = await process.chat("ada")
        second = await process.chat_of(first.owner)
        await first.send()
        world.database.contend(100)  # whatever would write
        with pytest.raises(RateLimited):
            await second.send()
        world.database.contend(0)
        stall.release()
        await first.end()


async def test_of_many_sends_at_the_same_moment_no_more_are_taken(world: World) -> None:
    stall = Stall()
    world.model = ScriptedModel(stall)
    world.set_limits(RateLimits(replies=2))
    async with world.process() as process:
        ada = await process.chat("ada")
        chats = [await process.chat_of(ada.owner) for _ in range(10)]
        sent = await asyncio.gather(*(chat.send() for chat in chats), return_exceptions=True)
        assert sum(isinstance(each, RateLimited) for each in sent) == 8
        stall.release()
        for chat, each in zip(chats, sent, strict=True):
            if not isinstance(each, BaseException):
                await chat.end()


async def test_without_a_limiter_nothing_is_limited(world: World, ada: SignedIn) -> None:
    world.set_limits(UNLIMITED)
    for _ in range(20):
        await world.sign_in(name="ada", password=PASSWORD, address=HERE)
