"""Every route of the AI SDK and of AG-UI, asked by those who may not: nothing of anybody's, in the protocol's form."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from chatcore.ports import LLMGateway
from chatcore_memory import ScriptedModel
from integration.databases import execute
from integration.http_app import Answer, Api, api_of, provided, settings_for
from integration.routes import CHAT_CLIENTS, Route, body_of
from integration.test_every_route import BODIES, TOKENS

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.once]

HTTP = [route for route in CHAT_CLIENTS if route[0] != "WS"]
routes = pytest.mark.parametrize("route", HTTP, ids=" ".join)
NAME = "zanzibar"


@dataclass(frozen=True)
class House:
    stranger: Api
    model: ScriptedModel
    zoe: Api


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(
    database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Api, ScriptedModel]]:
    settings = settings_for(tmp_path_factory.mktemp("data"), DATABASE_URL=database_url)
    model = ScriptedModel("zanzibar, says the model")
    async with api_of(settings, provided(LLMGateway, model)) as stranger:
        yield stranger, model


@pytest_asyncio.fixture(loop_scope="module")
async def house(opened: tuple[Api, ScriptedModel]) -> House:
    stranger, model = opened
    zoe = await stranger.user()
    for route in (("POST", "/ai/chat"), ("POST", "/ag-ui")):
        assert (await asked(zoe, route)).status == 200
    return House(stranger, model, zoe)


async def asked(api: Api, route: Route, body: bytes | None = None) -> Answer:
    return await api.call(route[0], path_of(route), body or body_of(route, 0))


def path_of(route: Route) -> str:
    return route[1].format(chat_id=NAME)


def check_form(route: Route, answer: Answer) -> None:
    """A sentence, or an object with it and its code."""
    if route[1].startswith("/ai/"):
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.body
    else:
        assert set(answer.json) == {"message", "code"}
    assert answer.headers["X-Request-ID"]
    assert NAME not in answer.body.decode()


def check_refusal(route: Route, answer: Answer, *statuses: int) -> None:
    assert answer.status in statuses, answer
    check_form(route, answer)


@routes
async def test_who_is_not_signed_in_learns_only_that(house: House, route: Route) -> None:
    for headers in TOKENS.values():
        for body in BODIES.values():
            answer = await house.stranger.call(route[0], path_of(route), body, headers)
            check_refusal(route, answer, 401)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@routes
async def test_a_session_that_has_ended_opens_nothing(house: House, route: Route) -> None:
    (await house.zoe.post("/auth/logout")).ok()
    check_refusal(route, await asked(house.zoe, route), 401)


@routes
async def test_a_key_that_is_revoked_opens_nothing(house: House, route: Route) -> None:
    key = await house.zoe.key()
    api = house.zoe.with_token(key["key"])
    assert (await asked(api, route)).status in (200, 204)
    (await house.zoe.post(f"/auth/keys/{key['id']}/revoke")).ok()
    check_refusal(route, await asked(api, route), 401)


@routes
async def test_a_key_that_has_expired_opens_nothing(house: House, database_url: str, route: Route) -> None:
    api = house.zoe.with_token((await house.zoe.key())["key"])
    await execute(database_url, "UPDATE sessions SET expires_at = '2001-01-01 00:00:00'")
    check_refusal(route, await asked(api, route), 401)


@routes
async def test_a_key_without_the_scope_opens_nothing(house: House, route: Route) -> None:
    key = await house.zoe.key(scopes=["files"])
    answer = await asked(house.zoe.with_token(key["key"]), route)
    check_refusal(route, answer, 403)


@routes
async def test_anothers_chat_is_not_there(house: House, route: Route) -> None:
    """A name is its owner's: another's begins a conversation of theirs."""
    bob = await house.stranger.user()
    house.model.then("Hello, Bob")
    answer = await asked(bob, route)
    if route[1] in ("/ai/chat", "/ag-ui"):
        assert answer.status == 200
        assert b"Hello, Bob" in answer.body
    elif route[1].endswith("/stream"):
        assert (answer.status, answer.body) == (204, b"")
    else:
        check_refusal(route, answer, 404)


@routes
async def test_a_body_that_makes_no_sense_is_no_fault_of_the_server(house: House, route: Route) -> None:
    for body in BODIES.values():
        answer = await house.zoe.call(route[0], path_of(route), body)
        assert answer.status in (200, 204, 400), answer
        if answer.status == 400:
            check_form(route, answer)


@routes
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_another_method(house: House, route: Route, method: str) -> None:
    answer = await house.zoe.call(method, path_of(route))
    check_refusal(route, answer, 405)
    assert answer.headers["Allow"]


async def test_the_names_of_two_owners_are_apart(house: House) -> None:
    bob = await house.stranger.user()
    assert (await asked(bob, ("POST", "/ai/chat"))).status == 200
    for api in (house.zoe, bob):
        listed = json.loads((await api.get(f"/ai/chat/{NAME}/messages")).body)
        assert len(listed["messages"]) == 2
