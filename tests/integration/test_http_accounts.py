"""Signing up, in and out over HTTP; what a token is worth and for how long."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatcore.ports import Clock
from chatcore_memory import HandClock
from integration.databases import empty
from integration.http_app import (
    PASSWORD,
    PROFILE,
    TOKENS,
    USER,
    Answer,
    Api,
    api_of,
    check_shape,
    provided,
    settings_for,
)

MINUTE, HOUR, DAY = 60, 3_600, 86_400


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def api(database_url: str, tmp_path: Path, clock: HandClock) -> AsyncIterator[Api]:
    await empty(database_url)
    async with api_of(settings_for(tmp_path, DATABASE_URL=database_url), provided(Clock, clock)) as api:
        yield api


async def refreshed(api: Api, token: str) -> Answer:
    return await api.post("/auth/refresh", {"refresh_token": token})


async def check_signed_out(api: Api, refresh_token: str) -> None:
    answer = await api.get("/auth/me")
    answer.problem(401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    (await refreshed(api.with_token(None), refresh_token)).problem(401, "unauthenticated")


# ---- register --------------------------------------------------------------------------------------------


async def test_registering_makes_an_account_and_signs_it_in(api: Api) -> None:
    answer = await api.post("/auth/register", {"username": "Ada🦄", "email": "Ada@Example.org", "password": PASSWORD})
    tokens = answer.ok(201)
    check_shape(tokens, TOKENS)
    check_shape(tokens["user"], USER)
    assert tokens["user"]["id"] > 0
    assert tokens["user"] == {
        "id": tokens["user"]["id"],
        "username": "Ada🦄",
        "email": "Ada@Example.org",
        "roles": ["user"],
        "is_active": True,
        "profile": dict.fromkeys(PROFILE),
        "created_at": "2026-01-01T12:00:00Z",
        "updated_at": "2026-01-01T12:00:00Z",
    }
    assert (tokens["token_type"], tokens["expires_in"]) == ("bearer", HOUR)
    assert "Ada🦄".encode() in answer.body  # UTF-8, not escapes
    assert (await api.with_token(tokens["access_token"]).get("/auth/me")).ok() == tokens["user"]


async def test_an_email_address_is_optional(api: Api) -> None:
    for username, more in (("ada", {}), ("bob", {"email": None})):
        body = {"username": username, "password": PASSWORD, **more}
        assert (await api.post("/auth/register", body)).ok(201)["user"]["email"] is None


async def test_names_are_taken_once(api: Api) -> None:
    (await api.post("/auth/register", {"username": "Ada", "email": "a@example.org", "password": PASSWORD})).ok(201)
    same_name = {"username": "ADA", "email": "b@example.org", "password": PASSWORD}
    same_address = {"username": "eda", "email": "A@EXAMPLE.ORG", "password": PASSWORD}
    (await api.post("/auth/register", same_name)).problem(409, "username_taken")
    (await api.post("/auth/register", same_address)).problem(409, "email_taken")


async def test_every_rule_that_a_registration_breaks_is_named(api: Api) -> None:
    body = {"username": "a b", "email": "nowhere", "password": "short"}
    (await api.post("/auth/register", body)).problem(400, "validation_failed", "username", "email", "password")
    body = {"username": "ad\0a", "email": "a\0@example.org", "password": PASSWORD}
    (await api.post("/auth/register", body)).problem(400, "validation_failed", "username", "email")


async def test_two_that_register_one_name_at_once(api: Api) -> None:
    body = {"username": "ada", "password": PASSWORD}
    answers = await asyncio.gather(*(api.post("/auth/register", body) for _ in range(3)))
    assert sorted(answer.status for answer in answers) == [201, 409, 409]


# ---- login -----------------------------------------------------------------------------------------------


async def test_signing_in_by_name_or_address(api: Api) -> None:
    body = {"username": "ada", "email": "ada@example.org", "password": PASSWORD}
    user = (await api.post("/auth/register", body)).ok(201)["user"]
    for name in (
        {"username": "ADA"},
        {"email": "Ada@example.org"},
        {"userid": "ada"},
        {"userid": "ada@example.org"},
        {"username": "ada", "email": None, "userid": ""},
    ):
        tokens = (await api.post("/auth/login", {**name, "password": PASSWORD})).ok()
        check_shape(tokens, TOKENS)
        assert tokens["user"] == user
        assert (await api.with_token(tokens["access_token"]).get("/auth/me")).ok() == user


async def test_a_wrong_password_and_an_unknown_name_look_the_same(api: Api) -> None:
    await api.register("ada")
    wrong = await api.post("/auth/login", {"username": "ada", "password": "wrong horse battery"})
    unknown = await api.post("/auth/login", {"username": "eve", "password": PASSWORD})
    strange = await api.post("/auth/login", {"username": "e\0ve", "password": "\0"})
    assert wrong.problem(401, "invalid_credentials") == unknown.problem(401, "invalid_credentials")
    assert strange.problem(401, "invalid_credentials") == unknown.problem(401, "invalid_credentials")
    assert wrong.headers["WWW-Authenticate"] == unknown.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("names", [{}, {"username": ""}, {"username": "ada", "email": "ada@example.org"}])
async def test_signing_in_takes_exactly_one_name(api: Api, names: dict[str, str]) -> None:
    (await api.post("/auth/login", {**names, "password": PASSWORD})).problem(400, "validation_failed", "username")


# ---- refresh ---------------------------------------------------------------------------------------------


async def test_a_refresh_token_is_exchanged_for_its_successor(api: Api, clock: HandClock) -> None:
    first = await api.register("ada")
    clock.advance(HOUR)
    assert (await api.with_token(first["access_token"]).get("/auth/me")).status == 401  # expired
    second = (await refreshed(api, first["refresh_token"])).ok()
    check_shape(second, TOKENS)
    assert second["user"] == first["user"]
    assert second["refresh_token"] != first["refresh_token"]
    assert (await api.with_token(second["access_token"]).get("/auth/me")).ok() == first["user"]
    assert (await refreshed(api, second["refresh_token"])).status == 200


async def test_two_tabs_that_refresh_at_once_get_the_same_successor(api: Api, clock: HandClock) -> None:
    token = (await api.register("ada"))["refresh_token"]
    answers = await asyncio.gather(*(refreshed(api, token) for _ in range(4)))
    clock.advance(10)
    answers.append(await refreshed(api, token))
    assert len({answer.ok()["refresh_token"] for answer in answers}) == 1


@pytest.mark.parametrize("later", [0, 11])
async def test_a_refresh_token_that_comes_back_ends_the_session(api: Api, clock: HandClock, later: int) -> None:
    """Whether within the 10 s of grace, since its successor was used, or after them, when it was not."""
    tokens = await api.register("ada")
    other = (await api.post("/auth/login", {"username": "ada", "password": PASSWORD})).ok()
    latest = (await refreshed(api, tokens["refresh_token"])).ok()
    if later:
        clock.advance(later)
    else:
        latest = (await refreshed(api, latest["refresh_token"])).ok()
    (await refreshed(api, tokens["refresh_token"])).problem(401, "unauthenticated")
    await check_signed_out(api.with_token(latest["access_token"]), latest["refresh_token"])
    assert (await refreshed(api, other["refresh_token"])).status == 200  # another session's


@pytest.mark.parametrize("token", ["", "x", "é🦄", "\0", "x" * 10_000])
async def test_what_is_no_refresh_token_is_refused(api: Api, token: str) -> None:
    answer = await refreshed(api, token)
    answer.problem(401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_an_access_token_is_no_refresh_token_and_the_reverse(api: Api) -> None:
    tokens = await api.register("ada")
    (await refreshed(api, tokens["access_token"])).problem(401, "unauthenticated")
    (await api.with_token(tokens["refresh_token"]).get("/auth/me")).problem(401, "unauthenticated")


async def test_a_session_ends_by_itself(api: Api, clock: HandClock) -> None:
    idle = (await api.register("ada"))["refresh_token"]
    used = (await api.register("bob"))["refresh_token"]
    for _ in range(5):
        clock.advance(6 * DAY - MINUTE)
        used = (await refreshed(api, used)).ok()["refresh_token"]
    (await refreshed(api, idle)).problem(401, "unauthenticated")  # 7 days without use
    clock.advance(5 * MINUTE)
    (await refreshed(api, used)).problem(401, "unauthenticated")  # 30 days in all


async def test_an_access_token_ends_with_its_session(api: Api, clock: HandClock) -> None:
    tokens = await api.register("ada")
    for _ in range(5):
        clock.advance(6 * DAY - MINUTE)
        tokens = (await refreshed(api, tokens["refresh_token"])).ok()
    assert tokens["expires_in"] == 5 * MINUTE


# ---- logout ----------------------------------------------------------------------------------------------


async def test_signing_out_ends_this_session_at_once(api: Api) -> None:
    tokens = await api.register("ada")
    other = (await api.post("/auth/login", {"username": "ada", "password": PASSWORD})).ok()
    ada = api.with_token(tokens["access_token"])
    said = (await ada.post("/auth/logout")).ok()
    assert set(said) == {"message"}
    assert said["message"]
    await check_signed_out(ada, tokens["refresh_token"])
    (await ada.post("/auth/logout")).problem(401, "unauthenticated")
    assert (await api.with_token(other["access_token"]).get("/auth/me")).status == 200


@pytest.mark.parametrize("place", ["body", "query"])
async def test_a_refresh_token_that_comes_along_is_revoked_too(api: Api, place: str) -> None:
    tokens = await api.register("ada")
    other = (await api.post("/auth/login", {"username": "ada", "password": PASSWORD})).ok()
    ada, refresh_token = api.with_token(tokens["access_token"]), other["refresh_token"]
    if place == "body":
        (await ada.post("/auth/logout", {"refresh_token": refresh_token})).ok()
    else:
        (await ada.post(f"/auth/logout?refresh_token={refresh_token}")).ok()
    await check_signed_out(ada, tokens["refresh_token"])
    await check_signed_out(api.with_token(other["access_token"]), refresh_token)


@pytest.mark.parametrize("token", ["{bob}", "", "nonsense", "é", "%00%ff"])
async def test_a_foreign_refresh_token_that_comes_along_changes_nothing(api: Api, token: str) -> None:
    bob = await api.register("bob")
    ada = await api.user("ada")
    foreign = token.format(bob=bob["refresh_token"])
    (await ada.post(f"/auth/logout?refresh_token={foreign}", {"refresh_token": None})).ok()
    (await ada.get("/auth/me")).problem(401, "unauthenticated")
    assert (await api.with_token(bob["access_token"]).get("/auth/me")).status == 200
    assert (await refreshed(api, bob["refresh_token"])).status == 200


# ---- production ------------------------------------------------------------------------------------------


async def test_signatures_are_those_of_the_settings(tmp_path: Path) -> None:
    """A changed SECRET_KEY ends every access token and costs one refresh, if REFRESH_SECRET_KEY is kept."""
    environ = {"REFRESH_SECRET_KEY": "r" * 32}
    async with api_of(settings_for(tmp_path, **environ, SECRET_KEY="1" * 32)) as api:
        tokens = await api.register("ada")
        earlier = await api.register("bob")
        bobs = (await refreshed(api, earlier["refresh_token"])).ok()["refresh_token"]
    async with api_of(settings_for(tmp_path, **environ, SECRET_KEY="2" * 32, ALGORITHM="HS512")) as api:
        (await api.with_token(tokens["access_token"]).get("/auth/me")).problem(401, "unauthenticated")
        again = (await refreshed(api, tokens["refresh_token"])).ok()
        assert (await api.with_token(again["access_token"]).get("/auth/me")).status == 200
        assert (await refreshed(api, earlier["refresh_token"])).ok()["refresh_token"] == bobs
