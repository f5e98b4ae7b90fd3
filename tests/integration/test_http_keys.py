"""Personal API keys over HTTP and the WebSocket, as their owners and as others use them."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from chatcore.ports import LLMGateway
from chatcore_memory import ScriptedModel
from integration.databases import empty, execute, on_one
from integration.http_app import PASSWORD, Answer, Api, api_of, provided, settings_for
from integration.routes import PRIVATE_HTTP, Route, body_of, path_of
from integration.ws_client import connected, knocking
from unit.documents import fields_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

API_KEY = fields_of("ApiKey")
CLOSED = ("/auth", "/admin", "/v1/auth")
"""Where no key is good for anything."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    await empty(database_url)
    settings = settings_for(tmp_path_factory.mktemp("data"), DATABASE_URL=database_url, REFRESH_COOKIE="true")
    async with api_of(settings, provided(LLMGateway, ScriptedModel("Hello"))) as api:
        yield api


async def with_key(ada: Api, *scopes: str) -> Api:
    return ada.with_token((await ada.key(scopes=scopes or ("chat",)))["key"])


def lacks(answer: Answer, scope: str | None) -> None:
    problem = answer.problem(403, "scope_missing")
    challenge = answer.headers["WWW-Authenticate"]
    if scope is None:
        assert "Sign in" in problem["detail"]
        assert challenge == 'Bearer error="insufficient_scope"'
    else:
        assert f"`{scope}`" in problem["detail"]
        assert challenge == f'Bearer error="insufficient_scope", scope="{scope}"'


# ---- its life --------------------------------------------------------------------------------------------


async def test_a_key_is_shown_once_used_listed_and_revoked(api: Api) -> None:
    ada = await api.user()
    created = await ada.key(name="laptop 🦄", expires_at="2999-01-01T02:00:00+02:00")
    assert set(created) == API_KEY | {"key"}
    assert created["scopes"] == ["chat"]
    assert (created["last_used_at"], created["revoked_at"]) == (None, None)
    assert created["expires_at"] == "2999-01-01T00:00:00Z"
    key = ada.with_token(created["key"])
    conversation = await key.conversation("By key")
    assert (await key.post(f"/conversations/{conversation}/chat", {"content": "Hi"})).ok()["reply"][
        "content"
    ] == "Hello"
    (listed,) = (await ada.get("/auth/keys")).ok()["items"]
    assert set(listed) == API_KEY
    assert listed["last_used_at"]
    assert {**listed, "last_used_at": None, "key": created["key"]} == created
    revoke = f"/auth/keys/{created['id']}/revoke"
    (await ada.post(revoke)).ok()
    for _ in range(2):
        (await key.get("/conversations")).problem(401, "unauthenticated")
        (await ada.post(revoke)).ok()
    (revoked,) = (await ada.get("/auth/keys")).ok()["items"]
    assert revoked["revoked_at"]
    (await ada.get(f"/conversations/{conversation}")).ok()


async def test_it_does_not_expire_unless_that_is_said(api: Api) -> None:
    created = await (await api.user()).key()
    assert created["expires_at"] is None


async def test_an_expired_key_is_refused(api: Api, database_url: str) -> None:
    ada = await api.user()
    created = await ada.key()
    key = ada.with_token(created["key"])
    (await key.get("/conversations")).ok()
    await execute(database_url, f"UPDATE sessions SET expires_at = '2001-01-01 00:00:00' WHERE id = '{created['id']}'")
    (await key.get("/conversations")).problem(401, "unauthenticated")


async def test_a_key_outlives_sign_ins_and_is_no_session_of_the_list(api: Api) -> None:
    tokens = await api.register("outlives")
    ada = api.with_token(tokens["access_token"])
    created = await ada.key()
    key = ada.with_token(created["key"])
    assert created["id"] not in [each["id"] for each in (await ada.get("/auth/sessions")).ok()["items"]]
    (await ada.post(f"/auth/sessions/{created['id']}/revoke")).problem(404, "not_found")
    (await ada.post("/auth/sessions/revoke-others")).ok()
    changed = (await ada.post("/auth/me/password", {"password": "another password"})).ok()
    (await ada.with_token(changed["access_token"]).post("/auth/logout")).ok()
    (await key.get("/conversations")).ok()


async def test_anothers_key_is_not_there(api: Api) -> None:
    ada, bob = await api.user(), await api.user()
    theirs = await bob.key()
    for key_id in (theirs["id"], "unknown", "x" * 300, "%00", "🦄"):
        (await ada.post(f"/auth/keys/{key_id}/revoke")).problem(404, "not_found")
    (await bob.with_token(theirs["key"]).get("/conversations")).ok()
    assert (await ada.get("/auth/keys")).ok()["items"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": None}, "name"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": ["admin"]}, "scopes[0]"),
        ({"name": "x", "scopes": ["chat", "CHAT"]}, "scopes[1]"),
        ({"name": "x", "scopes": "chat"}, "scopes"),
        ({"name": "x", "scopes": ["chat"] * 4}, "scopes"),
        ({"name": "x", "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "x", "expires_at": "2999-01-01T00:00:00"}, "expires_at"),
        ({"name": "x", "expires_at": "9999-12-31T23:59:59-12:00"}, "expires_at"),
        ({"name": "x", "expires_at": "tomorrow"}, "expires_at"),
    ],
)
async def test_what_a_key_cannot_be_has_a_name(api: Api, body: dict[str, Any], field: str) -> None:
    ada = await api.user()
    (await ada.post("/auth/keys/create", body)).problem(400, "validation_failed", field)
    assert (await ada.get("/auth/keys")).ok()["items"] == []


async def test_of_many_at_once_fifty_are_made(api: Api) -> None:
    ada = await api.user()
    answers = await asyncio.gather(*(ada.post("/auth/keys/create", {"name": f"{n}"}) for n in range(55)))
    made = [answer for answer in answers if answer.status == 201]
    assert len(made) == 50
    for answer in answers:
        if answer not in made:
            answer.problem(409, "too_many_api_keys")
    page = (await ada.get("/auth/keys?limit=20&offset=40")).ok()
    assert (len(page["items"]), page["has_more"]) == (10, False)


# ---- every route, every scope ----------------------------------------------------------------------------


@on_one
@pytest.mark.parametrize("scope", ["chat", "read", "files"])
async def test_each_route_for_each_scope(api: Api, scope: str) -> None:
    """Of an administrator, so that no role is missing."""
    admin = await api.admin()
    key = await with_key(admin, scope)
    for route in PRIVATE_HTTP:
        conversation = await admin.conversation()
        ids: dict[str, object] = {
            "conversation_id": conversation,
            "chat_id": conversation,
            "message_id": 1,
            "user_id": 10**9,
        }
        ids |= {"file_id": 10**9, "config_id": 10**9, "session_id": "one", "key_id": "one"}
        answer = await key.call(route[0], path_of(route, ids), body_of(route, 10**9))
        needed = needed_by(route)
        if needed is None or needed not in {"chat": ("chat", "read")}.get(scope, (scope,)):
            lacks(answer, needed)
        else:
            assert answer.status not in (401, 403, 500), (route, answer)


def needed_by(route: Route) -> str | None:
    method, path = route
    if path.startswith(CLOSED):
        return None
    if path.startswith("/files"):
        return "files"
    return "read" if method == "GET" else "chat"


@on_one
async def test_a_key_of_another_finds_nothing(api: Api) -> None:
    ada = await api.user()
    key = await with_key(await api.user(), "chat", "files")
    conversation, file = await ada.conversation(), await ada.file()
    ids = {"file_id": file["id"]}
    for route in PRIVATE_HTTP:
        if "{" in route[1] and not route[1].startswith(CLOSED):
            path = path_of(route, {"conversation_id": conversation, "chat_id": conversation, "message_id": 1, **ids})
            (await key.call(route[0], path, body_of(route, 10**9))).problem(404, "not_found")
    (await key.get("/conversations")).ok()


# ---- the WebSocket ---------------------------------------------------------------------------------------


async def test_a_socket_by_key(api: Api) -> None:
    ada = await api.user()
    conversation = await ada.conversation()
    chat, read, files = await with_key(ada), await with_key(ada, "read"), await with_key(ada, "files")
    async with connected(chat, conversation) as socket:
        events = await socket.ask()
    assert events[-1].type == "reply.completed"
    async with connected(read, conversation) as socket:
        await socket.say("attach")
        assert (await socket.rest())[-1].data["message"]["content"] is not None
        for frame in ({"kind": "send", "content": "Hi"}, {"kind": "stop"}):
            await socket.say(**frame)
            assert await socket.refusal() == "scope_missing"
    async with knocking(read, conversation, protocols=["chatcore.v1", f"bearer.{read.token}"]) as socket:
        await socket.ready()
    async with knocking(files, conversation) as socket:
        await socket.say("auth", token=files.token)
        assert await socket.close_code() == 4401
    assert len(await ada.messages(conversation)) == 2


# ---- its end, under way ----


async def test_nothing_is_stored_by_key_once_its_revocation_is_answered(api: Api) -> None:
    ada = await api.user()
    created = await ada.key()
    key, statuses = ada.with_token(created["key"]), list[int]()

    async def create() -> None:
        while not statuses or statuses[-1] == 201:
            statuses.append((await key.post("/conversations/create", {"title": "x"})).status)

    creating = [asyncio.create_task(create()) for _ in range(8)]
    while len(statuses) < 10:
        await asyncio.sleep(0.01)
    (await ada.post(f"/auth/keys/{created['id']}/revoke")).ok()
    stored = (await ada.get("/conversations?limit=100")).ok()["items"]
    await asyncio.gather(*creating)
    assert set(statuses) == {201, 401}
    assert (await ada.get("/conversations?limit=100")).ok()["items"] == stored
    assert statuses.count(201) == len(stored)


# ---- attacks ---------------------------------------------------------------------------------------------


async def test_a_key_is_good_only_as_it_is_and_where_it_belongs(api: Api) -> None:
    ada = await api.user()
    key = (await ada.key())["key"]
    for scheme in ("Bearer", "bearer", "BEARER"):
        (await api.get("/conversations", {"Authorization": f"{scheme} {key}"})).ok()
    (await api.get("/conversations", {"Authorization": f"Bearer   {key}  "})).ok()
    body = key.removeprefix("ck-")
    for bearer in (body, "CK-" + body, "sk-" + body, key.upper(), key[:-1], key + "A", key + "=", f"{key} {key}"):
        (await api.get("/conversations", {"Authorization": f"Bearer {bearer}"})).problem(401, "unauthenticated")
    for headers in (
        {"Authorization": f"Basic {key}"},
        {"X-API-Key": key},
        {"Cookie": f"__Secure-refresh_token={key}; refresh_token={key}; access_token={key}"},
        {},
    ):
        answer = await api.get(f"/conversations?access_token={key}&key={key}", headers)
        answer.problem(401, "unauthenticated")
    (await api.post("/auth/refresh", {"refresh_token": key})).problem(401, "unauthenticated")
    (await api.post("/auth/login", {"username": "ada", "password": key})).problem(401, "invalid_credentials")
    (await api.get("/conversations", {"Authorization": f"Bearer {key}"})).ok()


async def test_a_key_that_is_too_long_costs_nothing(api: Api) -> None:
    began = time.perf_counter()
    for _ in range(20):
        answer = await api.get("/conversations", {"Authorization": "Bearer ck-" + "A" * 30_000})
        answer.problem(401, "unauthenticated")
    assert time.perf_counter() - began < 2


async def test_a_key_makes_lists_and_ends_no_keys(api: Api) -> None:
    ada = await api.user()
    created = await ada.key(scopes=["chat", "read", "files"])
    key = ada.with_token(created["key"])
    lacks(await key.get("/auth/keys"), None)
    lacks(await key.post("/auth/keys/create", {"name": "more"}), None)
    lacks(await key.post(f"/auth/keys/{created['id']}/revoke"), None)
    lacks(await key.post("/auth/me/password", {"password": "another password", "current_password": PASSWORD}), None)
    lacks(await key.post("/auth/me/delete", {"current_password": PASSWORD}), None)
    assert len((await ada.get("/auth/keys")).ok()["items"]) == 1


async def test_a_key_has_a_rate_of_its_own(tmp_path: Path) -> None:
    async with api_of(settings_for(tmp_path, RATE_LIMIT_KEY="3/hour")) as api:
        ada = await api.user()
        one, two = await with_key(ada), await with_key(ada)
        for _ in range(3):
            (await one.get("/conversations")).ok()
        answer = await one.get("/conversations")
        answer.problem(429, "rate_limited")
        assert 0 < int(answer.headers["Retry-After"]) <= 3600
        conversation = await ada.conversation()
        async with knocking(one, conversation) as socket:
            await socket.say("auth", token=one.token)
            assert await socket.close_code() == 1013
        (await two.get("/conversations")).ok()
        (await ada.get("/conversations")).ok()
