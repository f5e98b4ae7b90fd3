"""WS /conversations/ws/{id}: a conversation over one connection (docs/wire.md).

The token is checked once; then the connection lives as long as its session, which each frame checks.
"""

from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import msgspec
from dishka import AsyncContainer
from litestar import Router, WebSocket, websocket
from litestar.params import FromPath
from msgspec import Meta

from chatcore import (
    Caller,
    ChatcoreError,
    ChatOptions,
    ConversationId,
    FollowReply,
    MessageId,
    ModelConfigId,
    Owner,
    ReadHistory,
    SendMessage,
    SessionWatch,
    Silence,
    StopReply,
)
from chatcore.data_urls import images_of
from chatcore.errors import AccountDisabled, NotFound, Unauthenticated, ValidationFailed
from chatcore.use_cases.following import AFTER
from chatcore.wire import event_data
from chatcore_app import Settings
from chatcore_http.open_sockets import (
    NO_CONVERSATION,
    UNAUTHENTICATED,
    Closed,
    Connection,
    OpenSockets,
)
from chatcore_http.schemas import Id
from chatcore_http.socket_entrance import let_in, subprotocol_of

_MAX_DETAIL = 200  # characters: a detail may quote the frame


class Auth(msgspec.Struct, frozen=True, tag="auth"):
    token: str


class Send(msgspec.Struct, frozen=True, tag="send"):
    """`client_id` is the idempotency key. `images`: data URLs; with images `content` may be empty."""

    content: str
    images: list[str] = []
    config_id: Id | None = None
    client_id: str | None = None


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    pass


class Attach(msgspec.Struct, frozen=True, tag="attach"):
    """`after`: the offset to read from."""

    after: Annotated[int, Meta(ge=AFTER.minimum, le=AFTER.maximum)] = 0


Frame = Auth | Send | Stop | Attach

_decoder = msgspec.json.Decoder(Frame)


@websocket("/conversations/ws/{conversation_id:int}")
async def conversation_socket(socket: WebSocket[Any, Any, Any], conversation_id: FromPath[int]) -> None:
    container: AsyncContainer = socket.state.dishka_container
    sockets, settings = await container.get(OpenSockets), await container.get(Settings)
    await sockets.serve(
        socket,
        partial(_converse, socket, container, conversation_id),
        subprotocol=subprotocol_of(socket),
        max_bytes=settings.max_body_bytes,
    )


async def _converse(
    socket: WebSocket[Any, Any, Any], container: AsyncContainer, conversation_id: int, connection: Connection
) -> None:
    async with let_in(socket, container, connection, partial(_first_token, connection)) as caller:
        await _check_conversation(await container.get(ReadHistory), caller, conversation_id)
        await connection.tell({"type": "ready"})
        talk = _Talk(
            connection=connection,
            watch=await container.get(SessionWatch),
            caller=caller,
            conversation_id=ConversationId(conversation_id),
            send_message=await container.get(SendMessage),
            follow_reply=await container.get(FollowReply),
            stop_reply=await container.get(StopReply),
        )
        await talk.run()


async def _first_token(connection: Connection) -> str:
    frame = _frame_of(await connection.receive())
    if not isinstance(frame, Auth):
        raise Unauthenticated
    return frame.token


def _frame_of(data: str | bytes) -> Frame:
    """Raise `ValidationFailed`."""
    if isinstance(data, bytes):
        raise ValidationFailed(detail="The frame is not valid: send JSON in text frames, not in binary ones.")
    try:
        frame: Frame = _decoder.decode(data)
    except RecursionError:
        raise ValidationFailed(detail="The frame is not valid: it is nested too deeply.") from None
    except ValueError as error:
        raise ValidationFailed(detail=f"The frame is not valid: {error}"[:_MAX_DETAIL]) from None
    return frame


async def _check_conversation(read_history: ReadHistory, caller: Owner, conversation_id: int) -> None:
    try:
        await read_history(owner=caller.owner, conversation_id=ConversationId(conversation_id), limit=1)
    except NotFound as error:
        raise Closed(NO_CONVERSATION, error.detail) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Talk:
    """The frames of one connection. It follows one reply at a time: a newer send or attach replaces an older one."""

    connection: Connection
    watch: SessionWatch
    caller: Owner
    conversation_id: ConversationId
    send_message: SendMessage
    follow_reply: FollowReply
    stop_reply: StopReply

    async def run(self) -> None:
        """Run until the connection ends."""
        while True:
            await self._take(await self.connection.receive())

    async def _take(self, data: str | bytes) -> None:
        try:
            frame = _frame_of(data)
            if isinstance(self.caller, Caller):
                await self.watch.check(self.caller.session.id)
            await self._act_on(frame)
        except (Unauthenticated, AccountDisabled) as error:
            raise Closed(UNAUTHENTICATED, error.detail) from error
        except ChatcoreError as error:
            await self._tell_error(error)

    async def _act_on(self, frame: Frame) -> None:
        match frame:
            case Send():
                await self._send(frame)
            case Stop():
                await self.stop_reply(by=self.caller, conversation_id=self.conversation_id)
            case Attach():
                self._follow(None, after=frame.after)
            case Auth():
                raise ValidationFailed(detail="The connection is signed in already.")

    async def _send(self, frame: Send) -> None:
        sent = await self.send_message(
            by=self.caller,
            conversation_id=self.conversation_id,
            content=frame.content,
            images=await images_of(frame.images, name="images"),
            options=ChatOptions(config_id=None if frame.config_id is None else ModelConfigId(frame.config_id)),
            idempotency_key=frame.client_id,
        )
        self._follow(sent.reply.id)

    def _follow(self, reply_id: MessageId | None, *, after: int = 0) -> None:
        self.connection.run_beside(self._tell_reply(reply_id, after))

    async def _tell_reply(self, reply_id: MessageId | None, after: int) -> None:
        try:
            told = await self._tell_events(reply_id, after)
        except ChatcoreError as error:
            await self._tell_error(error)
        else:
            if not told:
                await self._tell_error(NotFound("No reply was ever written in this conversation."))

    async def _tell_events(self, reply_id: MessageId | None, after: int) -> bool:
        """Return whether there were any."""
        told = False
        events = self.follow_reply(
            owner=self.caller.owner, conversation_id=self.conversation_id, reply_id=reply_id, after=after
        )
        async with aclosing(events):
            async for event in events:
                told = True
                if not isinstance(event, Silence):  # the server's own pings keep a silent connection alive
                    await self.connection.tell(event_data(event))
        return told

    async def _tell_error(self, error: ChatcoreError) -> None:
        if isinstance(error, ValidationFailed):
            error = error.renamed({"idempotency_key": "client_id"})
        await self.connection.tell({"type": "error", "code": error.code, "detail": error.detail})


def routers() -> list[Router]:
    return [Router(path="", route_handlers=[conversation_socket])]
