"""The application's own routes: whom each answers to, and a body that it understands.

This is the only table of them. What is generated from the routes (the tests of every route, token, body, …) reads it; a
route that is missing here fails `test_every_route.py`.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from litestar import Litestar
from litestar.routes import HTTPRoute, WebSocketRoute

from chatcore_app import Settings
from chatcore_http import create_app
from chatcore_http.app import api_routers
from chatcore_http.openapi import describe
from integration.http_app import PASSWORD

Route = tuple[str, str]
"""The method, or WS for a WebSocket, and the path."""

THEIRS = "theirs"
"""In a body: the id of a thing that is somebody else's."""

PAGES: list[Route] = [
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/docs/start.js"),
    ("GET", "/docs/{name}"),
    ("GET", "/redoc"),
]
"""The documentation, which does not describe itself. Public."""
PUBLIC: dict[Route, Any] = {
    **dict.fromkeys(PAGES),
    ("GET", "/"): None,
    ("GET", "/health"): None,
    ("GET", "/ready"): None,
    ("POST", "/auth/register"): {"username": "zanzibar", "email": "zanzibar@example.com", "password": PASSWORD},
    ("POST", "/auth/login"): {"username": "zanzibar", "password": "a wrong password"},
    ("POST", "/auth/refresh"): {"refresh_token": "one that nobody has"},
    ("GET", "/v1"): None,
    ("POST", "/v1/auth/register"): {"username": "zanzibar", "email": "zanzibar@example.com", "password": PASSWORD},
    ("POST", "/v1/auth/token"): {"username": "zanzibar", "password": "a wrong password"},
    ("POST", "/user/register"): {"userid": "zanzibar", "email": "zanzibar@example.com", "password": PASSWORD},
}
PRIVATE: dict[Route, Any] = {
    ("POST", "/auth/logout"): {},
    ("GET", "/auth/me"): None,
    ("GET", "/auth/me/export"): None,
    ("POST", "/auth/me/username"): {"username": "zanzibar"},
    ("POST", "/auth/me/email"): {"email": "zanzibar@example.com"},
    ("POST", "/auth/me/password"): {"password": "another password"},
    ("POST", "/auth/me/delete"): {},
    ("GET", "/auth/sessions"): None,
    ("POST", "/auth/sessions/{session_id}/revoke"): None,
    ("POST", "/auth/sessions/revoke-others"): None,
    ("GET", "/auth/keys"): None,
    ("POST", "/auth/keys/create"): {"name": "laptop"},
    ("POST", "/auth/keys/{key_id}/revoke"): None,
    ("GET", "/auth/config"): None,
    ("POST", "/auth/config/create"): {"model_url": "https://own.test/v1", "model_name": "own", "api_key": ""},
    ("POST", "/auth/config/{config_id}/update"): {"model_name": "changed"},
    ("POST", "/auth/config/{config_id}/check"): None,
    ("POST", "/auth/config/{config_id}/delete"): None,
    ("GET", "/conversations"): None,
    ("GET", "/conversations/search"): None,
    ("POST", "/conversations/import"): {"kind": "export", "format": "chatcore export", "version": 1},
    ("POST", "/conversations/create"): {"title": "Mine", "config_id": THEIRS},
    ("GET", "/conversations/{conversation_id}"): None,
    ("POST", "/conversations/{conversation_id}/rename"): {"title": "Mine"},
    ("POST", "/conversations/{conversation_id}/delete"): None,
    ("POST", "/conversations/{conversation_id}/chat"): {"content": "Hello", "config_id": THEIRS},
    ("POST", "/conversations/{conversation_id}/messages"): {"content": "Hello", "stream": True},
    ("POST", "/conversations/{conversation_id}/regenerate"): {"config_id": THEIRS},
    ("POST", "/conversations/{conversation_id}/messages/{message_id}/edit"): {"content": "Hi", "config_id": THEIRS},
    ("POST", "/conversations/{conversation_id}/branch"): {"message_id": 1},
    ("GET", "/conversations/{conversation_id}/messages/{message_id}/images/{number}"): None,
    ("GET", "/conversations/{conversation_id}/reply"): None,
    ("POST", "/conversations/{conversation_id}/stop"): None,
    ("POST", "/files"): None,
    ("GET", "/files"): None,
    ("GET", "/files/{file_id}"): None,
    ("GET", "/files/{file_id}/content"): None,
    ("POST", "/files/{file_id}/delete"): None,
    ("POST", "/chat"): {"message": "Hello", "conversation_id": THEIRS},
    ("POST", "/agent/chat"): {"message": "Hello"},
    ("GET", "/agent/conversations"): None,
    ("DELETE", "/agent/conversations/{conversation_id}"): None,
    ("GET", "/v1/auth/test_token"): None,
    ("POST", "/v1/auth/test_token"): None,
    ("POST", "/v1/chats"): {"title": "Mine"},
    ("GET", "/v1/chats"): None,
    ("GET", "/v1/chats/{chat_id}"): None,
    ("DELETE", "/v1/chats/{chat_id}"): None,
    ("POST", "/v1/chats/{chat_id}/message"): {"role": "assistant", "content": "Hello"},
    ("POST", "/v1/chats/message"): {"role": "assistant", "content": "Hello"},
    ("WS", "/conversations/ws/{conversation_id}"): {"type": "send", "content": "Hello", "config_id": THEIRS},
}
ADMIN: dict[Route, Any] = {
    ("GET", "/admin/roles"): None,
    ("GET", "/admin/users"): None,
    ("GET", "/admin/users/{user_id}/sessions"): None,
    ("POST", "/admin/users/{user_id}/disable"): None,
    ("POST", "/admin/users/{user_id}/enable"): None,
    ("POST", "/admin/users/{user_id}/roles/grant"): {"role": "admin"},
    ("POST", "/admin/users/{user_id}/roles/revoke"): {"role": "user"},
    ("POST", "/admin/users/{user_id}/sessions/revoke"): None,
    ("POST", "/admin/users/{user_id}/delete"): None,
}

PROTOCOLS: dict[Route, Any] = {
    ("GET", "/v1/models"): None,
    ("GET", "/v1/models/{model_id}"): None,
    ("POST", "/v1/chat/completions"): {"model": "demo", "messages": [{"role": "user", "content": "Hello"}]},
    ("POST", "/v1/embeddings"): {"model": "demo", "input": "Hello"},
    ("POST", "/v1/responses/compact"): {"model": "demo", "input": "Hello"},
}
"""Those of other protocols, whose errors have their own form: test_protocol_routes.py. For signed-in users."""
STORED: dict[Route, Any] = {
    ("GET", "/v1/chat/completions"): None,
    ("GET", "/v1/chat/completions/{completion_id}"): None,
    ("GET", "/v1/chat/completions/{completion_id}/messages"): None,
    ("POST", "/v1/chat/completions/{completion_id}"): {"metadata": {"topic": "mine"}},
    ("DELETE", "/v1/chat/completions/{completion_id}"): None,
    ("POST", "/v1/responses"): {"input": "Hello"},
    ("GET", "/v1/responses/{response_id}"): None,
    ("DELETE", "/v1/responses/{response_id}"): None,
    ("POST", "/v1/responses/{response_id}/cancel"): None,
    ("GET", "/v1/responses/{response_id}/input_items"): None,
    ("POST", "/v1/conversations"): {},
    ("GET", "/v1/conversations"): None,
    ("GET", "/v1/conversations/{conversation_id}"): None,
    ("POST", "/v1/conversations/{conversation_id}"): {"metadata": {"topic": "sky"}},
    ("DELETE", "/v1/conversations/{conversation_id}"): None,
    ("GET", "/v1/conversations/{conversation_id}/items"): None,
    ("POST", "/v1/conversations/{conversation_id}/items"): {"items": [{"role": "user", "content": "Hello"}]},
    ("GET", "/v1/conversations/{conversation_id}/items/{item_id}"): None,
    ("DELETE", "/v1/conversations/{conversation_id}/items/{item_id}"): None,
}
"""Those of what is stored: test_protocol_authority.py."""
_HELLO = {"id": "mine", "role": "user", "parts": [{"type": "text", "text": "Hello"}], "content": "Hello"}
CHAT_CLIENTS: dict[Route, Any] = {
    ("POST", "/ai/chat"): {"id": "zanzibar", "messages": [_HELLO]},
    ("GET", "/ai/chat/{chat_id}/stream"): None,
    ("POST", "/ai/chat/{chat_id}/stop"): None,
    ("GET", "/ai/chat/{chat_id}/messages"): None,
    ("POST", "/ag-ui"): {"threadId": "zanzibar", "runId": "run", "messages": [_HELLO]},
    ("WS", "/ai/chat/ws"): None,
}
"""Those of the AI SDK and of AG-UI, whose errors have forms of their own: test_chat_client_routes.py."""


def routes_of(app: Litestar) -> Iterator[Route]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            yield from ((method, route.path_format) for method in route.route_handler_map if method != "OPTIONS")
        elif isinstance(route, WebSocketRoute):
            yield "WS", route.path_format
        else:
            yield type(route).__name__, route.path_format


_OTHERS = {**PROTOCOLS, **STORED, **CHAT_CLIENTS}
TABLE = {**PUBLIC, **PRIVATE, **ADMIN, **_OTHERS}
ROUTES = sorted(routes_of(create_app(Settings())))
HTTP = [route for route in ROUTES if route[0] != "WS" and route not in _OTHERS]
PRIVATE_HTTP = [route for route in HTTP if route not in PUBLIC]
"""Those of administrators are among them."""
DESCRIBED = [route for route in HTTP if route not in PAGES]
BODIED = [route for route in HTTP if TABLE.get(route) is not None]
"""Those that read a body. `None` in the table says that a route reads none, `{}` that it needs none."""
FORMS = [("POST", "/v1/auth/token")]
"""Those of them that read a form, and no JSON."""
RAW = [("POST", "/files")]
"""Those that store whatever is sent."""
QUERIES = {("POST", "/v1/chats/message"): "?chat_id={chat_id}", ("GET", "/conversations/search"): "?q=sky"}
"""What has to be in the URL besides."""
_KEEPING = [("POST", "/auth/config/{config_id}/check"), ("POST", "/v1/auth/test_token")]
CHANGING = [route for route in PRIVATE_HTTP if route[0] != "GET" and route not in _KEEPING]
"""Those that change what is stored."""
SOCKETS = [route for route in ROUTES if route[0] == "WS" and route not in CHAT_CLIENTS]
SAID = {"content": "Hello", "images": ["data:image/png;base64,iVBORw0KGgo="]}
"""A message with an image, whose number is 0."""
IDS: dict[str, object] = {
    "conversation_id": 1,
    "config_id": 1,
    "session_id": "one",
    "key_id": "one",
    "message_id": 1,
    "file_id": 1,
    "user_id": 1,
    "chat_id": 1,
    "model_id": "demo",
    "response_id": "resp_1_2",
    "number": 0,
    "item_id": "msg_1_1",
}
"""For a path."""


def path_of(route: Route, ids: Mapping[str, object]) -> str:
    return route[1].format_map({"name": "swagger-ui.css", "number": 0, **ids})


def body_of(route: Route, theirs: object) -> bytes | None:
    """`theirs`: the ids of somebody's things by name, or what stands for each."""
    body = TABLE[route]
    if body is None:
        return None
    ids = theirs if isinstance(theirs, Mapping) else dict.fromkeys(body, theirs)
    return json.dumps({name: ids[name] if value == THEIRS else value for name, value in body.items()}).encode()


def body_fields(route: Route) -> Mapping[str, Any]:
    """The schema of each field that the route's body has, as OpenAPI tells."""
    operation = _document()["paths"].get(route[1], {}).get(route[0].lower(), {})
    content = operation.get("requestBody", {}).get("content", {})
    named = [media["schema"]["$ref"].rpartition("/")[2] for media in content.values() if "$ref" in media["schema"]]
    return {field: schema for name in named for field, schema in _schemas()[name]["properties"].items()}


def body_texts(route: Route) -> list[str]:
    """The fields of the route's body that may be text."""
    return [name for name, schema in body_fields(route).items() if "string" in _types_of(schema)]


def parameters_of(route: Route) -> list[tuple[str, str]]:
    """Each parameter of the route's path, query and headers: where it stands, and its name."""
    operation = _document()["paths"].get(route[1], {}).get(route[0].lower(), {})
    return [(each["in"], each["name"]) for each in operation.get("parameters", ())]


def _types_of(schema: Any) -> set[str]:
    inner = [each for word in ("anyOf", "oneOf", "allOf") for each in schema.get(word, ())]
    if "$ref" in schema:
        inner.append(_schemas()[schema["$ref"].rpartition("/")[2]])
    return {schema["type"]} if "type" in schema else {name for each in inner for name in _types_of(each)}


def _schemas() -> Any:
    return _document()["components"]["schemas"]


@cache
def _document() -> Any:
    return describe(Settings(), api_routers(Settings()))
