"""`chatcore` without its start: one process imports all that it may need, and forks a process for each command.

To import it takes most of a second of a processor, and the tests run the command some thousand times.
"""

import asyncio
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

_ALL = (
    *("chatcore_cli.server", "chatcore_cli.supervisor", "chatcore_http.app", "alembic.command", "uvicorn", "uvloop"),
    *("aiosqlite", "asyncmy", "asyncpg", "redis.asyncio", "argon2", "openai", "aiohttp"),
)


class Forked:
    """A process that runs the command, as `asyncio.subprocess.Process` is one."""

    def __init__(self, pid: int, stdout: asyncio.StreamReader, stderr: asyncio.StreamReader, end: asyncio.Task[int]):
        self.pid = pid
        self.stdout = stdout
        self.stderr = stderr
        self._end = end

    @property
    def returncode(self) -> int | None:
        return self._end.result() if self._end.done() else None

    async def wait(self) -> int:
        return await asyncio.shield(self._end)

    async def communicate(self) -> tuple[bytes, bytes]:
        stdout, stderr, _ = await asyncio.gather(self.stdout.read(), self.stderr.read(), self.wait())
        return stdout, stderr

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


async def forked(folder: Path, arguments: Sequence[str], environ: Mapping[str, str], *, said: bytes = b"") -> Forked:
    """Run `chatcore` with these arguments in this folder, with this environment. `said`: its standard input."""
    order = {"folder": str(folder), "arguments": list(arguments), "environ": dict(environ)}
    ours, its = socket.socketpair()
    stdin, stdout, stderr = _file_of(said), os.pipe(), os.pipe()
    socket.send_fds(_mother(), [json.dumps(order).encode()], [stdin, stdout[1], stderr[1], its.fileno()])
    its.close()
    for descriptor in (stdin, stdout[1], stderr[1]):
        os.close(descriptor)
    reader, writer = await asyncio.open_connection(sock=ours)
    pid, end = int(await reader.readline()), asyncio.create_task(_end(reader, writer))
    return Forked(pid, await _read(stdout[0]), await _read(stderr[0]), end)


async def _end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    try:
        return int(await reader.readline())
    finally:
        writer.close()


async def _read(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=2**20)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(descriptor, "rb"))
    return reader


def _file_of(text: bytes) -> int:
    with tempfile.TemporaryFile() as file:
        file.write(text)
        file.seek(0)
        return os.dup(file.fileno())


@cache
def _mother() -> socket.socket:
    """The way to the one process that has imported all. It ends when this one does."""
    ours, its = socket.socketpair(type=socket.SOCK_SEQPACKET)
    command = [sys.executable, __file__, str(its.fileno())]
    _mothers.append(subprocess.Popen(command, env={"PATH": os.environ["PATH"]}, pass_fds=[its.fileno()]))
    its.close()
    return ours


_mothers = list["subprocess.Popen[bytes]"]()


# ---- the process that forks --------------------------------------------------------------------------------


def _serve(orders: socket.socket) -> dict[str, Any]:
    """Fork for each order. Return the order in the process that is to carry it out."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        order, files, _, _ = socket.recv_fds(orders, 2**17, 4)
        if not order:
            os._exit(0)
        if os.fork() == 0:
            orders.close()
            *standard, connection = files
            _watch(standard, socket.socket(fileno=connection))
            return dict(json.loads(order))
        for file in files:
            os.close(file)


def _watch(standard: Sequence[int], connection: socket.socket) -> None:
    """Fork once more, and tell of the child what its parent knows. Return in the child."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if pid := os.fork():
        for file in (*standard, 0, 1, 2):
            os.close(file)
        _tell(connection, pid)
        _tell(connection, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os._exit(0)
    connection.close()
    for number, file in enumerate(standard):
        os.dup2(file, number)
        os.close(file)


def _tell(connection: socket.socket, number: int) -> None:
    with suppress(OSError):  # nobody wants to know
        connection.sendall(b"%d\n" % number)


def _run(order: dict[str, Any]) -> NoReturn:
    arguments, environ = order["arguments"], order["environ"]
    os.chdir(order["folder"])
    if any(name.startswith("PYTHON") for name in environ):  # for a Python that starts anew
        os.execve(Path(sys.executable).with_name("chatcore"), ["chatcore", *arguments], environ)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["chatcore", *arguments]
    from chatcore_cli import main

    main()
    sys.exit()


if __name__ == "__main__":
    for _name in _ALL:
        importlib.import_module(_name)
    _run(_serve(socket.socket(fileno=int(sys.argv[1]))))
