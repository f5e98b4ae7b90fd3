"""What the benches share: the processes that are measured, each a role of the bench's own file.

A role's process prints its URL when it is ready. A line on its standard input asks for its figures (`tell`): the CPU
seconds, user and system, that it has used, which other processes on the machine do not disturb much, as they do the
clock; the memory that it has; and what else the role knows.
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import nan
from pathlib import Path

Figures = dict[str, float]


def tell(more: Callable[[], Figures] = dict) -> None:
    """Answers every line on standard input, from now on; the process ends with its input. `more` is called from a
    thread of its own."""
    threading.Thread(target=_tell, args=(more,), daemon=True).start()


def _tell(more: Callable[[], Figures]) -> None:
    for _ in sys.stdin:
        used = resource.getrusage(resource.RUSAGE_SELF)
        figures = {"cpu": used.ru_utime + used.ru_stime, "memory": _memory(), **more()}
        print(f"figures {json.dumps(figures)}", flush=True)
    os._exit(0)


def _memory() -> float:
    """Bytes that are resident, where the system is Linux."""
    if sys.platform != "linux":
        return nan
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@dataclass(frozen=True)
class Child:
    """A process of a bench in one of its roles."""

    process: "subprocess.Popen[str]"
    url: str

    def cpu(self) -> float:
        """Seconds so far."""
        return self.figures()["cpu"]

    def figures(self) -> Figures:
        """`cpu` in seconds, `memory` in bytes, and what the role adds."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        while not (line := self.process.stdout.readline()).startswith("figures "):
            assert line, "the process has ended"
        figures: Figures = json.loads(line.removeprefix("figures "))
        return figures


@contextmanager
def child(*role: str) -> Iterator[Child]:
    """This bench's own file with these arguments."""
    command = [sys.executable, sys.argv[0], *role]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout
            while not (found := re.search(r"http://[^/\s]+", line := process.stdout.readline())):
                if not line:
                    log.seek(0)
                    sys.exit(f"{role[0]} did not start:\n{log.read()}")
            yield Child(process, found[0])
        finally:
            process.kill()
