"""Errors in the form of the protocol whose route was asked for, wherever they were made."""

import re
from typing import Any

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from chatcore.errors import FieldError
from chatcore.wire import Problem
from chatcore_http import schemas
from chatcore_http.protocols import ag_ui, ai_sdk
from chatcore_http.protocols.openai import errors as openai
from chatcore_http.protocols.told import Form

_PROBLEM = b"application/problem+json"
_FORMS: dict[str, Form] = {"v1": openai.told, "ai": ai_sdk.told, "ag-ui": ag_ui.told}
"""By the first part of a path."""
_SYSTEM_C = re.compile(r"/v1/?|/v1/(auth|chats)(/.*)?", re.DOTALL)


def form_of(path: str) -> Form | None:
    """Return the form of the errors under this path; None for problems (RFC 9457)."""
    form = _FORMS.get(path[1:].partition("/")[0])
    return None if form is None or _SYSTEM_C.fullmatch(path) else form


class ErrorForms:
    """Wraps the whole application. Only problems are changed, which the application alone makes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        form = form_of(scope["path"]) if scope["type"] == ScopeType.HTTP else None
        await self.app(scope, receive, send if form is None else _Translating(form, send).send)


class _Translating:
    """One request's answer."""

    def __init__(self, form: Form, send: Send) -> None:
        self._form = form
        self._send = send
        self._start: Any = None
        self._body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_problem(message):
            self._start = message
        elif message["type"] == "http.response.body" and self._start is not None:
            self._body += message["body"]
            if not message.get("more_body", False):
                await self._tell()
        else:
            await self._send(message)

    async def _tell(self) -> None:
        start = self._start
        told = self._form(_problem_in(self._body, start["headers"]))
        replaced = {"content-type": told.media_type, "content-length": str(len(told.body)), **told.headers}
        changed = [(name.lower().encode(), value.encode()) for name, value in replaced.items()]
        names = {name for name, _ in changed}
        start["headers"] = [*(pair for pair in start["headers"] if pair[0].lower() not in names), *changed]
        start["status"] = told.status
        await self._send(start)
        await self._send({"type": "http.response.body", "body": told.body, "more_body": False})


def _is_problem(start: Any) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(_PROBLEM) for name, value in start["headers"])


def _problem_in(body: bytes, headers: list[tuple[bytes, bytes]]) -> Problem:
    found = msgspec.json.decode(body, type=schemas.Problem)
    wait = next((int(value) for name, value in headers if name.lower() == b"retry-after"), None)
    broken = [] if found.errors is msgspec.UNSET else found.errors
    errors = tuple(FieldError(each.field, each.message) for each in broken)
    return Problem(found.status, found.code, found.detail, errors, wait)
