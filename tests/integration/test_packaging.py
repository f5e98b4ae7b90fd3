"""What `pip install` gives: the wheel, the same from the source distribution, an editable install, and types for those
who use it. Nothing is downloaded: hatchling and the dependencies are those of the environment that runs the tests.
"""

import re
import sys
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest

from integration.wheels import ROOT, environment, install, run, wheel

pytestmark = pytest.mark.once

SOURCES = ROOT / "src"

PROGRAM = """\
import asyncio
import sys

from chatcore import PasswordPolicy, Register, SessionIssuer, SessionPolicy, SystemClock, User
from chatcore_app import Settings
from chatcore_http import create_app
from chatcore_memory import HandClock
from chatcore_openai import OpenAIGateway
from chatcore_security import Argon2Passwords, JWTSigner
from chatcore_sql import Database


async def sign_up(database_url: str) -> User:
    signer, policy = JWTSigner("a secret of thirty-two characters"), SessionPolicy(refresh_secret=bytes(32))
    async with Database(database_url) as database:
        await database.migrate()
        register = Register(
            unit_of_work=database.unit_of_work,
            passwords=Argon2Passwords(),
            policy=PasswordPolicy(),
            sessions=SessionIssuer(signer=signer, policy=policy),
            clock=SystemClock(),
        )
        return (await register(username="alice", password="correct horse")).user


def all_packages() -> object:
    return (create_app, HandClock, OpenAIGateway, Settings)


if __name__ == "__main__":
    print(asyncio.run(sign_up(sys.argv[1])).username)
"""
PAGES = """\
import asyncio
import sys
from importlib.util import find_spec

from litestar.testing import AsyncTestClient

from chatcore_app import Settings
from chatcore_http import create_app


async def answers() -> list[int]:
    async with AsyncTestClient(create_app(Settings.load({"DATA_DIR": "."})), base_url="http://127.0.0.1") as client:
        return [(await client.get(path)).status_code for path in sys.argv[1:]]


needless = ("django", "faker", "fastapi", "flask", "polyfactory", "starlette")
print(asyncio.run(answers()), [name for name in needless if find_spec(name)])
"""
ASSETS = {"redoc.standalone.js", "swagger-ui-bundle.js", "swagger-ui.css"}
MISTAKE = """\


async def name() -> int:
    return (await sign_up("sqlite:///:memory:")).username
"""


def contents(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory, built: Path) -> Path:
    """The Python of somebody else's environment, with chatcore installed and not editable."""
    python = environment(tmp_path_factory.mktemp("outside"), dependencies=True)
    install(python, built)
    where = run(python, "-Ic", "import chatcore; print(chatcore.__file__)", cwd=python.parent)
    assert Path(where.strip()).is_relative_to(python.parents[1])
    return python


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def test_the_wheel_holds_every_source_file_under_names_of_its_own(built: Path) -> None:
    shipped = contents(built)
    assert {name.split("/")[0] for name in shipped} >= {"chatcore", "chatcore_sql", "chatcore_http"}
    assert all(name.startswith("chatcore") for name in shipped)
    roots = (SOURCES, SOURCES / "adapters", SOURCES / "entrypoints")
    packages = [package for root in roots for package in root.glob("chatcore*")]
    files = {
        file.relative_to(package.parent).as_posix()
        for package in packages
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert set(shipped) == files | {f"chatcore_http_assets/{name}" for name in ASSETS}
    assert any(re.fullmatch(r"chatcore_sql/migrations/versions/0001_\w+\.py", name) for name in files)
    assert {f"{package.name}/py.typed" for package in packages} <= files


def test_the_source_distribution_builds_the_same(built: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path, cwd=ROOT)
    (source,) = tmp_path.glob("*.tar.gz")
    assert contents(wheel(source, tmp_path)) == contents(built)


def test_the_core_needs_nothing_but_python(built: Path, tmp_path: Path) -> None:
    python = environment(tmp_path, dependencies=False)
    install(python, built)
    run(python, "-Ic", "import chatcore, chatcore_memory", cwd=tmp_path)
    missing = run(python, "-Ic", "import chatcore_http", cwd=tmp_path, fails=True)
    assert "ModuleNotFoundError" in missing
    missing = run(python, "-Ic", "import chatcore_sql", cwd=tmp_path, fails=True)
    sentence = "chatcore_sql needs sqlalchemy: install chatcore[sqlite], chatcore[mysql] or chatcore[postgresql]"
    assert missing.splitlines()[-1] == f"ModuleNotFoundError: {sentence}"


def test_an_editable_install_reads_the_sources_and_has_the_command(tmp_path: Path) -> None:
    python = environment(tmp_path, dependencies=True)
    install(python, "--no-build-isolation", "--editable", ROOT)
    where = run(python, "-Ic", "import chatcore, chatcore_sql; print(chatcore_sql.__file__)", cwd=tmp_path)
    assert Path(where.strip()) == SOURCES / "adapters" / "chatcore_sql" / "__init__.py"
    assert "migrate" in run(python.with_name("chatcore"), "--help", cwd=tmp_path)


def test_an_outside_program_runs_on_the_installed_package(outside: Path, project: Path) -> None:
    assert run(outside, "program.py", f"sqlite:///{project}/chat.db", cwd=project) == "alice\n"


def test_production_shows_the_documentation_without_a_second_framework(built: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv", dependencies=False)
    uv = (sys.executable, "-m", "uv", "--no-config", "-q", "pip", "install", "--python", python, "--no-deps")
    run(*uv, "--require-hashes", "-r", ROOT / "requirements.lock", cwd=tmp_path)
    run(*uv, built, cwd=tmp_path)
    paths = ["/openapi.json", "/docs", "/redoc", *(f"/docs/{name}" for name in ASSETS)]
    said = run(python, "-Ic", PAGES, *paths, cwd=tmp_path).splitlines()
    assert said[-1] == f"{[200] * len(paths)} []", said


@pytest.mark.timeout(600)
def test_an_outside_program_type_checks_with_mypy(outside: Path, project: Path) -> None:
    mypy = (sys.executable, "-m", "mypy", "--strict", "--python-executable", outside, "program.py")
    assert "no issues found" in run(*mypy, cwd=project)
    (project / "program.py").write_text(PROGRAM + MISTAKE)
    found = run(*mypy, cwd=project, fails=True)
    assert 'got "str", expected "int"' in found
    assert "Found 1 error" in found


@pytest.mark.timeout(600)
def test_an_outside_program_type_checks_with_pyright(outside: Path, project: Path) -> None:
    pyright = (sys.executable, "-m", "pyright", "--pythonpath", outside, "program.py")
    assert "0 errors, 0 warnings" in run(*pyright, cwd=project)
    (project / "program.py").write_text(PROGRAM + MISTAKE)
    found = run(*pyright, cwd=project, fails=True)
    assert '"str" is not assignable to "int"' in found
    assert "1 error, 0 warnings" in found


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_file_pins_and_hashes_everything_and_holds_no_address(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    entries = [line for line in lines if line and not line.lstrip().startswith(("#", "--hash"))]
    assert entries
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; .+)? \\", entry) for entry in entries)
    hashed = [after for before, after in pairwise(lines) if before in entries]
    assert all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashed)
    said = "\n".join(line for line in lines if "--hash" not in line).replace("via the following", "")
    assert not re.search(r"://|/|@|--(extra-)?index|--find-links|--trusted", said)
