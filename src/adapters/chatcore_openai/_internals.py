"""What is private in aiohttp and needed all the same: the connection's own protocol (see the pin in pyproject.toml).

An endpoint is anybody's. What it sends besides the body (interim responses, framing, headers) is read by aiohttp as it
arrives, in one go and without a bound; here it is counted, and large reads are taken in slices, in turns.
"""

import asyncio
from collections import deque
from functools import partial
from time import perf_counter
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from chatcore_openai.sse import SLICE

MAX_HEAD = 128 * 1024
"""Bytes until the final response's headers are complete."""

_REST = 3  # times as long as a turn took nothing is taken from any flood


class TooMuch(aiohttp.ClientPayloadError):
    """More bytes than a response may have."""


class Turns:
    """Large reads, of any connections, wait here for their turn. They get a quarter of the event loop's time together,
    however many there are, so that they slow each other and nothing else."""

    def __init__(self) -> None:
        self._queue = deque[MeteredHandler]()
        self._loop = asyncio.get_running_loop()
        self._busy = False

    def queue(self, handler: "MeteredHandler") -> None:
        self._queue.append(handler)
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        began = perf_counter()
        handler = self._queue.popleft()
        if handler.take():
            self._queue.append(handler)
        self._loop.call_soon(self._rest, began)  # after what waits for the slice, which takes its time too

    def _rest(self, began: float) -> None:
        if self._queue:
            self._loop.call_later(_REST * (perf_counter() - began), self._next)
        else:
            self._busy = False


class MeteredHandler(ResponseHandler):
    """Takes `SLICE` bytes at once, and fails with `TooMuch` after `left`."""

    def __init__(self, turns: Turns, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.left = MAX_HEAD
        self._turns = turns
        self._waiting = bytearray()
        self._lost: list[BaseException | None] = []  # how, if the connection was lost while something waits

    def set_response_params(self, **params: Any) -> None:
        self.left = MAX_HEAD
        super().set_response_params(**params)

    @property
    def should_close(self) -> bool:
        return bool(self._waiting) or super().should_close

    def data_received(self, data: bytes) -> None:
        size = len(data)
        if size > SLICE or (self._waiting and size):
            self._put_off(data)
        elif size <= self.left:  # nearly always, many times a second
            self.left -= size
            super().data_received(data)
        else:
            self._give_up()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._waiting and self.transport is not None:  # not by us
            self._lost.append(exc)
        else:
            super().connection_lost(exc)

    def take(self) -> bool:
        """Read one slice of what waits. Return whether more does."""
        data = bytes(self._waiting[:SLICE])
        del self._waiting[:SLICE]
        if self.transport is not None:
            self._take(data)
        if self.transport is None:
            self._waiting.clear()
        if self._waiting:
            return True
        if self._lost:
            super().connection_lost(self._lost.pop())
        else:
            self._resume_reading_for_buffer()
        return False

    def _take(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left < 0:
            self._give_up()
        else:
            super().data_received(data)

    def _put_off(self, data: bytes) -> None:
        if not self._waiting:
            self._pause_reading_for_buffer()
            self._turns.queue(self)
        self._waiting += data

    def _give_up(self) -> None:
        failure, payload = TooMuch(), self._payload
        self._waiting.clear()
        self.abort()
        self.set_exception(failure)
        if payload is not None:
            payload.set_exception(failure)


def meter(connector: aiohttp.TCPConnector, turns: Turns) -> None:
    """Make its connections `MeteredHandler`s."""
    connector._factory = partial(MeteredHandler, turns, loop=connector._loop)  # type: ignore[assignment]


def allow(response: aiohttp.ClientResponse, count: int) -> None:
    """Let the rest of a response have so many bytes, framing included."""
    if response.connection is not None and isinstance(protocol := response.connection.protocol, MeteredHandler):
        protocol.left = count
