"""Wheels and environments to install them in, made without a network."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path, fails: bool = False) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert bool(done.returncode) is fails, output
    return output


def pip(*arguments: str | Path, cwd: Path) -> str:
    return run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, cwd=cwd)


def wheel(source: Path, into: Path) -> Path:
    pip("wheel", source, "--no-deps", "--no-build-isolation", "-w", into, cwd=into)
    (built,) = into.glob("*.whl")
    return built


def environment(path: Path, *, dependencies: bool) -> Path:
    """The Python of a new virtual environment. `dependencies`: it sees the libraries of this one, though not chatcore,
    which is installed here as editable: a path file within a path file is not followed."""
    venv.create(path, symlinks=True)
    python = path / "bin" / "python"
    if dependencies:
        site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=path).strip()
        (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def install(python: Path, *what: str | Path) -> None:
    pip("--python", python, "install", "--no-deps", "--no-index", *what, cwd=python.parent)
