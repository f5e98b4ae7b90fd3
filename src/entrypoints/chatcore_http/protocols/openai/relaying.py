"""Calls that pass through to the model that they name."""

from contextlib import aclosing
from functools import partial
from math import ceil
from typing import Any, Protocol

import msgspec
from litestar import Response

from chatcore import Owner, Relayed, RelayModel, SessionWatch
from chatcore.errors import ChatcoreError
from chatcore.json_values import FIELDS, check_values
from chatcore.wire import Problem, encoded, problem
from chatcore_http.leaving import while_connected
from chatcore_http.protocols.openai.asked import Asked
from chatcore_http.protocols.openai.errors import error_event, type_of
from chatcore_http.routing import AnyRequest
from chatcore_http.streams import Stream

_EVENTS = "text/event-stream"
_EMPTY_LINES = (b"\n\n", b"\r\n\r\n")
_SHOWN = 2000  # characters of what is no error object


class Form(Protocol):
    """A protocol's words for what an endpoint does not say in them."""

    def passing(self, piece: bytes) -> bytes:
        """Return a piece of the answer, which is on its way to the client."""
        ...

    def refusal(self, status: int, words: bytes) -> bytes:
        """Return the body of a refusal. `words`: the endpoint's."""
        ...

    def broken(self, problem: Problem) -> bytes:
        """Return the event that ends a stream that broke."""
        ...


class PlainForm:
    """An error object, and an event that is one."""

    def passing(self, piece: bytes) -> bytes:
        return piece

    def refusal(self, status: int, words: bytes) -> bytes:
        return in_form(status, words)

    def broken(self, problem: Problem) -> bytes:
        return error_event(problem)


class Relaying:
    """Answers with the endpoint's own bytes. A client that leaves, or whose session ends, closes the call."""

    def __init__(self, relay_model: RelayModel, watch: SessionWatch) -> None:
        self._relay_model = relay_model
        self._watch = watch

    async def answer(
        self, request: AnyRequest, caller: Owner, path: str, asked: Asked, form: Form | None = None
    ) -> Response[Any]:
        form = form or PlainForm()
        async with self._watch.while_valid(caller), while_connected(request.receive):
            relayed = await self._relay_model(by=caller, path=path, model=asked.model, body=asked.for_endpoint)
        if relayed.status >= 400:
            return await _refusal(relayed, form)
        return Stream(
            relayed,
            self._watch.while_valid(caller),
            form.passing,
            failed=partial(_last_words, relayed, form),
            media_type=relayed.content_type,
            headers={"content-type": relayed.content_type},  # the framework would add a charset
        )


async def body_of(request: AnyRequest) -> bytes:
    """Return the body, which the request does not keep: it may be large, and the answer may take minutes. Raise
    `ValidationFailed` for more fields than any request has."""
    body = b"".join([piece async for piece in request.stream()])
    await check_values(body, FIELDS)
    return body


async def _refusal(relayed: Relayed, form: Form) -> Response[bytes]:
    async with aclosing(relayed):
        words = b"".join([piece async for piece in relayed])
    headers = {} if relayed.retry_after is None else {"Retry-After": str(ceil(relayed.retry_after))}
    return Response(
        form.refusal(relayed.status, words), status_code=relayed.status, media_type="application/json", headers=headers
    )


class ErrorObject(msgspec.Struct):
    message: str
    param: Any = None
    code: Any = None


class Refusal(msgspec.Struct):
    error: ErrorObject


def in_form(status: int, words: bytes) -> bytes:
    """Return what an endpoint says of a refusal as it is, if that is an error object, else in one."""
    try:
        msgspec.json.decode(words, type=Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message = words[:_SHOWN].decode(errors="ignore").strip() or "The model endpoint refused this request."
        return encoded({"error": {"message": message, "type": type_of(status), "param": None, "code": None}})
    return words


def _last_words(relayed: Relayed, form: Form, error: ChatcoreError) -> bytes | None:
    """Return an error event, if what came last was a whole event; otherwise the connection is closed in the middle, as
    the endpoint's was."""
    whole = not relayed.last or relayed.last.endswith(_EMPTY_LINES)
    if whole and relayed.content_type.startswith(_EVENTS):
        return form.broken(problem(error))
    return None
