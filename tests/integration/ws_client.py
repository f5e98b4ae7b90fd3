"""The application on a server with the command's own options, and a client of its WebSocket."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Self

import uvicorn
from aiohttp import ClientWebSocketResponse, WSMsgType
from dishka import Provider
from litestar import Litestar

from chatcore import SystemClock
from chatcore.ports import PasswordHasher
from chatcore_app import Settings
from chatcore_cli.server import uvicorn_options
from chatcore_http import create_app
from chatcore_memory import PlainPasswords
from integration.http_app import Api, Event, client_of, provided

ENDS = {"reply.completed", "reply.stopped", "reply.interrupted", "reply.failed"}


class Tomorrow(SystemClock):
    """The system's clock, that may be set on."""

    later = timedelta()

    def now(self) -> datetime:
        return super().now() + self.later


class Served:
    """The application, its server, and a client that is nobody yet."""

    def __init__(self, app: Litestar, server: uvicorn.Server, stranger: Api) -> None:
        self.app = app
        self.server = server
        self.stranger = stranger
        self.port: int = server.servers[0].sockets[0].getsockname()[1]

    async def of(self, port: type[Any]) -> Any:
        """What the application has for this port or use case."""
        return await self.app.state.dishka_container.get(port)


@asynccontextmanager
async def served(settings: Settings, *providers: Provider, **options: object) -> AsyncGenerator[Served, None]:
    """`options` are uvicorn's, in the place of the command's."""
    app = create_app(settings, provided(PasswordHasher, PlainPasswords()), *providers)
    chosen: dict[str, Any] = {**uvicorn_options(settings), "host": "127.0.0.1", "port": 0, **options}
    config = uvicorn.Config(app, **chosen)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        async with client_of(f"http://127.0.0.1:{port}") as stranger:
            yield Served(app, server, stranger)
    finally:
        await server.shutdown()


class Socket:
    """One connection. What comes on it is heard in order, and only in the forms that the wire knows."""

    def __init__(self, connection: ClientWebSocketResponse) -> None:
        self.connection = connection

    async def say(self, kind: str, **fields: object) -> None:
        await self.connection.send_json({"type": kind, **fields})

    async def hear(self) -> dict[str, Any]:
        while (message := await self.connection.receive()).type is WSMsgType.PING:
            pass  # seen only by who answers none
        assert message.type is WSMsgType.TEXT, message
        frame = json.loads(message.data)
        assert isinstance(frame, dict)
        return frame

    async def ready(self) -> Self:
        assert await self.hear() == {"type": "ready"}
        return self

    async def refusal(self) -> str:
        """The code of the error that comes next."""
        frame = await self.hear()
        assert set(frame) == {"type", "code", "detail"}, frame
        assert frame["type"] == "error"
        assert frame["detail"]
        code: str = frame["code"]
        return code

    async def event(self) -> Event:
        frame = await self.hear()
        return Event(frame["type"], f"{frame['reply_id']}:{frame['offset']}", frame)

    async def until(self, text: str) -> list[Event]:
        """The events until the deltas have said this text, and no more."""
        events, said = list[Event](), ""
        while said != text:
            events.append(await self.event())
            said += events[-1].data.get("text", "")
            assert text.startswith(said)
        return events

    async def rest(self) -> list[Event]:
        """The events up to the end of the reply."""
        events = [await self.event()]
        while events[-1].type not in ENDS:
            events.append(await self.event())
        return events

    async def ask(self, content: str = "Hi", **fields: object) -> list[Event]:
        await self.say("send", content=content, **fields)
        return await self.rest()

    async def close_code(self) -> int:
        """That of the close frame, which must come next."""
        message = await self.connection.receive()
        assert message.type is WSMsgType.CLOSE, message
        code: int = message.data
        return code


@asynccontextmanager
async def knocking(api: Api, conversation: object, **options: Any) -> AsyncGenerator[Socket, None]:
    """A connection that has said nothing yet. Leaving closes it."""
    url = f"/conversations/ws/{conversation}"
    async with api.http.ws_connect(url, max_msg_size=0, **options) as connection:
        yield Socket(connection)


@asynccontextmanager
async def connected(api: Api, conversation: object, **options: Any) -> AsyncGenerator[Socket, None]:
    """One that has signed in by its first frame, and is ready."""
    async with knocking(api, conversation, **options) as socket:
        await socket.say("auth", token=api.token)
        yield await socket.ready()
