"""dishka's container of each request, of which nothing is left when the request is over.

dishka's own middleware leaves the container in the scope's state, and the container has the request that has the scope:
such a cycle, with the body that the request keeps, stays until the garbage collector finds it.
"""

from typing import Any
from weakref import proxy

from dishka import Scope as Lifetime
from litestar import Request, WebSocket
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from chatcore import ChatcoreError, problem
from chatcore_http.errors import problem_response, send_problem
from chatcore_http.opening import Opening

_AnySocket = WebSocket[Any, Any, Any]


class Socket(_AnySocket):
    """The framework's, whose `receive` and `send` refer to it; here they do not keep it alive."""

    def receive_wrapper(self, receive: Receive) -> Receive:
        return _AnySocket.receive_wrapper(proxy(self), receive)

    def send_wrapper(self, send: Send) -> Send:
        return _AnySocket.send_wrapper(proxy(self), send)


class RequestContainers:
    """Around the framework: `FromDishka` finds the container in the state."""

    def __init__(self, app: ASGIApp, opening: Opening) -> None:
        self.app = app
        self._opening = opening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            context: dict[Any, Any] = {Request: Request[Any, Any, Any](scope)}
            lifetime = Lifetime.REQUEST
        elif scope["type"] == ScopeType.WEBSOCKET:
            context, lifetime = {WebSocket: Socket(scope)}, Lifetime.SESSION
        else:
            await self.app(scope, receive, send)
            return
        if not await self._is_open(scope, receive, send):
            return
        async with self._opening.container(context, scope=lifetime) as container:
            scope["state"]["dishka_container"] = container
            try:
                await self.app(scope, receive, send)
            finally:
                scope["state"].clear()

    async def _is_open(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Otherwise answer why not."""
        try:
            await self._opening.check()
        except ChatcoreError as error:
            if scope["type"] == ScopeType.WEBSOCKET:
                raise
            refusal = problem(error)
            answer = problem_response(refusal.status, refusal.code, refusal.detail, headers=dict(refusal.headers))
            await send_problem(answer, scope, receive, send)
            return False
        return True
