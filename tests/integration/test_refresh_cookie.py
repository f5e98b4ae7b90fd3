"""REFRESH_COOKIE: what a browser is given to keep, when it counts, and for whom it never does."""

from collections.abc import AsyncIterator
from http.cookies import Morsel, SimpleCookie
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from integration.http_app import PASSWORD, TOKENS, Answer, Api, api_of, check_shape, settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "__Secure-refresh_token"
APP = "https://app.example.com"
FOREIGN: list[dict[str, str]] = [
    {"Origin": "https://evil.test"},
    {"Origin": "https://sub.app.example.com"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://127.0.0.1", "Host": "127.0.0.1", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://127.0.0.1:1"},
]
OWN: list[dict[str, str]] = [
    {},
    {"Origin": APP, "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://127.0.0.1", "Host": "127.0.0.1", "Sec-Fetch-Site": "same-origin"},
    {"Origin": "https://chat.example.com", "Host": "chat.example.com"},
    {"Sec-Fetch-Site": "none"},
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with api_of(settings_for(tmp_path_factory.mktemp("data"), REFRESH_COOKIE="true", CORS_ORIGINS=APP)) as api:
        yield api


def cookies_of(answer: Answer) -> list[Morsel[str]]:
    found: list[str] = answer.headers.getall("Set-Cookie", [])  # type: ignore[attr-defined]
    return [morsel for header in found for morsel in SimpleCookie(header).values()]


def check_cookie(answer: Answer, token: str, *, name: str = NAME) -> None:
    (cookie,) = cookies_of(answer)
    assert (cookie.key, cookie.value) == (name, token)
    assert (cookie["path"], cookie["domain"], cookie["httponly"]) == ("/auth/refresh", "", True)
    assert (cookie["secure"], cookie["samesite"]) == (True if name == NAME else "", "lax")
    assert cookie["max-age"] == ("0" if token == "" else str(7 * 86_400))


async def registered(api: Api, name: str, headers: dict[str, str] | None = None) -> Answer:
    return await api.post("/auth/register", {"username": name, "password": PASSWORD}, headers)


async def refreshed(api: Api, token: str, headers: dict[str, str] | None = None, json: object = None) -> Answer:
    """By the cookie, as a browser sends it."""
    return await api.post("/auth/refresh", json, {"Cookie": f"other=1; {NAME}={token}", **(headers or {})})


async def test_every_way_to_a_refresh_token_sets_it(stranger: Api) -> None:
    answer = await registered(stranger, "ada")
    tokens = answer.ok(201)
    check_shape(tokens, TOKENS)
    check_cookie(answer, tokens["refresh_token"])
    answer = await stranger.post("/auth/login", {"username": "ada", "password": PASSWORD})
    check_cookie(answer, answer.ok()["refresh_token"])
    ada = stranger.with_token(tokens["access_token"])
    answer = await ada.post("/auth/me/password", {"password": "another password"})
    check_cookie(answer, answer.ok()["refresh_token"])
    answer = await refreshed(stranger, answer.ok()["refresh_token"])
    check_cookie(answer, answer.ok()["refresh_token"])
    assert answer.headers["Cache-Control"] == "no-store"


async def test_it_is_as_good_as_the_token_itself(stranger: Api) -> None:
    first: Any = (await registered(stranger, "bob")).ok(201)
    second = (await refreshed(stranger, first["refresh_token"])).ok()
    assert second["refresh_token"] != first["refresh_token"]
    assert (await stranger.with_token(second["access_token"]).get("/auth/me")).ok()["username"] == "bob"
    third = (await stranger.post("/auth/refresh", {"refresh_token": second["refresh_token"]})).ok()
    (await refreshed(stranger, first["refresh_token"])).problem(401, "unauthenticated")
    (await refreshed(stranger, third["refresh_token"])).problem(401, "unauthenticated")


async def test_a_token_in_the_body_comes_before_it(stranger: Api) -> None:
    first = (await registered(stranger, "eve")).ok(201)
    other = (await registered(stranger, "eva")).ok(201)
    answer = await refreshed(stranger, first["refresh_token"], json={"refresh_token": other["refresh_token"]})
    assert answer.ok()["user"]["username"] == "eva"
    for json in ({}, {"refresh_token": None}, None):
        assert (await refreshed(stranger, first["refresh_token"], json=json)).ok()["user"]["username"] == "eve"
    (await refreshed(stranger, first["refresh_token"], json={"refresh_token": "x"})).problem(401, "unauthenticated")


async def test_without_any_token_nobody_is_signed_in(stranger: Api) -> None:
    for headers in ({}, {"Cookie": f"{NAME}="}, {"Cookie": "refresh_token=x"}, {"Cookie": f"{NAME}=garbage"}):
        (await stranger.post("/auth/refresh", headers=headers)).problem(401, "unauthenticated")


@pytest.mark.parametrize("way", ["/auth/logout", "/auth/me/delete"])
async def test_leaving_deletes_it(stranger: Api, way: str) -> None:
    tokens = (await registered(stranger, f"leaves{way.replace('/', '-')}")).ok(201)
    answer = await stranger.with_token(tokens["access_token"]).post(way)
    assert answer.ok()
    check_cookie(answer, "")
    (await refreshed(stranger, tokens["refresh_token"])).problem(401, "unauthenticated")


async def test_it_opens_nothing_but_the_refresh_route(stranger: Api) -> None:
    tokens = (await registered(stranger, "flo")).ok(201)
    for token in (tokens["refresh_token"], tokens["access_token"]):
        for path in ("/auth/logout", "/auth/me/username"):
            answer = await stranger.post(path, {"username": "x"}, {"Cookie": f"{NAME}={token}"})
            answer.problem(401, "unauthenticated")


# ---- other sites' pages ----------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_no_foreign_page_may_use_it(stranger: Api, headers: dict[str, str]) -> None:
    """Nor spend it: the owner's next refresh succeeds. Nor plant it: no page signs its visitor in as somebody else."""
    name = f"user{FOREIGN.index(headers)}"
    tokens = (await registered(stranger, name)).ok(201)
    for _ in range(2):
        (await refreshed(stranger, tokens["refresh_token"], headers)).problem(403, "forbidden")
    assert (await refreshed(stranger, tokens["refresh_token"])).ok()["user"]["username"] == name
    login = await stranger.post("/auth/login", {"username": name, "password": PASSWORD}, headers)
    assert login.ok()
    assert cookies_of(login) == []
    assert cookies_of(await registered(stranger, f"{name}-planted", headers)) == []
    planted = await stranger.post("/auth/refresh", {"refresh_token": login.ok()["refresh_token"]}, headers)
    assert planted.ok()
    assert cookies_of(planted) == []


@pytest.mark.parametrize("headers", OWN, ids=str)
async def test_ones_own_pages_may(stranger: Api, headers: dict[str, str]) -> None:
    answer = await registered(stranger, f"own{OWN.index(headers)}", headers)
    token = answer.ok(201)["refresh_token"]
    check_cookie(answer, token)
    answer = await refreshed(stranger, token, headers)
    check_cookie(answer, answer.ok()["refresh_token"])


# ---- settings --------------------------------------------------------------------------------------------


async def test_unless_asked_for_there_is_none(tmp_path: Path) -> None:
    async with api_of(settings_for(tmp_path)) as api:
        answer = await registered(api, "ada")
        token = answer.ok(201)["refresh_token"]
        assert cookies_of(answer) == []
        (await refreshed(api, token, json={})).problem(400, "validation_failed", "refresh_token")
        out = await api.with_token(answer.ok(201)["access_token"]).post("/auth/logout")
        assert (out.ok(), cookies_of(out)) == ({"message": "Signed out."}, [])


async def test_what_the_settings_say_of_it(tmp_path: Path) -> None:
    plain = settings_for(tmp_path, REFRESH_COOKIE="true", COOKIE_SECURE="false")
    async with api_of(plain) as api:
        answer = await registered(api, "ada")
        check_cookie(answer, answer.ok(201)["refresh_token"], name="refresh_token")
    for site in ("strict", "none"):
        async with api_of(settings_for(tmp_path, REFRESH_COOKIE="true", COOKIE_SAMESITE=site)) as api:
            (cookie,) = cookies_of(await registered(api, f"ada-{site}"))
            assert (cookie["samesite"], cookie["secure"]) == (site, True)


async def test_the_documentation_tells_that_the_body_may_be_left_out(stranger: Api) -> None:
    document = (await stranger.get("/openapi.json")).ok()
    operation = document["paths"]["/auth/refresh"]["post"]
    assert operation["requestBody"]["required"] is False
    assert operation["operationId"] == "auth_refresh"
    assert "forbidden" in operation["responses"]["403"]["content"]["application/problem+json"]["examples"]
