"""The OpenAPI document.

The framework knows the paths, the parameters and the bodies. What an operation is called, how it can fail and what
its parameters and the fields of its body must be is read off the use case behind it: its name, `raises` and `bounds`.
What else a handler asks for may have `raises` too; what it raises itself, its route names in `may_raise`. Schemas are
msgspec's, which keep docstrings.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from http import HTTPStatus
from types import ModuleType
from typing import Any, get_args, get_type_hints

import msgspec
from litestar import Litestar, Router
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.routes import HTTPRoute
from litestar.types import Method
from litestar.types.internal_types import PathParameterDefinition

from chatcore import Authenticate, errors
from chatcore.bounds import Bound, Email, OneOf, Range, Text
from chatcore_app import Settings
from chatcore_http import export_lines, media, schemas
from chatcore_http.auth import COMPONENTS
from chatcore_http.errors import status_of
from chatcore_http.examples import EXAMPLES
from chatcore_http.field_names import called
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

_WITH_SHAPES = (schemas, export_lines, system, rag_api, v1_chats, sessions_envelope)
_TOO_LARGE: Error = (413, "payload_too_large", "The request body is too large.")
_AT_THE_SOCKET: set[Error] = {(it.status, it.code, it.detail) for it in REFUSALS}
_LARGEST = 2**63 - 1


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
    shapes = _schemas()
    for path, method, handler in _in_order(_handlers(app)):
        operation = document["paths"][path][method.lower()]
        _inline_choices(operation, document["components"]["schemas"])
        _complete(operation, handler, path, shapes)
        if enveloped:
            operation["responses"] = deepcopy(operation["responses"])  # parts of them are the same for every document
            sessions_envelope.describe_enveloped(operation["responses"])
        paths.setdefault(path, {})[method.lower()] = operation
    document["paths"] = paths
    document["components"]["schemas"] = shapes
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


def _complete(operation: Json, handler: HTTPRouteHandler, path: str, shapes: Json) -> None:
    use_case, names = _use_case_of(handler), called(handler)
    bounds = {names.get(name, name): bound for name, bound in getattr(use_case, "bounds", {}).items()}
    operation["summary"] = _words(use_case.__name__ if use_case else handler.handler_name)
    del operation["deprecated"]
    if content := handler.opt.get("body_content"):
        operation["requestBody"] = {"content": content, "required": True}
    if "requestBody" in operation:
        _complete_body(operation["requestBody"], bounds, shapes)
    for parameter in operation.get("parameters", ()):
        _complete_parameter(parameter, bounds.get(parameter["name"]))
    operation["responses"] = {
        **dict(_successes(operation["responses"])),
        **_problems(_errors(operation, path, handler)),
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


def _complete_body(body: Json, bounds: Mapping[str, Bound[Any]], shapes: Json) -> None:
    """A body that may be null may also be absent; nobody needs to send null."""
    for content in body["content"].values():
        if "oneOf" in content["schema"]:
            content["schema"] = _without_null(content["schema"])
            body["required"] = False
        shape = shapes.get(content["schema"].get("$ref", "").rpartition("/")[2], {})
        for name, schema in shape.get("properties", {}).items():
            if name in bounds:
                _bounded(schema).update(_facets(bounds[name]))


def _bounded(schema: Json) -> Json:
    """The part of a field's schema that is not null."""
    parts: list[Json] = [part for part in schema.get("anyOf", ()) if part != {"type": "null"}]
    return parts[0] if parts else schema


def _facets(bound: Bound[Any]) -> Json:
    """A bound in the words of JSON Schema."""
    match bound:
        case Range(minimum, maximum):
            return {"minimum": minimum, "maximum": maximum}
        case OneOf(words):
            return {"enum": sorted(words)}
        case Text(minimum, maximum):
            least = {"minLength": minimum} if minimum else {}
            form = {"pattern": f"^{bound.pattern}$"} if isinstance(bound, Email) else {}
            return {**least, "maxLength": maximum, **form}
        case _:
            return {}


def _complete_parameter(parameter: Json, bound: Bound[Any] | None) -> None:
    schema = parameter["schema"] = _without_null(parameter["schema"])
    for useless in ("deprecated", "allowEmptyValue", "allowReserved"):
        parameter.pop(useless, None)
    schema.pop("description", None)
    for facet in {"minimum", "maximum"} & schema.keys():
        schema[facet] = min(int(schema[facet]), _LARGEST)  # the framework's are floats
    schema.update(_facets(bound) if bound is not None else {})


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
            response["content"]["text/event-stream"] = media.STREAM
        if "application/jsonl" in response.get("content", ()):
            response["content"] = media.EXPORTS
        yield status, response


def _is_chat(response: Json) -> bool:
    json = response.get("content", {}).get("application/json", {})
    return bool(json.get("schema") == {"$ref": "#/components/schemas/Chat"})


# ---- problems --------------------------------------------------------------------------------------------


def _errors(operation: Json, path: str, handler: HTTPRouteHandler) -> set[Error]:
    """How it can fail: what is declared by whatever it asks for, and what every operation of its kind shares."""
    found: set[type[errors.ChatcoreError]] = {
        kind for asked in _asked_for(handler) for kind in getattr(asked, "raises", ())
    }
    found |= set(handler.opt.get("may_raise", ()))
    places = {parameter["in"] for parameter in operation.get("parameters", ())}
    if operation.get("security"):
        found |= set(Authenticate.raises)
    if path.startswith("/admin/"):
        found.add(errors.Forbidden)
    if "path" in places:
        found.add(errors.NotFound)
    if "requestBody" in operation:
        found.add(errors.Unavailable)  # too many that are not complete
    if "requestBody" in operation or places - {"path"}:
        found.add(errors.ValidationFailed)
    if path not in WATCHED_PATHS:
        found.add(errors.RateLimited)
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
    return dict(sorted({**found, "Event": _event(), "ExportLine": _line()}.items()))


def _is_shape(thing: object, module: ModuleType) -> bool:
    if not isinstance(thing, type) or thing.__module__ != module.__name__:
        return False
    return issubclass(thing, msgspec.Struct) and not thing.__name__.startswith("_")


def _event() -> Json:
    kinds = [{"$ref": f"#/components/schemas/{kind.__name__}"} for kind in get_args(schemas.Event)]
    mapping = {name: f"#/components/schemas/{kind.__name__}" for name, kind in _EVENTS.items()}
    return {
        "description": "One event of a reply. `offset`: how many code points of the reply the reader has after it.",
        "anyOf": kinds,
        "discriminator": {"propertyName": "type", "mapping": mapping},
    }


def _line() -> Json:
    return {
        "description": "One line of an export, by its `kind`. Of an import, conversations and messages are taken over.",
        "anyOf": [{"$ref": f"#/components/schemas/{kind.__name__}"} for kind in export_lines.LINES],
        "discriminator": {
            "propertyName": "kind",
            "mapping": {
                str(kind.__struct_config__.tag): f"#/components/schemas/{kind.__name__}" for kind in export_lines.LINES
            },
        },
    }
