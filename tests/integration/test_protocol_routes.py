"""Every route of other protocols, asked by those who may not: nothing of anybody's, in the protocol's form."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from chatcore.ports import LLMGateway, ModelRelay
from chatcore_memory import ScriptedModel, ScriptedRelay
from integration.databases import execute
from integration.http_app import Answer, Api, api_of, provided, settings_for
from integration.routes import PROTOCOLS, Route, body_of
from integration.test_every_route import BODIES, TOKENS

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.once]

RELAY = ScriptedRelay(b"{}")
IDS = {"model_id": "zanzibar"}
routes = pytest.mark.parametrize("route", PROTOCOLS, ids=" ".join)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    settings = settings_for(tmp_path_factory.mktemp("data"), DATABASE_URL=database_url)
    providers = (provided(LLMGateway, ScriptedModel("Hello")), provided(ModelRelay, RELAY))
    async with api_of(settings, *providers) as api:
        yield api


@pytest_asyncio.fixture(loop_scope="module")
async def zoe(stranger: Api) -> Api:
    zoe = await stranger.user()
    config = {"model_url": "https://zanzibar.test/v1", "model_name": "zanzibar", "api_key": "sk-0123456789ZZQX"}
    (await zoe.post("/auth/config/create", config)).ok(201)
    RELAY.calls.clear()
    return zoe


def check_refusal(answer: Answer, *statuses: int) -> None:
    assert answer.status in statuses, answer
    assert set(answer.json) == {"error"}
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["X-Request-ID"]
    assert "zanzibar" not in answer.body.decode()
    assert "ZZQX" not in answer.body.decode()
    assert RELAY.calls == []


async def asked(api: Api, route: Route, body: bytes | None = None) -> Answer:
    named = (body_of(route, 0) or b"").replace(b'"demo"', b'"zanzibar"') or None
    return await api.call(route[0], route[1].format_map(IDS), body or named)


@routes
async def test_who_is_not_signed_in_learns_only_that(stranger: Api, zoe: Api, route: Route) -> None:
    for headers in TOKENS.values():
        for body in BODIES.values():
            answer = await stranger.call(route[0], route[1].format_map(IDS), body, headers)
            check_refusal(answer, 401)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@routes
async def test_a_session_that_has_ended_opens_nothing(zoe: Api, route: Route) -> None:
    (await zoe.post("/auth/logout")).ok()
    check_refusal(await asked(zoe, route), 401)


@routes
async def test_a_session_that_has_expired_opens_nothing(zoe: Api, database_url: str, route: Route) -> None:
    await execute(database_url, "UPDATE sessions SET expires_at = '2001-01-01 00:00:00'")
    check_refusal(await asked(zoe, route), 401)


@routes
async def test_an_account_that_is_disabled_opens_nothing(stranger: Api, zoe: Api, route: Route) -> None:
    root = await stranger.admin()
    user = (await zoe.get("/auth/me")).ok()["id"]
    (await root.post(f"/admin/users/{user}/disable")).ok()
    check_refusal(await asked(zoe, route), 401, 403)


@routes
async def test_a_key_opens_what_its_scopes_allow(zoe: Api, route: Route) -> None:
    for scopes in (["files"], ["read"], ["chat"]):
        key = await zoe.key(scopes=scopes)
        answer = await asked(zoe.with_token(key["key"]), route)
        if "chat" in scopes or (route[0] == "GET" and "read" in scopes):
            assert answer.status == 200
        else:
            check_refusal(answer, 403)
        RELAY.calls.clear()
        (await zoe.post(f"/auth/keys/{key['id']}/revoke")).ok()
        check_refusal(await asked(zoe.with_token(key["key"]), route), 401)


@routes
async def test_anothers_model_is_not_there(stranger: Api, zoe: Api, route: Route) -> None:
    bob = await stranger.user()
    answer = await asked(bob, route)
    if route == ("GET", "/v1/models"):
        assert [each["id"] for each in answer.ok()["data"]] == ["demo"]
    else:
        check_refusal(answer, 404)


@routes
async def test_a_body_that_makes_no_sense_is_no_fault_of_the_server(zoe: Api, route: Route) -> None:
    for body in BODIES.values():
        answer = await zoe.call(route[0], route[1].format_map(IDS), body)
        assert answer.status in (200, 400), answer
        assert answer.status == 200 or set(json.loads(answer.body)["error"]) == {"message", "type", "param", "code"}


@routes
async def test_its_owner_is_heard(zoe: Api, route: Route) -> None:
    """So that it is nothing else that the others fail for."""
    assert (await asked(zoe, route)).status == 200


@routes
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_another_method(zoe: Api, route: Route, method: str) -> None:
    answer = await zoe.call(method, route[1].format_map(IDS))
    check_refusal(answer, 405)
    assert answer.headers["Allow"]
