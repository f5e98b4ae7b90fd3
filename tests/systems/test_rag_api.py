"""System A: the list of its document, against a server with its own settings, on the databases that it is used with."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from integration.http_app import PASSWORD, TOKENS, USER, Answer, Api, check_shape
from integration.model_server import ModelServer, plain, says
from integration.processes import Server, run, serving

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.parametrize("database_url", ["sqlite", "mysql"], indirect=True, scope="module"),
]

ORIGIN = "https://app.example.com"
DOTENV = f"""
JWT_SECRET_KEY=b3e7f0a94c5d4d1f8a6b2c90d7e1f358
ACCESS_TOKEN_EXPIRE_MINUTES=43200
CORS_ORIGINS=http://localhost:3000,{ORIGIN}
"""
THIRTY_DAYS = 30 * 24 * 60 * 60


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(
    database_url: str, model: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    folder = tmp_path_factory.mktemp("rag")
    (folder / ".env").write_text(f"{DOTENV}DATABASE_URL={database_url}\nOPENAI_BASE_URL={model.url}\n")
    async with serving(folder) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def api(server: Server) -> Api:
    return server.api


# ---- accounts --------------------------------------------------------------------------------------------


async def test_register_login_and_me(api: Api) -> None:
    registered = (await api.post("/auth/register", {"username": "anna", "password": PASSWORD})).ok(201)
    check_shape(registered, TOKENS)
    signed_in = (await api.post("/auth/login", {"username": "anna", "password": PASSWORD})).ok()
    check_shape(signed_in, TOKENS)
    assert (registered["expires_in"], signed_in["expires_in"]) == (THIRTY_DAYS, THIRTY_DAYS)
    me = (await api.with_token(signed_in["access_token"]).get("/auth/me")).ok()
    check_shape(me, USER)
    assert me == registered["user"]


# ---- talking ---------------------------------------------------------------------------------------------


async def test_chat(api: Api, model: ModelServer) -> None:
    user = await api.user()
    model.script(says("Blue light ", "scatters most."), says("Red is left. 🌇"))
    begun = (await user.post("/chat", {"message": "Why is the sky blue?"})).ok()
    number = begun.pop("conversation_id")
    assert begun == {"message": "Why is the sky blue?", "response": "Blue light scatters most."}
    more = (await user.post("/chat", {"message": "And at sunset?", "conversation_id": number})).ok()
    assert more == {"conversation_id": number, "message": "And at sunset?", "response": "Red is left. 🌇"}
    said = [message["content"] for message in model.requests[-1].body["messages"][1:]]
    assert said == ["Why is the sky blue?", "Blue light scatters most.", "And at sunset?"]


async def test_each_user_has_their_own(api: Api) -> None:
    anna, ben = await api.user(), await api.user()
    number = (await anna.post("/chat", {"message": "Hello"})).ok()["conversation_id"]
    (await ben.post("/chat", {"message": "Hello", "conversation_id": number})).problem(404, "not_found")


# ---- the system ------------------------------------------------------------------------------------------


async def test_the_root_and_health(api: Api) -> None:
    assert set((await api.get("/")).ok()) == {"name", "version", "status"}
    assert (await api.get("/health")).ok() == {"status": "healthy"}


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_the_documentation(api: Api, path: str) -> None:
    page = await api.get(path)
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "/chat" in (await api.get("/openapi.json")).ok()["paths"]


# ---- errors ----------------------------------------------------------------------------------------------


async def test_errors_have_one_form(api: Api, model: ModelServer) -> None:
    """HTTP's own, those of validation, and any other."""
    user = await api.user()
    (await api.post("/chat", {"message": "Hello"})).problem(401, "unauthenticated")
    (await api.post("/auth/login", {"username": "anna", "password": "wrong"})).problem(401, "invalid_credentials")
    (await api.get("/nope")).problem(404, "not_found")
    (await user.call("PUT", "/chat")).problem(405, "method_not_allowed")
    (await user.post("/chat", {})).problem(400, "validation_failed", "message")
    (await user.call("POST", "/chat", b"{")).problem(400, "validation_failed")
    model.script(plain(401, '{"error": "no such key"}'))
    (await user.post("/chat", {"message": "Hello"})).problem(502, "model_unauthorized", more=frozenset({"reply_id"}))


# ---- settings --------------------------------------------------------------------------------------------


async def asked_from(api: Api, origin: str) -> Answer:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    return await api.call("OPTIONS", "/chat", headers={**headers, "Access-Control-Request-Headers": "authorization"})


async def test_browsers_may_call_from_the_origins_named(api: Api) -> None:
    answer = await asked_from(api, ORIGIN)
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (204, ORIGIN)
    (await asked_from(api, "https://evil.example.com")).problem(403, "forbidden")


async def test_a_short_signing_secret_is_refused_in_a_sentence(
    database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("short")
    ended = await run(folder, "serve", JWT_SECRET_KEY="s" * 31, DATABASE_URL=database_url)
    assert ended.code != 0
    assert "SECRET_KEY must have at least 32 characters" in ended.stderr
    assert "Traceback" not in ended.stderr
