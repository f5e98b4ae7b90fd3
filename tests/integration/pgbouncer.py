"""A real PgBouncer before a PostgreSQL server, in transaction mode, on a free port, as an ordinary user.

It has so few connections of the server that clients have to share them, and takes another one each time (`roundrobin`).
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from sqlalchemy import URL, make_url

_CONFIGURATION = """
[databases]
* = host={host} port={port} user={user} {password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
server_round_robin = 1
max_client_conn = 500
"""


@contextmanager
def pgbouncer(url: str, *, size: int = 3) -> Iterator[str]:
    """The URL of the same database through it. `size`: the server's connections that it has for that."""
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer") or _missing()
    server, port = make_url(url), _free_port()
    folder = Path(tempfile.mkdtemp(prefix="chatcore-"))  # not pytest's: that may be closed to other users
    try:
        (folder / "pgbouncer.ini").write_text(_configuration(server, port, size))
        with (folder / "log").open("wb") as log:
            user = _ordinary_user()
            for path in (folder, *folder.iterdir()):
                os.chown(path, os.geteuid() if user is None else user, -1)
            process = subprocess.Popen([program, folder / "pgbouncer.ini"], stdout=log, stderr=log, user=user)
        try:
            _listens(process, port, folder)
            yield server.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
        finally:
            process.kill()
            process.wait()
    finally:
        shutil.rmtree(folder)


def _configuration(server: URL, port: int, size: int) -> str:
    password = f"password={server.password}" if server.password else ""
    return _CONFIGURATION.format(
        host=server.host, port=server.port or 5432, user=server.username, password=password, listen=port, size=size
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _ordinary_user() -> int | None:
    """It does not run as root."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def _listens(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.02)
        else:
            return
    pytest.fail("PgBouncer did not start: " + (folder / "log").read_text())


def _missing() -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail("the storage must be tested behind a pooler in CI: apt-get install pgbouncer")
    pytest.skip("NOT TESTED behind a pooler: there is no PgBouncer (on Debian: apt-get install pgbouncer)")
