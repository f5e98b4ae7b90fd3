"""chatcore in a Quart application: `open_with(app, chat)`, `app.register_blueprint(router(chat, user))`."""

from collections.abc import AsyncGenerator, Awaitable, Callable

from quart import Blueprint, Quart, Response, request

from chatcore import Chat, ChatcoreError, ReplyStream, problem
from chatcore_asgi import STREAM_HEADERS, Found, lifespan, mine_of, respond

__all__ = ["event_stream", "open_with", "router"]


def open_with(app: Quart, chat: Chat) -> None:
    """Keep the chat open while the application serves, and close its readers at the first SIGTERM. Answer its errors as
    problems (RFC 9457)."""

    @app.while_serving
    async def opened() -> AsyncGenerator[None, None]:
        async with lifespan(chat):
            yield

    def refused(error: ChatcoreError) -> Response:
        shown = problem(error)
        return Response(shown.json(), shown.status, dict(shown.headers), content_type=shown.media_type)

    app.register_error_handler(ChatcoreError, refused)


def event_stream(stream: ReplyStream | None) -> Response:
    """Return Server-Sent Events: `return event_stream(await me.reply(…))`. The stream is closed when the client leaves.
    None: 204, nothing follows."""
    if stream is None:
        return Response(b"", status=204)
    response = Response(stream.sse(), headers=dict(STREAM_HEADERS), content_type="text/event-stream")
    response.timeout = None
    return response


def router(chat: Chat, user: Callable[[], Awaitable[Found]]) -> Blueprint:
    """Return the conversation routes (docs/wire.md). `user` returns the id of who asks, or a `User` with a tenant."""
    routes = Blueprint("chatcore", __name__)

    @routes.route("/conversations", defaults={"rest": ""}, methods=["GET", "POST"])
    @routes.route("/conversations/<path:rest>", methods=["GET", "POST"])
    async def conversation(rest: str) -> Response:
        me, body = await mine_of(chat, await user()), await request.data
        query = request.query_string.decode("latin-1")
        path = f"/conversations/{rest}".rstrip("/")
        answer = await respond(me, request.method, path, query=query, headers=dict(request.headers), body=body)
        response = Response(answer.body, answer.status, dict(answer.headers))
        response.timeout = None
        return response

    return routes
