"""Every route of the application's own table, whatever is asked of it: nobody's fault is a fault of the server, and
nobody sees or changes what belongs to somebody else.

A route that is missing in the table of routes.py fails: whom it answers to is said there.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import WSMsgType, WSServerHandshakeError

from chatcore.ports import LLMGateway
from chatcore_http.http_refusals import MAX_REQUEST_LINE
from chatcore_memory import ScriptedModel
from integration.databases import on_one
from integration.http_app import PASSWORD, Answer, Api, api_of, provided, settings_for, with_id
from integration.routes import (
    ADMIN,
    BODIED,
    CHAT_CLIENTS,
    HTTP,
    IDS,
    PAGES,
    PRIVATE,
    PRIVATE_HTTP,
    PROTOCOLS,
    PUBLIC,
    ROUTES,
    SOCKETS,
    STORED,
    THEIRS,
    Route,
    body_fields,
    body_of,
    path_of,
)
from integration.ws_client import knocking

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.once]

MAX_BODY = 250_000
BODIES = {
    "no body": None,
    "an empty object": b"{}",
    "null": b"null",
    "a list": b'[{"content": "Hello"}]',
    "no JSON": b'{"content": ',
    "no UTF-8": b'{"content": "\xff"}',
    "a lone surrogate": rb'{"content": "\ud800", "title": "\ud800", "username": "\ud800", "refresh_token": "\ud800"}',
    "NUL": rb'{"content": "\u0000", "title": "\u0000", "password": "\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000"}',
    "numbers": b'{"content": 1, "title": 1, "username": 1, "password": 1, "model_url": 1, "refresh_token": 1}',
    "numbers that are too large": b'{"content": "Hello", "config_id": 1e400, "max_tokens": ' + b"9" * 5_000 + b"}",
    "too deep": b"[" * 40_000,
}
ABSURD = [
    0,
    -1,
    10**9,
    2**63 - 1,
    2**63,
    10**30,
    "9" * 5_000,
    "one",
    "1.5",
    "1e3",
    "null",
    "%00",
    "%ff",
    "..%2f1",
    "%D9%A9" * 9,
]
NOBODYS = dict.fromkeys(IDS, 10**9)
TOKENS = {
    "no token": {},
    "garbage": {"Authorization": "Bearer garbage"},
    "garbage in three parts": {"Authorization": "Bearer e30.e30.AAAA"},
    "no scheme": {"Authorization": "garbage"},
    "another scheme": {"Authorization": "Basic YWxpY2U6cGFzc3dvcmQ="},
    "nothing behind the scheme": {"Authorization": "Bearer "},
}

# ---- the two users ---------------------------------------------------------------------------------------

MARKS = ("zanzibar", "ZZQX")
"""In everything that is Zoe's. The second is what is shown of her key."""


@dataclass(frozen=True, slots=True)
class World:
    stranger: Api
    model: ScriptedModel
    zoe: Api
    ids: dict[str, object]
    """Zoe's things by the name that a path has for them."""

    async def zoes(self) -> list[Any]:
        """All that she can see of what is hers."""
        paths = ["/auth/me", "/auth/config", "/auth/sessions", "/conversations", "/conversations/{conversation_id}"]
        seen = [(await self.zoe.get(with_id(path, self.ids["conversation_id"]))).ok() for path in paths]
        for session in seen[2]["items"]:
            del session["last_used_at"]  # her own reading moves it, once a minute
        return seen


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    settings = settings_for(tmp_path_factory.mktemp("data"), DATABASE_URL=database_url, MAX_BODY_BYTES=str(MAX_BODY))
    model = ScriptedModel("Hello")
    model.then("zanzibar, says the model")
    async with api_of(settings, provided(LLMGateway, model)) as stranger:
        account = {"username": "zanzibar", "email": "zanzibar@example.com", "password": PASSWORD}
        tokens = (await stranger.post("/auth/register", account, {"User-Agent": "zanzibar"})).ok(201)
        zoe = stranger.with_token(tokens["access_token"])
        config = {"model_url": "https://zanzibar.test/v1", "model_name": "zanzibar", "api_key": "sk-0123456789ZZQX"}
        config_id = (await zoe.post("/auth/config/create", config)).ok(201)["id"]
        conversation_id = await zoe.conversation("zanzibar in summer")
        said = (await zoe.post(f"/conversations/{conversation_id}/chat", {"content": "Where is zanzibar?"})).ok()
        session_id = (await zoe.get("/auth/sessions")).ok()["items"][0]["id"]
        ids = {
            "config_id": config_id,
            "conversation_id": conversation_id,
            "chat_id": conversation_id,
            "message_id": said["message"]["id"],
            "session_id": session_id,
            "key_id": (await zoe.key())["id"],
            "file_id": (await zoe.file())["id"],
            "user_id": tokens["user"]["id"],
        }
        yield World(stranger, model, zoe, ids)


def check_harmless(answer: Answer) -> None:
    """No failure of ours, a problem if anything is one, and nothing of Zoe's."""
    assert answer.status < 500, answer
    if answer.status >= 400:
        answer.problem(answer.status, json.loads(answer.body)["code"], *fields_of(answer))
    check_unmarked(answer.headers, answer.body)


def fields_of(answer: Answer) -> list[str]:
    return [error["field"] for error in json.loads(answer.body).get("errors", ())]


def check_unmarked(*things: object) -> None:
    for mark in MARKS:
        assert mark not in str(things), things


# ---- the table -------------------------------------------------------------------------------------------


async def test_of_every_route_it_is_known_whom_it_answers_to() -> None:
    tables = (PUBLIC, PRIVATE, ADMIN, PROTOCOLS, STORED, CHAT_CLIENTS)
    assert sorted(route for table in tables for route in table) == ROUTES


async def test_of_every_route_it_is_known_whether_it_reads_a_body() -> None:
    by_line = {("POST", "/conversations/import")}  # not described as JSON
    assert {route for route in HTTP if body_fields(route)} | by_line == set(BODIED)


async def test_all_of_zoes_things_are_marked(world: World) -> None:
    """So that the other tests would see them."""
    for thing in await world.zoes():
        assert "zanzibar" in str(thing)
    assert "ZZQX" in str(await world.zoes())
    assert "zanzibar, says the model" in str(await world.zoes())


# ---- nobody ----------------------------------------------------------------------------------------------


@on_one
@pytest.mark.parametrize("route", PRIVATE_HTTP, ids=" ".join)
async def test_who_is_not_signed_in_learns_only_that(world: World, route: Route) -> None:
    """Before anything is parsed, and before any database is asked: so on one of them."""
    askings: list[tuple[bytes | None, dict[str, str]]] = [
        *((body, {"Last-Event-ID": "z"}) for body in (*BODIES.values(), b" " * 2 * MAX_BODY)),
        *((body_of(route, 1), headers) for headers in TOKENS.values()),
    ]
    before = await world.zoes()
    for ids in (world.ids, dict.fromkeys(world.ids, 10**30), dict.fromkeys(world.ids, -1)):
        for body, headers in askings:
            answer = await world.stranger.call(route[0], path_of(route, ids) + "?limit=x&after=y", body, headers)
            answer.problem(401, "unauthenticated")
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            check_unmarked(answer.headers, answer.body)
    assert await world.zoes() == before


@pytest.mark.parametrize("route", [route for route in PUBLIC if route not in PAGES], ids=" ".join)
async def test_what_anybody_may_ask_shows_nothing_of_anybody(world: World, route: Route) -> None:
    before = await world.zoes()
    for body in (body_of(route, 1), *(BODIES.values() if route in BODIED else ())):
        for headers in TOKENS.values():
            check_harmless(await world.stranger.call(route[0], path_of(route, world.ids), body, headers))
    assert await world.zoes() == before


# ---- somebody else ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", [route for route in PRIVATE if route not in SOCKETS], ids=" ".join)
async def test_somebody_elses_things_are_not_there(world: World, route: Route) -> None:
    before, calls = await world.zoes(), len(world.model.calls)
    bob = await world.stranger.user()
    answer = await bob.call(route[0], path_of(route, world.ids), body_of(route, world.ids))
    check_harmless(answer)
    if "_id}" in route[1]:
        missing = await bob.call(route[0], path_of(route, NOBODYS), body_of(route, world.ids))
        assert answer.problem(404, "not_found") == missing.problem(404, "not_found")
    check_unmarked(world.model.calls[calls:])
    assert await world.zoes() == before


@pytest.mark.parametrize("route", [route for route in PRIVATE_HTTP if THEIRS in str(PRIVATE.get(route))], ids=" ".join)
async def test_somebody_elses_configuration_does_not_serve_ones_own_conversation(world: World, route: Route) -> None:
    bob = await world.stranger.user()
    conversation_id = await bob.conversation()
    said = (await bob.post(f"/conversations/{conversation_id}/chat", {"content": "Hello"})).ok()
    own = {**world.ids, "conversation_id": conversation_id, "message_id": said["message"]["id"]}
    before, calls, checks = await world.zoes(), len(world.model.calls), len(world.model.checks)
    answer = await bob.call(route[0], path_of(route, own), body_of(route, world.ids))
    check_harmless(answer)
    assert answer.status == 404
    assert (len(world.model.calls), len(world.model.checks)) == (calls, checks)
    assert len(await bob.messages(conversation_id)) == 2
    assert await world.zoes() == before


@pytest.mark.parametrize("route", [route for route in HTTP if "{" in route[1]], ids=" ".join)
async def test_an_absurd_id_is_one_of_nothing(world: World, route: Route) -> None:
    who = await world.stranger.admin()
    for number in ABSURD:
        ids = dict.fromkeys([*world.ids, "name"], number)
        path = path_of(route, ids)
        answer = await who.call(route[0], path, body_of(route, world.ids))
        check_harmless(answer)
        assert answer.status == (404 if len(path) < MAX_REQUEST_LINE else 414), number


@pytest.mark.parametrize("route", [route for route in PRIVATE_HTTP if THEIRS in str(PRIVATE.get(route))], ids=" ".join)
async def test_nor_is_it_in_a_body(world: World, route: Route) -> None:
    bob = await world.stranger.user()
    own = {**world.ids, "conversation_id": await bob.conversation()}
    for number in ABSURD:
        answer = await bob.call(route[0], path_of(route, own), body_of(route, number))
        check_harmless(answer)
        assert answer.status in (400, 404), number


@pytest.mark.parametrize("route", BODIED, ids=" ".join)
async def test_a_body_that_makes_no_sense_does_no_harm(world: World, route: Route) -> None:
    who = await (world.stranger.admin() if route in ADMIN else world.stranger.user())
    own = {**world.ids, "conversation_id": await who.conversation(), "user_id": (await who.get("/auth/me")).ok()["id"]}
    for body in BODIES.values():
        check_harmless(await who.call(route[0], path_of(route, own), body))


# ---- who is no administrator -----------------------------------------------------------------------------


@on_one
@pytest.mark.parametrize("route", ADMIN, ids=" ".join)
async def test_who_is_no_administrator_learns_only_that(world: World, route: Route) -> None:
    """Before anything is parsed: on one database, since the roles are read as the session is, of every caller."""
    before, bob = await world.zoes(), await world.stranger.user()
    own = (await bob.get("/auth/me")).ok()["id"]
    for user_id in (world.ids["user_id"], own, 10**9, 10**30):
        for body in (body_of(route, 1), *BODIES.values()):
            answer = await bob.call(route[0], path_of(route, {"user_id": user_id}), body)
            answer.problem(403, "forbidden")
    assert (await bob.get("/auth/me")).ok()["roles"] == ["user"]
    assert await world.zoes() == before


# ---- the sockets -----------------------------------------------------------------------------------------


async def refused(api: Api, path: str, *frames: bytes) -> tuple[int, str]:
    """The code and the reason with which a connection closes on which this is said, before anything comes on it."""
    async with knocking(api, path.rpartition("/")[2]) as socket:
        for frame in frames:
            await socket.connection.send_str(frame.decode())
        message = await socket.connection.receive()
        assert message.type is WSMsgType.CLOSE, message
        return message.data, message.extra or ""


def auth(token: str | None) -> bytes:
    return json.dumps({"type": "auth", "token": token}).encode()


@on_one
@pytest.mark.parametrize("first", [b"{}", b"no JSON", b"null", auth("garbage"), auth("e30.e30.AAAA"), auth(None)])
@pytest.mark.parametrize("route", SOCKETS, ids=" ".join)
async def test_a_socket_is_for_who_is_signed_in(world: World, route: Route, first: bytes) -> None:
    for ids in (world.ids, dict.fromkeys(world.ids, 10**30)):
        code, reason = await refused(world.stranger, path_of(route, ids), first)
        assert code == 4401
        check_unmarked(reason)


@pytest.mark.parametrize("number", [None, *ABSURD], ids=lambda number: str(number)[:20])
@pytest.mark.parametrize("route", SOCKETS, ids=" ".join)
async def test_a_socket_is_for_ones_own_conversation(world: World, route: Route, number: object) -> None:
    before, calls = await world.zoes(), len(world.model.calls)
    bob = await world.stranger.user()
    path = path_of(route, world.ids if number is None else dict.fromkeys(world.ids, number))
    message = body_of(route, world.ids) or b""
    try:
        code, reason = await refused(bob, path, auth(bob.token), message)
    except WSServerHandshakeError as error:
        code, reason = error.status, error.message
    assert code == 4404 or (number is not None and code in (400, 403, 404))
    check_unmarked(reason)
    assert len(world.model.calls) == calls
    assert await world.zoes() == before


@pytest.mark.parametrize("route", SOCKETS, ids=" ".join)
async def test_somebody_elses_configuration_does_not_serve_a_socket(world: World, route: Route) -> None:
    calls = len(world.model.calls)
    bob = await world.stranger.user()
    own = path_of(route, {**world.ids, "conversation_id": await bob.conversation()})
    frames = (body_of(route, world.ids) or b"", *(body for body in BODIES.values() if body))
    async with knocking(bob, own.rpartition("/")[2]) as socket:
        await socket.say("auth", token=bob.token)
        await socket.ready()
        for frame in frames:
            if frame.isascii():
                await socket.connection.send_str(frame.decode())
                assert await socket.refusal() in ("not_found", "validation_failed")
    assert len(world.model.calls) == calls
