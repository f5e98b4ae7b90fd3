"""chatcore in a Django project under ASGI: `application = opening(chat, get_asgi_application())` in asgi.py."""

from collections.abc import Awaitable, Callable

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, re_path
from django.utils.deprecation import MiddlewareMixin

from chatcore import Chat, ChatcoreError, Mine, ReplyStream, problem
from chatcore_asgi import STREAM_HEADERS, Found, mine_of, opening, respond

__all__ = ["Problems", "event_stream", "opening", "urls"]


def event_stream(stream: ReplyStream | None) -> HttpResponseBase:
    """Return Server-Sent Events: `return event_stream(await me.reply(…))`. The stream is closed when the client leaves.
    None: 204, nothing follows."""
    if stream is None:
        return HttpResponse(status=204)
    return StreamingHttpResponse(stream.sse(), content_type="text/event-stream", headers=dict(STREAM_HEADERS))


class Problems(MiddlewareMixin):
    """In `MIDDLEWARE`: answer chatcore's errors as problems (RFC 9457)."""

    def process_exception(self, _: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, ChatcoreError):
            return None
        shown = problem(error)
        return HttpResponse(shown.json(), shown.media_type, shown.status, headers=dict(shown.headers))


def urls(chat: Chat, user: Callable[[HttpRequest], Awaitable[Found]]) -> list[URLPattern]:
    """Return the conversation routes (docs/wire.md), for `include()`. `user` returns the id of who asks, or a `User`
    with a tenant."""

    async def conversation(request: HttpRequest, rest: str) -> HttpResponseBase:
        me = await mine_of(chat, await user(request))
        return await _answer(me, request, f"/conversations{rest}")

    return [re_path(r"^conversations(?P<rest>(?:/.*)?)$", conversation)]


async def _answer(me: Mine, request: HttpRequest, path: str) -> HttpResponseBase:
    answer = await respond(
        me,
        request.method or "",
        path,
        query=request.META.get("QUERY_STRING", ""),
        headers=request.headers,
        body=request.body,
    )
    if isinstance(answer.body, bytes):
        return HttpResponse(answer.body, status=answer.status, headers=dict(answer.headers))
    return StreamingHttpResponse(answer.body, status=answer.status, headers=dict(answer.headers))
