"""Mass assignment (OWASP API3:2023, ASVS 5.0 15.3.3): every route of the table, asked by who may, with every column of
every table in its body besides what the route knows. The requests are heard, and nothing of that is stored.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from sqlalchemy import Boolean, Column, Integer, String

from chatcore.ports import LLMGateway
from chatcore_memory import ScriptedModel
from chatcore_sql.tables import Id, Moment, metadata
from integration.databases import execute, rows_in
from integration.http_app import PASSWORD, Answer, Api, api_of, provided, settings_for
from integration.routes import ADMIN, FORMS, HTTP, QUERIES, RAW, SAID, SOCKETS, Route, body_fields, body_of, path_of
from integration.ws_client import connected

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.once]

FORGED = "ZZQXFORGEDZZQX"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
FORGED_TIME = "2001-01-01T00:00:00Z"
OWNED = [table.name for table in metadata.sorted_tables if "user_id" in table.c]


@dataclass(frozen=True)
class World:
    stranger: Api
    root: Api
    database_url: str
    zoe: int
    """The id of a user whom all that is forged is said to belong to."""

    async def others(self) -> dict[str, list[str]]:
        """What is Zoe's, and who is more than a user."""
        zoes = {**dict.fromkeys(OWNED, f"user_id = {self.zoe}"), "users": f"id = {self.zoe}"}
        return await rows_in(self.database_url, {**zoes, "user_roles": f"user_id = {self.zoe} OR role <> 'user'"})

    async def stored(self) -> str:
        return repr(await rows_in(self.database_url, {table.name: "TRUE" for table in metadata.sorted_tables}))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    settings = settings_for(tmp_path_factory.mktemp("data"), DATABASE_URL=database_url)
    async with api_of(settings, provided(LLMGateway, ScriptedModel("Hello"))) as stranger:
        zoe = await stranger.user("zoe")
        await zoe.conversation("Hers")
        yield World(stranger, await stranger.admin("root"), database_url, (await zoe.get("/auth/me")).ok()["id"])


def forged(column: Column[Any], zoe: int) -> Any:
    """What nobody has, of this column's type."""
    if isinstance(column.type, Boolean):
        return False
    if isinstance(column.type, Moment):
        return FORGED_TIME
    if isinstance(column.type, Id | Integer):
        return zoe
    return FORGED if isinstance(column.type, String) else FORGED.encode().hex()


def forgery(route: Route, zoe: int) -> dict[str, Any]:
    columns = {column.name: forged(column, zoe) for table in metadata.sorted_tables for column in table.c}
    more = {**columns, "role": "admin", "roles": ["admin"], "is_admin": True, "owner": zoe, "owner_id": zoe}
    more |= {"user": dict(more), "profile": dict(more), "session": dict(more)}
    return {name: value for name, value in more.items() if name not in body_fields(route)}


async def test_what_is_forged_is_what_nobody_may_set() -> None:
    for route in HTTP:
        assert {"id", "user_id", "is_active", "created_at", "roles", "password_hash"} <= forgery(route, 1).keys(), route
    assert body_fields(("POST", "/auth/register")).keys() == {"username", "email", "password"}
    assert "config_id" in body_fields(("POST", "/conversations/{conversation_id}/chat"))


@pytest.mark.parametrize("route", [route for route in HTTP if route not in RAW], ids=" ".join)
async def test_it_changes_nothing(world: World, route: Route) -> None:
    number = HTTP.index(route)
    tokens = await world.stranger.register(f"bob{number}")
    bob = world.stranger.with_token(tokens["access_token"])
    ids = await ids_of(bob, tokens)
    body = {**json.loads(body_of(route, ids["config_id"]) or b"{}"), **instead(route, number, ids, tokens)}
    before = await world.others()
    who = world.root if route in ADMIN else bob
    answer = await said_by(who, route, ids, {**forgery(route, world.zoe), **body})
    assert answer.status < 300, answer
    assert FORGED.encode() not in answer.body
    assert await world.others() == before
    stored = await world.stored()
    assert FORGED not in stored
    assert "2001-01-01" not in stored
    assert "datetime.datetime(2001" not in stored
    inactive = await execute(world.database_url, "SELECT id FROM users WHERE NOT is_active")
    assert [row[0] for row in inactive] == ([ids["user_id"]] if route[1].endswith("/disable") else [])
    await world.root.post(f"/admin/users/{ids['user_id']}/enable")


async def said_by(who: Api, route: Route, ids: dict[str, object], body: dict[str, object]) -> Answer:
    path = path_of(route, ids)
    if route in FORMS:
        return await who.call(route[0], path, urlencode(body).encode(), FORM)
    query = QUERIES.get(route, "").format_map(ids)
    return await who.call(route[0], path + query, json.dumps(body).encode())


@pytest.mark.parametrize("route", SOCKETS, ids=" ".join)
async def test_nor_does_it_in_a_frame(world: World, route: Route) -> None:
    bob = await world.stranger.user()
    before, conversation = await world.others(), await bob.conversation()
    more = forgery(route, world.zoe)
    for known in ("config_id", "client_id", "content", "images", "type", "kind"):
        more.pop(known, None)
    async with connected(bob, conversation) as socket:
        assert (await socket.ask("Hello", **more))[-1].type == "reply.completed"
    assert await world.others() == before
    assert FORGED not in await world.stored()


def instead(route: Route, number: int, ids: dict[str, object], tokens: Any) -> dict[str, object]:
    """What the body has to say in the place of what the table says, so that it is heard."""
    new, email = f"bill{number}", f"bill{number}@example.com"
    return {
        ("POST", "/auth/register"): {"username": new, "email": email},
        ("POST", "/auth/login"): {"username": tokens["user"]["username"], "password": PASSWORD},
        ("POST", "/v1/auth/register"): {"username": new, "email": email},
        ("POST", "/v1/auth/token"): {"username": tokens["user"]["username"], "password": PASSWORD},
        ("POST", "/user/register"): {"userid": new, "email": email},
        ("POST", "/chat"): {"conversation_id": ids["conversation_id"]},
        ("POST", "/auth/refresh"): {"refresh_token": tokens["refresh_token"]},
        ("POST", "/auth/me/username"): {"username": new},
        ("POST", "/auth/me/email"): {"email": email},
        ("POST", "/conversations/{conversation_id}/branch"): {"message_id": ids["message_id"]},
        ("POST", "/admin/users/{user_id}/roles/grant"): {"role": "user"},
    }.get(route, {})


async def ids_of(bob: Api, tokens: Any) -> dict[str, object]:
    """One of everything that is his."""
    config = {"model_url": "https://own.test/v1", "model_name": "own", "api_key": "sk-0123456789ab"}
    conversation_id = await bob.conversation()
    said = (await bob.post(f"/conversations/{conversation_id}/chat", SAID)).ok()
    return {
        "config_id": (await bob.post("/auth/config/create", config)).ok(201)["id"],
        "conversation_id": conversation_id,
        "chat_id": conversation_id,
        "message_id": said["message"]["id"],
        "number": 0,
        "session_id": (await bob.get("/auth/sessions")).ok()["items"][0]["id"],
        "key_id": (await bob.key())["id"],
        "file_id": (await bob.file())["id"],
        "user_id": tokens["user"]["id"],
    }
