"""A request of each route of other protocols, for a user who has something of each kind there."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from integration.http_app import Answer, Api

Request = Callable[[Api, Any], Awaitable[Answer]]
_SAID = [{"role": "user", "content": "Hello?"}]
_TOPIC = {"metadata": {"topic": "sky"}}


def hello(number: int) -> dict[str, Any]:
    return {"id": f"m{number}", "role": "user", "parts": [{"type": "text", "text": "Hello?"}], "content": "Hello?"}


async def things_of(api: Api) -> dict[str, str]:
    """The ids of what the user has, which this makes."""
    completion = (await api.post("/v1/chat/completions", {"messages": _SAID, "store": True, **_TOPIC})).ok()
    response = (await api.post("/v1/responses", {"input": "Hello?"})).ok()
    conversation = (await api.post("/v1/conversations", {"items": _SAID})).ok()
    items = (await api.get(f"/v1/conversations/{conversation['id']}/items")).ok()
    assert (await api.post("/ai/chat", {"id": "mine", "messages": [hello(1)]})).status == 200
    return {
        "completion_id": completion["id"],
        "response_id": response["id"],
        "conversation_id": conversation["id"],
        "item_id": items["last_id"],
        "chat_id": "mine",
    }


_BODIES: Mapping[str, Any] = {
    "POST /v1/chat/completions": {"messages": _SAID},
    "POST /v1/chat/completions/{completion_id}": _TOPIC,
    "POST /v1/responses": {"input": "Hello?"},
    "POST /v1/conversations": {"items": _SAID * 2},
    "POST /v1/conversations/{conversation_id}": _TOPIC,
    "POST /v1/conversations/{conversation_id}/items": {"items": _SAID * 2},
    "POST /v1/embeddings": {"input": "Hello?"},
    "POST /v1/responses/compact": {"model": "demo", "input": "Hello?"},
    "POST /ai/chat": {"id": "mine", "messages": [hello(2)]},
    "POST /ag-ui": {"threadId": "mine", "runId": "run", "messages": [hello(2)]},
}
_ROUTES = [
    "GET /v1/models",
    "GET /v1/chat/completions",
    "GET /v1/chat/completions/{completion_id}",
    "GET /v1/chat/completions/{completion_id}/messages",
    "DELETE /v1/chat/completions/{completion_id}",
    "GET /v1/responses/{response_id}",
    "DELETE /v1/responses/{response_id}",
    "POST /v1/responses/{response_id}/cancel",
    "GET /v1/responses/{response_id}/input_items",
    "GET /v1/conversations",
    "GET /v1/conversations/{conversation_id}",
    "DELETE /v1/conversations/{conversation_id}",
    "GET /v1/conversations/{conversation_id}/items",
    "GET /v1/conversations/{conversation_id}/items/{item_id}",
    "DELETE /v1/conversations/{conversation_id}/items/{item_id}",
    "GET /ai/chat/{chat_id}/stream",
    "POST /ai/chat/{chat_id}/stop",
    "GET /ai/chat/{chat_id}/messages",
]


def _request(route: str) -> Request:
    method, path = route.split(" ")

    async def ask(api: Api, things: Any) -> Answer:
        body = _BODIES.get(route)
        return await (
            api.post(path.format_map(things), body) if method == "POST" else api.call(method, path.format_map(things))
        )

    return ask


REQUESTS: Mapping[str, Request] = {route: _request(route) for route in (*_BODIES, *_ROUTES)}
