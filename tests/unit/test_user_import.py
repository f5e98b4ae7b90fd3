"""Accounts that come from another system."""

from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest

from chatcore import ImportUsers, Profile
from chatcore.errors import InvalidCredentials
from chatcore.ports import NewUser
from chatcore.use_cases.user_import import UserRow, UsersImported
from chatcore_testing.normalising import MARKS
from unit.world import World

OLD = sha256(b"correct horse").hexdigest()


def new(username: str, **more: Any) -> NewUser:
    return NewUser(**{"username": username, "password_hash": OLD, **more})


async def brought(world: World, *users: NewUser | str, batch: int = 3) -> list[UsersImported]:
    rows = (UserRow(line, user) for line, user in enumerate(users, start=2))
    use_case = ImportUsers(unit_of_work=world.storage, passwords=world.passwords, clock=world.clock)
    return [imported async for imported in use_case(rows=rows, batch=batch)]


async def test_who_comes_from_elsewhere_signs_in_with_the_old_password_which_is_hashed_anew(world: World) -> None:
    profile = Profile(user_name="Ada", country="UK")
    created = world.clock.now() - timedelta(days=100)
    (imported,) = await brought(world, new("ada", email="ada@example.org", profile=profile, created_at=created))
    assert (imported.added, imported.there_already, imported.refusals) == (1, 0, 0)
    with pytest.raises(InvalidCredentials):
        await world.sign_in(name="ada", password=OLD)
    signed_in = await world.sign_in(name="ada", password="correct horse")
    assert (signed_in.user.profile, signed_in.user.created_at) == (profile, created)
    caller = await world.caller(signed_in)
    assert OLD not in caller.user.password_hash
    assert not world.passwords.needs_rehash(caller.user.password_hash)
    await world.sign_in(name="ada@example.org", password="correct horse")


async def test_it_may_be_run_again_and_changes_nobody(world: World) -> None:
    before = await world.signed_in("bob")
    users = [new("ada"), new("bob", roles=frozenset({"admin"})), new("eve")]
    first, second = await brought(world, *users), await brought(world, *users)
    assert (first[-1].added, first[-1].there_already) == (2, 1)
    assert (second[-1].added, second[-1].there_already) == (0, 3)
    assert first[-1].there == [(3, "bob")]
    assert (await world.caller(before)).user == before.user


REFUSED = {
    "a name with a space": (new("a da"), "username"),
    "an address as a name": (new("ada@example.org"), "username"),
    "no address": (new("ada", email="example.org"), "email"),
    "no hash": (new("ada", password_hash="secret"), "password_hash"),
    "a name that takes long to normalise": (new(MARKS), "username"),
    "an address that does": (new("ada", email=f"{MARKS}@example.org"), "email"),
    "no such role": (new("ada", roles=frozenset({"root"})), "roles"),
    "a profile that is too long": (new("ada", profile=Profile(job="x" * 201)), "job"),
    "NUL": (new("ada", profile=Profile(country="\0")), "country"),
    "no row": ("is no CSV", "is no CSV"),
}


@pytest.mark.parametrize(("broken", "why"), REFUSED.values(), ids=REFUSED)
async def test_a_row_that_is_refused_does_not_lose_its_batch(
    world: World, normalised: list[int], broken: NewUser | str, why: str
) -> None:
    (imported,) = await brought(world, new("eve"), broken, new("bob"))
    assert (imported.added, imported.refusals) == (2, 1)
    (refused,) = imported.refused
    assert (refused.line, refused.why.partition(":")[0]) == (3, why)
    assert "secret" not in refused.why
    assert OLD not in refused.why
    assert max(normalised) < 1000


async def test_a_time_that_lies_ahead_is_refused(world: World) -> None:
    (imported,) = await brought(world, new("ada", created_at=world.clock.now() + timedelta(days=1)))
    assert imported.refused[0].why.startswith("created_at")


async def test_names_and_addresses_are_one_persons_within_a_batch_and_across(world: World) -> None:
    users = [
        new("ada", email="x@example.org"),
        new("ada"),
        new("bob", email="X@example.org"),
        new("ada", email="y@example.org"),
        new("eve", email="x@example.ORG"),
    ]
    imported = await brought(world, *users)
    assert (imported[-1].added, imported[-1].there_already, imported[-1].refusals) == (1, 2, 2)
    assert [each.there for each in imported] == [[(3, "ada")], [(5, "ada")]]
    assert [[refused.line for refused in each.refused] for each in imported] == [[4], [6]]


@pytest.mark.parametrize("batch", [1, 3])
async def test_another_spelling_of_a_name_is_refused_and_not_passed_over(world: World, batch: int) -> None:
    """The other system may have told the one from the other: then the second would be left out unnoticed."""
    imported = await brought(world, new("ada"), new("ADA"), new("ａｄａ"), batch=batch)
    assert (imported[-1].added, imported[-1].there_already, imported[-1].refusals) == (1, 0, 2)
    why = "username: differs from ada, who is there, only in its spelling"
    assert [(refused.line, refused.why) for each in imported for refused in each.refused] == [(3, why), (4, why)]


async def test_rows_are_taken_batch_by_batch_and_stored_in_one_transaction_each(world: World) -> None:
    taken = 0

    def rows() -> Iterator[UserRow]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield UserRow(number, new(f"user{number}"))

    use_case = ImportUsers(unit_of_work=world.storage, passwords=world.passwords, clock=world.clock)
    before, seen = world.storage.commits, 0
    async for imported in use_case(rows=rows(), batch=100):
        seen += 1
        assert (taken, imported.added, world.storage.commits - before) == (100 * seen, 100 * seen, seen)
    assert seen == 10


async def test_a_deadlock_is_tried_again(world: World) -> None:
    world.database.contend(2, after=1)
    assert (await brought(world, new("ada"), new("bob")))[-1].added == 2
