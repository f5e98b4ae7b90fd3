"""What an authority holds while it acts: who only acts waits for nobody, who ends it waits, and no two of them wait for
each other.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from chatcore import (
    Caller,
    CreateConversation,
    DisableUser,
    GrantRole,
    Refresh,
    RenameConversation,
    RevokeOtherSessions,
    RevokeRole,
    RevokeSession,
    RevokeSessionsOfUser,
    SessionIssuer,
    SessionPolicy,
    SignedIn,
    SignOut,
    SystemClock,
    User,
)
from chatcore.authority import acting
from chatcore.errors import Forbidden, LastAdmin, NotFound, Unauthenticated
from chatcore_memory import PlainSigner
from chatcore_sql import Database
from chatcore_testing.contracts.storage.base import stored_user
from integration.databases import only_servers
from integration.test_sql_contention import Watched

ROUNDS = 8
ISSUER = SessionIssuer(signer=PlainSigner(), policy=SessionPolicy(refresh_secret=b"secret"))
CLOCK = SystemClock()


async def signed_in(database: Database, user: User, times: int) -> list[SignedIn]:
    async with database.unit_of_work() as work:
        opened = [await ISSUER.open(work, user, user_agent="", address="", now=CLOCK.now()) for _ in range(times)]
        await work.commit()
    return opened


def caller_of(signed_in: SignedIn) -> Caller:
    return Caller(signed_in.user, signed_in.session)


@only_servers
async def test_two_act_at_once_through_one_session(database: Database) -> None:
    (ada,) = await signed_in(database, await stored_user(database.unit_of_work, "ada"), 1)
    me, watched = caller_of(ada), Watched(database)
    create = CreateConversation(unit_of_work=watched, clock=CLOCK)
    async with acting(database.unit_of_work, me, now=CLOCK.now()):
        assert (await create(by=me)).user_id == ada.user.id
    assert watched.losses == 0


@only_servers
@pytest.mark.parametrize("alone", [False, True])
async def test_who_signs_out_waits_for_what_the_session_does(database: Database, alone: bool) -> None:
    (ada,) = await signed_in(database, await stored_user(database.unit_of_work, "ada"), 1)
    me, order = caller_of(ada), list[str]()

    async def sign_out() -> None:
        await SignOut(unit_of_work=database.unit_of_work, clock=CLOCK)(caller=me)
        order.append("signed out")

    async with acting(database.unit_of_work, me, now=CLOCK.now(), alone=alone) as work:
        signing_out = asyncio.create_task(sign_out())
        for _ in range(20):  # round trips in which the other one could overtake
            await work.users.find("ada")
        await work.conversations.add(ada.user.id, title="", config_id=None, now=CLOCK.now())
        order.append("acted")
        await work.commit()
    await signing_out
    assert order == ["acted", "signed out"]
    with pytest.raises(Unauthenticated):
        await CreateConversation(unit_of_work=database.unit_of_work, clock=CLOCK)(by=me)


@only_servers
async def test_what_many_do_with_their_sessions_meets_in_no_deadlock(database: Database) -> None:
    """Acts, and what ends them, of two users who administer each other; all take the user first, then the session."""
    parts: dict[str, Any] = {"unit_of_work": (watched := Watched(database)), "clock": CLOCK}
    create, rename = CreateConversation(**parts), RenameConversation(**parts)
    for number in range(ROUNDS):
        users = [await stored_user(database.unit_of_work, f"{name}{number}") for name in ("ada", "bob")]
        async with database.unit_of_work() as work:
            for user in users:
                await work.administration.grant(user.id, "admin", now=CLOCK.now())
            await work.commit()
        adas, bobs = [await signed_in(database, user, 4) for user in users]
        conversations = [await create(by=caller_of(each[0])) for each in (adas, bobs)]
        todo: list[Awaitable[object]] = []
        for mine, theirs, conversation in zip((adas, bobs), (bobs, adas), conversations, strict=True):
            user_id, by = theirs[0].user.id, caller_of(mine[3])
            todo += [
                *(create(by=caller_of(each)) for each in mine),
                *(rename(by=caller_of(each), conversation_id=conversation.id, title="x") for each in mine),
                Refresh(sessions=ISSUER, **parts)(refresh_token=mine[1].refresh_token),
                RevokeSession(**parts)(caller=caller_of(mine[0]), session_id=mine[1].session.id),
                RevokeOtherSessions(**parts)(caller=caller_of(mine[2])),
                SignOut(**parts)(caller=caller_of(mine[2])),
                GrantRole(**parts)(by=by, user_id=user_id, role="user"),
                RevokeSessionsOfUser(**parts)(by=by, user_id=user_id),
                RevokeRole(**parts)(by=by, user_id=user_id, role="user"),
                DisableUser(**parts)(by=by, user_id=user_id),
                delete(watched, theirs[0].user),
            ]
        for result in await asyncio.gather(*todo, return_exceptions=True):
            allowed = Unauthenticated | Forbidden | LastAdmin | NotFound
            assert not isinstance(result, BaseException) or isinstance(result, allowed), result
    assert watched.losses == 0


async def delete(unit_of_work: Watched, user: User) -> None:
    for _ in range(20):
        await asyncio.sleep(0)
    async with unit_of_work() as work:
        await work.owners.delete(user.id)
        await work.commit()
