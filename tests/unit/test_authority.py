"""In whose name something is changed: no use case forgets to ask, and none goes by what was true when it was called."""

import ast
import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chatcore import (
    DisableUser,
    GrantRole,
    Operator,
    RevokeRole,
    SignedIn,
    Status,
)
from chatcore.errors import AccountDisabled, Forbidden, Unauthenticated
from chatcore_memory import Stall
from unit.world import LEASE, Process, World

CORE = Path(__file__).parents[2] / "src" / "chatcore"

WITHOUT = {
    "accounts.MakeAccount._store": "anybody makes an account",
    "accounts.Register._store_signed_in": "anybody makes an account",
    "administration.CreateAdmin.promote": "the operator, at the server",
    "encryption_keys.RotateKeys._replace": "the operator, at the server",
    "owners.OpenOwner._found_or_added": "the embedding program vouches for its users",
    "sessions.NoteUse._touch": "a use is noted, nothing of the user's is changed",
    "sessions.Refresh._refresh": "a refresh token is the proof, and is looked at in the same transaction",
    "sessions.SignIn._open": "the password is the proof, and its hash is held in the same transaction",
    "user_import.ImportUsers._store_once": "the operator, at the server",
}
"""The writing units of the use cases that rest on no authority, and why."""


def units_without() -> Iterator[str]:
    """Where a use case opens a writing unit of work itself."""
    for file in sorted((CORE / "use_cases").glob("*.py")):
        for kind in ast.walk(ast.parse(file.read_bytes())):
            for method in kind.body if isinstance(kind, ast.ClassDef) else ():
                for call in ast.walk(method):
                    if isinstance(call, ast.Call) and opens(call.func) and not reads(call):
                        assert isinstance(kind, ast.ClassDef)
                        yield f"{file.stem}.{kind.name}.{getattr(method, 'name', '')}"


def opens(called: ast.expr) -> bool:
    return isinstance(called, ast.Attribute) and called.attr.strip("_") == "unit_of_work"


def reads(call: ast.Call) -> bool:
    return any(each.arg == "read_only" and ast.unparse(each.value) == "True" for each in call.keywords)


def test_no_use_case_changes_anything_without_an_authority_but_these() -> None:
    assert sorted(units_without()) == sorted(WITHOUT)


def test_a_unit_of_work_is_opened_where_it_is_seen() -> None:
    """And not by another name, which the test before would miss."""
    for file in sorted((CORE / "use_cases").glob("*.py")):
        tree = ast.parse(file.read_bytes())
        called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        given = {id(value) for node in ast.walk(tree) if isinstance(node, ast.Call) for value in values_of(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr == "unit_of_work":
                assert id(node) in called | given, f"{file.name}:{node.lineno}"


def values_of(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(each.value for each in call.keywords)]


# ---- what goes while something is under way --------------------------------------------------------------


@pytest.fixture
async def ada(world: World) -> SignedIn:
    return await world.signed_in("ada")


async def is_signed_out(world: World, ada: SignedIn) -> None:
    await world.sign_out(caller=await world.caller(ada))


async def is_disabled_behind_the_session(world: World, ada: SignedIn) -> None:
    async with world.database.unit_of_work() as work:
        await work.administration.set_active(ada.user.id, False, now=world.clock.now())
        await work.commit()


ENDS = {is_signed_out: Unauthenticated, is_disabled_behind_the_session: AccountDisabled}
ends = pytest.mark.parametrize(("end", "refusal"), list(ENDS.items()), ids=lambda each: each.__name__)
End = Callable[[World, SignedIn], Awaitable[None]]


async def behind(world: World, end: End, ada: SignedIn, work: Awaitable[object], *, units: int = 0) -> None:
    """Do the work, but for its unit after so many writing units only when it has ended."""
    stall = Stall()
    left = units

    async def count() -> None:
        nonlocal left
        if left == 0:
            world.storage.before_unit = passed
            await stall.hold()
        left -= 1

    async def passed() -> None:
        pass

    world.storage.before_unit = count
    doing = asyncio.ensure_future(work)
    await stall.reached()
    await end(world, ada)
    stall.release()
    await doing


@ends
async def test_a_reply_is_not_stopped(world: World, ada: SignedIn, end: End, refusal: type[Exception]) -> None:
    world.model.then("Hel", Stall())
    async with world.process(grace=0, flush_every=LEASE) as process:
        chat = await process.chat_of(ada.user.id)
        await chat.send()
        stop = process.stop_reply(by=await world.caller(ada), conversation_id=chat.id)
        with pytest.raises(refusal):
            await behind(world, end, ada, stop)
        assert (await chat.messages())[-1].status is Status.WRITING


@ends
async def test_a_conversation_whose_reply_was_stopped_is_not_deleted(
    world: World, ada: SignedIn, end: End, refusal: type[Exception]
) -> None:
    """The stop was ordered in time, the deletion was not."""
    world.model.then("Hel", Stall())
    async with world.process() as process:
        chat = await process.chat_of(ada.user.id)
        await chat.send()
        delete = process.delete_conversation(by=await world.caller(ada), conversation_id=chat.id)
        with pytest.raises(refusal):
            await behind(world, end, ada, delete, units=2)  # that of the order, and of the reply's end
        assert [message.status for message in await chat.messages()] == [Status.COMPLETE, Status.STOPPED]


@pytest.mark.parametrize("units", [0, 1])
@ends
async def test_an_account_is_not_deleted(
    world: World, process: Process, ada: SignedIn, end: End, refusal: type[Exception], units: int
) -> None:
    delete = process.delete_account(caller=await world.caller(ada))
    with pytest.raises(refusal):
        await behind(world, end, ada, delete, units=units)
    assert ada.user.id in world.database._store.committed.users


async def test_a_session_that_has_expired_since_does_nothing(world: World, ada: SignedIn) -> None:
    me = await world.caller(ada)
    world.clock.advance(world.policy.session_ttl.total_seconds())
    with pytest.raises(Unauthenticated):
        await world.create_conversation(by=me)
    with pytest.raises(Unauthenticated):
        await world.change_username(caller=me, username="grace")


async def is_demoted(world: World, ada: SignedIn) -> None:
    revoke = RevokeRole(unit_of_work=world.storage, clock=world.clock)
    await revoke(by=Operator(), user_id=ada.user.id, role="admin")


async def test_who_is_no_administrator_any_more_changes_nothing(world: World, ada: SignedIn) -> None:
    """Nor who never was one, whatever the edge has let through."""
    parts: dict[str, Any] = {"unit_of_work": world.storage, "clock": world.clock}
    bob, root = await world.signed_in("bob"), await world.signed_in("root")
    for user in (ada.user, root.user):
        await GrantRole(**parts)(by=Operator(), user_id=user.id, role="admin")
    disable = DisableUser(**parts)
    with pytest.raises(Forbidden):
        await behind(world, is_demoted, ada, disable(by=await world.caller(ada), user_id=bob.user.id))
    with pytest.raises(Forbidden):
        await disable(by=await world.caller(bob), user_id=ada.user.id)
    assert (await world.caller(ada)).user.is_active
    assert (await world.caller(bob)).user.is_active


async def test_one_for_whom_the_program_vouches_has_no_session_that_could_end(
    world: World, process: Process, ada: SignedIn
) -> None:
    chat = await process.chat_of(ada.user.id)
    for end in (is_signed_out, is_disabled_behind_the_session):
        await behind(world, end, ada, chat.rename("Mine"))
    assert (await chat.stored()).title == "Mine"
