"""The API's description holds, for machines and for people: the document is valid and true, the pages work offline."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from chatcore.ports import LLMGateway
from chatcore_http import create_app, schemas
from chatcore_http.examples import EXAMPLES
from chatcore_http.openapi import shapes
from chatcore_memory import ScriptedModel
from integration.browser import Page, chromium
from integration.http_app import (
    EVENTS,
    PASSWORD,
    Answer,
    Api,
    client_of,
    encoded,
    provided,
    serving,
    settings_for,
    with_id,
)
from integration.routes import DESCRIBED, PUBLIC

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.once]

Json = dict[str, Any]
PROBLEM = "application/problem+json"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def origin(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    settings = settings_for(tmp_path_factory.mktemp("data"), APP_NAME="<chat> & more", MAX_BODY_BYTES="100000")
    async with serving(create_app(settings, provided(LLMGateway, ScriptedModel("Hel", "lo")))) as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(origin: str) -> AsyncIterator[Api]:
    async with client_of(origin) as api:
        yield api


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ada(stranger: Api) -> Api:
    """Owns the conversation with id 1, in which there is a reply."""
    ada = await stranger.user("ada")
    assert await ada.conversation() == 1
    (await ada.post("/conversations/1/chat", {"content": "Hello"})).ok()
    return ada


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def document(stranger: Api) -> Json:
    document: Json = (await stranger.get("/openapi.json")).ok()
    return document


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


# ---- the document ----------------------------------------------------------------------------------------


async def test_it_is_valid_openapi(document: Json) -> None:
    assert document["openapi"].startswith("3.1.")
    validate(document)


async def test_every_route_is_described(document: Json) -> None:
    described = {(method, path) for method, path, _ in operations(document)}
    assert described == set(DESCRIBED)
    for _, path, operation in operations(document):
        assert operation["summary"], path
        assert operation["description"], path
        assert operation["tags"], path


async def test_a_description_is_the_use_cases_own_words(document: Json) -> None:
    operation = document["paths"]["/auth/register"]["post"]
    assert operation["summary"] == "Register"
    assert operation["description"] == "Create an account with the role `user`, and sign it in. Needs no token."


async def test_operation_ids_are_stable_and_each_is_one_operations(document: Json) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    assert all(each.isidentifier() for each in ids)
    known = {
        "about", "health", "ready", "auth_register", "auth_login", "auth_me", "auth_me_password", "auth_config",
        "auth_config_create", "conversations", "conversations_history", "conversations_chat", "conversations_messages",
        "conversations_reply", "conversations_regenerate", "conversations_messages_edit", "conversations_branch",
    }  # fmt: skip
    assert known <= set(ids)


async def test_what_is_private_says_so(document: Json) -> None:
    for scheme in document["components"]["securitySchemes"].values():
        assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for method, path, operation in operations(document):
        private = {"BearerToken": []} in operation.get("security", ())
        assert private == ((method, path) not in PUBLIC), path
        assert private <= {"401", "403"}.issubset(operation["responses"]), path


async def test_success_is_200_and_201_where_something_is_created(document: Json) -> None:
    creating = {
        *("/auth/register", "/v1/auth/register", "/user/register"),
        *("/auth/config/create", "/auth/keys/create", "/conversations/create", "/v1/chats", "/files"),
    }
    for method, path, operation in operations(document):
        good = {status for status in operation["responses"] if status.startswith("2")}
        assert good - {"204"} == {"201" if method == "POST" and path in creating else "200"}, path


async def test_every_error_is_a_problem_with_its_codes(document: Json) -> None:
    problem = {"$ref": "#/components/schemas/Problem"}
    for _, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if status.startswith("2"):
                continue
            assert set(response["content"]) == {PROBLEM}, path
            content = response["content"][PROBLEM]
            assert content["schema"]["allOf"][0] == problem
            codes = content["schema"]["allOf"][1]["properties"]["code"]["enum"]
            assert codes == list(content["examples"])
            for code, example in content["examples"].items():
                shown = msgspec.convert(example["value"], schemas.Problem)
                assert (shown.status, shown.code) == (int(status), code)


@pytest.mark.parametrize(
    ("method", "path", "codes"),
    [
        ("get", "/health", set[str]()),
        ("get", "/ready", {"unavailable"}),
        (
            "post",
            "/admin/users/{user_id}/roles/revoke",
            {
                *("validation_failed", "unauthenticated", "account_disabled", "forbidden", "not_found", "last_admin"),
                *("payload_too_large", "unavailable", "rate_limited", "scope_missing"),
            },
        ),
        (
            "post",
            "/auth/register",
            {
                *("validation_failed", "username_taken", "email_taken", "payload_too_large", "unavailable"),
                "rate_limited",
            },
        ),
        (
            "post",
            "/auth/login",
            {
                *("validation_failed", "invalid_credentials", "account_disabled", "payload_too_large", "unavailable"),
                "rate_limited",
            },
        ),
        (
            "get",
            "/conversations/{conversation_id}",
            {
                *("validation_failed", "unauthenticated", "account_disabled", "scope_missing", "not_found"),
                *("unavailable", "rate_limited"),
            },
        ),
        (
            "post",
            "/conversations/{conversation_id}/chat",
            {
                *("validation_failed", "unauthenticated", "account_disabled", "not_found", "unavailable"),
                *("payload_too_large", "model_not_configured", "conversation_busy", "idempotency_key_reused"),
                *("model_unauthorized", "model_not_found", "model_rate_limited", "model_refused", "model_unavailable"),
                *("model_protocol", "model_url_refused", "model_timeout", "rate_limited"),
                *(
                    "model_payment_required",
                    "model_context_length",
                    "model_empty",
                    "model_no_images",
                    "storage_full",
                    "scope_missing",
                ),
            },
        ),
    ],
)
async def test_the_errors_of_an_operation(document: Json, method: str, path: str, codes: set[str]) -> None:
    responses = document["paths"][path][method]["responses"].values()
    contents = [response["content"][PROBLEM] for response in responses if PROBLEM in response.get("content", ())]
    found = {code for content in contents for code in content["examples"]}
    assert found == codes | {"request_timeout", "uri_too_long", "headers_too_large"}


async def test_what_stores_says_that_storage_may_be_full(document: Json) -> None:
    storing = {
        *("conversations_create", "conversations_import", "conversations_chat", "conversations_messages"),
        *("conversations_messages_edit", "conversations_regenerate", "agent_chat", "chat", "v1_chats"),
        *("v1_chats_message", "v1_chats_message_by_query", "files_upload"),
    }
    found = {
        operation["operationId"]
        for _, _, operation in operations(document)
        if PROBLEM in operation["responses"].get("413", {"content": ()})["content"]
        and "storage_full" in operation["responses"]["413"]["content"][PROBLEM]["examples"]
    }
    assert found == storing


async def test_a_stream_names_the_schemas_of_its_events(document: Json) -> None:
    named = {"ReplyStarted", "ReplyText", "ConversationTitled", "ReplyEnded", "ReplyFailed"}
    event = document["components"]["schemas"]["Event"]
    references = {f"#/components/schemas/{name}" for name in named}
    assert {kind["$ref"] for kind in event["anyOf"]} == references
    assert set(event["discriminator"]["mapping"].values()) == references
    streaming = {
        operation["operationId"]
        for _, _, operation in operations(document)
        if "text/event-stream" in operation["responses"]["201" if "201" in operation["responses"] else "200"]["content"]
    }
    assert streaming == {
        "conversations_chat",
        "conversations_messages",
        "conversations_messages_edit",
        "conversations_regenerate",
        "conversations_reply",
    }
    stream = document["paths"]["/conversations/{conversation_id}/reply"]["get"]["responses"]["200"]["content"]
    assert stream["text/event-stream"]["schema"]["contentSchema"] == {"$ref": "#/components/schemas/Event"}


async def test_the_events_of_a_real_stream_are_among_those_described(document: Json, ada: Api) -> None:
    async with ada.events("/conversations/1/chat", {"content": "Hello again"}, headers=EVENTS) as stream:
        events = await stream.rest()
    mapping = document["components"]["schemas"]["Event"]["discriminator"]["mapping"]
    for event in events:
        check_against(document, {"$ref": mapping[event.type]}, event.data)
    assert {event.type for event in events} >= {"reply.started", "reply.delta", "reply.completed"}


@pytest.mark.parametrize("name", EXAMPLES)
async def test_an_example_is_one(document: Json, name: str) -> None:
    shape: type[Any] = shapes()[name]
    shown = msgspec.convert(EXAMPLES[name], shape)
    assert set(EXAMPLES[name]) <= {field.encode_name for field in msgspec.structs.fields(shape)}
    assert type(shown) is shape
    check_against(document, {"$ref": f"#/components/schemas/{name}"}, EXAMPLES[name])


async def test_whatever_is_sent_or_answered_has_an_example(document: Json) -> None:
    for _, path, operation in operations(document):
        contents = [operation["requestBody"]["content"]] if "requestBody" in operation else []
        contents += [response["content"] for response in operation["responses"].values() if "content" in response]
        for content in contents:
            for kind, media in content.items():
                assert (
                    kind == "image/*"
                    or "example" in media
                    or media.get("examples")
                    or has_example(document, media["schema"])
                ), path


def has_example(document: Json, schema: Json) -> bool:
    """Its own, or one of each property that it needs."""
    reference = schema["items"] if schema.get("type") == "array" else schema
    shape = document["components"]["schemas"][reference["$ref"].rpartition("/")[2]]
    needed = [shape["properties"][name] for name in shape["required"]]
    return "examples" in shape or all("examples" in one or "enum" in one or "default" in one for one in needed)


# ---- what it says of parameters --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name", "bounds"),
    [
        ("/conversations", "limit", (1, 100)),
        ("/conversations", "offset", (0, 1_000_000)),
        ("/conversations/{conversation_id}", "limit", (1, 200)),
        ("/conversations/{conversation_id}", "before_id", (1, 2**63 - 1)),
        ("/conversations/{conversation_id}/reply", "after", (0, 2**53)),
        ("/auth/sessions", "limit", (1, 100)),
        ("/agent/conversations", "limit", (1, 100)),
        ("/v1/chats", "skip", (0, 1_000_000)),
        ("/v1/chats", "limit", (1, 100)),
        ("/admin/users", "limit", (1, 100)),
        ("/admin/users/{user_id}/sessions", "limit", (1, 100)),
        ("/auth/sessions", "offset", (0, 1_000_000)),
    ],
)
async def test_the_bounds_of_a_parameter(document: Json, path: str, name: str, bounds: tuple[int, int]) -> None:
    (parameter,) = (each for each in document["paths"][path]["get"]["parameters"] if each["name"] == name)
    schema = parameter["schema"]
    assert (schema["type"], schema["minimum"], schema["maximum"]) == ("integer", *bounds)
    assert not parameter["required"]


@pytest.mark.parametrize(
    ("shape", "field", "facets"),
    [
        ("Send", "content", {"maxLength": 200_000}),  # an image may be without a text
        ("Saying", "message", {"maxLength": 200_000}),
        ("Regenerate", "temperature", {"minimum": 0, "maximum": 2}),
        ("Rename", "title", {"minLength": 1, "maxLength": 200}),
        ("UserRegistration", "userid", {"minLength": 3, "maxLength": 64}),
        ("UserRegistration", "country", {"maxLength": 200}),
        ("NewModelConfig", "api_key", {"maxLength": 4096}),
        ("RoleChange", "role", {"enum": ["admin", "user"]}),
    ],
)
async def test_the_bounds_of_a_field(document: Json, shape: str, field: str, facets: Json) -> None:
    schema = document["components"]["schemas"][shape]["properties"][field]
    schema = next((part for part in schema.get("anyOf", ()) if part != {"type": "null"}), schema)
    assert facets.items() <= schema.items()


async def test_an_import_says_what_it_takes(document: Json) -> None:
    body = document["paths"]["/conversations/import"]["post"]["requestBody"]
    assert body["required"]
    assert set(body["content"]) == {"application/jsonl", "application/json", "application/zip"}
    lines = body["content"]["application/jsonl"]
    assert lines["schema"]["contentSchema"] == {"$ref": "#/components/schemas/ExportLine"}
    for line in lines["example"].splitlines():
        check_against(document, {"$ref": "#/components/schemas/ExportLine"}, json.loads(line))


async def test_every_list_is_bounded_as_described_and_says_so(document: Json, ada: Api) -> None:
    bounded = set[tuple[str, str]]()
    for method, path, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            if method == "GET" and parameter["in"] == "query" and _has_bounds(path, parameter["schema"]):
                await check_bounds(ada, with_id(path, 1), parameter["name"], parameter["schema"])
                bounded.add((path, parameter["name"]))
    assert len(bounded) >= 7


ELSEWHERE = ("/admin", "/conversations/search")
"""Whose lists have tests of their own."""


def _has_bounds(path: str, schema: Json) -> bool:
    return not path.startswith(ELSEWHERE) and "minimum" in schema


async def check_bounds(api: Api, path: str, name: str, schema: Json) -> None:
    for good in (schema["minimum"], schema["maximum"]):
        assert (await api.get(f"{path}?{name}={good}")).status in (200, 204), (path, name, good)
    nothing = [] if name == "before_id" else [""]  # `?before_id=` asks for the newest page
    for bad in (schema["minimum"] - 1, schema["maximum"] + 1, "many", *nothing):
        (await api.get(f"{path}?{name}={bad}")).problem(400, "validation_failed", name)


REGENERATE = "/conversations/{conversation_id}/regenerate"


async def test_a_body_that_may_be_absent_is_not_required(document: Json) -> None:
    bodies = {
        path: operation["requestBody"] for _, path, operation in operations(document) if "requestBody" in operation
    }
    assert bodies["/auth/register"]["required"]
    for path in (
        "/auth/logout",
        "/auth/me/delete",
        "/auth/config/{config_id}/update",
        "/conversations/create",
        REGENERATE,
    ):
        assert not bodies[path]["required"]
        assert set(bodies[path]["content"]["application/json"]["schema"]) == {"$ref"}


# ---- what is answered is what is described ---------------------------------------------------------------


def check_against(document: Json, schema: Mapping[str, Any], value: object) -> None:
    OAS31Validator({**schema, "components": document["components"]}).validate(value)


def check_answer(document: Json, method: str, path: str, answer: Answer) -> None:
    response = document["paths"][path][method.lower()]["responses"][str(answer.status)]
    media_type = answer.headers["Content-Type"].partition(";")[0]
    value = answer.body.decode() if media_type == "text/event-stream" else json.loads(answer.body)
    check_against(document, response["content"][media_type]["schema"], value)


BODIES: dict[str, Json] = {
    "/auth/register": {"username": "grace", "password": PASSWORD},
    "/auth/login": {"username": "ada", "password": PASSWORD},
    "/auth/refresh": {"refresh_token": "none"},
    "/auth/me/username": {"username": "ada"},
    "/auth/me/email": {"email": "ada@example.com"},
    "/auth/config/create": {"model_url": "https://own.test/v1", "model_name": "own", "api_key": "sk-0123456789ab"},
    "/conversations/{conversation_id}/chat": {"content": "Hello"},
    "/conversations/{conversation_id}/messages": {"content": "Hello"},
    "/conversations/{conversation_id}/rename": {"title": "Renamed"},
    "/conversations/{conversation_id}/messages/{message_id}/edit": {"content": "Hi"},
    "/conversations/{conversation_id}/branch": {"message_id": 1},
    "/chat": {"message": "Hello"},
    "/agent/chat": {"message": "Hello", "conversation_id": 1},
    "/v1/auth/register": {"username": "heidi", "password": PASSWORD},
    "/v1/chats": {"title": "Mine"},
    "/v1/chats/{chat_id}/message": {"role": "assistant", "content": "Hello"},
    "/v1/chats/message": {"role": "user", "content": "Hello"},
    "/user/register": {"userid": "ivan", "password": PASSWORD, "user_name": "Ivan"},
}
LEFT_ALONE = {
    "/v1/chats/{chat_id}",
    "/auth/me/export",  # JSON Lines
    "/files/{file_id}/content",  # bytes
    "/auth/logout",
    "/auth/me/delete",
    "/auth/sessions/revoke-others",
    "/conversations/{conversation_id}/delete",
    "/agent/conversations/{conversation_id}",
}


async def test_every_answer_is_one_of_those_described(document: Json, stranger: Api, ada: Api) -> None:
    seen = set[int]()
    for method, path, _ in operations(document):
        if path not in LEFT_ALONE:
            for caller, thing, body in ((stranger, 1, None), (ada, 999, BODIES.get(path)), (ada, 1, BODIES.get(path))):
                answer = await caller.call(method, with_id(path, thing), encoded(body))
                check_answer(document, method, path, answer)
                seen.add(answer.status)
    assert seen >= {200, 201, 400, 401, 404}


async def test_describing_the_routes_leaves_them_as_they_are(stranger: Api, ada: Api, document: Json) -> None:
    assert document
    (await stranger.get("/auth/me")).problem(401, "unauthenticated")
    compressed = await ada.call("POST", "/conversations/create", b"x", {"Content-Encoding": "gzip"})
    compressed.problem(413, "payload_too_large")
    (await ada.call("POST", "/conversations/create", b" " * 100_001)).problem(413, "payload_too_large")


# ---- the pages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_a_page_names_the_application_and_calls_nobody_else(stranger: Api, path: str) -> None:
    answer = await stranger.get(path)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"<title>&lt;chat&gt; &amp; more</title>" in answer.body
    assert b"//" not in answer.body
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("swagger-ui.css", "text/css; charset=utf-8"),
        ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        ("redoc.standalone.js", "text/javascript; charset=utf-8"),
        ("start.js", "text/javascript; charset=utf-8"),
    ],
)
async def test_its_parts_come_from_here(stranger: Api, name: str, content_type: str) -> None:
    answer = await stranger.get(f"/docs/{name}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, content_type)
    assert answer.body


@pytest.mark.parametrize("name", ["core.py", "..%2fcore.py", "favicon.png", "../core.py", "%2e%2e%2fcore.py"])
async def test_nothing_else_does(stranger: Api, name: str) -> None:
    (await stranger.get(f"/docs/{name}")).problem(404, "not_found")


async def test_swagger_ui_in_a_browser_without_a_network(document: Json, origin: str) -> None:
    async with chromium() as browser, browser.page(f"{origin}/docs") as page:
        wanted = {(method, path) for method, path, _ in operations(document)}
        await page.until(f"document.querySelectorAll('.opblock').length === {len(wanted)}")
        listed = await page.evaluate(
            "[...document.querySelectorAll('.opblock-summary')].map(one => ["
            "one.querySelector('.opblock-summary-method').innerText,"
            "one.querySelector('.opblock-summary-path').dataset.path])"
        )
        assert {(method, path) for method, path in listed} == wanted

        register, me = "#operations-auth-auth_register", "#operations-auth-auth_me"
        await try_out(page, register)
        await page.type(f"{register} textarea", json.dumps({"username": "heddy", "password": PASSWORD}))
        status, answered = await execute(page, register)
        assert (status, json.loads(answered)["user"]["username"]) == ("201", "heddy")

        await try_out(page, me)
        status, refused = await execute(page, me)
        assert (status, json.loads(refused)["code"]) == ("401", "unauthenticated")

        await page.click(".btn.authorize")
        await page.type(".modal-ux input", json.loads(answered)["access_token"])
        await page.click(".modal-ux .btn.authorize")
        await page.click(".modal-ux .btn-done")
        await page.click(f"{me} .btn-clear")
        status, shown = await execute(page, me)
        assert (status, json.loads(shown)["username"]) == ("200", "heddy")
        assert other_hosts(page, origin) == page.blocked == set()


async def try_out(page: Page, operation: str) -> None:
    await page.click(f"{operation} .opblock-summary-control")
    await page.click(f"{operation} .try-out__btn")


async def execute(page: Page, operation: str) -> tuple[str, str]:
    """The status and the body that the page shows after a click on Execute."""
    live = f"document.querySelector('{operation} .live-responses-table .response"
    await page.click(f"{operation} .execute")
    await page.until(f"{live} .highlight-code code') !== null")
    status = await page.evaluate(f"{live} .response-col_status').innerText")
    return status.split()[0], await page.evaluate(f"{live} .highlight-code code').innerText")


def other_hosts(page: Page, origin: str) -> set[str]:
    return {url for url in page.requested if not url.startswith((f"{origin}/", f"blob:{origin}/", "data:"))}


async def test_redoc_in_a_browser_without_a_network(document: Json, origin: str) -> None:
    wanted = {operation["operationId"] for _, _, operation in operations(document)}
    async with chromium() as browser, browser.page(f"{origin}/redoc") as page:
        sections = "[...document.querySelectorAll('[data-section-id^=\"operation/\"]')]"
        await page.until(f"{sections}.length >= {len(wanted)}")
        listed = await page.evaluate(f"{sections}.map(one => one.dataset.sectionId)")
        assert {section.removeprefix("operation/") for section in listed} == wanted
        assert "BearerToken" in await page.evaluate("document.body.innerText")
        assert other_hosts(page, origin) == set()
        assert page.blocked <= {"https://cdn.redoc.ly/redoc/logo-mini.svg"}  # its makers' mark, which it does without
