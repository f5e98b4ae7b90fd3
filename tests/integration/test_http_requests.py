"""What every request is held to, whatever it asks for: who asks, what a body is, and how a refusal looks."""

import json
import re
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
import pytest_asyncio

from chatcore.ports import LLMGateway
from chatcore_memory import ScriptedModel
from integration.http_app import (
    PASSWORD,
    Api,
    Body,
    api_of,
    provided,
    settings_for,
    with_id,
)
from integration.routes import (
    BODIED,
    DESCRIBED,
    FORMS,
    IDS,
    QUERIES,
    Route,
    body_fields,
    body_of,
    body_texts,
    path_of,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAX_BODY = 250_000
REGISTRATION = {"username": "grace", "password": PASSWORD}
CONFIG = {"model_url": "https://own.test/v1", "model_name": "own", "api_key": "sk-0123456789ab"}
NEEDED_BODIES: dict[str, dict[str, Any]] = {
    "/auth/register": REGISTRATION,
    "/auth/login": {"username": "ada", "password": PASSWORD},
    "/auth/refresh": {"refresh_token": "x"},
    "/auth/config/create": CONFIG,
    "/conversations/{conversation_id}/chat": {"content": "Hello"},
    "/conversations/{conversation_id}/messages/{message_id}/edit": {"content": "Hi"},
    "/conversations/{conversation_id}/branch": {"message_id": 1},
    "/v1/auth/register": REGISTRATION,
    "/v1/chats": {"title": "My Chat"},
    "/v1/chats/{chat_id}/message": {"role": "user", "content": "Hello"},
    "/user/register": {"userid": "grace", "password": PASSWORD},
}
JSON = [route for route in BODIED if route not in FORMS and body_fields(route)]
TEXTS = [(route, field) for route in JSON for field in body_texts(route)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    settings = settings_for(tmp_path_factory.mktemp("data"), MAX_BODY_BYTES=str(MAX_BODY))
    async with api_of(settings, provided(LLMGateway, ScriptedModel("Hello"))) as api:
        yield api


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ada(stranger: Api) -> Api:
    """An administrator, who owns the conversation and the configuration with id 1."""
    ada = await stranger.admin("ada")
    assert await ada.conversation() == 1
    assert (await ada.post("/auth/config/create", CONFIG)).ok(201)["id"] == 1
    return ada


def asked(route: Route) -> str:
    return path_of(route, IDS) + QUERIES.get(route, "").format_map(IDS)


# ---- bodies ----------------------------------------------------------------------------------------------

NO_JSON = {
    "cut off": b'{"content": "Hel',
    "text": b"Hello",
    "more behind it": b'{"content": "Hello"} {}',
    "line break in a string": b'{"content": "a\nb"}',
    "NUL": b'{"content": "a\x00b"}',
    "NaN": b'{"content": "Hello", "temperature": NaN}',
    "a number that no float holds": b'{"content": "Hello", "temperature": 1e999}',
    "a number of 10,000 digits": b'{"content": "Hello", "max_tokens": ' + b"9" * 10_000 + b"}",
    "invalid UTF-8": b'{"content": "\xff"}',
    "UTF-8 of a surrogate": b'{"content": "\xed\xa0\x80"}',
    "UTF-16": '{"content": "Hello"}'.encode("utf-16"),
    "Latin-1": '{"content": "é"}'.encode("latin-1"),
    "a lone high surrogate": rb'{"content": "\ud83e and no more"}',
    "a lone low surrogate": rb'{"content": "\udd84"}',
    "too deep": b'{"content": "Hello", "ignored": ' + b"[" * 40_000 + b"]" * 40_000 + b"}",
    "too deep and cut off": b"[" * 40_000,
    "objects too deep": b'{"content": ' * 3_000,
}
NO_OBJECT = {"list": b"[]", "string": b'"Hello"', "number": b"1", "true": b"true", "list of objects": b'[{"a": 1}]'}


@pytest.mark.parametrize("route", JSON, ids=" ".join)
async def test_what_is_no_json_is_refused(ada: Api, route: Route) -> None:
    own = (body_texts(route) or list(body_fields(route)))[0].encode()  # what is in no field of the route is ignored
    for body in NO_JSON.values():
        sent = re.sub(rb'"(content|temperature|max_tokens|ignored)"', b'"%b"' % own, body)
        answer = await ada.call(route[0], asked(route), sent)
        named = [error["field"] for error in json.loads(answer.body).get("errors", ())]
        answer.problem(400, "validation_failed", *named)


@pytest.mark.parametrize("route", JSON, ids=" ".join)
async def test_json_that_is_no_object_is_refused(ada: Api, route: Route) -> None:
    for body in NO_OBJECT.values():
        (await ada.call(route[0], asked(route), body)).problem(400, "validation_failed", "body")


@pytest.mark.parametrize("body", [None, b"null"], ids=["absent", "null"])
@pytest.mark.parametrize("path", NEEDED_BODIES)
async def test_a_body_with_a_required_field_may_not_be_absent(ada: Api, path: str, body: bytes | None) -> None:
    (await ada.call("POST", with_id(path, 1), body)).problem(400, "validation_failed", "body")


@pytest.mark.parametrize("body", [None, b"{}", b"null", b' {"unknown": {"field": [1]}} '])
async def test_where_every_field_is_optional_an_absent_body_is_an_empty_one(ada: Api, body: bytes | None) -> None:
    assert (await ada.call("POST", "/conversations/create", body)).ok(201)["title"] == ""
    before = (await ada.get("/auth/config")).ok()["items"][0]
    after = (await ada.call("POST", "/auth/config/1/update", body)).ok()
    assert after == before | {"updated_at": after["updated_at"]}
    other = (await ada.post("/auth/login", {"username": "ada", "password": PASSWORD})).ok()["access_token"]
    (await ada.with_token(other).call("POST", "/auth/logout", body)).ok()


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_a_body_is_json_whatever_it_is_called(ada: Api, content_type: str) -> None:
    """curl says form data unless it is told otherwise."""
    answer = await ada.call("POST", "/conversations/create", '{"title": "é"}'.encode(), {"Content-Type": content_type})
    assert answer.ok(201)["title"] == "é"


REQUIRED = [(path, field) for path, body in NEEDED_BODIES.items() for field in body if path != "/auth/login"]


@pytest.mark.parametrize(("path", "field"), [*REQUIRED, ("/auth/login", "password")])
async def test_a_missing_field_is_named(ada: Api, path: str, field: str) -> None:
    body = {name: value for name, value in NEEDED_BODIES[path].items() if name != field}
    problem = (await ada.post(with_id(path, 1), body)).problem(400, "validation_failed", field)
    assert problem["errors"] == [{"field": field, "message": "is required"}]
    assert problem["detail"] == f"{field}: is required"


@pytest.mark.parametrize(("route", "field"), TEXTS, ids=str)
async def test_what_is_no_text_is_refused_where_text_is_due(ada: Api, route: Route, field: str) -> None:
    for value in json.loads("[1, 1.5, true, [], {}]"):
        body = {**json.loads(body_of(route, 1) or b"{}"), field: value}
        (await ada.post(asked(route), body)).problem(400, "validation_failed", field)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("config_id", 2**63),
        ("config_id", 2**64),
        ("config_id", 0),
        ("config_id", -1),
        ("config_id", 1.5),
        ("config_id", "one"),
        ("config_id", []),
        ("temperature", "hot"),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("max_tokens", 0),
        ("max_tokens", 2**70),
        ("max_tokens", 1.5),
        ("max_tokens", "many"),
        ("stream", "yes"),
        ("stream", None),
        ("content", None),
        ("content", ""),
        ("content", " \n\t"),
        ("content", "a\0b"),
        ("content", "x" * 200_001),
        ("system", "a\0b"),
        ("system", "x" * 48_001),
    ],
    ids=lambda value: f"{value!r:.20}",
)
async def test_what_breaks_a_rule_of_a_message_is_named(ada: Api, field: str, value: object) -> None:
    body = {"content": "Hello", field: value}
    (await ada.post("/conversations/1/chat", body)).problem(400, "validation_failed", field)


async def test_every_broken_rule_is_named(ada: Api) -> None:
    body = {"content": "", "system": "\0", "temperature": 3, "max_tokens": 0}
    answer = await ada.post("/conversations/1/chat", body)
    answer.problem(400, "validation_failed", "content", "system", "temperature", "max_tokens")


async def test_unknown_fields_are_ignored(ada: Api) -> None:
    body = {"title": "Travel", "id": 99, "user_id": "x", "constructor": None, "": {"a": [{}]}}
    assert (await ada.post("/conversations/create", body)).ok(201)["title"] == "Travel"


# ---- size ------------------------------------------------------------------------------------------------


async def pieces_of(body: bytes) -> AsyncIterator[bytes]:
    """Sent without a length in advance (chunked)."""
    for start, end in pairwise([*range(0, len(body), 30_000), len(body)]):
        yield body[start:end]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_may_be_so_large_and_no_larger(ada: Api, chunked: bool) -> None:
    frame = b'{"title": "Travel", "ignored": "%b"}'
    largest = frame % (b"x" * (MAX_BODY - len(frame) + 2))

    def sent(body: bytes) -> Body:
        return pieces_of(body) if chunked else body

    assert len(largest) == MAX_BODY
    (await ada.call("POST", "/conversations/create", sent(largest))).ok(201)
    (await ada.call("POST", "/conversations/create", sent(largest + b" "))).problem(413, "payload_too_large")
    (await ada.call("POST", "/conversations/create", sent(largest * 3))).problem(413, "payload_too_large")


@pytest.mark.parametrize("path", ["/auth/register", "/auth/login", "/auth/refresh"])
async def test_a_stranger_cannot_send_more_either(stranger: Api, path: str) -> None:
    (await stranger.call("POST", path, pieces_of(b" " * (MAX_BODY + 1)))).problem(413, "payload_too_large")


# ---- routes, methods, ids, bounds ------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/nope", "/auth", "/auth/nope", "/conversations/1/nope", "/%ff"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_an_unknown_route_is_not_found(ada: Api, method: str, path: str) -> None:
    (await ada.call(method, path)).problem(404, "not_found")


@pytest.mark.parametrize(("method", "path"), DESCRIBED)
async def test_another_method_is_not_allowed(stranger: Api, ada: Api, method: str, path: str) -> None:
    right = {each for each, there in DESCRIBED if there == path}
    assert method in right
    for wrong in {"GET", "POST", "PUT", "PATCH", "DELETE"} - right:
        for api in (stranger, ada):
            answer = await api.call(wrong, with_id(path, 1))
            answer.problem(405, "method_not_allowed")
            assert set(answer.headers["Allow"].split(", ")) == {*right, "OPTIONS"}
    options = await ada.call("OPTIONS", with_id(path, 1))
    assert options.status == 204
    assert set(options.headers["Allow"].split(", ")) == {*right, "OPTIONS"}


@pytest.mark.parametrize(
    ("path", "name", "good", "bad"),
    [
        ("/conversations", "limit", [1, 100], [0, 101, -1, 10**30]),
        ("/conversations", "offset", [0, 10**6], [-1, 10**6 + 1, 10**30]),
        ("/conversations/1", "limit", [1, 200], [0, 201, -1, 10**30]),
        ("/conversations/1", "before_id", [1, 2**63 - 1], [0, -1, 2**63, 10**30]),
        ("/conversations/1/reply", "after", [0, 2**53], [-1, 2**53 + 1, 10**30]),
    ],
)
async def test_a_bound_is_named(ada: Api, path: str, name: str, good: list[int], bad: list[int]) -> None:
    for value in good:
        assert (await ada.get(f"{path}?{name}={value}")).status in (200, 204)
    for other in (*bad, "x", "1.5", "%ff", "%00"):
        (await ada.get(f"{path}?{name}={other}")).problem(400, "validation_failed", name)


async def test_all_bounds_are_named_at_once(ada: Api) -> None:
    (await ada.get("/conversations?limit=0&offset=-1")).problem(400, "validation_failed", "limit", "offset")
    (await ada.get("/conversations?limit=x&offset=y")).problem(400, "validation_failed", "limit", "offset")


# ---- who asks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    ["Bearer", "Bearer ", "Basic YWRhOnNlY3JldA==", "Bearer x", "Bearer a.b.c", "Bearer é", "Bearer {}x", "{}"],
)
async def test_what_is_no_token_is_refused(ada: Api, value: str) -> None:
    answer = await ada.get("/auth/me", {"Authorization": value.format(ada.token)})
    answer.problem(401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


async def test_the_scheme_is_read_without_case(ada: Api) -> None:
    assert (await ada.get("/auth/me", {"Authorization": f"bearer {ada.token}"})).ok()["username"] == "ada"


# ---- request ids -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/nope", 404),
        ("PUT", "/health", 405),
        ("GET", "/auth/me", 401),
        ("POST", "/auth/login", 400),
        ("GET", "/docs", 200),
    ],
)
async def test_every_answer_has_a_request_id(stranger: Api, method: str, path: str, status: int) -> None:
    given = await stranger.call(method, path, headers={"X-Request-ID": "web-1.2_3"})
    assert (given.status, given.headers["X-Request-ID"]) == (status, "web-1.2_3")
    made = {(await stranger.call(method, path)).headers["X-Request-ID"] for _ in range(3)}
    assert len(made) == 3
    assert all(name.isalnum() and len(name) == 32 for name in made)


@pytest.mark.parametrize("given", ["", "x" * 65, "two words", "a;b", "é", "<script>", "%0d%0aSet-Cookie:a"])
async def test_a_request_id_that_is_not_tame_is_replaced(stranger: Api, given: str) -> None:
    made = (await stranger.get("/health", {"X-Request-ID": given})).headers["X-Request-ID"]
    assert made.isalnum()
    assert len(made) == 32
