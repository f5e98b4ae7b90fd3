"""Programs that use other makers' clients, each in a process of its own: they print JSON."""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NPM, PYTHON = HERE / "npm", HERE / "python"
NEWEST = "newest"
"""The environment of the tests themselves, which has the newest client of OpenAI's."""
_WITHIN = 120  # seconds, on a busy machine


def mark_of(environment: str) -> Path:
    """Where `make clients` says that an environment is complete: `npm`, or one of Python."""
    folder = NPM / "node_modules" if environment == "npm" else PYTHON / f".venv-{environment}"
    return folder / ".installed"


def python_of(environment: str) -> str:
    return sys.executable if environment == NEWEST else str(PYTHON / f".venv-{environment}" / "bin" / "python")


async def node(script: str, **environ: str) -> Any:
    return await _printed("node", str(NPM / script), environ)


async def python(environment: str, script: str, **environ: str) -> Any:
    return await _printed(python_of(environment), str(PYTHON / script), environ)


async def _printed(program: str, script: str, environ: dict[str, str]) -> Any:
    with tempfile.TemporaryDirectory() as home:
        process = await asyncio.create_subprocess_exec(
            program,
            script,
            env={"PATH": os.environ["PATH"], "HOME": home, **environ},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_WITHIN):
                stdout, stderr = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, stderr.decode()
    return json.loads(stdout)
