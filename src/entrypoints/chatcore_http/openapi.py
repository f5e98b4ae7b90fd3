"""The OpenAPI document.

The framework knows the paths, parameters and bodies. An operation's summary, errors and bounds are those of its
use case: its name, `raises` and `bounds`. Other dependencies of a handler may have `raises` too; a route's `may_raise`
has the handler's own errors. Schemas are msgspec's, with their docstrings. Media types other than JSON are in `media`,
and in a route's `answer_content`.
"""

import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import is_dataclass
from http import HTTPStatus
from inspect import isclass
from typing import get_type_hints

import msgspec
from litestar import Litestar, Router
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components
from litestar.routes import HTTPRoute
from litestar.types import Method
from litestar.types.internal_types import PathParameterDefinition

from chatcore import USE_CASES, Authenticate, errors
from chatcore.errors import Raises
from chatcore_app import Settings
from chatcore_http import account_schemas, export_lines, media, schemas
from chatcore_http.auth import COMPONENTS
from chatcore_http.errors import TOO_LARGE, Error, described_problems
from chatcore_http.examples import EXAMPLES
from chatcore_http.field_names import called
from chatcore_http.http_refusals import REFUSALS
from chatcore_http.json_schema import NULL, REFERENCE, Json, facets, referred, without_null
from chatcore_http.request_limit import WATCHED_PATHS
from chatcore_http.routes import system
from chatcore_http.systems import rag_api, sessions_envelope, v1_chats

_TITLE = "A multi-user AI chat backend: streamed replies that outlive their connection.\n\n"
_SIGN_IN = (
    _TITLE
    + "- Register or sign in, and send the `access_token` as `Authorization: Bearer …`; in `/docs`, **Authorize** does "
    "that.\n"
)
_OWN_IDENTITY = _TITLE + "- Sign in as the program does that has these routes.\n"
_DESCRIPTION = """\
- Errors are problems (RFC 9457), `application/problem+json`; `code` is stable.{envelope}
- Every response has `X-Request-ID`: the client's own, or a new one.
- Dates are RFC 3339 in UTC. Fields that are not named here are ignored.
- The WebSocket `/conversations/ws/{id}` carries a conversation over one connection, with the events of the streams.
"""

_ENVELOPE = """
- Every JSON answer is `data` of `{"code": 1, "message": "success", "data"}`, every problem `data` of
  `{"code": 0, "message": "its detail", "data"}`, both as `application/json`."""

_WITH_SHAPES = (schemas, account_schemas, export_lines, system, rag_api, v1_chats, sessions_envelope)
_LARGEST = 2**63 - 1


def describe(settings: Settings, routers: Sequence[Router], *, own_identity: bool = False) -> Json:
    """Return the document for these routers, which must be new ones. `own_identity`: an embedding program says who
    asks, in its own way."""
    enveloped = settings.response_envelope == "code"
    app = Litestar(
        route_handlers=routers,
        openapi_config=OpenAPIConfig(
            title=settings.app_name,
            version=settings.app_version,
            description=(
                (_OWN_IDENTITY if own_identity else _SIGN_IN)
                + _DESCRIPTION.replace("{envelope}", _ENVELOPE if enveloped else "")
            ),
            components=Components() if own_identity else COMPONENTS,
            use_handler_docstrings=True,
            operation_id_creator=_operation_id,
            render_plugins=[JsonRenderPlugin()],
        ),
        logging_config=None,
    )
    document: Json = app.openapi_schema.to_schema()
    paths: dict[str, Json] = {}
    all_schemas = _schemas()
    for path, method, handler in _handlers(app):
        operation = document["paths"][path][method.lower()]
        _Operation(operation, handler, path).complete(document["components"]["schemas"], all_schemas)
        if enveloped:
            operation["responses"] = deepcopy(operation["responses"])  # parts of them are the same for every document
            sessions_envelope.describe_enveloped(operation["responses"])
        if own_identity:
            operation.pop("security", None)
        paths.setdefault(path, {})[method.lower()] = operation
    document["paths"], document["components"]["schemas"] = paths, all_schemas
    return document


def shapes() -> dict[str, type]:
    """Return all shapes of the wire, by their names in the document."""
    found = ((module, thing) for module in _WITH_SHAPES for thing in vars(module).values() if isclass(thing))
    return {
        thing.__name__: thing
        for module, thing in found
        if (issubclass(thing, msgspec.Struct) or is_dataclass(thing))
        and thing.__module__ == module.__name__
        and thing.__name__[0] != "_"
    }


def _schemas() -> Json:
    _, found = msgspec.json.schema_components(shapes().values(), ref_template=REFERENCE)
    for name, example in EXAMPLES.items():
        found[name]["examples"] = [example]
    return dict(sorted({**found, **media.SCHEMAS}.items()))


def _handlers(app: Litestar) -> Sequence[tuple[str, Method, HTTPRouteHandler]]:
    """Keep the routes' order; sort the paths of one handler, which the framework keeps as a set."""
    found: list[tuple[str, Method, HTTPRouteHandler]] = [
        (route.path_format, method, handler)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method, (handler, _) in sorted(route.route_handler_map.items())
        if handler.resolve_include_in_schema()
    ]
    order = [handler.fn for _, _, handler in found]
    return sorted(found, key=lambda item: (order.index(item[2].fn), item[0]))


def _operation_id(handler: HTTPRouteHandler, _: Method, parts: list[str | PathParameterDefinition]) -> str:
    """Return the path's fixed parts, `auth_config_update`, with the handler's name if it ends in a parameter."""
    fixed = [part.replace("-", "_") for part in parts if isinstance(part, str)]
    if not fixed or not isinstance(parts[-1], str):
        fixed.append(handler.handler_name)
    return "_".join(fixed)


class _Operation:
    """Completes the framework's description of an operation."""

    def __init__(self, operation: Json, handler: HTTPRouteHandler, path: str) -> None:
        """Look at `handler` as before dishka wrapped it. The use case is the first one among its dependencies."""
        self._operation = operation
        self._handler = handler
        self._path = path
        self._asked_for = list(get_type_hints(getattr(handler.fn, "__dishka_orig_func__", handler.fn)).values())
        use_case = next((kind for kind in self._asked_for if kind in USE_CASES.values()), None)
        names = called(handler)
        self._name: str = use_case.__name__ if use_case else handler.handler_name
        self._bounds = {names.get(name, name): bound for name, bound in getattr(use_case, "bounds", {}).items()}

    def complete(self, found: Json, shapes: Json) -> None:
        """`found`: the framework's schemas, which enumerations among the parameters refer to."""
        operation, content = self._operation, self._handler.opt.get("body_content")
        operation["summary"] = re.sub(r"(?<!^)(?=[A-Z])", " ", self._name).capitalize()
        del operation["deprecated"]
        for parameter in operation.get("parameters", ()):
            self._complete_parameter(parameter, found)
        if content:
            operation["requestBody"] = {"content": content, "required": True}
        if body := operation.get("requestBody"):
            self._complete_body(body, shapes)
        operation["responses"] = {**dict(self._successes()), **described_problems(self._errors())}

    def _complete_parameter(self, parameter: Json, found: Json) -> None:
        """Remove null: a parameter can only be absent."""
        for useless in ("deprecated", "allowEmptyValue", "allowReserved"):
            parameter.pop(useless, None)
        schema = without_null(parameter["schema"])
        schema = {**schema, **found.get(referred(schema), {})}
        for useless in ("$ref", "title", "description"):
            schema.pop(useless, None)
        for facet in {"minimum", "maximum"} & schema.keys():
            schema[facet] = min(int(schema[facet]), _LARGEST)  # the framework's are floats
        parameter["schema"] = schema | facets(self._bounds.get(parameter["name"]))

    def _complete_body(self, body: Json, shapes: Json) -> None:
        """Make a body that may be null optional instead."""
        for content in body["content"].values():
            if "oneOf" in content["schema"]:
                content["schema"] = without_null(content["schema"])
                body["required"] = False
            for name, schema in shapes.get(referred(content["schema"]), {}).get("properties", {}).items():
                part: Json = next((part for part in schema.get("anyOf", ()) if part != NULL), schema)
                part.update(facets(self._bounds.get(name)))

    def _successes(self) -> Iterator[tuple[str, Json]]:
        for status, response in self._operation["responses"].items():
            if status.startswith("2"):
                response.pop("headers", None)
                if response["description"] == HTTPStatus(int(status)).description:
                    response["description"] = HTTPStatus(int(status)).phrase
                if "content" in response:
                    response["content"].update(self._handler.opt.get("answer_content", {}))
                yield status, response

    def _errors(self) -> set[Error]:
        """Return the errors that its dependencies declare, and those that all operations of its kind share."""
        has_body, places = "requestBody" in self._operation, {it["in"] for it in self._operation.get("parameters", ())}
        found = {error for kind in self._asked_for for error in getattr(kind, "raises", ())}
        found |= {*self._handler.opt.get("may_raise", ())}
        shared: tuple[tuple[bool, Raises], ...] = (
            ("security" in self._operation, (*Authenticate.raises, errors.InsufficientScope)),
            (self._path.startswith("/admin/"), (errors.Forbidden,)),
            ("path" in places, (errors.NotFound,)),
            (has_body, (errors.Unavailable,)),  # too many that are not complete
            (has_body or bool(places - {"path"}), (errors.ValidationFailed,)),
            (self._path not in WATCHED_PATHS, (errors.RateLimited,)),
        )
        found |= {error for holds, raised in shared if holds for error in raised}
        of_server = {(it.status, it.code, it.detail) for it in REFUSALS} | ({TOO_LARGE} if has_body else set[Error]())
        return of_server | {(kind.status, kind.code, kind.default_detail) for kind in found if hasattr(kind, "code")}
