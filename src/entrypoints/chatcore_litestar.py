"""chatcore in a Litestar application: `Litestar(plugins=[ChatPlugin(chat, user=…)], …)`."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from litestar import Request, Response, asgi
from litestar.config.app import AppConfig
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.params import Dependency
from litestar.plugins import InitPlugin
from litestar.types import Scope

from chatcore import Chat, ChatcoreError, Mine, ReplyStream, problem
from chatcore_asgi import conversations_of, lifespan, send_events

Connection = ASGIConnection[Any, Any, Any, Any]
Me = Annotated[Mine, Dependency(skip_validation=True)]


class EventStream:
    """Server-Sent Events: `return EventStream(await me.reply(…))`, closed when the client leaves. None: 204."""

    def __init__(self, stream: ReplyStream | None) -> None:
        self.stream = stream

    async def __call__(self, _: Scope, receive: Any, send: Any) -> None:
        await send_events(self.stream, receive, send)


def _refused(_: Any, error: ChatcoreError) -> Response[bytes]:
    shown = problem(error)
    return Response(shown.json(), status_code=shown.status, media_type=shown.media_type, headers=dict(shown.headers))


class ChatPlugin(InitPlugin):
    """Keep the chat open with the application, answer its errors, and give handlers `me`, what is the user's.
    `user` returns the id of who asks. `path`: where the conversation routes (docs/wire.md) are mounted, if anywhere."""

    def __init__(self, chat: Chat, *, user: Callable[[Connection], Awaitable[str]], path: str | None = None) -> None:
        self._chat = chat
        self._user = user
        self._path = path

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        async def mine(request: Request[Any, Any, Any]) -> Mine:
            return await identify(request.scope)

        async def identify(scope: Any) -> Mine:
            return await self._chat.of(await self._user(ASGIConnection(scope)))

        config: Any = app_config
        config.lifespan.append(lifespan(self._chat))
        config.dependencies["me"] = Provide(mine)
        config.exception_handlers = {ChatcoreError: _refused, **config.exception_handlers}
        if self._path is not None:
            mount: Any = asgi(self._path, is_mount=True, copy_scope=True)
            config.route_handlers.append(mount(conversations_of(identify)))
        return app_config
