"""WS /ai/chat/ws: the streams of the AI SDK's `WebSocketChatTransport`, several at once."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from dishka import AsyncContainer
from litestar import Router, WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect

from chatcore import Caller, ChatcoreError, Owner, ReplyEvent, SessionWatch
from chatcore.errors import AccountDisabled, RateLimited, Unauthenticated, ValidationFailed
from chatcore.json_values import check_values
from chatcore_app import Settings
from chatcore_http.open_sockets import INVALID_FRAME, UNAUTHENTICATED, Closed, Connection, OpenSockets
from chatcore_http.protocols.ai_chats import CALLED, AiChats
from chatcore_http.protocols.ai_sdk_socket import Abort, Channel, Frame, Resume, Send, decoded, token_in
from chatcore_http.socket_entrance import let_in, subprotocol_of

_AT_ONCE = 16
"""Streams of one connection."""


@websocket("/ai/chat/ws")
async def chat_socket(socket: WebSocket[Any, Any, Any]) -> None:
    container: AsyncContainer = socket.state.dishka_container
    sockets, settings = await container.get(OpenSockets), await container.get(Settings)
    await sockets.serve(
        socket,
        partial(_converse, socket, container),
        subprotocol=subprotocol_of(socket),
        max_bytes=settings.max_body_bytes,
    )


async def _converse(socket: WebSocket[Any, Any, Any], container: AsyncContainer, connection: Connection) -> None:
    first = list[Frame]()

    async def first_token() -> str:
        first.append(await _decoded(await connection.receive()))
        return token_in(first[0])

    async with let_in(socket, container, connection, first_token) as caller:
        talk = _Talk(
            connection=connection,
            chats=await container.get(AiChats),
            watch=await container.get(SessionWatch),
            caller=caller,
        )
        await talk.run(first)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Talk:
    """The frames of one connection."""

    connection: Connection
    chats: AiChats
    watch: SessionWatch
    caller: Owner
    _streams: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, "asyncio.Task[None]"])

    async def run(self, first: list[Frame]) -> None:
        """Run until the connection ends."""
        try:
            for frame in first:
                await self._take(frame)
            while True:
                await self._take(await self._frame_of(await self.connection.receive()))
        finally:
            for stream in self._streams.values():
                stream.cancel()

    async def _frame_of(self, data: str | bytes) -> Frame:
        """A frame that is none names no request, so nobody could be told of it."""
        try:
            return await _decoded(data)
        except ValidationFailed as error:
            raise Closed(INVALID_FRAME, error.detail) from error

    async def _take(self, frame: Frame) -> None:
        if isinstance(frame, Abort):
            if stream := self._streams.get(frame.request_id):
                stream.cancel()
            return
        channel = Channel(frame.request_id, after=frame.last_sequence if isinstance(frame, Resume) else None)
        try:
            if isinstance(self.caller, Caller):
                await self.watch.check(self.caller.session.id)
            await self._answer(frame, channel)
        except (Unauthenticated, AccountDisabled) as error:
            raise Closed(UNAUTHENTICATED, error.detail) from error
        except ChatcoreError as error:
            error = error.renamed(CALLED) if isinstance(error, ValidationFailed) else error
            await self.connection.send(channel.error(error.detail))

    async def _answer(self, frame: Send | Resume, channel: Channel) -> None:
        if frame.request_id in self._streams or len(self._streams) >= _AT_ONCE:
            raise RateLimited(f"A connection has at most {_AT_ONCE} streams at once, each with an id of its own.")
        if isinstance(frame, Send):
            events = self.chats.events_of(await self.chats.ask(frame, self.caller))
        elif (active := await self.chats.active(frame.id, self.caller.owner)) is not None:
            events = active
        else:
            await self.connection.send(channel.nothing_to_resume())
            return
        task = asyncio.create_task(self._tell(events, channel), name="chatcore chat stream")
        self._streams[frame.request_id] = task
        task.add_done_callback(lambda _: self._streams.pop(frame.request_id, None))

    async def _tell(self, events: AsyncGenerator[ReplyEvent, None], channel: Channel) -> None:
        with suppress(WebSocketDisconnect):  # which the connection's own task sees, too
            try:
                await self.connection.send(channel.start())
                async with aclosing(events):
                    async for event in events:
                        for frame in channel.encode(event):
                            await self.connection.send(frame)
            except ChatcoreError as error:
                await self.connection.send(channel.error(error.detail))


async def _decoded(data: str | bytes) -> Frame:
    """Raise `ValidationFailed`."""
    await check_values(data.encode() if isinstance(data, str) else data)
    return decoded(data)


def routers() -> list[Router]:
    return [Router(path="", route_handlers=[chat_socket])]
