"""The audit log: one event for what happens to accounts, sessions and keys, with nothing secret or fake in it."""

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from chatcore import (
    CreateAdmin,
    DeleteUser,
    DisableUser,
    EnableUser,
    ExportOwnData,
    ForgetOwner,
    GrantRole,
    ImportConversations,
    Message,
    OpenOwner,
    Operator,
    OwnConversation,
    PasswordPolicy,
    Rate,
    RateLimits,
    RevokeRole,
    RevokeSessionsOfUser,
    SignedIn,
    Vouched,
    audit,
)
from chatcore.audit import AuditEvent
from chatcore.errors import (
    AccountDisabled,
    ChatcoreError,
    InvalidCredentials,
    ModelRateLimited,
    ModelUnauthorized,
    RateLimited,
    Unauthenticated,
)
from chatcore.use_cases.own_data import EndOfExport, Line
from chatcore_memory import MemoryLimiter, PlainPasswords, ScriptedModel
from unit.world import PASSWORD, World

HERE, AGENT = "192.0.2.1", "a browser"
OTHER_PASSWORD, WRONG_PASSWORD, API_KEY = "another horse", "wrong horse", "sk-0123456789abcdef"
CLIENT = {"address": HERE, "user_agent": AGENT}

Events = Callable[[], list[tuple[str, dict[str, object]]]]


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Events:
    """What was recorded since it was last asked for."""
    caplog.set_level(logging.INFO, "chatcore.audit")

    def taken() -> list[tuple[str, dict[str, object]]]:
        records = [record for record in caplog.records if record.name == "chatcore.audit"]
        caplog.clear()
        told: list[object] = [record.msg for record in records]
        events = [event for event in told if isinstance(event, AuditEvent)]
        assert events == told
        return [(event.name, dict(event.fields)) for event in events]

    return taken


@pytest.fixture
async def ada(world: World, events: Events) -> SignedIn:
    ada = await world.register(username="ada", password=PASSWORD, address=HERE, user_agent=AGENT)
    assert events() == [("account_created", {**ids(ada), **CLIENT})]
    return ada


def ids(signed_in: SignedIn) -> dict[str, object]:
    return {"user_id": signed_in.user.id, "session_id": signed_in.session.id}


async def test_making_an_account_without_signing_in(world: World, events: Events) -> None:
    user = await world.create_account(username="ada", password=PASSWORD, address=HERE, user_agent=AGENT)
    assert events() == [("account_created", {"user_id": user.id, "session_id": None, **CLIENT})]


# ---- signing in and out ----------------------------------------------------------------------------------


async def test_signing_in_and_out(world: World, ada: SignedIn, events: Events) -> None:
    signed_in = await world.sign_in(name="ada", password=PASSWORD, address=HERE, user_agent=AGENT)
    assert events() == [("sign_in", {**ids(signed_in), **CLIENT})]
    await world.sign_out(caller=await world.caller(signed_in), refresh_token=signed_in.refresh_token)
    assert events() == [("sign_out", ids(signed_in))]


async def test_signing_out_of_two_sessions(world: World, ada: SignedIn, events: Events) -> None:
    other = await world.sign_in(name="ada", password=PASSWORD)
    events()
    await world.sign_out(caller=await world.caller(ada), refresh_token=other.refresh_token)
    assert events() == [("sign_out", ids(ada)), ("session_revoked", {**ids(other), "by_session_id": ada.session.id})]


async def test_failing_to_sign_in(world: World, ada: SignedIn, events: Events) -> None:
    for name in ("ada", WRONG_PASSWORD):
        with pytest.raises(InvalidCredentials):
            await world.sign_in(name=name, password=WRONG_PASSWORD, address=HERE, user_agent=AGENT)
    assert events() == [
        ("sign_in_failed", {"user_id": ada.user.id, **CLIENT, "reason": "wrong password"}),
        ("sign_in_failed", {"user_id": None, **CLIENT, "reason": "unknown name"}),
    ]
    await DisableUser(unit_of_work=world.storage, clock=world.clock)(by=Operator(), user_id=ada.user.id)
    events()
    with pytest.raises(AccountDisabled):
        await world.sign_in(name="ada", password=PASSWORD, address=HERE, user_agent=AGENT)
    assert events() == [("sign_in_failed", {"user_id": ada.user.id, **CLIENT, "reason": "disabled"})]


async def test_refreshing_and_doing_so_twice(world: World, ada: SignedIn, events: Events) -> None:
    await world.refreshed(ada)
    assert events() == [("refresh", ids(ada))]
    world.clock.advance(60)
    with pytest.raises(Unauthenticated):
        await world.refreshed(ada)
    assert events() == [("refresh_reused", ids(ada))]
    with pytest.raises(Unauthenticated):
        await world.refresh(refresh_token="nobody's")
    assert events() == []


async def test_ending_sessions(world: World, ada: SignedIn, events: Events) -> None:
    other = await world.sign_in(name="ada", password=PASSWORD)
    events()
    caller = await world.caller(ada)
    await world.revoke_session(caller=caller, session_id=other.session.id)
    assert events() == [("session_revoked", {**ids(other), "by_session_id": ada.session.id})]
    await world.revoke_other_sessions(caller=caller)
    assert events() == [("sessions_revoked", {"user_id": ada.user.id, "by_session_id": ada.session.id})]


# ---- the account -----------------------------------------------------------------------------------------


async def test_changing_the_account(world: World, ada: SignedIn, events: Events) -> None:
    caller = await world.caller(ada)
    await world.change_username(caller=caller, username="countess")
    assert events() == [("username_changed", {**ids(ada), "username": "countess"})]
    await world.change_email(caller=caller, email="countess@example.org")
    assert events() == [("email_changed", ids(ada))]
    await world.change_password(caller=caller, password=OTHER_PASSWORD, current_password=PASSWORD)
    assert events() == [("password_changed", ids(ada))]


async def test_a_wrong_current_password(world: World, ada: SignedIn, events: Events) -> None:
    with pytest.raises(InvalidCredentials):
        await world.change_email(
            caller=await world.caller(ada), email="countess@example.org", current_password=WRONG_PASSWORD
        )
    assert events() == [("password_failed", ids(ada))]


async def test_what_administrators_do(world: World, ada: SignedIn, events: Events) -> None:
    parts: dict[str, Any] = {"unit_of_work": world.storage, "clock": world.clock}
    this: dict[str, object] = {"user_id": ada.user.id}
    for use_case, expected in (
        (RevokeSessionsOfUser(**parts), "sessions_revoked"),
        (DisableUser(**parts), "user_disabled"),
        (EnableUser(**parts), "user_enabled"),
    ):
        await use_case(by=Operator(), user_id=ada.user.id)
        assert events() == [(expected, this)]
    for role_change, expected in ((GrantRole(**parts), "granted"), (RevokeRole(**parts), "revoked")):
        await role_change(by=Operator(), user_id=ada.user.id, role="user")
        assert events() == [("role_changed", {**this, expected: "user"})]
    async with world.process() as process:
        delete = DeleteUser(unit_of_work=world.storage, replies=process.replies, clock=world.clock)
        await delete(by=Operator(), user_id=ada.user.id)
    assert events() == [("account_deleted", this)]


async def test_what_the_operator_does(world: World, ada: SignedIn, events: Events) -> None:
    policy, passwords = PasswordPolicy(), PlainPasswords()
    create = CreateAdmin(unit_of_work=world.storage, passwords=passwords, policy=policy, clock=world.clock)
    await create.promote(name="ada")
    assert events() == [("role_changed", {"user_id": ada.user.id, "granted": "admin"})]
    made = await create(username="root", password=PASSWORD)
    this = {"user_id": made.id}
    assert events() == [("account_created", this), ("role_changed", {**this, "granted": "admin"})]


async def test_deleting_the_account(world: World, ada: SignedIn, events: Events) -> None:
    async with world.process() as process:
        await process.delete_account(caller=await world.caller(ada))
    assert events() == [("account_deleted", ids(ada))]


async def test_forgetting_an_embedding_programs_user(world: World, events: Events) -> None:
    opened = await OpenOwner(unit_of_work=world.storage, clock=world.clock)(user="ada", tenant="acme")
    async with world.process() as process:
        forget = ForgetOwner(unit_of_work=world.storage, replies=process.replies, clock=world.clock)
        assert await forget(user="ada", tenant="acme")
        assert events() == [("owner_forgotten", {"user_id": opened.owner})]
        assert not await forget(user="ada", tenant="acme")
    assert events() == []


async def test_taking_ones_data_away_and_bringing_it_back(world: World, ada: SignedIn, events: Events) -> None:
    owner, caller = ada.user.id, await world.caller(ada)
    async with world.process() as process:
        await (await process.chat_of(owner)).ask()
    exported = [thing async for thing in ExportOwnData(unit_of_work=world.storage)(by=caller)]
    assert events() == [("data_exported", ids(ada))]

    async def lines(*, cut: bool) -> AsyncIterator[Line]:
        kept = [thing for thing in exported if isinstance(thing, OwnConversation | Message)]
        for number, thing in enumerate([*kept, EndOfExport()]):
            yield Line(number, thing)
        if cut:
            raise TimeoutError

    bring = ImportConversations(unit_of_work=world.storage, clock=world.clock)
    await bring(by=Vouched(owner), lines=lines(cut=False))
    told = ("data_imported", {"user_id": owner, "conversations": 1, "messages": 2})
    assert events() == [told]
    with pytest.raises(TimeoutError):
        await bring(by=Vouched(owner), lines=lines(cut=True))
    assert events() == [told]


async def test_what_was_not_stored_is_not_told(world: World, ada: SignedIn, events: Events) -> None:
    caller = await world.caller(ada)
    await world.register(username="bob", password=PASSWORD)
    events()
    with pytest.raises(ChatcoreError):
        await world.change_username(caller=caller, username="bob")
    world.storage.fail_once(after=False)
    with pytest.raises(ChatcoreError):
        await world.change_password(caller=caller, password=OTHER_PASSWORD)
    world.storage.fail_once(after=False)
    with pytest.raises(ChatcoreError):
        await world.sign_in(name="ada", password=PASSWORD)
    assert events() == []


# ---- keys and limits -------------------------------------------------------------------------------------


async def test_a_key_that_the_endpoint_refused(world: World, ada: SignedIn, events: Events) -> None:
    config = await world.config(ada.user.id, api_key=API_KEY)
    refused = ("model_key_refused", {"user_id": ada.user.id, "model_host": "own.test"})
    async with world.process() as process:
        chat = await process.chat_of(ada.user.id)
        for failure, told in ((ModelUnauthorized(), [refused]), (ModelRateLimited(), [])):
            world.model.then("Hel", failure)
            await chat.ask()
            assert events() == told
            world.model.then(failure)
            await world.check_model_config(by=Vouched(ada.user.id), config_id=config.id)
            assert events() == told


async def test_limits_that_were_hit(world: World, ada: SignedIn, events: Events) -> None:
    world.set_limits(RateLimits(limiter=MemoryLimiter(world.clock), sign_in=Rate(1, 60), send=Rate(1, 60)))
    await world.sign_in(name="ada", password=PASSWORD, address=HERE)
    events()
    with pytest.raises(RateLimited):
        await world.sign_in(name="ada", password=PASSWORD, address=HERE)
    assert events() == [("rate_limited", {"rule": "sign-in", "address": HERE})]
    async with world.process() as process:
        chat = await process.chat_of(ada.user.id)
        await chat.ask()
        with pytest.raises(RateLimited):
            await chat.send()
    assert events() == [("rate_limited", {"rule": "send", "user_id": ada.user.id})]


# ---- what is in an event ---------------------------------------------------------------------------------


async def test_no_secret_is_in_any_event(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world.model = ScriptedModel(ModelUnauthorized())
    ada = await world.signed_in("ada")
    secret_texts = {PASSWORD, OTHER_PASSWORD, WRONG_PASSWORD, API_KEY, ada.user.password_hash}
    for name in ("ada", WRONG_PASSWORD):
        with pytest.raises(InvalidCredentials):
            await world.sign_in(name=name, password=WRONG_PASSWORD)
    refreshed = await world.refreshed(ada)
    config = await world.config(ada.user.id, api_key=API_KEY)
    secret_texts.add(config.sealed_key)
    async with world.process() as process:
        await (await process.chat_of(ada.user.id)).ask()
        caller = await world.caller(ada)
        changed = await world.change_password(caller=caller, password=OTHER_PASSWORD, current_password=PASSWORD)
        secret_texts.add(changed.user.password_hash)
        again = await world.refreshed(changed)
        await world.refreshed(again)
        for tokens in (ada, refreshed, changed, again):
            secret_texts |= {tokens.access_token, tokens.refresh_token}
        with pytest.raises(Unauthenticated):
            await world.refreshed(changed)
    told = "\n".join(record.getMessage() for record in caplog.records)
    for event in ("sign_in_failed", "refresh ", "model_key_refused", "password_changed", "refresh_reused"):
        assert event in told
    for secret in secret_texts:
        assert secret not in told


FORGERY = 'x\nsign_in user_id=1\r\x1b[2J\x00\u2028\u202e\ud800" reason="'


async def test_no_text_of_a_client_fakes_an_event(
    world: World, ada: SignedIn, events: Events, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidCredentials):
        await world.sign_in(name="ada", password=WRONG_PASSWORD, address="x\n" * 500, user_agent=FORGERY + "y" * 5000)
    record = caplog.records[-1]
    line = record.getMessage()
    assert line.isprintable()
    assert line.encode()
    assert line.startswith(f"sign_in_failed user_id={ada.user.id} address=")
    assert line.endswith(' reason="wrong password"')
    assert line.count(' reason="') == 1
    ((_, fields),) = events()
    assert str(fields["user_agent"]).startswith(r"x\u000asign_in user_id=1\u000d\u001b[2J\u0000\u2028\u202e\ud800")
    assert str(fields["user_agent"]).endswith("y")
    assert all(len(str(value)) <= 6 * audit.LONGEST for value in fields.values())
