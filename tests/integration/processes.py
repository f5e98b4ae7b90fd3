"""`chatcore` in processes of its own: the command as a person runs it, and several servers on one database."""

import os
import re
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from integration.forks import Forked, forked
from integration.http_app import Api, client_of


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    stdout: str
    stderr: str


async def start(folder: Path, *arguments: str, **environ: str) -> Forked:
    """In this folder, with nothing else in the environment."""
    return await forked(folder, arguments, {"PATH": os.environ["PATH"], **environ})


async def run(folder: Path, *arguments: str, said: str = "", **environ: str) -> Ended:
    """`said`: on its standard input."""
    process = await forked(folder, arguments, {"PATH": os.environ["PATH"], **environ}, said=said.encode())
    stdout, stderr = await process.communicate()
    return Ended(await process.wait(), stdout.decode(), stderr.decode())


def children_of(pid: int) -> Sequence[int]:
    """The processes that this one's supervisor has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


class Server:
    """`chatcore serve` after it has said where it listens."""

    def __init__(self, process: Forked, welcome: str, url: str, api: Api) -> None:
        self.welcome = welcome
        self.url = url
        self.api = api
        self.pid = process.pid
        self._process = process

    async def stop(self, number: int = signal.SIGTERM) -> Ended:
        self.send(number)
        return await self.ended()

    def send(self, number: int) -> None:
        """A signal: SIGKILL ends it at once, SIGSTOP holds it and SIGCONT lets it go on."""
        self._process.send_signal(number)

    @property
    def workers(self) -> Sequence[int]:
        """The ids of the processes that serve, where there are several."""
        return children_of(self._process.pid)

    @contextmanager
    def only(self, worker: int) -> Iterator[None]:
        """Its other workers are held meanwhile: whoever connects now is connected to this one."""
        others = [other for other in self.workers if other != worker]
        for other in others:
            os.kill(other, signal.SIGSTOP)
        try:
            yield
        finally:
            for other in others:
                os.kill(other, signal.SIGCONT)

    async def ended(self) -> Ended:
        stdout, stderr = await self._process.communicate()
        return Ended(self._process.returncode or 0, self.welcome + stdout.decode(), stderr.decode())


@asynccontextmanager
async def serving(folder: Path, **environ: str) -> AsyncIterator[Server]:
    """Started in this folder, on a port of its own. Leaving kills it, unless it has ended."""
    process = await start(folder, "serve", **{"PORT": "0", "AUTO_TITLE": "first-message", **environ})
    welcome = ""
    try:
        while not (found := re.search(r"(http://\S+)/docs.*", welcome, re.DOTALL)) or "password" not in found[0]:
            line = (await process.stdout.readline()).decode()
            assert line, (await process.stderr.read()).decode()
            welcome += line
        async with client_of(found[1], within=100) as api:
            yield Server(process, welcome, found[1], api)
    finally:
        if process.returncode is None:
            process.kill()
            _, log = await process.communicate()
            print(log.decode())  # shown if the test has failed


@asynccontextmanager
async def several_serving(number: int, folder: Path, **environ: str) -> AsyncIterator[Sequence[Server]]:
    """So many, started one after another in this folder, and thus with the same secrets: who has signed in at one has
    signed in at all (`one.api.with_token(user.token)`). `environ` names their database, which SQLite's cannot be.
    """
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(serving(folder, **environ)) for _ in range(number)]
