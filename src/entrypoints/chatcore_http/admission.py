"""Limits how many requests of one network are in work at once.

The event loop runs a step of each request in turn: one client that sends 800 at once makes all others wait behind 800.
Here each network has a number of places; its further requests wait in line for one of them, and other networks do not.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send, WebSocketScope

from chatcore.errors import Unavailable
from chatcore.rate_limits import network_of
from chatcore_app import Settings
from chatcore_http.body_limits import announced
from chatcore_http.errors import problem_response, send_problem
from chatcore_http.held_bytes import HeldBytes
from chatcore_http.open_sockets import PROTOCOL, TRY_AGAIN_LATER
from chatcore_http.request_limit import WATCHED_PATHS

PATIENCE = 0.1
"""Seconds after which a request without an answer waits for something other than the event loop: another request of its
network gets its place."""

_AT_ONCE = 2  # requests that begin in one turn of the event loop
_BESIDE = 6  # places beside those for requests that use a database connection each
_ENDS = ("http.disconnect", "websocket.disconnect")
_COST = 16 * 1024  # bytes that a waiting request takes, its headers and body not counted
_READ = 256 * 1024  # bytes of its body, if it has so many, that the server has read meanwhile


class Line:
    """One network's requests, with a place or waiting for one. It is in `lines` while there are any."""

    def __init__(self, lines: dict[str, "Line"], name: str, places: int) -> None:
        self._lines = lines
        self._name = name
        self._places = places
        self._working: dict[object, float] = {}  # since when, the oldest first
        self._waiting = OrderedDict[object, asyncio.Future[None]]()
        self._begun = 0  # in this turn of the event loop
        self._soon: asyncio.Handle | None = None
        self._later: asyncio.TimerHandle | None = None
        lines[name] = self

    def take(self, who: object) -> bool:
        """Return False if there is no free place, or others wait for one."""
        if self._waiting or not self._has_room:
            return False
        self._begin(who)
        self._call_soon()
        return True

    async def wait(self, who: object, *, first: bool) -> None:
        """Wait for a place. `first`: before all that wait already. A cancelled request must `leave` too."""
        called = self._waiting[who] = asyncio.get_running_loop().create_future()
        if first:
            self._waiting.move_to_end(who, last=False)
        self._call_soon()
        await called

    def leave(self, who: object) -> None:
        """Give the place to the next request, or stop waiting."""
        self._waiting.pop(who, None)
        if self._working.pop(who, None) is not None:
            self._call_soon()

    @property
    def _has_room(self) -> bool:
        return self._begun < _AT_ONCE and len(self._working) < self._places

    def _begin(self, who: object) -> None:
        self._begun += 1
        self._working[who] = asyncio.get_running_loop().time()

    def _call_soon(self) -> None:
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._call)

    def _call(self) -> None:
        """Once per turn, let in a few waiting requests. Beginning costs most, and may be all the work."""
        self._soon = None
        self._begun = 0
        self._free_what_is_overdue()
        while self._waiting and self._has_room:
            who, called = self._waiting.popitem(last=False)
            if not called.done():  # else it is cancelled, and about to leave
                self._begin(who)
                called.set_result(None)
        if self._begun:
            self._call_soon()
        elif not self._working and not self._waiting:
            self._end()

    def _end(self) -> None:
        del self._lines[self._name]
        if self._later is not None:
            self._later.cancel()

    def _free_what_is_overdue(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._waiting and len(self._working) >= self._places:
            oldest, since = next(iter(self._working.items()))
            if since + PATIENCE > now:
                self._call_at(since + PATIENCE)
                return
            del self._working[oldest]

    def _call_at(self, when: float) -> None:
        if self._later is None:
            self._later = asyncio.get_running_loop().call_at(when, self._time_is_over)

    def _time_is_over(self) -> None:
        self._later = None
        self._call_soon()


class Admission:
    """Wraps the framework, inside the layer that knows the client's address. A request has a place until its answer
    begins, except while it waits for its client; so has each frame of a WebSocket. `held` bounds the bytes of waiting
    requests: beyond it the answer is 503."""

    def __init__(self, app: ASGIApp, settings: Settings, held: HeldBytes) -> None:
        self.app = app
        self._places = settings.database_pool_size + _BESIDE
        self._held = held
        self._lines: dict[str, Line] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP or scope["type"] == ScopeType.WEBSOCKET:
            await self._admit(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _admit(self, scope: HTTPScope | WebSocketScope, receive: Receive, send: Send) -> None:
        network = network_of(scope["client"][0] if scope["client"] else "")
        request = _Request(self._lines, self._line_of(scope, network), self._places, receive, send)
        try:
            if not request.take():
                with self._held.holding(network, _size(scope)):
                    await request.wait(first=False)
        except Unavailable as error:
            await _refuse(error, scope, receive, send)
        else:
            await self.app(scope, request.receive, request.send)
        finally:
            request.leave()

    @staticmethod
    def _line_of(scope: HTTPScope | WebSocketScope, network: str) -> str:
        """Return whether this is a health check, which does not wait for other requests of its address."""
        return f"{network} watches" if scope["path"] in WATCHED_PATHS else network


def _size(scope: HTTPScope | WebSocketScope) -> int:
    """Return the bytes that it holds while it waits."""
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    return _COST + headers + int(min(announced(scope), _READ))


class _Request:
    def __init__(self, lines: dict[str, Line], name: str, places: int, receive: Receive, send: Send) -> None:
        self._lines = lines
        self._name = name
        self._places = places
        self._receive = receive
        self._send = send
        self._answered = False

    def take(self) -> bool:
        line = self._lines.get(self._name)
        if line is None:
            line = Line(self._lines, self._name, self._places)
        return line.take(self)

    async def wait(self, *, first: bool) -> None:
        await self._lines[self._name].wait(self, first=first)

    def leave(self) -> None:
        if (line := self._lines.get(self._name)) is not None:
            line.leave(self)

    async def receive(self) -> Any:
        """Receive in the middle of a request, which continues before new ones begin."""
        self.leave()
        try:
            message: Any = await self._receive()
        except Exception:
            await self._go_on()
            raise
        if message["type"] not in _ENDS:
            await self._go_on()
        return message

    async def _go_on(self) -> None:
        if not self._answered and not self.take():
            await self.wait(first=True)

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self._answered = True
            self.leave()
        return self._send(message)


async def _refuse(error: Unavailable, scope: HTTPScope | WebSocketScope, receive: Receive, send: Send) -> None:
    """Accept a WebSocket to refuse it: a page cannot read any other answer."""
    if scope["type"] == ScopeType.HTTP:
        headers = {"Retry-After": str(error.retry_after)}
        await send_problem(problem_response(503, error.code, error.detail, headers=headers), scope, receive, send)
        return
    subprotocol = PROTOCOL if PROTOCOL in scope["subprotocols"] else None
    await receive()
    await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})
    await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": error.detail})
