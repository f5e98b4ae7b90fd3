"""The OpenAPI document.

The framework knows the paths, the parameters and the bodies. What an operation is called, how it can fail and what
its parameters' bounds are is read off the use case behind it: its name and the docstring of its `__call__`, which says
"Raises `X`, `Y`" and "`limit` 1 to 100". What a handler adds to that, its own docstring says alike. Schemas are
msgspec's, which keep docstrings and exact bounds.
"""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from http import HTTPStatus
from typing import Any, get_args, get_type_hints

import msgspec
from litestar import Litestar, Router
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.routes import HTTPRoute
from litestar.types import Method
from litestar.types.internal_types import PathParameterDefinition

from chatcore import errors
from chatcore_app import Settings
from chatcore_http import schemas
from chatcore_http.answers import Answers
from chatcore_http.auth import COMPONENTS
from chatcore_http.envelope import describe_enveloped
from chatcore_http.errors import status_of
from chatcore_http.examples import EVENT_STREAM, EXAMPLES, EXPORT
from chatcore_http.http_protocol import REFUSALS
from chatcore_http.request_limit import WATCHED_PATHS
from chatcore_http.routes import system
from chatcore_http.systems import rag_api, sessions_envelope, v1_chats

Json = dict[str, Any]
Error = tuple[int, str, str]  # status, code, detail

_DESCRIPTION = """A multi-user AI chat backend: streamed replies that outlive their connection.

- Register or sign in, and send the `access_token` as `Authorization: Bearer …`; in `/docs`, **Authorize** does that.
- An error is a problem (RFC 9457) of the type `application/problem+json`; its `code` is stable.{envelope}
- Every response carries `X-Request-ID`: the client's own, or a new one.
- Dates are RFC 3339 in UTC; fields that are not named here are ignored.
- A conversation over one connection: the WebSocket `/conversations/ws/{id}`, with the same events as the streams.
"""

_ENVELOPE = """
- Every JSON answer comes as `data` of `{"code": 1, "message": "success", "data"}`, a problem as that of
  `{"code": 0, "message": "its detail", "data"}`, both as `application/json`."""

_EVENTS = {
    "reply.started": schemas.ReplyStarted,
    "reply.reasoning": schemas.ReplyText,
    "reply.delta": schemas.ReplyText,
    "conversation.titled": schemas.ConversationTitled,
    "reply.completed": schemas.ReplyEnded,
    "reply.stopped": schemas.ReplyEnded,
    "reply.interrupted": schemas.ReplyEnded,
    "reply.failed": schemas.ReplyFailed,
}
_JSON_LINES: Json = {
    "schema": {
        "type": "string",
        "description": "JSON Lines: on each line an object with a `kind`. The last one's is `end`.",
        "contentMediaType": "application/jsonl",
    },
    "example": EXPORT,
}
_OTHER_EXPORTS: Json = {
    "application/json": {
        "schema": {"type": "array", "description": "`openai`: as ChatGPT exports conversations.", "items": {}},
        "example": [{"title": "Why is the sky blue?", "mapping": {}, "current_node": "root"}],
    },
    "text/markdown": {
        "schema": {"type": "string", "description": "`markdown`.", "contentMediaType": "text/markdown"},
        "example": "# Conversations",
    },
}
_STREAM: Json = {
    "schema": {
        "type": "string",
        "description": "Server-Sent Events: `event` is the type, `id` the cursor `<reply id>:<offset>`, and `data` the "
        "JSON of one `Event`. The response ends after the reply's last event.",
        "contentMediaType": "text/event-stream",
        "contentSchema": {"$ref": "#/components/schemas/Event"},
    },
    "example": EVENT_STREAM,
}

_WITH_SHAPES = (schemas, system, rag_api, v1_chats, sessions_envelope)
_TOO_LARGE: Error = (413, "payload_too_large", "The request body is too large.")
_AT_THE_SOCKET: set[Error] = {(it.status, it.code, it.detail) for it in REFUSALS}
_WITHOUT_DATABASE = ("/", "/health", "/v1")
_LARGEST = 2**63 - 1

_RAISED = re.compile(r"`([A-Z]\w+)`")
_BOUNDS = re.compile(r"`(\w+)`:? ([\d,]+) to ([\d,]+)")


def describe(settings: Settings, routers: Sequence[Router]) -> Json:
    """The document for these routers, which must be nobody else's."""
    enveloped = settings.response_envelope == "code"
    app = Litestar(
        route_handlers=routers,
        openapi_config=OpenAPIConfig(
            title=settings.app_name,
            version=settings.app_version,
            description=_DESCRIPTION.replace("{envelope}", _ENVELOPE if enveloped else ""),
            components=COMPONENTS,
            use_handler_docstrings=True,
            operation_id_creator=_operation_id,
            render_plugins=[JsonRenderPlugin()],
        ),
        logging_config=None,
    )
    document: Json = app.openapi_schema.to_schema()
    paths: Json = {}
    for path, method, handler in _in_order(_handlers(app)):
        operation = document["paths"][path][method.lower()]
        _inline_choices(operation, document["components"]["schemas"])
        _complete(operation, handler, path)
        if enveloped:
            operation["responses"] = deepcopy(operation["responses"])  # parts of them are the same for every document
            describe_enveloped(operation["responses"])
        paths.setdefault(path, {})[method.lower()] = operation
    document["paths"] = paths
    document["components"]["schemas"] = _schemas()
    return document


def _handlers(app: Litestar) -> Iterator[tuple[str, Method, HTTPRouteHandler]]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for method, (handler, _) in sorted(route.route_handler_map.items()):
                if handler.resolve_include_in_schema():
                    yield route.path_format, method, handler


def _in_order(
    found: Iterable[tuple[str, Method, HTTPRouteHandler]],
) -> Iterator[tuple[str, Method, HTTPRouteHandler]]:
    """As the routes were given. The paths of one handler, which the framework keeps as a set, by name."""
    by_handler: dict[object, list[tuple[str, Method, HTTPRouteHandler]]] = {}
    for item in found:
        by_handler.setdefault(item[2].fn, []).append(item)
    for items in by_handler.values():
        yield from sorted(items, key=lambda item: item[0])


def _operation_id(handler: HTTPRouteHandler, _: Method, parts: list[str | PathParameterDefinition]) -> str:
    """The path's fixed parts, `auth_config_update`; where it ends in a parameter or has none, the handler's name."""
    fixed = [part.replace("-", "_") for part in parts if isinstance(part, str)]
    if not fixed or not isinstance(parts[-1], str):
        fixed.append(handler.handler_name)
    return "_".join(fixed)


# ---- operations ------------------------------------------------------------------------------------------


def _complete(operation: Json, handler: HTTPRouteHandler, path: str) -> None:
    use_case = _use_case_of(handler)
    promise = "\n".join(inspect.getdoc(who) or "" for who in (handler.fn, use_case and use_case.__call__) if who)
    operation["summary"] = _words(use_case.__name__ if use_case else handler.handler_name)
    del operation["deprecated"]
    if "requestBody" in operation:
        _complete_body(operation["requestBody"])
    for parameter in operation.get("parameters", ()):
        _complete_parameter(parameter, promise)
    operation["responses"] = {
        **dict(_successes(operation["responses"])),
        **_problems(_errors(operation, promise, path, asks_model=Answers in _asked_for(handler))),
    }


def _inline_choices(operation: Json, found: Json) -> None:
    """A parameter that is one of a few words has them, where the framework has a reference to a schema."""
    for parameter in operation.get("parameters", ()):
        name = parameter["schema"].get("$ref", "").rpartition("/")[2]
        parameter["schema"] = {**parameter["schema"], **found.get(name, {})}
        parameter["schema"].pop("$ref", None)
        parameter["schema"].pop("title", None)


def _use_case_of(handler: HTTPRouteHandler) -> type | None:
    """The first one that the handler asks for."""
    kinds = _asked_for(handler)
    return next((kind for kind in kinds if getattr(kind, "__module__", "").startswith("chatcore.use_cases")), None)


def _asked_for(handler: HTTPRouteHandler) -> list[Any]:
    """By the handler as it was before dishka wrapped it."""
    return list(get_type_hints(getattr(handler.fn, "__dishka_orig_func__", handler.fn)).values())


def _words(name: str) -> str:
    """`SendMessage`: Send message."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", name).capitalize()


def _complete_body(body: Json) -> None:
    """A body that may be null may also be absent; nobody needs to send null."""
    (content,) = body["content"].values()
    if "oneOf" in content["schema"]:
        content["schema"] = _without_null(content["schema"])
        body["required"] = False


def _complete_parameter(parameter: Json, promise: str) -> None:
    schema = parameter["schema"] = _without_null(parameter["schema"])
    for useless in ("deprecated", "allowEmptyValue", "allowReserved"):
        parameter.pop(useless, None)
    schema.pop("description", None)
    name = parameter["name"].lower().replace("-", "_")
    lower, upper = ("minimum", "maximum") if schema["type"] == "integer" else ("minLength", "maxLength")
    for found in _BOUNDS.finditer(promise):
        if found[1] == name:
            schema[lower], schema[upper] = (int(number.replace(",", "")) for number in found.group(2, 3))
    for bound in {lower, upper} & schema.keys():
        schema[bound] = min(int(schema[bound]), _LARGEST)  # the framework's are floats


def _without_null(schema: Json) -> Json:
    """A parameter cannot be null, only absent."""
    others = [other for other in schema.get("oneOf", ()) if other != {"type": "null"}]
    if len(others) != 1:
        return schema
    return {**{name: value for name, value in schema.items() if name != "oneOf"}, **others[0]}


def _successes(responses: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    for status, response in responses.items():
        if not status.startswith("2"):
            continue
        response.pop("headers", None)
        if response["description"] == HTTPStatus(int(status)).description:
            response["description"] = HTTPStatus(int(status)).phrase
        if "text/event-stream" in response.get("content", ()) or _is_chat(response):
            response["content"]["text/event-stream"] = _STREAM
        for media_type in {"application/jsonl"} & response.get("content", {}).keys():
            response["content"] = {media_type: _JSON_LINES, **_OTHER_EXPORTS}
        yield status, response


def _is_chat(response: Json) -> bool:
    json = response.get("content", {}).get("application/json", {})
    return bool(json.get("schema") == {"$ref": "#/components/schemas/Chat"})


# ---- problems --------------------------------------------------------------------------------------------


def _errors(operation: Json, promise: str, path: str, *, asks_model: bool) -> set[Error]:
    """How it can fail: what the use case says of itself, and what every operation of its kind shares."""
    found: set[type[errors.ChatcoreError]] = {
        kind for name in _RAISED.findall(promise) if (kind := getattr(errors, name, None)) is not None
    }
    places = {parameter["in"] for parameter in operation.get("parameters", ())}
    if operation.get("security"):
        found |= {errors.Unauthenticated, errors.AccountDisabled}
    if path.startswith("/admin/"):
        found.add(errors.Forbidden)
    if "path" in places:
        found.add(errors.NotFound)
    if "requestBody" in operation or places - {"path"}:
        found.add(errors.ValidationFailed)
    if path not in _WITHOUT_DATABASE:
        found.add(errors.Unavailable)
    if path not in WATCHED_PATHS:
        found.add(errors.RateLimited)
    if asks_model:
        found |= {errors.ModelError, *errors.ModelError.__subclasses__()}
    shared = _AT_THE_SOCKET | ({_TOO_LARGE} if "requestBody" in operation else set[Error]())
    return shared | {(status_of(kind), kind.code, kind.default_detail) for kind in found if hasattr(kind, "code")}


def _problems(failures: Iterable[Error]) -> Json:
    by_status: dict[int, dict[str, str]] = {}
    for status, code, detail in sorted(failures):
        by_status.setdefault(status, {})[code] = detail
    return {str(status): _problem(status, details) for status, details in by_status.items()}


def _problem(status: int, details: Mapping[str, str]) -> Json:
    """`details`: a sentence for each code that can come with this status."""
    title = HTTPStatus(status).phrase
    examples = {code: {"value": _problem_example(status, title, code, detail)} for code, detail in details.items()}
    codes = {"properties": {"code": {"enum": list(details)}}}
    response: Json = {
        "description": title + ": " + ", ".join(f"`{code}`" for code in details),
        "content": {
            "application/problem+json": {
                "schema": {"allOf": [{"$ref": "#/components/schemas/Problem"}, codes]},
                "examples": examples,
            }
        },
    }
    if header := {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}.get(status):
        response["headers"] = {header: {"schema": {"type": "string"}}}
    return response


def _problem_example(status: int, title: str, code: str, detail: str) -> Json:
    problem: Json = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    if code == errors.ValidationFailed.code:
        problem["detail"] = "name_of_the_field: what it should have been"
        problem["errors"] = [{"field": "name_of_the_field", "message": "what it should have been"}]
    return problem


# ---- schemas ---------------------------------------------------------------------------------------------


def shapes() -> dict[str, type[msgspec.Struct]]:
    """All of the wire, by the name that the document has for them."""
    found = (shape for module in _WITH_SHAPES for shape in vars(module).values() if _is_shape(shape, module))
    return {shape.__name__: shape for shape in found}


def _schemas() -> Json:
    _, found = msgspec.json.schema_components(shapes().values(), ref_template="#/components/schemas/{name}")
    for name, example in EXAMPLES.items():
        found[name]["examples"] = [example]
    return dict(sorted({**found, "Event": _event()}.items()))


def _is_shape(thing: object, module: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, msgspec.Struct) and thing.__module__ == module.__name__  # type: ignore[attr-defined]


def _event() -> Json:
    kinds = [{"$ref": f"#/components/schemas/{kind.__name__}"} for kind in get_args(schemas.Event)]
    mapping = {name: f"#/components/schemas/{kind.__name__}" for name, kind in _EVENTS.items()}
    return {
        "description": "One event of a reply. `offset`: how many code points of the reply the reader has after it.",
        "anyOf": kinds,
        "discriminator": {"propertyName": "type", "mapping": mapping},
    }
