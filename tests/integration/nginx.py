"""A real nginx in front of a server, with a configuration of the test's own, on a free port, as an ordinary user."""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

import pytest

_CONFIGURATION = """
daemon off;
{user}
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log info;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
  server {{
    listen 127.0.0.1:{port};
    {locations}
  }}
}}
"""
STRIPPED = """
    location {prefix}/ {{
      proxy_pass http://127.0.0.1:{upstream}/;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Prefix {prefix};
    }}
"""


@asynccontextmanager
async def nginx(folder: Path, locations: str) -> AsyncIterator[int]:
    """The port that it listens at."""
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx") or _missing()
    folder.mkdir(exist_ok=True)
    port, user = _free_port(), "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(_CONFIGURATION.format(folder=folder, port=port, locations=locations, user=user))
    arguments = ("-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log"))
    process = await asyncio.create_subprocess_exec(program, *arguments)
    try:
        await _listens(process, port, folder)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


async def _listens(process: asyncio.subprocess.Process, port: int, folder: Path) -> None:
    for _ in range(300):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if process.returncode is not None:
                break
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    pytest.fail("nginx did not start: " + (folder / "error.log").read_text())


def _missing() -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail("the application must be tested behind nginx in CI: apt-get install nginx-light")
    pytest.skip("NOT TESTED behind a proxy: there is no nginx (on Debian: apt-get install nginx-light)")
