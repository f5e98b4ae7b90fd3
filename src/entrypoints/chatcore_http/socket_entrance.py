"""Who may come in by a WebSocket. The token is in a subprotocol or the first frame, never in the URL, which logs would
keep."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Any

from dishka import AsyncContainer
from litestar import WebSocket

from chatcore import Caller, Owner, RateLimits, Scope, SessionWatch
from chatcore.errors import Forbidden, Unauthenticated, ValidationFailed
from chatcore_app import Settings
from chatcore_http.auth import AccessTokens, Identity, address_of
from chatcore_http.hardening import HTTPS_REQUIRED, in_the_clear
from chatcore_http.open_sockets import FORBIDDEN, PROTOCOL, UNAUTHENTICATED, Closed, Connection, OpenSockets
from chatcore_http.origins import is_welcome
from chatcore_http.ws_protocol import lift_bounds

AUTH_WITHIN = 5.0
"""Seconds for the first frame, if the handshake has no token."""

_BEARER = "bearer."


def subprotocol_of(socket: WebSocket[Any, Any, Any]) -> str | None:
    return PROTOCOL if PROTOCOL in socket.scope["subprotocols"] else None


@asynccontextmanager
async def let_in(
    socket: WebSocket[Any, Any, Any],
    container: AsyncContainer,
    connection: Connection,
    first_token: Callable[[], Awaitable[str]],
) -> AsyncGenerator[Owner, None]:
    """Yield the caller, while whose session lives. `first_token`: receives the first frame, and returns its token.

    Raise `Closed`, also in the block when the session ends, and `RateLimited` for one connection of a user too many.
    """
    _check_way(socket, await container.get(Settings))
    await (await container.get(RateLimits)).try_request(address_of(socket))
    caller = await _signed_in(socket, await container.get(Identity), first_token)
    lift_bounds(socket.scope)
    ended = partial(connection.interrupt, Closed(UNAUTHENTICATED, "The session has ended."))
    watch = await container.get(SessionWatch)
    sockets = await container.get(OpenSockets)
    watching = watch.watching(caller.session.id, ended) if isinstance(caller, Caller) else nullcontext()
    with sockets.of_users.one_more(caller.owner), watching:
        yield caller


def _check_way(socket: WebSocket[Any, Any, Any], settings: Settings) -> None:
    """Refuse plain HTTP in production, and pages of other origins, which must not use our users' tokens."""
    if in_the_clear(socket.scope, settings):
        raise Closed(FORBIDDEN, HTTPS_REQUIRED)
    if not is_welcome(socket.headers, settings):
        raise Closed(FORBIDDEN, "This origin may not connect.")


async def _signed_in(
    socket: WebSocket[Any, Any, Any], identity: Identity, first_token: Callable[[], Awaitable[str]]
) -> Owner:
    offered = socket.scope["subprotocols"]
    token = next((name.removeprefix(_BEARER) for name in offered if name.startswith(_BEARER)), None)
    try:
        if not isinstance(identity, AccessTokens):
            return await identity.of(socket, Scope.READ)
        if token is None:
            async with asyncio.timeout(AUTH_WITHIN):
                token = await first_token()
        return await identity.holder_of(token, Scope.READ)
    except TimeoutError as error:
        raise Closed(UNAUTHENTICATED, "The token did not arrive in time.") from error
    except (Unauthenticated, Forbidden, ValidationFailed) as error:
        raise Closed(UNAUTHENTICATED, error.detail) from error
