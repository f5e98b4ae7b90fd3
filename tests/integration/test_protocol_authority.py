"""Every route of other protocols, taken from the application itself, asked with a key that does not open it: an error
in the protocol's own form, and nothing of anybody's."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import pytest
import pytest_asyncio

from chatcore.ports import LLMGateway, ModelRelay
from chatcore_http.error_forms import form_of
from chatcore_memory import ScriptedModel, ScriptedRelay
from integration.databases import execute, on_one
from integration.http_app import Answer, Api, api_of, provided, settings_for
from integration.routes import ROUTES, Route, body_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.once, on_one]
# The statements that judge authority are tried on every database by test_every_token.py and the contracts.

NAME = "zanzibar"
HTTP = [route for route in ROUTES if route[0] != "WS" and form_of(route[1])]
routes = pytest.mark.parametrize("route", HTTP, ids=" ".join)
OWN = {
    ("GET", "/v1/models"),
    ("GET", "/v1/chat/completions"),
    ("POST", "/v1/responses"),
    ("GET", "/v1/conversations"),
    ("POST", "/v1/conversations"),
    ("POST", "/ai/chat"),
    ("GET", "/ai/chat/{chat_id}/stream"),
    ("POST", "/ag-ui"),
}
"""Those that name nothing of another's: they answer everybody with what is theirs."""


@dataclass(frozen=True)
class Zoe:
    """A user, and what is hers."""

    api: Api
    ids: Mapping[str, str]
    relay: ScriptedRelay

    async def ask(self, route: Route, key: str | None) -> Answer:
        named = (body_of(route, 0) or b"").replace(b'"zanzibar"', b'"zoes"').replace(b'"demo"', b'"zanzibar"') or None
        return await self.api.with_token(key).call(route[0], route[1].format_map(self.ids), named)

    async def key(self, *scopes: str) -> str:
        key: str = (await self.api.key(scopes=scopes))["key"]
        return key


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(
    database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Api, ScriptedModel, ScriptedRelay]]:
    settings = settings_for(tmp_path_factory.mktemp("data"), DATABASE_URL=database_url)
    model, relay = ScriptedModel("Hello"), ScriptedRelay(b"{}")
    async with api_of(settings, provided(LLMGateway, model), provided(ModelRelay, relay)) as stranger:
        yield stranger, model, relay


@pytest_asyncio.fixture(loop_scope="module")
async def zoe(opened: tuple[Api, ScriptedModel, ScriptedRelay]) -> Zoe:
    stranger, model, relay = opened
    api = await stranger.user()
    config = {"model_url": f"https://{NAME}.test/v1", "model_name": NAME, "api_key": "sk-0123456789ZZQX"}
    (await api.post("/auth/config/create", config)).ok(201)
    said = [{"role": "user", "content": f"{NAME}?"}]
    for _ in range(3):
        model.then(f"{NAME}, says the model")
    stored = {"model": NAME, "messages": said, "store": True, "metadata": {"topic": NAME}}
    completion = (await api.post("/v1/chat/completions", stored)).ok()
    response = (await api.post("/v1/responses", {"input": f"{NAME}?", "metadata": {"topic": NAME}})).ok()
    conversation = (await api.post("/v1/conversations", {"items": said, "metadata": {"topic": NAME}})).ok()
    items = (await api.get(f"/v1/conversations/{conversation['id']}/items")).ok()
    hello = {"id": "hers", "role": "user", "parts": [{"type": "text", "text": f"{NAME}?"}]}
    assert (await api.post("/ai/chat", {"id": "zoes", "messages": [hello]})).status == 200
    relay.calls.clear()
    ids = {"completion_id": completion["id"], "response_id": response["id"], "conversation_id": conversation["id"]}
    return Zoe(api, {**ids, "item_id": items["last_id"], "chat_id": "zoes", "model_id": NAME}, relay)


def check_nothing_is_said(answer: Answer, zoe: Zoe) -> None:
    assert answer.headers["X-Request-ID"]
    assert NAME not in answer.body.decode()
    assert "ZZQX" not in answer.body.decode()
    assert zoe.relay.calls == []


def check_refusal(route: Route, answer: Answer, status: int, zoe: Zoe) -> None:
    assert answer.status == status, answer
    check_nothing_is_said(answer, zoe)
    if route[1].startswith("/v1/"):
        assert set(answer.json) == {"error"}
        assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    elif route[1].startswith("/ai/"):
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert answer.body
    else:
        assert set(answer.json) == {"message", "code"}


@routes
@pytest.mark.parametrize("key", [None, "ck-", "ck-" + "x" * 43, "sk-0123456789"], ids=str)
async def test_no_key(zoe: Zoe, route: Route, key: str | None) -> None:
    answer = await zoe.ask(route, key)
    check_refusal(route, answer, 401, zoe)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@routes
async def test_a_key_that_is_revoked(zoe: Zoe, route: Route) -> None:
    key = await zoe.api.key()
    (await zoe.api.post(f"/auth/keys/{key['id']}/revoke")).ok()
    check_refusal(route, await zoe.ask(route, key["key"]), 401, zoe)


@routes
async def test_a_key_that_has_expired(zoe: Zoe, route: Route, database_url: str) -> None:
    key = await zoe.key("chat")
    await execute(database_url, "UPDATE sessions SET expires_at = '2001-01-01 00:00:00'")
    check_refusal(route, await zoe.ask(route, key), 401, zoe)


@routes
async def test_a_key_with_another_scope(zoe: Zoe, route: Route) -> None:
    scopes = ["files"] if route[0] == "GET" else ["files", "read"]
    check_refusal(route, await zoe.ask(route, await zoe.key(*scopes)), 403, zoe)


@routes
async def test_anothers_key(opened: tuple[Api, ScriptedModel, ScriptedRelay], zoe: Zoe, route: Route) -> None:
    bob = await opened[0].user()
    answer = await zoe.ask(route, (await bob.key())["key"])
    if route in OWN:
        assert answer.status in (200, 204), answer
        check_nothing_is_said(answer, zoe)
    else:
        check_refusal(route, answer, 404, zoe)


@routes
async def test_its_owners_key(zoe: Zoe, route: Route) -> None:
    """So that it is nothing else that the others fail for."""
    answer = await zoe.ask(route, await zoe.key("read" if route[0] == "GET" else "chat"))
    assert answer.status in (200, 204), answer


async def test_what_another_may_not_see_is_marked(zoe: Zoe) -> None:
    """So that the other tests would see it."""
    for route in HTTP:
        if route[0] == "GET" and route[1] != "/ai/chat/{chat_id}/stream":
            assert NAME in json.dumps((await zoe.ask(route, zoe.api.token)).ok()), route
