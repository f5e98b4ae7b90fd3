"""Errors under other protocols' paths are in the protocol's form, wherever they are made."""

from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio

from chatcore.ports import LLMGateway
from chatcore_memory import ScriptedModel
from integration.http_app import Answer, provided, settings_for
from integration.raw_http import line
from integration.ws_client import Served, served

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.once]

ENVELOPES = ("none", "code")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ENVELOPES)
async def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    settings = settings_for(
        tmp_path_factory.mktemp("data"), RESPONSE_ENVELOPE=request.param, CORS_ORIGINS="https://page.test"
    )
    async with served(settings, provided(LLMGateway, ScriptedModel("Hello"))) as house:
        yield house


def error_of(answer: Answer, status: int, code: str) -> Mapping[str, str | None]:
    assert answer.status == status, answer
    error: Mapping[str, str | None] = answer.json["error"]
    assert set(answer.json) == {"error"}
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert answer.headers["X-Request-ID"]
    return error


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_path_without_a_route(house: Served, method: str) -> None:
    answer = await house.stranger.call(method, "/v1/nothing")
    assert error_of(answer, 404, "not_found")["type"] == "invalid_request_error"


async def test_a_preflight_that_is_refused(house: Served) -> None:
    answer = await house.stranger.call("OPTIONS", "/v1/nothing", headers={"Origin": "https://other.test"})
    assert error_of(answer, 403, "forbidden")["type"] == "permission_error"


async def test_what_the_server_refuses_before_the_application(house: Served) -> None:
    opened = await line(house.stranger)
    opened.writer.write(b"GET /v1/nothing?x=1 HTTP/1.1\r\nHost: test\r\n" + b"X: y\r\n" * 200 + b"\r\n")
    status, headers, answer = await opened.answer()
    assert (status, headers["content-type"]) == (431, "application/json")
    assert answer["error"]["code"] == "headers_too_large"
    opened.writer.close()


@pytest.mark.parametrize("path", ["/v1/chats/1", "/v1/auth/nothing", "/nothing"])
async def test_all_other_paths_have_problems(house: Served, path: str) -> None:
    answer = await house.stranger.get(path)
    assert answer.status in (401, 404, 405)
    assert b'"type":"about:blank"' in answer.body


async def test_a_path_prefix_is_no_part_of_the_path(house: Served) -> None:
    app = house.app
    sent = list[Mapping[str, object]]()

    async def receive() -> Mapping[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Mapping[str, object]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/chat/v1/nothing",
        "raw_path": b"/chat/v1/nothing",
        "root_path": "/chat",
        "query_string": b"",
        "headers": [(b"host", b"test")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    await app(scope, receive, send)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert b'{"error":' in bytes(sent[1]["body"])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
