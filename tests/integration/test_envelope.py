"""RESPONSE_ENVELOPE: every route of the application's own table answers the same with it and without it, but for what
is around its JSON."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from chatcore import CreateAdmin
from chatcore.ports import LLMGateway
from chatcore_app import Settings, SettingsError
from chatcore_http import create_app
from chatcore_http.app import api_routers
from chatcore_http.envelope import Envelope
from chatcore_http.openapi import describe
from chatcore_memory import ScriptedModel
from integration.http_app import EVENTS, PASSWORD, Answer, Api, api_of, provided, settings_for
from integration.routes import BODIED, HTTP, IDS, Route, body_of, path_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLAIN, ENVELOPED = "none", "code"
CHANGING = {"access_token", "refresh_token", "created_at", "updated_at", "login_time", "last_used_at", "reg_time", "id"}
"""Besides these two applications with the same past answer the same."""

ABSENT: dict[str, object] = dict.fromkeys(IDS, 999)
Both = tuple[Api, Api]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def strangers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Both]:
    """Of an application without the envelope, and of one with it."""
    async with AsyncExitStack() as stack:
        found = [
            await stack.enter_async_context(
                api_of(
                    settings_for(tmp_path_factory.mktemp("data"), RESPONSE_ENVELOPE=envelope, RATE_LIMIT_SIGN_IN="off"),
                    provided(LLMGateway, ScriptedModel("Hello")),
                )
            )
            for envelope in (PLAIN, ENVELOPED)
        ]
        yield found[0], found[1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admins(strangers: Both) -> Both:
    """Who may ask everything, and whose is the conversation with id 1."""
    admins = list[Api]()
    for stranger in strangers:
        account = {"username": "ada", "password": PASSWORD}
        registered = json.loads((await stranger.post("/auth/register", account)).body)
        admin = stranger.with_token(registered.get("data", registered)["access_token"])
        assert stranger.container
        await (await stranger.container.get(CreateAdmin)).promote(name="ada")
        await admin.post("/conversations/create", {"title": "One"})
        admins.append(admin)
    return admins[0], admins[1]


def unwrapped(answer: Answer) -> Any:
    """What is in an answer's envelope, which it must be in."""
    assert answer.headers["Content-Type"] == "application/json"
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    envelope = json.loads(answer.body)
    assert list(envelope) == ["code", "message", "data"]
    if answer.status < 400:
        assert (envelope["code"], envelope["message"]) == (1, "success")
    else:
        assert (envelope["code"], envelope["message"]) == (0, envelope["data"]["detail"])
    return envelope["data"]


def same(thing: Any) -> Any:
    """What has to be the same in two applications."""
    if isinstance(thing, dict):
        return {name: same(value) for name, value in thing.items() if name not in CHANGING}
    return [same(each) for each in thing] if isinstance(thing, list) else thing


def check_same(plain: Answer, enveloped: Answer) -> None:
    assert enveloped.status == plain.status, (plain, enveloped)
    own = {"Content-Type", "Content-Length", "Date", "X-Request-ID"}
    assert {name for name in enveloped.headers if name not in own} == {
        name for name in plain.headers if name not in own
    }
    if plain.headers.get("Content-Type") not in ("application/json", "application/problem+json"):
        assert enveloped.headers.get("Content-Type") == plain.headers.get("Content-Type")
        return
    if "openapi" in (json.loads(plain.body)):
        assert "openapi" in json.loads(enveloped.body)
        return
    data, expected = unwrapped(enveloped), json.loads(plain.body)
    if "hint" in expected:  # of a new personal API key, which is another each time
        for made in ("id", "key", "hint"):
            del data[made], expected[made]
    if isinstance(data, dict) and "user_info" in data:
        info = data.pop("user_info")
        user = data.get("user", data)
        assert (info["user_id"], info["userid"]) == (user["id"], user["username"])
    assert same(data) == same(expected)


# ---- every route -----------------------------------------------------------------------------------------


def askings(route: Route) -> Iterator[bytes | None]:
    yield from (None, b'{"content": ')
    if route in BODIED:
        yield from (b"{}", body_of(route, 1))


@pytest.mark.parametrize("route", HTTP, ids=" ".join)
async def test_a_route_answers_the_same_in_it(strangers: Both, admins: Both, route: Route) -> None:
    """A stranger and somebody who may, about what is not there and, but for what would end this, what is."""
    ending = ("/auth/logout", "/auth/me/", "delete", "disable", "revoke")
    lasting = route[0] != "DELETE" and not any(word in route[1] for word in ending)
    for ids in ([IDS] if lasting else []) + [ABSENT]:
        for clients in [strangers, *([admins] if "_id}" in route[1] or lasting else [])]:
            for body in askings(route):
                plain, enveloped = [await api.call(route[0], path_of(route, ids), body) for api in clients]
                check_same(plain, enveloped)


async def test_what_no_route_has(strangers: Both) -> None:
    for method, path in (("GET", "/nope"), ("POST", "/health"), ("GET", "/docs/nope"), ("GET", "/%ff")):
        plain, enveloped = [await api.call(method, path) for api in strangers]
        check_same(plain, enveloped)
        assert enveloped.status in (404, 405)


async def test_what_is_answered_before_the_framework(tmp_path_factory: pytest.TempPathFactory) -> None:
    production = {
        "ENVIRONMENT": "production",
        "SECRET_KEY": "b3e7f0a94c5d4d1f8a6b2c90d7e1f358",
        "ENCRYPTION_KEYS": "kWb1p0S3yHqgM2xq0v6yCw8T9d3m5uX7nLr4oJ1aBcE=",
        "TRUSTED_PROXIES": "127.0.0.1",
        "CORS_ORIGINS": "https://app.example.com",
        "RESPONSE_ENVELOPE": ENVELOPED,
        "MAX_BODY_BYTES": "1000",
        "RATE_LIMIT_REQUESTS": "3/minute",
    }
    async with api_of(settings_for(tmp_path_factory.mktemp("production"), **production)) as api:
        clear = await api.get("/", {"X-Forwarded-For": "203.0.113.7"})
        assert (clear.status, unwrapped(clear)["code"]) == (403, "https_required")
        https = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
        preflight = {"Origin": "https://evil.test", "Access-Control-Request-Method": "GET", **https}
        refused = await api.call("OPTIONS", "/auth/me", None, preflight)
        assert (refused.status, unwrapped(refused)["code"]) == (403, "forbidden")
        large = await api.call("POST", "/auth/login", b" " * 2000, https)
        assert (large.status, unwrapped(large)["code"]) == (413, "payload_too_large")
        answers = [await api.get("/openapi.json", https) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert unwrapped(answers[-1])["code"] == "rate_limited"
        assert answers[-1].headers["Retry-After"]


async def test_what_is_no_json(admins: Both) -> None:
    _, ada = admins
    async with ada.events("/conversations/1/chat", {"content": "Hello"}, headers=EVENTS) as stream:
        assert [event.type for event in await stream.rest()][-1] == "reply.completed"
    for path in ("/docs", "/redoc", "/docs/start.js"):
        assert b'"code"' not in (await ada.get(path)).body[:10]


async def test_without_it_nothing_is_around_the_application(strangers: Both, tmp_path_factory: Any) -> None:
    def layers(**environ: str) -> list[type]:
        found = list[type]()
        app: Any = create_app(settings_for(tmp_path_factory.mktemp("app"), **environ)).asgi_handler
        while app is not None:
            found.append(type(app))
            app = getattr(app, "app", None)
        return found

    assert Envelope in layers(RESPONSE_ENVELOPE=ENVELOPED)
    assert Envelope not in layers() + layers(RESPONSE_ENVELOPE=PLAIN)
    (await strangers[0].get("/nope")).problem(404, "not_found")


async def test_it_is_one_of_two(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(SettingsError, match=r"^RESPONSE_ENVELOPE must be none or code\.$"):
        settings_for(tmp_path_factory.mktemp("data"), RESPONSE_ENVELOPE="data")


# ---- the description -------------------------------------------------------------------------------------


async def test_what_is_sent_in_it_is_what_is_described(strangers: Both, admins: Both) -> None:
    document = json.loads((await strangers[1].get("/openapi.json")).body)
    validate(document)
    seen = set[int]()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for response in operation["responses"].values():
                assert "application/problem+json" not in response.get("content", ())
            if method == "get" or path in ("/auth/login", "/auth/refresh", "/user/register", "/v1/chats"):
                route = method.upper(), path
                for api, ids in ((strangers[1], IDS), (admins[1], IDS), (admins[1], ABSENT)):
                    answer = await api.call(route[0], path_of(route, ids), body_of(route, 1))
                    if answer.headers.get("Content-Type") == "application/json":
                        schema = operation["responses"][str(answer.status)]["content"]["application/json"]["schema"]
                        check = OAS31Validator({**schema, "components": document["components"]})
                        check.validate(json.loads(answer.body))
                        seen.add(answer.status)
    assert seen >= {200, 201, 401, 404}


async def test_the_description_says_so(strangers: Both) -> None:
    plain, enveloped = [json.loads((await api.get("/openapi.json")).body) for api in strangers]
    assert '{"code": 1, "message": "success", "data"}' in enveloped["info"]["description"]
    assert "envelope" not in plain["info"]["description"]
    examples = enveloped["paths"]["/auth/login"]["post"]["responses"]["401"]["content"]["application/json"]["examples"]
    shown = examples["invalid_credentials"]["value"]
    assert (shown["code"], shown["message"]) == (0, shown["data"]["detail"])
    me = enveloped["paths"]["/auth/me"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert me["properties"]["data"]["allOf"][1] == {"$ref": "#/components/schemas/WithUserInfo"}


async def test_one_document_is_nothing_to_another() -> None:
    """Whatever was described before, with an envelope or without one."""
    plain, enveloped = Settings(), Settings(response_envelope="code")
    first = [describe(settings, api_routers(settings)) for settings in (plain, enveloped)]
    again = [describe(settings, api_routers(settings)) for settings in (enveloped, plain)]
    assert again == first[::-1]
