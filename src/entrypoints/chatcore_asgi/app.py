"""The routes as an ASGI application, and as a function for frameworks that are none."""

import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TypeAlias

from chatcore import Chat, Mine, Problem, ReplyStream, Sent, Status, problem, wire
from chatcore.errors import (
    ChatcoreError,
    Forbidden,
    NotFound,
    RateLimited,
    Unauthenticated,
    Unavailable,
    ValidationFailed,
)
from chatcore.shielding import shielded
from chatcore_asgi.handlers import MAX_BODY_BYTES, MAX_MESSAGE_BYTES, ROUTES, WITH_IMAGES, Answer, File, Handler, Json
from chatcore_asgi.identity import Authenticate, identified, mine_of
from chatcore_asgi.requests import Fields, Refusal, Request, read
from chatcore_asgi.sending import STREAM_HEADERS, send_body, send_events, send_problem, unless_left
from chatcore_asgi.shutdown import opening
from chatcore_asgi.types import ASGIApp, Receive, Scope, Send

_log = logging.getLogger("chatcore.asgi")

_NO_ROUTE = Problem(404, NotFound.code, "There is no such route.")
_NO_METHOD = Problem(405, "method_not_allowed", "This route does not support this method.")
_NO_SUCH_ENDPOINT = 4404
_STATUSES = frozenset(HTTPStatus)
_CODES = {
    each.status: each.code
    for each in (ValidationFailed, Unauthenticated, Forbidden, NotFound, RateLimited, Unavailable)
}

Identify: TypeAlias = Callable[[Scope], Awaitable[Mine]]


def conversations(
    chat: Chat,
    *,
    authenticate: Authenticate,
    max_body_bytes: int = MAX_BODY_BYTES,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> ASGIApp:
    """Return an ASGI application with the routes of `/conversations`. Mount it anywhere: it honours `root_path`.

    `authenticate` returns the user of a request. `max_body_bytes`: larger bodies are answered 413; `max_message_bytes`:
    those of a message with its images. The host opens and closes the chat; where a server runs this application alone,
    its lifespan does.
    """

    async def identify(scope: Scope) -> Mine:
        return await mine_of(chat, await identified(authenticate, scope))

    return opening(chat, conversations_of(identify, max_body_bytes=max_body_bytes, max_message_bytes=max_message_bytes))


def conversations_of(
    identify: Identify, *, max_body_bytes: int = MAX_BODY_BYTES, max_message_bytes: int = MAX_MESSAGE_BYTES
) -> ASGIApp:
    """Return the same application for a host that identifies users itself: `identify` returns the user's `Mine`. An
    error that it raises is answered as a problem."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _NO_SUCH_ENDPOINT})
            return
        try:
            answer = await _answered(scope, receive, identify, (max_body_bytes, max_message_bytes))
        except Exception as error:
            if refusal := _problem(error):
                await send_problem(send, refusal)
            return
        if isinstance(answer, Json | File):
            await send_body(send, answer.status, answer.body, answer.media_type, answer.headers)
        elif answer is not None:
            await send_events(answer, receive, send)

    return app


async def _answered(
    scope: Scope, receive: Receive, identify: Identify, max_bytes: tuple[int, int]
) -> Json | File | ReplyStream | None:
    """Return the answer; None if the client leaves before the reply that it waits for ends."""
    handler, ids = _found(scope["method"], _path(scope))
    me = await identify(scope)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    request = Request(scope["query_string"].decode("latin-1"), headers)
    body = await read(request, receive, max_bytes[handler in WITH_IMAGES]) if scope["method"] == "POST" else Fields({})
    answer = await shielded(_called(handler, me, request, body, ids))
    return await unless_left(_ended(me, answer), receive) if isinstance(answer, Sent) else answer


@dataclass(frozen=True, slots=True)
class Response:
    """An answer for a framework to send. `body`: bytes, or the pieces of an event stream, to be closed when the client
    leaves."""

    status: int
    headers: Mapping[str, str]
    body: bytes | AsyncGenerator[bytes, None]


async def respond(me: Mine, method: str, path: str, *, query: str, headers: Mapping[str, str], body: bytes) -> Response:
    """Return the answer to one request below the mount, such as `GET /conversations`, for a framework that is not ASGI.
    A whole body of more than `MAX_BODY_BYTES` is answered 413, that of a message of more than `MAX_MESSAGE_BYTES`."""
    try:
        handler, ids = _found(method, path)
        fields = await Fields.parse(body, MAX_MESSAGE_BYTES if handler in WITH_IMAGES else MAX_BODY_BYTES)
        answer = await shielded(_called(handler, me, Request(query, headers), fields, ids))
        if isinstance(answer, Sent):
            answer = await _ended(me, answer)
    except Exception as error:
        refusal = _problem(error) or problem(error)
        return Response(refusal.status, {"Content-Type": refusal.media_type, **refusal.headers}, refusal.json())
    if isinstance(answer, Json | File):
        return Response(answer.status, {"Content-Type": answer.media_type, **answer.headers}, answer.body)
    return Response(200, {"Content-Type": "text/event-stream; charset=utf-8", **STREAM_HEADERS}, answer.sse())


async def _called(handler: Handler, me: Mine, request: Request, body: Fields, ids: list[int]) -> Answer:
    try:
        return await handler(me, request, body, *ids)
    except ValidationFailed as failed:
        raise failed.renamed({"idempotency_key": "Idempotency-Key"}) from None


async def _ended(me: Mine, sent: Sent) -> Json:
    """Wait for the reply's end. Raise `Refusal` if it failed."""
    reply = await (await me.reply(sent.conversation_id, after=sent.beginning)).ended()
    if reply.status is Status.FAILED:
        raise Refusal(wire.failure(reply))
    return Json({"message": wire.message_data(sent.message), "reply": wire.message_data(reply)})


def _problem(error: Exception) -> Problem | None:
    """Return what to answer, or None if the client has left."""
    if isinstance(error, Refusal):
        return error.problem
    if isinstance(error, ChatcoreError):
        return problem(error)
    if refusal := _refusal_of_host(error):
        return refusal
    _log.error("A request failed.", exc_info=error)
    return problem(error)


def _refusal_of_host(error: Exception) -> Problem | None:
    """Return the problem for an `HTTPException` of Starlette, FastAPI or Litestar, which `authenticate` may raise."""
    status, detail = getattr(error, "status_code", None), getattr(error, "detail", None)
    if not isinstance(status, int) or status < 400 or status not in _STATUSES:
        return None
    code = _CODES.get(status, HTTPStatus(status).name.lower())
    return Problem(status, code, detail if isinstance(detail, str) and detail else HTTPStatus(status).phrase)


def _path(scope: Scope) -> str:
    """Return the path below the mount. ASGI's `path` begins with `root_path`; older hosts leave it out."""
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path[len(root) :] if root and (path == root or path.startswith(f"{root}/")) else path


def _found(method: str, path: str) -> tuple[Handler, list[int]]:
    """Return the route's handler, and the ids in the path. Raise `Refusal`."""
    for pattern, handlers in ROUTES.items():
        if match := re.fullmatch(pattern, path):
            if method not in handlers:
                raise Refusal(replace(_NO_METHOD, allow=tuple(sorted(handlers))))
            ids = [int(each) for each in match.groups()]
            if all(each < 2**63 for each in ids):
                return handlers[method], ids
    raise Refusal(_NO_ROUTE)
