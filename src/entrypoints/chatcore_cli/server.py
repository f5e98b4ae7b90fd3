"""uvicorn around the application."""

import asyncio
import socket
import sys

import click
import uvicorn
from chatcore_openai import OpenAIGateway
from litestar import Litestar

from chatcore_app import Settings
from chatcore_app.logs import configure_logging
from chatcore_http import create_app

_WELCOME = """
{name} {version} is running. The API and its documentation: {url}/docs

A first command to try, in another terminal:

  curl -s {url}/auth/register -H 'Content-Type: application/json' \\
    -d '{{"username": "alice", "password": "correct horse battery"}}'
"""


def run(settings: Settings, *, reload: bool = False) -> None:
    """Serves until SIGINT or SIGTERM. Exits with status 1 if it cannot start."""
    configure_logging(settings)
    if reload:
        uvicorn.run("chatcore_http.asgi:app", reload=True, reload_dirs=["src"], **_options(settings))
        return
    app = create_app(settings)
    server = _Server(uvicorn.Config(app, **_options(settings)), settings, app)
    server.run()
    if not server.started:
        sys.exit(1)


def _options(settings: Settings) -> dict[str, object]:
    return {
        "host": settings.host,
        "port": settings.port,
        "loop": "uvloop",
        "http": "httptools",
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "proxy_headers": False,
        "timeout_graceful_shutdown": int(settings.shutdown_grace),
        "lifespan": "on",
    }


class _Server(uvicorn.Server):
    """Says where it is once it listens, and only then loads the slow half of the OpenAI client."""

    def __init__(self, config: uvicorn.Config, settings: Settings, app: Litestar) -> None:
        super().__init__(config)
        self._settings = settings
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        url = f"http://{self._settings.host}:{self._port()}"
        click.echo(_WELCOME.format(name=self._settings.app_name, version=self._settings.app_version, url=url))
        gateway = await self._app.state.dishka_container.get(OpenAIGateway)
        self._warming = asyncio.create_task(gateway.warm())

    def _port(self) -> int:
        return int(self.servers[0].sockets[0].getsockname()[1])
