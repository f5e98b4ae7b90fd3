"""How many requests of one network are worked on at once.

The event loop runs all requests alike, a step of each in turn: one client that sends 800 at once makes everybody wait
behind 800. Here each network has so many places; its further requests wait for one of them, in line, and nobody else
waits with them.
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
"""Seconds after which a request that has no answer yet waits for something else than the event loop: others of its
network may have its place."""

_AT_ONCE = 2  # requests that begin in one turn of the event loop
_BESIDE = 6  # places beside those for requests that use a database connection each
_ENDS = ("http.disconnect", "websocket.disconnect")
_COST = 16 * 1024  # bytes that a waiting request takes, its headers and body not counted
_READ = 256 * 1024  # bytes of its body, if it has so many, that the server has read meanwhile


class Line:
    """One network's requests: who has a place, and who waits for one. It is among `lines` as long as there are any."""

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
        """False if there is no free place now, or others wait for it."""
        if self._waiting or not self._has_room:
            return False
        self._begin(who)
        self._call_soon()
        return True

    async def wait(self, who: object, *, first: bool) -> None:
        """Until `who` has a place. `first`: before all who wait already. Who is cancelled has to `leave`, too."""
        called = self._waiting[who] = asyncio.get_running_loop().create_future()
        if first:
            self._waiting.move_to_end(who, last=False)
        self._call_soon()
        await called

    def leave(self, who: object) -> None:
        """Give the place to the next one, or wait no more."""
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
        """Once a turn: let in a few of those who wait. To begin is what costs most, and may be all that there is."""
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
    """Around the framework, behind what tells the client's address. A request has a place until its answer begins, but
    while it waits for its client; so has each frame of a WebSocket. `held` bounds the bytes of what waits: beyond it a
    request is answered 503."""

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
        """Who only looks whether the server lives does not wait for what others at this address have asked for."""
        return f"{network} watches" if scope["path"] in WATCHED_PATHS else network


def _size(scope: HTTPScope | WebSocketScope) -> int:
    """What it holds while it waits."""
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
        """What comes in the middle of a request that has begun goes on before those that have not."""
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
    """A WebSocket is opened for it: a page does not get to see another answer."""
    if scope["type"] == ScopeType.HTTP:
        headers = {"Retry-After": str(error.retry_after)}
        await send_problem(problem_response(503, error.code, error.detail, headers=headers), scope, receive, send)
        return
    subprotocol = PROTOCOL if PROTOCOL in scope["subprotocols"] else None
    await receive()
    await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})
    await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": error.detail})
