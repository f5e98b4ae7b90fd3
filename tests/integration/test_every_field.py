"""Length before work: every field of every route with a text that takes seconds to normalise. What is counted is how
much was normalised, since a time depends on the machine.
"""

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import pytest_asyncio

from chatcore.entities import MAX_PASSWORD
from chatcore.ports import LLMGateway
from chatcore_memory import ScriptedModel
from chatcore_testing.normalising import MARKS
from integration.http_app import Api, api_of, provided, settings_for
from integration.routes import FORMS, HTTP, Route, body_of, body_texts, parameters_of, path_of
from integration.test_every_body import FORM
from integration.test_every_route import check_harmless
from integration.ws_client import connected, knocking

pytestmark = pytest.mark.asyncio(loop_scope="module")

AT_MOST = 2 * MAX_PASSWORD


FIELDS = [(route, name) for route in HTTP for name in body_texts(route)]
PARAMETERS = [(route, place, name) for route in HTTP for place, name in parameters_of(route)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """On one kind of database: what is looked at happens before any."""
    model = ScriptedModel("Hello")
    async with api_of(settings_for(tmp_path_factory.mktemp("data")), provided(LLMGateway, model)) as stranger:
        yield stranger


@pytest_asyncio.fixture(loop_scope="module")
async def alice(stranger: Api) -> Api:
    """She may do everything."""
    return await stranger.admin()


@pytest_asyncio.fixture(loop_scope="module")
async def ids(alice: Api) -> dict[str, Any]:
    conversation_id = await alice.conversation()
    said = (await alice.post(f"/conversations/{conversation_id}/chat", {"content": "Hello"})).ok()
    config = {"model_url": "https://own.test/v1", "model_name": "own", "api_key": ""}
    return {
        "conversation_id": conversation_id,
        "chat_id": conversation_id,
        "message_id": said["message"]["id"],
        "config_id": (await alice.post("/auth/config/create", config)).ok(201)["id"],
        "session_id": (await alice.get("/auth/sessions")).ok()["items"][0]["id"],
        "key_id": (await alice.key())["id"],
        "file_id": (await alice.file())["id"],
        "user_id": (await alice.get("/auth/me")).ok()["id"],
    }


async def test_all_fields_are_known() -> None:
    routes = {route for route, _ in FIELDS}
    assert {("POST", "/auth/login"), ("POST", "/user/register"), ("POST", "/v1/auth/token")} <= routes
    assert ("POST", "/admin/users/{user_id}/roles/grant") in routes
    assert len(FIELDS) > 40
    assert (("GET", "/admin/users"), "query", "q") in PARAMETERS


@pytest.mark.parametrize(("route", "field"), FIELDS, ids=str)
async def test_a_text_that_is_too_long_is_not_normalised(
    alice: Api, ids: dict[str, Any], normalised: list[int], route: Route, field: str
) -> None:
    body = json.loads(body_of(route, ids) or b"{}") | {field: MARKS}
    if field == "email" and route[1] == "/auth/login":
        del body["username"]
    answer = await sent(alice, route, path_of(route, ids), body)
    check_harmless(answer)
    assert answer.status >= 400 or field in ("content", "message", "refresh_token"), answer
    assert max(normalised, default=0) <= AT_MOST


@pytest.mark.parametrize(("route", "place", "name"), PARAMETERS, ids=str)
async def test_nor_is_one_in_the_url_or_in_a_header(
    alice: Api, ids: dict[str, Any], normalised: list[int], route: Route, place: str, name: str
) -> None:
    """As long as what a server usually takes of them."""
    marks = MARKS[39_000:42_000]
    path, headers, values = path_of(route, ids), dict[str, str](), {**ids}
    if place == "path":
        path = path_of(route, {**values, name: quote(marks[:300])})
    elif place == "query":
        path += "?" + urlencode({name: marks[:300]})
    else:
        headers[name] = "\u00e9" * 3_000
    check_harmless(await alice.call(route[0], path, body_of(route, ids), headers))
    assert max(normalised, default=0) <= AT_MOST


async def test_a_line_break_is_no_part_of_a_number_or_cursor(alice: Api, ids: dict[str, Any]) -> None:
    """Python's `$` is also before it."""
    for route, place, name in PARAMETERS:
        if place == "query":
            answers = [await alice.call(route[0], f"{path_of(route, ids)}?q=a&{name}={each}%0A") for each in ("", "t")]
            assert [each.status for each in answers if each.status >= 500] == [], (route, name)
            assert "cursor" not in name or {each.status for each in answers} == {400}, (route, name)


@pytest.mark.parametrize("field", ["content", "client_id"])
async def test_nor_is_one_in_a_frame(alice: Api, normalised: list[int], field: str) -> None:
    async with connected(alice, await alice.conversation()) as socket:
        await socket.say("send", **({"content": "Hello"} | {field: MARKS}))
        await socket.hear()
    async with knocking(alice, await alice.conversation()) as socket:
        await socket.say("auth", token=MARKS)
        assert await socket.close_code() == 1009
    assert max(normalised, default=0) <= AT_MOST


async def sent(api: Api, route: Route, path: str, body: dict[str, Any]) -> Any:
    if route in FORMS:
        return await api.call(route[0], path, urlencode(body).encode(), FORM)
    return await api.call(route[0], path, json.dumps(body, ensure_ascii=False).encode())
