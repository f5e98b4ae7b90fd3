"""Personal API keys: making, using, listing and revoking them, and what no key may."""

import logging
from base64 import urlsafe_b64decode
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from chatcore import Caller, ExpirySweep, Rate, RateLimits, Scope, SessionId
from chatcore.entities import NEVER
from chatcore.errors import (
    AccountDisabled,
    InsufficientScope,
    NotFound,
    RateLimited,
    TooManyApiKeys,
    Unauthenticated,
    ValidationFailed,
)
from chatcore.use_cases.api_keys import MAX_KEYS, NewApiKey
from chatcore_memory import MemoryLimiter
from raised import USE_CASES
from unit.test_raises import Scene, parameters_of, scene
from unit.world import World

__all__ = ["scene"]

OPEN = {
    Scope.CHAT: {
        "AddItems",
        "AddMessage",
        "CreateConversation",
        "DeleteConversation",
        "DescribeConversation",
        "DescribeRequest",
        "EditMessage",
        "EraseMessage",
        "ImportConversations",
        "RegenerateReply",
        "RelayModel",
        "RenameConversation",
        "SendMessage",
        "StopReply",
        "SwitchBranch",
        "UploadConversation",
    },
    Scope.READ: set[str](),
    Scope.FILES: {"DeleteFile", "UploadFile"},
}
"""What a key of each scope may do, of all use cases that ask who does it."""
ASKING = [kind for kind in USE_CASES if {"by", "caller"} & parameters_of(kind).keys()]


@pytest.fixture
async def ada(world: World) -> Caller:
    return await world.caller(await world.signed_in("ada"))


async def made(world: World, caller: Caller, *scopes: Scope, **more: Any) -> NewApiKey:
    return await world.create_api_key(caller=caller, name="laptop", scopes=scopes or {Scope.CHAT}, **more)


async def used(world: World, created: NewApiKey, needs: Scope | None = Scope.READ) -> Caller:
    return await world.authenticate_key(key=created.key, needs=needs)


# ---- making one ------------------------------------------------------------------------------------------


async def test_a_key_is_256_random_bits_and_only_its_digest_is_stored(world: World, ada: Caller) -> None:
    one, two = await made(world, ada), await made(world, ada)
    assert one.key != two.key
    assert one.key.startswith("ck-")
    assert len(urlsafe_b64decode(one.key.removeprefix("ck-") + "=")) == 32
    async with world.database.unit_of_work(read_only=True) as work:
        stored = await work.tokens.keys(ada.user.id, limit=10, offset=0)
    assert one.key not in repr((one, stored))
    assert one.session.key
    assert one.session.key.hint == one.key[-4:]
    assert repr(one.session.key.digest) not in repr((one, stored))


async def test_a_key_has_the_scope_chat_unless_others_are_named(world: World, ada: Caller) -> None:
    created = await world.create_api_key(caller=ada, name="laptop")
    assert created.session.key
    assert created.session.key.scopes == {Scope.CHAT}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"scopes": []}, "scopes"),
        ({"expires_at": datetime(2000, 1, 1, tzinfo=UTC)}, "expires_at"),
        ({"expires_at": datetime(2400, 1, 1)}, "expires_at"),  # noqa: DTZ001 - that is the point
        ({"expires_at": datetime(9999, 12, 31, 23, tzinfo=UTC)}, "expires_at"),
        ({"expires_at": datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12)))}, "expires_at"),
    ],
)
async def test_what_a_key_cannot_be(world: World, ada: Caller, given: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationFailed) as raised:
        await world.create_api_key(caller=ada, **{"name": "laptop", **given})
    assert [error.field for error in raised.value.errors] == [field]


async def test_a_user_has_at_most_fifty_live_keys(world: World, ada: Caller) -> None:
    keys = [await made(world, ada) for _ in range(MAX_KEYS - 1)]
    keys.append(await made(world, ada, expires_at=world.clock.now() + timedelta(hours=1)))
    with pytest.raises(TooManyApiKeys):
        await made(world, ada)
    await world.revoke_api_key(caller=ada, key_id=keys[0].session.id)
    await made(world, ada)
    with pytest.raises(TooManyApiKeys):
        await made(world, ada)
    world.clock.advance(3600)
    await made(world, ada)
    await made(world, await world.caller(await world.signed_in("bob")))


async def test_new_keys_are_limited_as_changes_of_the_name_are(world: World) -> None:
    world.set_limits(RateLimits(limiter=MemoryLimiter(world.clock), register=Rate(2, 60)))
    ada = await world.caller(await world.signed_in("ada"))
    for _ in range(2):
        await made(world, ada)
    with pytest.raises(RateLimited):
        await made(world, ada)


# ---- using it --------------------------------------------------------------------------------------------


async def test_it_opens_what_its_scopes_name(world: World, ada: Caller) -> None:
    expected = {Scope.CHAT: {Scope.CHAT, Scope.READ}, Scope.READ: {Scope.READ}, Scope.FILES: {Scope.FILES}}
    for scope, opened in expected.items():
        key = await made(world, ada, scope)
        for needs in Scope:
            if needs in opened:
                assert (await used(world, key, needs)).user == ada.user
            else:
                with pytest.raises(InsufficientScope) as raised:
                    await used(world, key, needs)
                assert raised.value.scope == needs
        with pytest.raises(InsufficientScope) as raised:
            await used(world, key, None)
        assert raised.value.scope is None


@pytest.mark.parametrize(
    "change",
    [
        lambda key: "",
        lambda key: "ck-",
        lambda key: key[:-1],
        lambda key: key + "A",
        lambda key: key + "\n",
        lambda key: " " + key,
        lambda key: key.upper(),
        lambda key: key.replace("ck-", "CK-"),
        lambda key: key.replace("ck-", "sk-"),
        lambda key: key[:-1] + "é",
        lambda key: key[:-1] + "\ud800",
        lambda key: "ck-" + "A" * 43,
        lambda key: "ck-" + "A" * 10_000_000,
    ],
)
async def test_what_is_no_key_is_refused(world: World, ada: Caller, change: Any) -> None:
    created = await made(world, ada)
    with pytest.raises(Unauthenticated):
        await world.authenticate_key(key=change(created.key), needs=Scope.READ)


async def test_it_expires(world: World, ada: Caller) -> None:
    created = await made(world, ada, expires_at=world.clock.now() + timedelta(days=400))
    world.clock.advance(400 * 86_400 - 1)
    await used(world, created)
    world.clock.advance(1)
    with pytest.raises(Unauthenticated):
        await used(world, created)


async def test_it_outlives_sign_ins_and_new_passwords(world: World) -> None:
    signed_in = await world.signed_in("ada")
    ada = await world.caller(signed_in)
    created = await made(world, ada)
    again = await world.caller(await world.sign_in_again("ada"))
    await world.revoke_other_sessions(caller=again)
    changed = await world.change_password(caller=again, password="another horse")
    await world.sign_out(caller=await world.caller(changed))
    assert (await used(world, created)).session.id == created.session.id


async def test_its_last_use_is_noted_at_once_and_then_once_a_minute(world: World, ada: Caller) -> None:
    created = await made(world, ada)
    times = list[datetime]()
    for seconds in (1, 30, 31):
        world.clock.advance(seconds)
        await used(world, created)
        times.append((await listed(world, ada))[0].last_used_at)
    assert [time - created.session.login_time for time in times] == [timedelta(seconds=n) for n in (1, 1, 62)]


async def test_it_has_a_rate_of_its_own(world: World) -> None:
    world.set_limits(RateLimits(limiter=MemoryLimiter(world.clock), key=Rate(2, 60)))
    ada = await world.caller(await world.signed_in("ada"))
    one, two = await made(world, ada), await made(world, ada)
    for _ in range(2):
        await used(world, one)
    with pytest.raises(RateLimited):
        await used(world, one)
    await used(world, two)


async def test_disabled_and_deleted_users_have_none(world: World, ada: Caller) -> None:
    created = await made(world, ada)
    async with world.storage() as work:
        await work.administration.set_active(ada.user.id, False, now=world.clock.now())
        await work.commit()
    with pytest.raises(AccountDisabled):
        await used(world, created)
    async with world.storage() as work:
        await work.owners.delete(ada.user.id)
        await work.commit()
    with pytest.raises(Unauthenticated):
        await used(world, created)


async def test_an_administrator_ends_keys_with_the_sessions(world: World, ada: Caller) -> None:
    root = await world.signed_in("root")
    await world.create_admin.promote(name="root")
    admin = await world.caller(root)
    for end in (world.revoke_sessions_of_user, world.disable_user):
        bob = await world.caller(await world.signed_in(f"bob-{type(end).__name__}"))
        created = await made(world, bob)
        await end(by=admin, user_id=bob.user.id)
        await world.enable_user(by=admin, user_id=bob.user.id)
        with pytest.raises(Unauthenticated):
            await used(world, created)


# ---- the list, and the end -------------------------------------------------------------------------------


async def listed(world: World, caller: Caller) -> list[Any]:
    return [*(await world.list_api_keys(caller=caller)).items]


async def test_keys_are_listed_apart_from_sessions(world: World, ada: Caller) -> None:
    one = await made(world, ada)
    world.clock.advance(1)
    two = await made(world, ada)
    await made(world, await world.caller(await world.signed_in("bob")))
    assert await listed(world, ada) == [two.session, one.session]
    assert one.session.expires_at == NEVER
    assert [session.id for session in (await world.list_sessions(caller=ada)).items] == [ada.session.id]
    page = await world.list_api_keys(caller=ada, limit=1)
    assert (page.items, page.has_more) == ([two.session], True)


async def test_a_revoked_key_is_out_at_once_and_swept_a_day_later(world: World, ada: Caller) -> None:
    created = await made(world, ada)
    used_before = await used(world, created)
    world.clock.advance(5)
    revoked_at = world.clock.now()
    for _ in range(2):
        await world.revoke_api_key(caller=ada, key_id=created.session.id)
        world.clock.advance(5)
    with pytest.raises(Unauthenticated):
        await used(world, created)
    with pytest.raises(Unauthenticated):
        await world.create_conversation(by=used_before, title="x")
    assert [key.logout_time for key in await listed(world, ada)] == [revoked_at]
    world.clock.advance(86_400)
    await ExpirySweep(unit_of_work=world.storage, clock=world.clock).sweep()
    assert await listed(world, ada) == []


async def test_only_own_keys_are_revoked_and_no_sessions(world: World, ada: Caller) -> None:
    bob = await world.caller(await world.signed_in("bob"))
    theirs = await made(world, bob)
    for key_id in (theirs.session.id, ada.session.id, SessionId("unknown"), SessionId(""), SessionId("x" * 1000)):
        with pytest.raises(NotFound):
            await world.revoke_api_key(caller=ada, key_id=key_id)
    own = await made(world, ada)
    with pytest.raises(NotFound):
        await world.revoke_session(caller=ada, session_id=own.session.id)
    for created in (theirs, own):
        await used(world, created)


async def test_a_key_is_no_refresh_token(world: World, ada: Caller) -> None:
    created = await made(world, ada)
    with pytest.raises(Unauthenticated):
        await world.refresh(refresh_token=created.key)
    with pytest.raises(Unauthenticated):
        await world.authenticate(access_token=created.key)
    await used(world, created)


async def test_what_happens_to_keys_is_in_the_audit_log(
    world: World, ada: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "chatcore.audit"):
        created = await made(world, ada, Scope.READ, Scope.CHAT)
        await world.revoke_api_key(caller=ada, key_id=created.session.id)
    by = f'by_session_id="{ada.session.id}"'
    assert [record.getMessage() for record in caplog.records] == [
        f'key_created user_id={ada.user.id} key_id="{created.session.id}" scopes="chat read" {by}',
        f'key_revoked user_id={ada.user.id} key_id="{created.session.id}" {by}',
    ]


# ---- what a key may --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("use_case", ASKING, ids=lambda kind: kind.__name__)
async def test_each_use_case_by_a_key_of_an_administrator(scene: Scene, use_case: Any, scope: Scope) -> None:
    created = await scene.world.create_api_key(caller=scene.given["caller"], name="laptop", scopes={scope})
    key = await scene.world.authenticate_key(key=created.key, needs=scope)
    by = {name: key for name in ("by", "caller") if name in parameters_of(use_case)}
    role = {"role": "user"} if use_case.__name__ == "AddMessage" else {}
    if use_case.__name__ in OPEN[scope]:
        await scene.call(use_case, **by, **role)
        return
    with pytest.raises(InsufficientScope):
        await scene.call(use_case, **by, **role)


async def test_a_key_steps_up_nothing(scene: Scene) -> None:
    created = await scene.world.create_api_key(caller=scene.given["caller"], name="laptop")
    key = await scene.world.authenticate_key(key=created.key, needs=Scope.CHAT)
    with pytest.raises(InsufficientScope):
        await scene.world.step_up(key, "correct horse", now=scene.world.clock.now())
