"""chatcore in a Starlette application: `Starlette(lifespan=lifespan(chat), exception_handlers=problems, …)`."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from chatcore import Chat, ChatcoreError, Mine, ReplyStream, problem
from chatcore_asgi import conversations_of, send_events
from chatcore_asgi import lifespan as chat_lifespan

__all__ = ["EventStream", "lifespan", "problems", "router"]


def lifespan(chat: Chat) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Return a lifespan that keeps the chat open, and closes its readers at the first SIGTERM."""

    @asynccontextmanager
    async def opened(_: Any) -> AsyncGenerator[None, None]:
        async with chat_lifespan(chat):
            yield

    return opened


class EventStream(Response):
    """Server-Sent Events: `return EventStream(await me.reply(…))`. The stream is closed when the client leaves. None:
    204, nothing follows."""

    def __init__(self, stream: ReplyStream | None) -> None:
        super().__init__(status_code=204 if stream is None else 200)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_events(self._stream, receive, send)


async def _refused(_: Request, error: Exception) -> Response:
    refusal = problem(error)
    return Response(refusal.json(), refusal.status, refusal.headers, refusal.media_type)


problems: dict[Any, Callable[[Request, Exception], Coroutine[Any, Any, Response]]] = {ChatcoreError: _refused}
"""For `exception_handlers`: chatcore's errors as problems (RFC 9457)."""


def router(path: str, me: Callable[[Request], Awaitable[Mine]]) -> Mount:
    """Return the conversation routes (docs/wire.md) below `path`, for whom `me` finds."""

    async def identify(scope: Any) -> Mine:
        return await me(Request(scope))

    return Mount(path, app=conversations_of(identify))
