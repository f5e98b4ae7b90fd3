"""Several processes that serve one port: WORKERS."""

import logging
import multiprocessing
import multiprocessing.connection
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.resource_tracker import ensure_running

from chatcore import ChatcoreError
from chatcore_app import Settings, SettingsError
from chatcore_cli.listening import listen

Work = Callable[[Settings, list[socket.socket], Callable[[int], None]], bool]

_BACKLOG = 2048
_LOOK_EVERY = 0.5  # seconds
_NOT_BEFORE = 1.0  # seconds after its last start a worker that has died is started again
_LAST_WORDS = 15  # seconds beyond SHUTDOWN_GRACE in which a worker has to be gone

_CTRL_C = {signal.SIGINT}  # a terminal sends it to all processes

_log = logging.getLogger("chatcore.workers")
_spawn = multiprocessing.get_context("spawn")


def supervise(settings: Settings, work: Work, on_start: Callable[[int], None]) -> None:
    """Runs `work` in WORKERS processes until SIGINT or SIGTERM, and whichever dies once more. `on_start` is called with
    the port once all of them listen.

    Exits with status 1 if one of them cannot start, with the sentence that says why, or does not leave in time. `work`
    must be a function of a module; its result says whether it has ever listened.
    """
    stopping: list[int] = []
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda number, _: stopping.append(number))
    problem = ""
    with ExitStack() as closing:
        listening = [closing.enter_context(each) for each in _listening(settings)]
        workers = [_Worker(settings, work, listening) for _ in range(settings.workers)]
        try:
            problem = _start(workers, stopping)
            if not problem and not stopping:
                on_start(listening[0].getsockname()[1])
                while not stopping:
                    _keep_alive(workers)
        finally:
            failed = _end(workers, within=settings.shutdown_grace + _LAST_WORDS)
    if problem:
        sys.exit(f"chatcore: {problem}")
    if failed:
        sys.exit(1)


class _Worker:
    """One process after another: each tells by a pipe that it listens (an empty string) or why it cannot."""

    def __init__(self, settings: Settings, work: Work, listening: list[socket.socket]) -> None:
        self._args = (settings, work, listening)
        self.start()

    def start(self) -> None:
        self.started_at = time.monotonic()
        self.listens, self.problem = False, ""
        self._news, telling = _spawn.Pipe(duplex=False)
        self.process: SpawnProcess = _spawn.Process(target=_begin, args=(*self._args, telling))
        ensure_running()  # which would let the signal through
        signal.pthread_sigmask(signal.SIG_BLOCK, _CTRL_C)  # it inherits that, and is not interrupted in its imports
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _CTRL_C)
        telling.close()

    def hear(self) -> None:
        """Takes what it has told."""
        with suppress(EOFError):
            while self._news.poll():
                self.problem = self._news.recv()
                self.listens = not self.problem

    @property
    def end(self) -> str:
        """Of one that has ended: how."""
        return self.problem or f"status {self.process.exitcode}"


def _begin(settings: Settings, work: Work, listening: list[socket.socket], telling: Connection) -> None:
    """What a worker's process runs."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until it serves
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _CTRL_C)
    try:
        started = work(settings, listening, lambda _: telling.send(""))
    except (SettingsError, ChatcoreError, OSError) as error:
        telling.send(str(error))
        sys.exit(1)
    sys.exit(0 if started else 1)


def _listening(settings: Settings) -> list[socket.socket]:
    """Bound once, here: connections that wait for a worker that has died are taken by another."""
    found = listen(settings)
    for listening in found:
        listening.listen(_BACKLOG)
    return found


def _start(workers: list[_Worker], stopping: list[int]) -> str:
    """Waits until all listen, or until it is known why that will not come about."""
    while not stopping and not all(worker.listens for worker in workers):
        for worker in workers:
            worker.hear()
            if worker.process.exitcode is not None:
                worker.hear()
                return worker.problem or f"a worker ended before it served ({worker.end})"
        time.sleep(0.05)
    return ""


def _keep_alive(workers: list[_Worker]) -> None:
    multiprocessing.connection.wait([worker.process.sentinel for worker in workers], timeout=_LOOK_EVERY)
    for worker in workers:
        if worker.process.exitcode is not None:
            worker.hear()
            _log.error("worker %s has died (%s) and is started again", worker.process.pid, worker.end)
            time.sleep(max(0.0, worker.started_at + _NOT_BEFORE - time.monotonic()))
            worker.start()


def _end(workers: list[_Worker], *, within: float) -> bool:
    """True if one of them had to be killed."""
    for worker in workers:
        worker.process.terminate()
    deadline, killed = time.monotonic() + within, False
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.exitcode is None:
            killed = True
            worker.process.kill()
            worker.process.join()
    return killed
