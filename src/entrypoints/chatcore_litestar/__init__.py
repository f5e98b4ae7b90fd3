"""chatcore in a Litestar application: `Litestar(plugins=[ChatPlugin(chat, user=…)], …)`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from litestar import Request, Response, asgi
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency, Provide
from litestar.params import SkipValidation
from litestar.plugins import InitPlugin

from chatcore import Chat, ChatcoreError, Mine, ReplyStream, problem
from chatcore_asgi import Found, conversations_of, lifespan, mine_of, send_events

Connection = ASGIConnection[Any, Any, Any, Any]
Me = NamedDependency[SkipValidation[Mine]]


@dataclass
class EventStream:
    """Server-Sent Events: `return EventStream(await me.reply(…))`, closed when the client leaves. None: 204."""

    stream: ReplyStream | None

    async def __call__(self, _: Any, receive: Any, send: Any) -> None:
        await send_events(self.stream, receive, send)


def _refused(_: Any, error: ChatcoreError) -> Response[bytes]:
    shown = problem(error)
    return Response(shown.json(), status_code=shown.status, media_type=shown.media_type, headers=dict(shown.headers))


class ChatPlugin(InitPlugin):
    """Keep the chat open with the application, answer its errors, and give handlers `me`, what is the user's.
    `user` returns the id of who asks, or a `User` with a tenant. `path`: where the routes of docs/wire.md are."""

    def __init__(self, chat: Chat, *, user: Callable[[Connection], Awaitable[Found]], path: str = "/") -> None:
        self._chat = chat
        self._user = user
        self._path = path

    def on_app_init(self, app_config: Any) -> Any:
        async def mine(request: Request[Any, Any, Any]) -> Mine:
            return await identify(request.scope)

        async def identify(scope: Any) -> Mine:
            return await mine_of(self._chat, await self._user(ASGIConnection(scope)))

        async def routed(scope: Any, receive: Any, send: Any) -> None:
            path = f"/conversations{scope['path']}".rstrip("/")
            await conversations_of(identify)({**scope, "path": path, "root_path": ""}, receive, send)

        app_config.lifespan.append(lifespan(self._chat))
        app_config.dependencies["me"] = Provide(mine)
        app_config.exception_handlers = {ChatcoreError: _refused, **app_config.exception_handlers}
        path = f"{self._path.rstrip('/')}/conversations"
        app_config.route_handlers.append(asgi(path, is_mount=True, copy_scope=True)(routed))
        return app_config
