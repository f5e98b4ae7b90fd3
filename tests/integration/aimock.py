"""A model server that nobody here wrote: the npm package @copilotkit/aimock, run by Node.

with aimock([{"match": {"userMessage": "hello"}, "response": {"content": "Hello!"}}]) as url:
    ...                         # `url` is the base URL of an endpoint; any key will do

It is installed once, at a pinned version, into the user's cache. Where that cannot be done the test is skipped, and
says so; with `CI` set it fails.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

VERSION = "1.43.0"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chatcore-tests" / f"aimock-{VERSION}"
_SCRIPT = Path("node_modules/@copilotkit/aimock/dist/cli.js")


@contextmanager
def aimock(fixtures: Sequence[dict[str, Any]], *, chunk_size: int = 20, latency: int = 0) -> Iterator[str]:
    """`chunk_size` counts UTF-16 code units, so that 1 cuts an emoji in two; `latency`: milliseconds between chunks."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "fixtures.json")
        file.write_text(json.dumps({"fixtures": list(fixtures)}))
        options = ["--port", "0", "--fixtures", str(file), "--chunk-size", str(chunk_size), "--latency", str(latency)]
        command = [_node(), str(_installed() / _SCRIPT), *options, "--validate-on-load"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
            try:
                yield f"{_address(server)}/v1"
            finally:
                server.terminate()


def _address(server: "subprocess.Popen[str]") -> str:
    assert server.stdout
    said: list[str] = []
    for line in server.stdout:
        said.append(line)
        if found := re.search(r"listening on (http://\S+)", line):
            return found[1]
    raise AssertionError("aimock did not start:\n" + "".join(said))


def _installed() -> Path:
    if not (_CACHE / _SCRIPT).exists():
        _CACHE.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_CACHE.parent) as folder:
            _install(Path(folder, "new"))
            shutil.rmtree(_CACHE, ignore_errors=True)
            Path(folder, "new").rename(_CACHE)
    return _CACHE


def _install(folder: Path) -> None:
    folder.mkdir()
    npm = shutil.which("npm") or _cannot_run("npm is not installed")
    options = ["--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    command = [npm, "install", *options, f"@copilotkit/aimock@{VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    if done.returncode:
        _cannot_run(f"npm could not install it:\n{done.stderr}")


def _node() -> str:
    node = shutil.which("node") or _cannot_run("Node is not installed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").split(".")[0]) < 20:
        _cannot_run(f"it needs Node 20 or newer, and this is {version.strip()}")
    return node


def _cannot_run(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"aimock must run in CI: {reason}")
    pytest.skip(f"NOT TESTED against aimock: {reason}")
