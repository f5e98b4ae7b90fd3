"""uvicorn around the application."""

import asyncio
import ctypes
import gc
import multiprocessing
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import click
import uvicorn
import uvloop
from dishka import AsyncContainer

import chatcore
from chatcore import Replies, SendMessage
from chatcore_app import Settings
from chatcore_app.logs import configure_logging
from chatcore_cli.accepting import Accepting
from chatcore_cli.listening import listen
from chatcore_cli.supervisor import supervise
from chatcore_http import create_app
from chatcore_http.held_bytes import HeldBytes
from chatcore_http.http_protocol import BoundedHTTP
from chatcore_http.open_sockets import OpenSockets
from chatcore_http.ws_protocol import BoundedWebSocket
from chatcore_openai import OpenAIGateway

_GONE_AFTER = 60_000  # milliseconds in which a client takes nothing; the system by itself waits a quarter of an hour
_M_MMAP_THRESHOLD, _LARGE_BLOCK = -3, 64 * 1024  # bytes
_LAST_WORDS = 5  # seconds for open connections, when all replies have ended
_WELCOME = """
{name} {version} is running. The API and its documentation: {url}/docs

A first command to try, in another terminal:

  curl -s {url}/auth/register -H 'Content-Type: application/json' \\
    -d '{{"username": "newcomer", "password": "correct horse battery"}}'
"""


def run(settings: Settings, *, reload: bool = False) -> None:
    """Serves until SIGINT or SIGTERM, then drains. Exits with a status other than 0 if it cannot listen."""
    configure_logging(settings)
    if reload:
        sources = sorted({str(Path(package).parent.parent) for package in (chatcore.__file__, __file__)})
        uvicorn.run("chatcore_http.asgi:app", reload=True, reload_dirs=sources, **uvicorn_options(settings))
        return
    if settings.workers > 1:
        supervise(settings, _work, partial(_say_welcome, settings))
    elif not _run(settings, None, partial(_say_welcome, settings)):
        sys.exit(1)


def _work(settings: Settings, listening: list[socket.socket], on_start: Callable[[int], None]) -> bool:
    """One process of several. When their supervisor has gone, however that happened, it drains and leaves."""
    configure_logging(settings)
    return _run(settings, listening, on_start)


def _run(settings: Settings, listening: list[socket.socket] | None, on_start: Callable[[int], None]) -> bool:
    """`on_start` is called with the port once it listens. False if that never came about."""
    _give_memory_back()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, listening, on_start))


def _give_memory_back() -> None:
    """Large blocks, such as bodies and long texts, go back to the system as soon as they are free. By itself glibc
    raises the size from which it does so up to 32 MiB, and what lies between smaller blocks then stays (mallopt(3))."""
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


async def _serve(settings: Settings, listening: list[socket.socket] | None, on_start: Callable[[int], None]) -> bool:
    app = create_app(settings)
    container: AsyncContainer = app.state.dishka_container
    app.state.opening.closes_readers = False
    server = _Server(uvicorn.Config(app, **uvicorn_options(settings)), settings, container, on_start)
    if supervisor := multiprocessing.parent_process():
        asyncio.get_running_loop().add_reader(supervisor.sentinel, server.leave)
    try:
        await container.get(SendMessage)  # what prevents a start is said before uvicorn begins
        for stopping in (signal.SIGINT, signal.SIGTERM):
            signal.signal(stopping, signal.SIG_IGN)  # uvicorn raises them again after it has shut down in good order
        await server.serve(listen(settings) if listening is None else listening)
    finally:
        await container.close()
    return server.started


def uvicorn_options(settings: Settings) -> dict[str, Any]:
    """How uvicorn serves the application; the tests' servers do it alike."""
    return {
        "host": settings.address,
        "port": settings.port,
        "http": partial(BoundedHTTP, settings=settings),
        "ws": partial(BoundedWebSocket, settings=settings, held=HeldBytes(settings.max_unfinished_body_bytes)),
        "ws_max_size": settings.max_body_bytes,  # a larger frame closes its connection with 1009
        "ws_ping_interval": 15,  # and whoever has not answered within another 20 seconds has gone
        "ws_per_message_deflate": False,  # 64 KiB a connection, for messages of a few words
        "access_log": False,
        "log_config": None,
        "log_level": "warning",  # below that it tells of WebSockets: their URLs with the query, even their frames
        "server_header": False,
        "proxy_headers": False,
        "timeout_graceful_shutdown": _LAST_WORDS,
        "lifespan": "on",
    }


def _say_welcome(settings: Settings, port: int) -> None:
    host = settings.address
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    click.echo(_WELCOME.format(name=settings.app_name, version=settings.app_version, url=url))


class _Server(uvicorn.Server):
    """Tells when it listens, and only then loads the slow half of the OpenAI client. Shutting down, it first tells the
    WebSockets so: uvicorn itself would tell them that it restarts (1012)."""

    def __init__(
        self, config: uvicorn.Config, settings: Settings, container: AsyncContainer, on_start: Callable[[int], None]
    ) -> None:
        super().__init__(config)
        self._settings = settings
        self._container = container
        self._on_start = on_start

    def leave(self) -> None:
        """As if it were sent a SIGTERM."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Replies come to their end while their readers are still there to see it."""
        for server in self.servers:
            server.close()
        replies, sockets_open = await self._container.get(Replies), await self._container.get(OpenSockets)
        await self._unless_forced(
            asyncio.gather(replies.drain(), sockets_open.close(within=self._settings.shutdown_grace + _LAST_WORDS))
        )
        await super().shutdown(sockets)

    async def _unless_forced(self, leaving: asyncio.Future[Any]) -> None:
        """A second Ctrl-C waits for nobody: what is being written ends as interrupted, at the next start at last."""
        while not leaving.done():
            await asyncio.wait((leaving,), timeout=0.2)
            if self.force_exit:
                leaving.cancel()
                return

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        if not self.started:
            return
        self.servers = [cast("asyncio.Server", Accepting(listening, self._protocol)) for listening in sockets or ()]
        if sys.platform == "linux":
            for listening in (each for server in self.servers for each in server.sockets):  # the connections inherit it
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _GONE_AFTER)
        self._on_start(self.servers[0].sockets[0].getsockname()[1])
        gateway = await self._container.get(OpenAIGateway)
        self._warming = asyncio.create_task(_warmed(gateway))

    def _protocol(self) -> asyncio.Protocol:
        """As uvicorn makes it."""
        make = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


async def _warmed(gateway: OpenAIGateway) -> None:
    """What is there now stays: the garbage collector need not look at it."""
    await gateway.warm()
    gc.collect()
    gc.freeze()
