"""What it is, whether it works, and how it describes itself."""

import json
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from integration.http_app import (
    CONVERSATION,
    HISTORY,
    MESSAGE,
    MODEL_CONFIG,
    PROFILE,
    TOKENS,
    USER,
    Api,
    api_of,
    settings_for,
)
from integration.routes import DESCRIBED, PUBLIC

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    async with api_of(settings_for(tmp_path_factory.mktemp("data"))) as api:
        yield api


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def openapi(api: Api) -> Any:
    return (await api.get("/openapi.json")).ok()


async def test_it_says_what_it_is(api: Api) -> None:
    assert (await api.get("/")).ok() == {"name": "chatcore", "version": version("chatcore"), "status": "running"}
    assert (await api.get("/health")).ok() == {"status": "healthy"}
    assert (await api.get("/ready")).ok() == {"status": "ready", "old_keys": 0}


async def test_it_has_the_name_that_the_settings_give_it(tmp_path: Path) -> None:
    async with api_of(settings_for(tmp_path, APP_NAME="Café </script>", APP_VERSION="9.9")) as api:
        assert (await api.get("/")).ok() == {"name": "Café </script>", "version": "9.9", "status": "running"}
        assert (await api.get("/openapi.json")).ok()["info"]["version"] == "9.9"


async def test_the_docs_are_a_page(api: Api) -> None:
    page = await api.get("/docs")
    assert page.status == 200
    assert page.headers["Content-Type"].startswith("text/html")
    (await api.get("/docs/nope")).problem(404, "not_found")


async def test_every_route_is_described_and_no_other(openapi: Any) -> None:
    described = {(method.upper(), path) for path, methods in openapi["paths"].items() for method in methods}
    assert described == set(DESCRIBED)
    for methods in openapi["paths"].values():
        for operation in methods.values():
            assert operation["description"]


async def test_what_needs_a_token_says_so(openapi: Any) -> None:
    for scheme in openapi["components"]["securitySchemes"].values():
        assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for method, path in DESCRIBED:
        names = ["BearerToken"] if path.startswith(("/auth", "/v1/auth", "/admin")) else ["BearerToken", "ApiKey"]
        security = [] if (method, path) in PUBLIC else [{name: list[str]()} for name in names]
        assert openapi["paths"][path][method.lower()].get("security", []) == security


async def test_every_parameter_is_described_and_no_other(openapi: Any) -> None:
    """None of what the framework injects is taken for a parameter."""
    described = {
        (parameter["in"], parameter["name"])
        for methods in openapi["paths"].values()
        for operation in methods.values()
        for parameter in operation.get("parameters", [])
    }
    assert described == {
        ("path", "conversation_id"),
        ("path", "message_id"),
        ("path", "chat_id"),
        ("query", "chat_id"),
        ("query", "skip"),
        ("path", "config_id"),
        ("path", "key_id"),
        ("path", "number"),
        ("path", "file_id"),
        ("query", "name"),
        ("query", "collection"),
        ("query", "before"),
        ("header", "Range"),
        ("path", "session_id"),
        ("path", "user_id"),
        ("query", "q"),
        ("query", "cursor"),
        ("query", "limit"),
        ("query", "offset"),
        ("query", "format"),
        ("query", "before_id"),
        ("query", "after"),
        ("query", "refresh_token"),
        ("header", "Last-Event-ID"),
        ("header", "Idempotency-Key"),
    }


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("User", USER),
        ("Profile", PROFILE),
        ("Tokens", TOKENS),
        ("ModelConfig", MODEL_CONFIG),
        ("Conversation", CONVERSATION),
        ("Message", MESSAGE),
        ("History", HISTORY),
        ("Registration", {"username", "email", "password"}),
        ("Credentials", {"username", "email", "userid", "password"}),
        ("NewModelConfig", {"model_url", "model_name", "api_key"}),
        ("NewConversation", {"title", "config_id", "metadata"}),
        ("Send", {"content", "config_id", "system", "temperature", "max_tokens", "metadata", "images", "stream"}),
    ],
)
async def test_a_schema_has_the_fields_that_the_thing_has(openapi: Any, name: str, fields: set[str]) -> None:
    assert set(openapi["components"]["schemas"][name]["properties"]) == fields


async def test_every_reference_leads_somewhere(openapi: Any) -> None:
    text = json.dumps(openapi)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in openapi["components"]["schemas"]
