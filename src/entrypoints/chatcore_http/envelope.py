"""RESPONSE_ENVELOPE=code: every JSON answer as `{"code", "message", "data"}`, for clients that look there first.

The HTTP status does not change. `code` is 1 for a success, with the answer as `data`, and 0 for a problem, with the
problem as `data` and its `detail` as `message`. The whole is no problem document, so its type is `application/json`.
"""

from typing import Any

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from chatcore_http.error_forms import form_of
from chatcore_http.schemas import Problem

_JSON = b"application/json"
_PROBLEM = b"application/problem+json"
_DOCUMENT = "/openapi.json"


class Envelope:
    """Wraps the whole application. Event streams, pages, the OpenAPI document, empty answers and other protocols'
    routes are unchanged."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or form_of(scope["path"]) is not None:
            await self.app(scope, receive, send)
            return
        path = scope["path"].rstrip("/")
        start: Any = None
        body = b""

        async def enveloping_send(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and _is_answer(path, message):
                start = message
            elif message["type"] == "http.response.body" and start is not None:
                body += message["body"]
                if not message.get("more_body", False):
                    enveloped = in_envelope(body, is_problem=_media_type(start) == _PROBLEM)
                    start["headers"] = _headers(start, len(enveloped))
                    await send(start)
                    message["body"] = enveloped
                    await send(message)
            else:
                await send(message)

        await self.app(scope, receive, enveloping_send)


def _is_answer(path: str, start: Any) -> bool:
    is_document = path == _DOCUMENT and start["status"] == 200
    return start["status"] != 204 and not is_document and _media_type(start) in (_JSON, _PROBLEM)


def _media_type(start: Any) -> bytes:
    return next((value.partition(b";")[0] for name, value in start["headers"] if name == b"content-type"), b"")


def in_envelope(body: bytes, *, is_problem: bool) -> bytes:
    if is_problem:
        detail = msgspec.json.encode(msgspec.json.decode(body, type=Problem).detail)
        return b'{"code":0,"message":%b,"data":%b}' % (detail, body)
    return b'{"code":1,"message":"success","data":%b}' % body


def _headers(start: Any, length: int) -> list[tuple[bytes, bytes]]:
    changed = {b"content-type": _JSON, b"content-length": b"%d" % length}
    headers: list[tuple[bytes, bytes]] = start["headers"]
    return [(name, changed.get(name, value)) for name, value in headers]
