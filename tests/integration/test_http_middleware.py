"""What lies around the application: which browsers may call, how much is read, and who is believed about an address."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from dishka import Provider, Scope
from litestar import Request
from structlog.testing import capture_logs

from chatcore.ports import LLMGateway
from chatcore_app import Readiness
from chatcore_http import http_protocol
from chatcore_memory import ScriptedModel
from integration.http_app import EVENTS, PASSWORD, Answer, Api, api_of, provided, settings_for
from integration.raw_http import line_to

pytestmark = pytest.mark.asyncio(loop_scope="module")

APP, LOCAL = "https://app.example.com", "http://localhost:3000"
MAX_BODY = 100_000
TOO_LARGE = "payload_too_large"


def readiness_of(request: Request) -> Readiness:  # type: ignore[type-arg]
    """`/ready` fails, and the error's text is the URL that the application believes it was asked for."""

    async def broken() -> None:
        raise RuntimeError(str(request.url))

    return Readiness({"test": broken})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    settings = settings_for(
        tmp_path_factory.mktemp("data"),
        CORS_ORIGINS=f"{APP}, {LOCAL}",
        MAX_BODY_BYTES=str(MAX_BODY),
        TRUSTED_PROXIES="127.0.0.1, 10.0.0.0/8, 2001:db8::/32",
    )
    broken = Provider(scope=Scope.REQUEST)
    broken.provide(readiness_of, provides=Readiness)
    async with api_of(settings, broken, provided(LLMGateway, ScriptedModel("Hello"))) as api:
        yield api


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ada(stranger: Api) -> Api:
    ada = await stranger.user("ada")
    assert await ada.conversation() == 1
    return ada


# ---- CORS ------------------------------------------------------------------------------------------------


def allowed(answer: Answer) -> str | None:
    """The origin that may read this answer."""
    origin = answer.headers.get("Access-Control-Allow-Origin")
    assert origin != "*"
    if origin is not None:
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert "Origin" in answer.headers["Vary"]
    return origin


async def preflight(api: Api, path: str, *, origin: str, method: str = "POST", headers: str = "") -> Answer:
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    return await api.call("OPTIONS", path, headers={**asked, "Access-Control-Request-Headers": headers})


@pytest.mark.parametrize("origin", [APP, LOCAL])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/auth/login"),
        ("POST", "/conversations/1/chat"),
        ("GET", "/auth/me"),
        ("DELETE", "/agent/conversations/1"),
    ],
)
async def test_a_preflight_is_answered_without_a_token(stranger: Api, origin: str, method: str, path: str) -> None:
    headers = "authorization,content-type,idempotency-key,last-event-id,x-request-id"
    answer = await preflight(stranger, path, origin=origin, method=method, headers=headers)
    assert (answer.status, answer.body, allowed(answer)) == (204, b"", origin)
    assert method in answer.headers["Access-Control-Allow-Methods"].split(", ")
    granted = {name.lower() for name in answer.headers["Access-Control-Allow-Headers"].split(", ")}
    assert granted >= set(headers.split(","))


STAINLESS = ["arch", "lang", "os", "package-version", "retry-count", "runtime", "runtime-version", "timeout"]
SENT = {
    "tracing": ["traceparent", "tracestate", "baggage", "sentry-trace"],
    "event streams": ["cache-control", "pragma", "x-requested-with", "last-event-id"],
    "OpenAI's client": [
        *("authorization", "content-type", "user-agent", "idempotency-key"),
        *("openai-organization", "openai-project", "openai-beta"),
        *(f"x-stainless-{name}" for name in STAINLESS),
    ],
    "the AI SDK": ["content-type", "user-agent", "x-vercel-ai-ui-message-stream"],
}


@pytest.mark.parametrize("headers", [",".join(names) for names in SENT.values()], ids=SENT)
async def test_what_clients_in_browsers_send_by_themselves_is_granted(stranger: Api, headers: str) -> None:
    answer = await preflight(stranger, "/conversations/1/chat", origin=APP, headers=headers)
    assert (answer.status, allowed(answer)) == (204, APP)
    granted = {name.lower() for name in answer.headers["Access-Control-Allow-Headers"].split(", ")}
    assert granted >= set(headers.split(","))
    assert allowed(await preflight(stranger, "/auth/me", origin="https://evil.test", headers=headers)) is None


async def test_what_clients_in_browsers_read_is_exposed(stranger: Api) -> None:
    answer = await stranger.get("/health", {"Origin": APP})
    exposed = {name.lower() for name in answer.headers["Access-Control-Expose-Headers"].split(", ")}
    assert exposed >= {"x-request-id", "retry-after", "x-vercel-ai-ui-message-stream"}


OTHERS = [
    "https://app.example.com.evil.test",
    "https://evil.test/app.example.com",
    "https://appXexample.com",
    "https://app.example.com:8443",
    "https://sub.app.example.com",
    "http://app.example.com",
    "http://localhost:30000",
    "http://localhost",
    "null",
    "*",
    "",
]


@pytest.mark.parametrize("origin", OTHERS)
async def test_nobody_else_may_call_or_read(stranger: Api, ada: Api, origin: str) -> None:
    assert allowed(await preflight(stranger, "/auth/me", origin=origin, method="GET")) is None
    assert allowed(await ada.get("/auth/me", {"Origin": origin})) is None


async def test_a_method_or_a_header_that_is_not_used_is_not_granted(stranger: Api) -> None:
    assert allowed(await preflight(stranger, "/auth/me", origin=APP, method="PUT")) is None
    assert allowed(await preflight(stranger, "/auth/me", origin=APP, headers="x-anything")) is None


async def test_an_answer_may_be_read_with_its_id(ada: Api) -> None:
    answer = await ada.get("/auth/me", {"Origin": APP})
    assert (answer.status, allowed(answer)) == (200, APP)
    exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"X-Request-ID", "Retry-After"} <= set(exposed)
    assert answer.headers["X-Request-ID"]


async def test_a_stream_may_be_read(ada: Api) -> None:
    conversation = await ada.conversation()
    path = f"/conversations/{conversation}/chat"
    async with ada.events(path, {"content": "Hello"}, headers={**EVENTS, "Origin": LOCAL}) as stream:
        assert stream.headers["Access-Control-Allow-Origin"] == LOCAL
        assert (await stream.rest())[-1].type == "reply.completed"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/conversations?limit=0", 400, "validation_failed"),
        ("GET", "/auth/me?stranger", 401, "unauthenticated"),
        ("GET", "/nope", 404, "not_found"),
        ("GET", "/conversations/999", 404, "not_found"),
        ("PUT", "/health", 405, "method_not_allowed"),
        ("GET", "/ready", 500, "internal"),
    ],
)
async def test_an_error_may_be_read(stranger: Api, ada: Api, method: str, path: str, status: int, code: str) -> None:
    answer = await (stranger if "stranger" in path else ada).call(method, path, headers={"Origin": APP})
    answer.problem(status, code, *(["limit"] if "limit" in path else []))
    assert allowed(answer) == APP
    assert answer.headers["X-Request-ID"]


@pytest.mark.parametrize("headers", [{}, {"Content-Encoding": "gzip"}])
async def test_that_a_body_is_too_large_may_be_read(ada: Api, headers: dict[str, str]) -> None:
    answer = await ada.call("POST", "/conversations/create", b" " * (MAX_BODY + 1), {"Origin": APP, **headers})
    answer.problem(413, TOO_LARGE)
    assert allowed(answer) == APP


async def test_without_the_setting_no_browser_may_call(tmp_path: Path) -> None:
    async with api_of(settings_for(tmp_path)) as api:
        for answer in (await preflight(api, "/auth/login", origin=APP), await api.get("/health", {"Origin": APP})):
            assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


# ---- bodies ----------------------------------------------------------------------------------------------

BODY = b'{"title": "Travel"}'
COMPRESSED = {"gzip": gzip.compress(BODY), "deflate": zlib.compress(BODY), "br": b"\x8b", "zstd": b"(\xb5/\xfd"}


@pytest.mark.parametrize("coding", [*COMPRESSED, "GZIP", "identity, gzip", "gzip, identity", "x-unknown"])
async def test_a_compressed_body_is_refused_whatever_its_size(ada: Api, coding: str) -> None:
    body = COMPRESSED.get(coding, COMPRESSED["gzip"])
    answer = await ada.call("POST", "/conversations/create", body, {"Content-Encoding": coding})
    assert "compressed" in answer.problem(413, TOO_LARGE)["detail"].lower()
    assert answer.headers["Accept-Encoding"] == "identity"


async def test_a_body_that_would_become_huge_is_refused(ada: Api) -> None:
    bomb = gzip.compress(b'{"title": "' + bytes(50_000_000))
    assert len(bomb) < MAX_BODY
    (await ada.call("POST", "/conversations/create", bomb, {"Content-Encoding": "gzip"})).problem(413, TOO_LARGE)


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
async def test_a_body_as_it_is_is_taken(ada: Api, coding: str) -> None:
    assert (await ada.call("POST", "/conversations/create", BODY, {"Content-Encoding": coding})).ok(201)


async def test_who_is_not_signed_in_is_told_that_first(stranger: Api) -> None:
    answer = await stranger.call("POST", "/conversations/create", BODY, {"Content-Encoding": "gzip"})
    answer.problem(401, "unauthenticated")


ENDLESS = ["Transfer-Encoding: chunked", f"Content-Length: {10**12}"]


@pytest.mark.parametrize("headers", ENDLESS)
async def test_who_sends_without_end_is_answered_and_cut_off(
    ada: Api, headers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "LINGER_BYTES", 2_000_000)
    monkeypatch.setattr(http_protocol, "LINGER_SECONDS", 60)
    line = await line_to(ada, "/conversations/create", headers, token=ada.token)
    sending = asyncio.create_task(line.endless())
    status, answered, problem = await line.answer()
    assert (status, problem["code"], answered["connection"]) == (413, TOO_LARGE, "close")
    with pytest.raises(ConnectionError):
        await sending
    assert line.sent < 30_000_000  # what the system's buffers hold comes on top
    line.writer.close()


@pytest.mark.parametrize("headers", ENDLESS)
@pytest.mark.parametrize(
    ("path", "token", "status"),
    [("/conversations/create", False, 401), ("/nope", False, 404), ("/conversations/1/stop", True, 404)],
)
async def test_nor_is_a_body_read_that_nobody_asked_for(
    ada: Api, headers: str, path: str, token: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "LINGER_BYTES", 2_000_000)
    monkeypatch.setattr(http_protocol, "LINGER_SECONDS", 60)
    line = await line_to(ada, path, headers, token=ada.token if token else None)
    sending = asyncio.create_task(line.endless())
    answered, head, _ = await line.answer()
    assert (answered, head["connection"]) == (status, "close")
    with pytest.raises(ConnectionError):
        await sending
    line.writer.close()


@pytest.mark.parametrize("path", ["/conversations/create", "/nope"])
async def test_who_reads_only_after_having_sent_everything_gets_the_answer_too(ada: Api, path: str) -> None:
    line = await line_to(ada, path, f"Content-Length: {20_000_000}", token=ada.token)
    for _ in range(20):
        await line.say(b" " * 1_000_000)
    status, headers, _ = await line.answer()
    assert (status, headers["connection"]) == (404 if path == "/nope" else 413, "close")
    assert await line.reader.read() == b""
    line.writer.close()


@pytest.mark.parametrize("headers", ENDLESS)
async def test_who_announces_a_body_and_sends_none_is_not_waited_for(
    ada: Api, headers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "LINGER_SECONDS", 0.01)
    line = await line_to(ada, "/nope", headers, token=None)
    assert (await line.answer())[0] == 404
    assert await line.reader.read() == b""
    line.writer.close()


async def test_a_connection_goes_on_after_a_body_that_keeps_the_limit(ada: Api) -> None:
    """Also if nobody read it: the next request is not taken for a part of it."""
    line = await line_to(ada, "/conversations/create", f"Content-Length: {MAX_BODY}", token=None)
    status, headers, _ = await line.answer()
    assert (status, "connection" in headers) == (401, False)
    await line.say(b" " * MAX_BODY)
    await line.say(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n")
    status, _, answer = await line.answer()
    assert (status, answer) == (200, {"status": "healthy"})
    line.writer.close()


# ---- proxies ---------------------------------------------------------------------------------------------


async def address_of(api: Api, forwarded: str) -> tuple[str, str]:
    """The client's address as the session knows it, and as the log does."""
    headers = {"X-Forwarded-For": forwarded}
    login = {"username": "ada", "password": PASSWORD}
    with capture_logs() as logs:
        tokens = (await api.post("/auth/login", login, headers)).ok()
    own = api.with_token(tokens["access_token"])
    (current,) = (one for one in (await own.get("/auth/sessions?limit=100")).ok()["items"] if one["current"])
    (logged,) = (entry["address"] for entry in logs if entry["event"] == "request")
    return current["address"], logged


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:4711", "203.0.113.7"),
        ("2001:db9::1", "2001:db9::1"),
        ("203.0.113.7, 10.1.2.3", "203.0.113.7"),
        ("203.0.113.7, 2001:db8::5, 10.1.2.3", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
        ("10.9.9.9, 203.0.113.7, 10.1.2.3", "203.0.113.7"),
    ],
)
async def test_a_trusted_proxy_is_believed_about_the_client(ada: Api, forwarded: str, address: str) -> None:
    """Only about the one it saw itself: whatever stands before that, the client may have written."""
    assert await address_of(ada, forwarded) == (address, address)


async def test_the_scheme_is_the_clients(stranger: Api, caplog: pytest.LogCaptureFixture) -> None:
    for scheme in ("https", "http"):
        caplog.clear()
        (await stranger.get("/ready", {"X-Forwarded-Proto": scheme})).problem(500, "internal")
        assert f"RuntimeError: {scheme}://127.0.0.1" in caplog.text


@pytest.mark.parametrize("proxies", ["", "10.0.0.0/8", "127.0.0.2"])
async def test_nobody_else_is_believed(tmp_path: Path, proxies: str, caplog: pytest.LogCaptureFixture) -> None:
    broken = Provider(scope=Scope.REQUEST)
    broken.provide(readiness_of, provides=Readiness)
    async with api_of(settings_for(tmp_path, TRUSTED_PROXIES=proxies), broken) as api:
        await api.register("ada")
        assert await address_of(api, "203.0.113.7") == ("127.0.0.1", "127.0.0.1")
        await api.get("/ready", {"X-Forwarded-Proto": "https"})
        assert "RuntimeError: http://127.0.0.1" in caplog.text
