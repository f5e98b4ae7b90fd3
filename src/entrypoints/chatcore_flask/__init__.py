"""chatcore in a Flask application, on threads: `open_with(app, chat)`, `app.register_blueprint(router(chat, user))`."""

import atexit
from collections.abc import Callable
from contextlib import ExitStack
from threading import Lock

from flask import Blueprint, Flask, Response, request

from chatcore import ChatcoreError, SyncChat, SyncReplyStream, problem
from chatcore_asgi import MAX_MESSAGE_BYTES, STREAM_HEADERS, Found, closing_readers, respond, user_of

__all__ = ["event_stream", "open_with", "router"]


def open_with(app: Flask, chat: SyncChat) -> None:
    """Open the chat at the first request, not before a fork; close it when the process ends, and its readers at the
    first SIGTERM. Answer its errors as problems (RFC 9457). Call it in the main thread."""
    opened, opening = ExitStack(), Lock()

    def open_once() -> None:
        with opening:
            if "chatcore" not in app.extensions:
                app.extensions["chatcore"] = opened.enter_context(chat)

    def refused(error: ChatcoreError) -> Response:
        shown = problem(error)
        return Response(shown.json(), shown.status, shown.headers, content_type=shown.media_type)

    app.before_request(open_once)
    app.register_error_handler(ChatcoreError, refused)
    opened.enter_context(closing_readers(chat))
    atexit.register(opened.close)


def event_stream(stream: SyncReplyStream | None) -> Response:
    """Return Server-Sent Events: `return event_stream(me.reply(…))`. The stream is closed when the client leaves. None:
    204, nothing follows."""
    if stream is None:
        return Response(status=204)
    response = Response(stream.sse(), headers=STREAM_HEADERS, content_type="text/event-stream")
    response.call_on_close(stream.close)
    return response


def router(chat: SyncChat, user: Callable[[], Found]) -> Blueprint:
    """Return the conversation routes (docs/wire.md). `user` returns the id of who asks, or a `User` with a tenant."""
    routes = Blueprint("chatcore", __name__)

    @routes.route("/conversations", defaults={"rest": ""}, methods=["GET", "POST"])
    @routes.route("/conversations/<path:rest>", methods=["GET", "POST"])
    def conversation(rest: str) -> Response:
        found, query = user_of(user()), request.query_string.decode("latin-1")
        me, body = chat.of(found.user, tenant=found.tenant).mine, request.stream.read(MAX_MESSAGE_BYTES + 1)
        path = f"/conversations/{rest}".rstrip("/")
        answer = chat.run(respond(me, request.method, path, query=query, headers=dict(request.headers), body=body))
        content = answer.body if isinstance(answer.body, bytes) else chat.iterate(answer.body)
        return Response(content, answer.status, answer.headers)

    return routes
