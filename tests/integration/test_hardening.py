"""What every answer says to browsers, whatever it is, and that production speaks over HTTPS alone."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from chatcore.ports import LLMGateway
from chatcore_app import Settings
from chatcore_http.hardening import in_the_clear
from chatcore_http.request_limit import WATCHED_PATHS
from chatcore_memory import ScriptedModel
from integration.http_app import EVENTS, Answer, Api, api_of, provided, settings_for
from integration.routes import HTTP, IDS, SOCKETS, Route, path_of
from integration.ws_client import knocking

pytestmark = pytest.mark.asyncio(loop_scope="module")

PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "b3e7f0a94c5d4d1f8a6b2c90d7e1f358",
    "ENCRYPTION_KEYS": "kWb1p0S3yHqgM2xq0v6yCw8T9d3m5uX7nLr4oJ1aBcE=",
}
WATCHED = [("GET", path) for path in WATCHED_PATHS]
CLIENT = {"X-Forwarded-For": "203.0.113.7"}
HTTPS = {**CLIENT, "X-Forwarded-Proto": "https"}
APP = "https://app.example.com"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """Of an application in production, behind a proxy that ends TLS: the test itself."""
    settings = settings_for(
        tmp_path_factory.mktemp("data"), **PRODUCTION, TRUSTED_PROXIES="127.0.0.1", CORS_ORIGINS=APP
    )
    async with api_of(settings, provided(LLMGateway, ScriptedModel("Hello"))) as api:
        yield api


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def token(stranger: Api) -> str:
    account = {"username": "ada", "password": "correct horse battery"}
    token: str = (await stranger.post("/auth/register", account, HTTPS)).ok(201)["access_token"]
    return token


def check_hardened(answer: Answer) -> None:
    for name, value in (
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "no-referrer"),
    ):
        assert answer.headers.getall(name) == [value], (name, answer)  # type: ignore[attr-defined]
    (policy,) = answer.headers.getall("Content-Security-Policy")  # type: ignore[attr-defined]
    for directive in ("default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"):
        assert directive in policy.split("; ")
    assert "unsafe-eval" not in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        assert "script-src 'self'" in policy.split("; ")


def caching_of(answer: Answer) -> list[str]:
    found: list[str] = answer.headers.getall("Cache-Control")  # type: ignore[attr-defined]
    return found


# ---- headers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", HTTP, ids=" ".join)
async def test_every_route_says_it(stranger: Api, token: str, route: Route) -> None:
    for bearer in ({"Authorization": "Bearer no.such.token"}, {}, {"Authorization": f"Bearer {token}"}):
        if bearer and route[1] in ("/auth/logout", "/auth/me/delete", "/auth/me/password"):
            bearer = {"Authorization": "Bearer no.such.token"}  # the others' token is needed
        answer = await stranger.call(route[0], path_of(route, IDS), b"{}", {**HTTPS, **bearer})
        check_hardened(answer)
        assert answer.headers["Strict-Transport-Security"].startswith("max-age=31536000")
        if bearer or not route[1].startswith("/docs/"):
            assert caching_of(answer) == ["no-store"]


@pytest.mark.parametrize("path", ["/", "/auth/me", "/docs/swagger-ui.css"])
async def test_nor_is_anything_stored_that_a_cookie_was_sent_for(stranger: Api, path: str) -> None:
    assert caching_of(await stranger.get(path, {**HTTPS, "Cookie": "refresh=x"})) == ["no-store"]


async def test_the_scripts_of_the_documentation_may_be_kept(stranger: Api) -> None:
    assert caching_of(await stranger.get("/docs/swagger-ui.css", HTTPS)) == ["public, max-age=3600"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("GET", "/%ff", 404),
        ("PUT", "/auth/me", 405),
        ("OPTIONS", "/auth/me", 401),
        ("POST", "/auth/login", 400),
    ],
)
async def test_an_error_says_it(stranger: Api, method: str, path: str, status: int) -> None:
    answer = await stranger.call(method, path, b"[" if method == "POST" else None, HTTPS)
    assert answer.status == status
    check_hardened(answer)
    assert caching_of(answer) == ["no-store"]


async def test_tokens_are_not_stored(stranger: Api, token: str) -> None:
    account = {"username": "ada", "password": "correct horse battery"}
    answer = await stranger.post("/auth/login", account, HTTPS)
    assert answer.status == 200
    assert caching_of(answer) == ["no-store"]


async def test_a_stream_says_it(stranger: Api, token: str) -> None:
    ada = stranger.with_token(token)
    conversation = (await ada.post("/conversations/create", {}, HTTPS)).ok(201)["id"]
    own = {"model_url": "https://own.test/v1", "model_name": "own", "api_key": ""}
    (await ada.post("/auth/config/create", own, HTTPS)).ok(201)
    path = f"/conversations/{conversation}/chat"
    async with ada.events(path, {"content": "Hi"}, {**EVENTS, **HTTPS}) as events:
        check_hardened(Answer(200, events.headers, b""))
        assert caching_of(Answer(200, events.headers, b"")) == ["no-store"]
        assert (await events.rest())[-1].type == "reply.completed"


async def test_development_does_not_bind_a_host_to_https(tmp_path: Path) -> None:
    async with api_of(settings_for(tmp_path, TRUSTED_PROXIES="127.0.0.1")) as api:
        for headers in ({}, CLIENT, HTTPS):
            answer = await api.get("/health", headers)
            assert answer.ok()
            check_hardened(answer)
            assert "Strict-Transport-Security" not in answer.headers


# ---- preflights ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
        {"Origin": APP, "Access-Control-Request-Method": "PUT"},
        {"Origin": APP, "Access-Control-Request-Headers": "Authorization, X-Anything"},
    ],
)
async def test_a_preflight_that_is_refused_is_a_problem(stranger: Api, asked: dict[str, str]) -> None:
    answer = await stranger.call(
        "OPTIONS", "/auth/me", headers={**HTTPS, "Access-Control-Request-Method": "GET"} | asked
    )
    answer.problem(403, "forbidden")
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
    check_hardened(answer)


# ---- HTTPS -----------------------------------------------------------------------------------------------


IN_THE_CLEAR = [
    CLIENT,
    {**CLIENT, "X-Forwarded-Proto": "http"},
    {"X-Forwarded-Proto": "http"},
    {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http"},
    {"X-Forwarded-For": "unknown"},
]


@pytest.mark.parametrize("route", [*(route for route in HTTP if route not in WATCHED), ("GET", "/nope")], ids=" ".join)
async def test_production_answers_nothing_in_the_clear(stranger: Api, token: str, route: Route) -> None:
    for headers in IN_THE_CLEAR:
        answer = await stranger.with_token(token).call(route[0], path_of(route, IDS), b"{}", headers)
        answer.problem(403, "https_required")
        check_hardened(answer)
        assert "Strict-Transport-Security" not in answer.headers  # RFC 6797 §7.2


@pytest.mark.parametrize("route", WATCHED, ids=" ".join)
async def test_but_that_it_lives(stranger: Api, token: str, route: Route) -> None:
    """A platform asks the server itself, past the proxy that speaks HTTPS for it."""
    answer = await stranger.with_token(token).call(*route, headers=CLIENT)
    assert set(answer.ok()) <= {"status", "old_keys"}
    check_hardened(answer)
    assert "Strict-Transport-Security" not in answer.headers


@pytest.mark.parametrize("route", SOCKETS, ids=" ".join)
async def test_nor_does_a_socket(stranger: Api, token: str, route: Route) -> None:
    conversation = (await stranger.with_token(token).post("/conversations/create", {}, HTTPS)).ok(201)["id"]
    path = path_of(route, {**IDS, "conversation_id": conversation}).rpartition("/")[2]
    async with knocking(stranger, path, headers=CLIENT) as socket:
        await socket.say("auth", token=token)
        assert await socket.close_code() == 4403
    async with knocking(stranger, path, headers=HTTPS) as socket:
        await socket.say("auth", token=token)
        await socket.ready()


async def test_this_machine_itself_may_ask_in_the_clear(stranger: Api) -> None:
    assert (await stranger.get("/")).ok()


async def test_what_anybody_says_of_tls_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "192.0.2.1")  # uvicorn by itself believes what 127.0.0.1 says
    settings = settings_for(tmp_path, **PRODUCTION, TRUSTED_PROXIES="192.0.2.1")
    async with api_of(settings) as api:
        (await api.get("/", HTTPS)).problem(403, "https_required")


@pytest.mark.parametrize(
    ("client", "refused"),
    [
        (("127.0.0.1", 1), False),
        (("127.255.255.254", 1), False),
        (("::1", 1), False),
        (("::ffff:127.0.0.1", 1), False),
        (("128.0.0.1", 1), True),
        (("10.0.0.1", 1), True),
        (("203.0.113.7", 1), True),
        (("::ffff:10.0.0.1", 1), True),
        (("fe80::1", 1), True),
        (("localhost", 1), True),
        (("", 0), True),
        (None, True),
    ],
    ids=str,
)
@pytest.mark.parametrize(("plain", "secure"), [("http", "https"), ("ws", "wss")])
async def test_loopback_is_an_address(client: tuple[str, int] | None, refused: bool, plain: str, secure: str) -> None:
    settings = Settings(environment="production")
    scope: dict[str, object] = {"client": client, "headers": [], "scheme": plain}
    assert in_the_clear(scope, settings) is refused  # type: ignore[arg-type]
    assert not in_the_clear({**scope, "scheme": secure}, settings)  # type: ignore[arg-type]
    assert not in_the_clear(scope, Settings())  # type: ignore[arg-type]
