"""The HTTP application in another program: its own users, fewer parts, no lifespan."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from chatcore.ports import LLMGateway
from chatcore_app import Settings, SettingsError
from chatcore_asgi import Scope, User
from chatcore_http import Part, create_app
from chatcore_memory import ScriptedModel, Stall
from integration.http_app import api_of, client_of, provided, serving, settings_for

pytestmark = pytest.mark.once


def authenticate(scope: Scope) -> User | None:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    return User(headers[b"x-user"].decode(), "acme") if b"x-user" in headers else None


def app_of(folder: Path, *said: Any, **more: Any) -> Any:
    settings = settings_for(folder, SHUTDOWN_GRACE="1")
    return create_app(settings, provided(LLMGateway, ScriptedModel(*(said or ("Hello",)))), **more)


async def test_the_programs_own_users_talk(tmp_path: Path) -> None:
    alice, bob = {"X-User": "alice"}, {"X-User": "bob"}
    async with serving(app_of(tmp_path, authenticate=authenticate)) as url, client_of(url) as api:
        (await api.get("/conversations")).problem(401, "unauthenticated")
        conversation = (await api.post("/conversations/create", {}, alice)).ok(201)["id"]
        said = await api.post(f"/conversations/{conversation}/chat", {"content": "Hi"}, alice)
        assert said.ok()["reply"]["content"] == "Hello"
        (await api.get(f"/conversations/{conversation}", bob)).problem(404, "not_found")
        exported = await api.get("/auth/me/export", alice)
        assert b'"kind":"message"' in exported.body.replace(b" ", b"")
        async with api.http.ws_connect(f"/conversations/ws/{conversation}", headers=alice) as socket:
            assert (await socket.receive_json())["type"] == "ready"
            await socket.send_json({"type": "attach"})
            while (event := await socket.receive_json())["type"] != "reply.completed":
                assert event["type"].startswith("reply.")


async def test_a_stream_without_a_session_is_not_cut(tmp_path: Path) -> None:
    stall, alice = Stall(), {"X-User": "alice"}
    app = app_of(tmp_path, "Hel", stall, "lo", authenticate=authenticate)
    async with serving(app) as url, client_of(url) as api:
        conversation = (await api.post("/conversations/create", {}, alice)).ok(201)["id"]
        where, accept = f"/conversations/{conversation}/chat", {**alice, "Accept": "text/event-stream"}
        async with api.events(where, {"content": "Hi"}, accept) as events:
            await events.until("Hel")
            await asyncio.sleep(1.2)  # more than two rounds of the watch of sessions
            stall.release()
            assert (await events.rest())[-1].type == "reply.completed"


@pytest.mark.parametrize("own_identity", [True, False])
async def test_parts_that_are_left_out_are_nowhere(tmp_path: Path, own_identity: bool) -> None:
    more: dict[str, Any] = {"authenticate": authenticate} if own_identity else {"parts": []}
    async with serving(app_of(tmp_path, **more)) as url, client_of(url) as api:
        document = (await api.get("/openapi.json")).ok()
        for path in ("/auth/login", "/auth/sessions", "/admin/users", "/chat", "/v1/chats", "/agent/conversations"):
            assert (await api.get(path, {"X-User": "alice"})).status == 404, path
            assert path not in document["paths"]
        assert "/conversations/{conversation_id}/reply" in document["paths"]
        secured = [one for path in document["paths"].values() for one in path.values() if "security" in one]
        assert bool(secured) is not own_identity


async def test_one_part_may_be_there(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    async with api_of(settings) as api:
        assert (await api.get("/admin/users")).status == 401
    async with serving(app_of(tmp_path, parts=[Part.ACCOUNTS])) as url, client_of(url) as api:
        assert (await api.get("/auth/me")).status == 401
        assert (await api.get("/admin/users")).status == 404


@pytest.mark.parametrize(("parts", "status"), [(None, 200), ([], 404), ([Part.PROTOCOLS], 200)])
async def test_other_protocols_are_for_a_programs_own_users_too(
    tmp_path: Path, parts: list[Part] | None, status: int
) -> None:
    async with serving(app_of(tmp_path, authenticate=authenticate, parts=parts)) as url, client_of(url) as api:
        assert (await api.get("/v1/models", {"X-User": "alice"})).status == status
        assert (await api.get("/ai/nothing", {"X-User": "alice"})).status == 404


def test_parts_that_are_impossible(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="accounts"):
        app_of(tmp_path, parts=["accounts"], authenticate=authenticate)
    with pytest.raises(ValueError, match="nonsense"):
        app_of(tmp_path, parts=["nonsense"])


async def test_without_its_lifespan_it_opens_at_the_first_request_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_of(tmp_path, authenticate=authenticate)
    answers: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(event: Any) -> None:
        answers.append(event.get("status"))

    scope = {"type": "http", "method": "POST", "path": "/conversations/create", "query_string": b"", "raw_path": b""}
    named = {"headers": [(b"x-user", b"alice"), (b"host", b"localhost")], "client": ("127.0.0.1", 1), "scheme": "http"}
    with caplog.at_level(logging.WARNING, "chatcore.http"):
        for _ in range(2):
            await app({**scope, **named, "server": ("localhost", 80), "http_version": "1.1"}, receive, send)
    assert answers.count(201) == 2
    assert [record.name for record in caplog.records if "lifespan" in record.message] == ["chatcore.http"]
    closing = app.state.opening.closing
    closing.cancel()
    await asyncio.wait([closing], timeout=10)
    assert closing.done()


def test_settings_made_in_code_have_the_secrets_that_load_makes(tmp_path: Path) -> None:
    made = Settings(data_dir=tmp_path).completed()
    assert (made.secret_key, made.encryption_keys) == (
        (loaded := settings_for(tmp_path)).secret_key,
        loaded.encryption_keys,
    )
    create_app(Settings(data_dir=tmp_path))
    with pytest.raises(SettingsError, match="SECRET_KEY"):
        create_app(Settings(environment="production", data_dir=tmp_path))
