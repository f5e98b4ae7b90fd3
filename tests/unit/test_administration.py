"""Other people's accounts: who administers them, and that somebody always does."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from chatcore import (
    Caller,
    ConversationId,
    CreateAdmin,
    DeleteAccount,
    DeleteUser,
    DisableUser,
    EnableUser,
    ExpirySweep,
    GrantRole,
    ListRoles,
    ListSessionsOfUser,
    ListUsers,
    Operator,
    OwnerId,
    Replies,
    RevokeRole,
    RevokeSessionsOfUser,
    SignedIn,
    Status,
    User,
    UserId,
)
from chatcore.errors import AccountDisabled, InvalidCredentials, LastAdmin, NotFound, UsernameTaken, ValidationFailed
from chatcore.removal import Removal
from chatcore_memory import Stall
from unit.world import PASSWORD, Chat, World, refused

NOBODY = UserId(OwnerId(10**6))
OPERATOR = Operator()


class Office:
    """The use cases of administration on one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.users = ListUsers(unit_of_work=world.storage)
        self.roles = ListRoles(unit_of_work=world.storage)
        self.sessions = ListSessionsOfUser(unit_of_work=world.storage)
        self.disable = DisableUser(unit_of_work=world.storage, clock=world.clock)
        self.enable = EnableUser(unit_of_work=world.storage, clock=world.clock)
        self.grant = GrantRole(unit_of_work=world.storage, clock=world.clock)
        self.revoke = RevokeRole(unit_of_work=world.storage, clock=world.clock)
        self.revoke_sessions = RevokeSessionsOfUser(unit_of_work=world.storage, clock=world.clock)
        self.create_admin = CreateAdmin(
            unit_of_work=world.storage, passwords=world.passwords, policy=world.password_policy, clock=world.clock
        )

    async def admin(self, username: str) -> User:
        return await self.create_admin(username=username, password=PASSWORD)

    async def admins(self) -> list[str]:
        """The active ones."""
        page = await self.users(limit=100)
        return sorted(user.username for user in page.items if user.is_active and "admin" in user.roles)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def office(world: World) -> Office:
    return Office(world)


# ---- disabled --------------------------------------------------------------------------------------------


async def test_who_is_disabled_is_out_at_once_and_comes_in_no_more(world: World, office: Office) -> None:
    await office.admin("root")
    ada, elsewhere = await world.signed_in("ada"), await world.sign_in_again("ada")
    bob = await world.signed_in("bob")
    for _ in range(2):
        assert (await office.disable(by=OPERATOR, user_id=ada.user.id)).is_active is False
        await refused(world, ada, elsewhere)
        with pytest.raises(AccountDisabled):
            await world.sign_in_again("ada")
    assert (await world.caller(bob)).user == bob.user
    assert (await office.enable(by=OPERATOR, user_id=ada.user.id)).is_active is True
    await refused(world, ada, elsewhere)
    await world.caller(await world.sign_in_again("ada"))


async def test_who_signs_in_while_being_disabled_is_not_signed_in(world: World, office: Office) -> None:
    ada = await world.signed_in("ada")
    stall = Stall()
    world.storage.hold_next_unit(stall)
    signing_in = asyncio.create_task(world.sign_in_again("ada"))
    await stall.reached()
    await office.disable(by=OPERATOR, user_id=ada.user.id)
    stall.release()
    with pytest.raises(AccountDisabled):
        await signing_in
    await office.enable(by=OPERATOR, user_id=ada.user.id)
    await refused(world, ada)


async def test_enabling_who_is_enabled_ends_no_session(world: World, office: Office) -> None:
    ada = await world.signed_in("ada")
    assert await office.enable(by=OPERATOR, user_id=ada.user.id) == ada.user
    assert (await world.caller(ada)).user == ada.user


async def test_what_is_being_written_goes_on(world: World, office: Office) -> None:
    stall = Stall()
    world.model.then("Hel", stall, "lo")
    async with world.process() as process:
        chat = await process.chat()
        await chat.send()
        await office.disable(by=OPERATOR, user_id=chat.owner)
        stall.release()
        message = await chat.end()
    assert (message.content, message.status) == ("Hello", Status.COMPLETE)


async def test_all_sessions_end_and_new_ones_may_begin(world: World, office: Office) -> None:
    ada, elsewhere, bob = await world.signed_in("ada"), await world.sign_in_again("ada"), await world.signed_in("bob")
    await office.revoke_sessions(by=OPERATOR, user_id=ada.user.id)
    await refused(world, ada, elsewhere)
    await world.caller(bob)
    await world.caller(await world.sign_in_again("ada"))
    page = await office.sessions(user_id=ada.user.id)
    assert sorted(session.logout_time is None for session in page.items) == [False, False, True]
    assert not page.has_more


# ---- roles -----------------------------------------------------------------------------------------------


async def test_a_role_holds_from_the_next_request_on(world: World, office: Office) -> None:
    await office.admin("root")
    ada = await world.signed_in("ada")
    for _ in range(2):
        assert (await office.grant(by=OPERATOR, user_id=ada.user.id, role="admin")).roles == {"user", "admin"}
        assert (await world.caller(ada)).user.roles == {"user", "admin"}
    for _ in range(2):
        assert (await office.revoke(by=OPERATOR, user_id=ada.user.id, role="admin")).roles == {"user"}
        assert (await world.caller(ada)).user.roles == {"user"}


@pytest.mark.parametrize("role", ["", "emperor", "Admin", "admin ", "user\0"])
async def test_only_roles_that_there_are(world: World, office: Office, role: str) -> None:
    ada = await world.signed_in("ada")
    for change in (office.grant, office.revoke):
        with pytest.raises(ValidationFailed) as refusal:
            await change(by=OPERATOR, user_id=ada.user.id, role=role)
        assert [error.field for error in refusal.value.errors] == ["role"]
    assert (await world.caller(ada)).user == ada.user


async def test_each_role_that_there_is_can_be_granted(world: World, office: Office) -> None:
    ada = await world.signed_in("ada")
    for role in await office.roles():
        assert role.description
        assert role.name in (await office.grant(by=OPERATOR, user_id=ada.user.id, role=role.name)).roles


async def test_nobody_is_nobody(world: World, office: Office) -> None:
    async with world.process() as process:
        delete = DeleteUser(unit_of_work=world.storage, replies=process.replies, clock=world.clock)
        for work in (
            office.disable(by=OPERATOR, user_id=NOBODY),
            office.enable(by=OPERATOR, user_id=NOBODY),
            office.grant(by=OPERATOR, user_id=NOBODY, role="admin"),
            office.revoke(by=OPERATOR, user_id=NOBODY, role="admin"),
            office.revoke(by=OPERATOR, user_id=NOBODY, role="user"),
            office.revoke_sessions(by=OPERATOR, user_id=NOBODY),
            office.sessions(user_id=NOBODY),
            delete(by=OPERATOR, user_id=NOBODY),
        ):
            with pytest.raises(NotFound):
                await work


# ---- the last one ----------------------------------------------------------------------------------------


async def test_the_last_administrator_stays(world: World, office: Office) -> None:
    root, disabled = await office.admin("root"), await office.admin("disabled")
    await office.disable(by=OPERATOR, user_id=disabled.id)
    signed_in = await world.sign_in_again("root")
    async with world.process() as process:
        chat = await process.chat_of(root.id)
        stall = Stall()
        world.model.then("Hel", stall, "lo")
        await chat.send()
        for work in going(office, process.replies, signed_in, root):
            with pytest.raises(LastAdmin):
                await work()
        stall.release()
        assert (await chat.end()).status is Status.COMPLETE, "nothing was stopped"
    assert (await world.caller(signed_in)).user.roles == {"user", "admin"}
    assert await office.admins() == ["root"]
    await office.revoke(by=OPERATOR, user_id=disabled.id, role="admin")  # who is disabled is not the last one


def going(office: Office, replies: Replies, signed_in: SignedIn, user: User) -> list[Callable[[], Awaitable[object]]]:
    """All the ways in which an administrator can go."""
    world = office.world

    delete = DeleteUser(unit_of_work=world.storage, replies=replies, clock=world.clock)

    async def delete_account() -> None:
        delete = DeleteAccount(unit_of_work=world.storage, replies=replies, step_up=world.step_up, clock=world.clock)
        await delete(caller=await world.caller(signed_in))

    return [
        lambda: office.disable(by=OPERATOR, user_id=user.id),
        lambda: office.revoke(by=OPERATOR, user_id=user.id, role="admin"),
        lambda: delete(by=OPERATOR, user_id=user.id),
        delete_account,
    ]


@pytest.mark.parametrize("one", range(4))
@pytest.mark.parametrize("other", range(4))
async def test_of_two_who_go_at_once_one_stays(world: World, office: Office, one: int, other: int) -> None:
    users = [await office.admin(name) for name in ("ada", "bob")]
    async with world.process() as process:
        works = [
            going(office, process.replies, await world.sign_in_again(user.username), user)[way]
            for user, way in zip(users, (one, other), strict=True)
        ]
        ended = await asyncio.gather(*(work() for work in works), return_exceptions=True)
    assert sum(isinstance(end, LastAdmin) for end in ended) == 1, ended
    assert len(await office.admins()) == 1


# ---- seeing, making, deleting ----------------------------------------------------------------------------


async def test_users_are_seen_by_page(world: World, office: Office) -> None:
    users = [(await world.signed_in(f"user{number}")).user for number in range(5)]
    seen, before = list[User](), None
    while True:
        page = await office.users(q="USER", before=before, limit=2)
        seen += page.items
        if not page.has_more:
            break
        before = page.items[-1].id
    assert seen == users[::-1]
    for limit, q in ((0, ""), (101, ""), (1, "x" * 255), (1, "\0")):
        with pytest.raises(ValidationFailed):
            await office.users(q=q, limit=limit)


async def test_a_user_goes_with_everything_while_a_reply_is_written(world: World, office: Office) -> None:
    world.model.then("Hel", Stall())
    async with world.process() as process:
        chat = await process.chat()
        await chat.send()
        await DeleteUser(unit_of_work=world.storage, replies=process.replies, clock=world.clock)(
            by=OPERATOR, user_id=chat.owner
        )
        assert process.replies.writing_now == 0
    assert (await office.users()).items == []


async def test_an_administrator_is_made_or_made_of_one_who_is_there(world: World, office: Office) -> None:
    root = await office.admin("root")
    assert root.roles == {"user", "admin"}
    with pytest.raises(UsernameTaken):
        await office.create_admin(username="ROOT", password=PASSWORD)
    with pytest.raises(ValidationFailed):
        await office.create_admin(username="r", password="short", email="none")
    with pytest.raises(NotFound):
        await office.create_admin.promote(name="ada")
    ada = await world.signed_in("ada")
    await office.disable(by=OPERATOR, user_id=ada.user.id)
    for name in ("ada", "ADA@example.org"):
        promoted = await office.create_admin.promote(name=name)
        assert (promoted.id, promoted.is_active) == (ada.user.id, True)
        assert promoted.roles == {"user", "admin"}
    await refused(world, ada)
    with pytest.raises(InvalidCredentials):
        await world.sign_in(name="ada", password="another password")
    await world.caller(await world.sign_in_again("ada"))


# ---- what has expired ------------------------------------------------------------------------------------


async def test_what_has_expired_is_swept_a_day_later(world: World) -> None:
    ada = await world.signed_in("ada")
    for _ in range(3):
        await world.sign_in_again("ada")
    sweep = ExpirySweep(unit_of_work=world.storage, clock=world.clock, every=0.001, batch=3)
    assert await sweep.sweep() == 0
    world.clock.advance((world.policy.refresh_ttl + timedelta(days=1)).total_seconds())
    assert await sweep.sweep() == 0
    world.clock.advance(1)
    assert await sweep.sweep() == 4, "the refresh tokens"
    assert (await world.session_of(ada)).id == ada.session.id
    world.clock.advance(world.policy.session_ttl.total_seconds())
    async with sweep:
        while (await world.list_sessions(caller=Caller(ada.user, ada.session))).items:
            await asyncio.sleep(0.001)
    assert await sweep.sweep() == 0


async def test_the_sweep_outlives_an_outage(world: World) -> None:
    await world.signed_in("ada")
    world.clock.advance(60 * 86400)
    async with ExpirySweep(unit_of_work=world.storage, clock=world.clock, every=0.001):
        with world.database.outage():
            await world.storage.refused.wait()
        sweep = ExpirySweep(unit_of_work=world.storage, clock=world.clock)
        while await sweep.sweep():
            await asyncio.sleep(0)


async def test_what_a_closed_account_has_left_is_deleted_by_whichever_process_is_there(
    world: World, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process closed it and was killed."""
    for _ in range(3):
        await chat.ask()
    async with world.storage() as work:
        assert await work.owners.close(chat.owner, now=world.clock.now())
        await work.commit()
    monkeypatch.setattr(Removal, "batch", 2)
    async with ExpirySweep(unit_of_work=world.storage, clock=world.clock, every=0.001):
        async with asyncio.timeout(5):
            while await closed(world):
                await asyncio.sleep(0.001)
    async with world.storage(read_only=True) as work:
        assert await work.conversations.get(chat.owner, chat.id) is None
        assert [*await work.messages.tree(chat.owner, chat.id)] == []


async def test_what_a_deleted_conversation_has_left_is_deleted_by_whichever_process_is_there(
    world: World, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await chat.ask()
    monkeypatch.setattr(Removal, "batch", 2)
    monkeypatch.setattr("chatcore.use_cases.conversations.REMOVE_WITHIN", 0)
    await chat.delete()
    with pytest.raises(NotFound):
        await chat.messages()
    with pytest.raises(NotFound):
        await chat.delete()
    assert await left(world) == [(chat.owner, chat.id)]
    async with ExpirySweep(unit_of_work=world.storage, clock=world.clock, every=0.001):
        async with asyncio.timeout(5):
            while await left(world):
                await asyncio.sleep(0.001)
    async with world.storage(read_only=True) as work:
        assert [*await work.messages.tree(chat.owner, chat.id)] == []


async def left(world: World) -> list[tuple[OwnerId, ConversationId]]:
    async with world.storage(read_only=True) as work:
        return [*await work.administration.closed_conversations(limit=10)]


async def test_a_deletion_that_takes_long_is_gone_on_with_later(
    world: World, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await chat.ask()
    async with world.storage() as work:
        assert await work.owners.close(chat.owner, now=world.clock.now())
        await work.commit()
    monkeypatch.setattr(Removal, "batch", 1)
    await Removal(world.storage, world.clock).owner(chat.owner, within=0)
    assert await closed(world) == [chat.owner]
    async with world.storage(read_only=True) as work:
        assert len(await work.messages.tree(chat.owner, chat.id)) == 5
    await Removal(world.storage, world.clock).owner(chat.owner)
    assert await closed(world) == []


async def closed(world: World) -> list[OwnerId]:
    async with world.storage(read_only=True) as work:
        return [*await work.owners.closed(limit=10)]
