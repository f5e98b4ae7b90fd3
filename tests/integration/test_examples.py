"""The examples of README.md and docs/ work as they stand there."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from integration.databases import new_database

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
TOUR = ROOT / "docs/tour.md"


def blocks(document: Path, language: str, after: str, before: str = "") -> list[str]:
    part = document.read_text("utf-8").partition(after)[2]
    part = part.partition(before)[0] if before else part
    return re.findall(rf"^```{language}\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """`chatcore serve`, as `make run` starts it."""
    command = [str(Path(sys.executable).with_name("chatcore")), "serve"]
    environ = {
        **os.environ,
        "PORT": "0",
        "DATABASE_URL": "",
        "DATA_DIR": str(tmp_path / "var"),
        "OPENAI_API_KEY": "",
        "OPENAI_BASE_URL": "",
    }
    with subprocess.Popen(command, env=environ, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        output = process.stdout
        assert output is not None
        try:
            yield next(found[1] for line in output if (found := re.search(r"(http://\S+)/docs", line)))
        finally:
            process.terminate()
            assert process.wait(30) == 0
            output.close()


def said_by(script: str, server: str, folder: Path) -> str:
    environ = {**os.environ, "CHATCORE": server}
    done = subprocess.run(
        ["sh", "-e"], input=script, env=environ, cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_round_trip(server: str, tmp_path: Path) -> None:
    (script,) = blocks(README, "sh", "<!-- round trip -->", "<!-- end of round trip -->")
    assert "You asked: “Why is the sky blue? 🌈”" in said_by(script, server, tmp_path)


def test_any_openai_client(server: str, tmp_path: Path) -> None:
    (script,) = blocks(README, "sh", "<!-- round trip -->", "<!-- end of round trip -->")
    (program,) = blocks(README, "python", "<!-- openai -->", "<!-- end of openai -->")
    (tmp_path / "client.py").write_text(program, "utf-8")
    said = said_by(f"{script}\nexport CHATCORE TOKEN\n{sys.executable} client.py", server, tmp_path)
    assert said.count("You asked: “Why is the sky blue? 🌈”") == 2


def test_the_walkthrough(server: str, tmp_path: Path) -> None:
    script = "\n".join(blocks(TOUR, "sh", "<!-- walkthrough", "<!-- end of walkthrough -->"))
    assert script.count("curl ") >= 9
    said = said_by(script, server, tmp_path)
    assert '"username":"alice"' in said
    assert "You asked: “Why is the sky blue? 🌈”" in said
    assert "event: reply.started" in said
    assert '"offset":12,' in said
    assert "event: reply.completed" in said
    assert "[4, 5]\n" in said
    assert "[1, 6]\n" in said
    assert "You asked: “Why is the sea blue? 🌊”" not in said  # what comes back is the first branch
    assert '"model_name":"llama3.2"' in said


@pytest.mark.parametrize("kind", ["mysql", "postgresql"])
def test_two_servers_one_of_which_is_killed(kind: str, tmp_path: Path) -> None:
    script = "\n".join(blocks(TOUR, "sh", "<!-- two servers", "<!-- end of two servers -->"))
    commands = Path(sys.executable).parent
    with new_database(kind, tmp_path) as url, ExitStack() as stack:
        environ = {
            "PATH": f"{commands}:{os.environ['PATH']}",
            "DATABASE_URL": url,
            "A_PORT": str(free_port()),
            "B_PORT": str(free_port()),
        }
        shell = subprocess.Popen(
            ["sh", "-e"],
            env=environ,
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        stack.callback(end_all_of, shell)
        said, errors = shell.communicate(script, timeout=60)
    assert shell.returncode == 0, errors
    assert "event: reply.interrupted" in said
    assert "\ninterrupted\n" in said
    assert "You asked: “Still there?”" in said
    heard = (tmp_path / "heard-on-b").read_text()
    assert heard.startswith("event: reply.started\n")
    assert "You asked: “Count, please: 1 2 " in "".join(re.findall(r'"text":"([^"]*)"', heard))
    assert "reply.completed" not in heard


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def end_all_of(shell: "subprocess.Popen[str]") -> None:
    """The servers that the shell has started go with it, however far it came."""
    with suppress(ProcessLookupError):
        os.killpg(shell.pid, signal.SIGKILL)
    shell.communicate()


def test_the_library_in_an_environment_without_the_http_packages(tmp_path: Path) -> None:
    (example,) = blocks(README, "python", "<!-- embedded -->")
    uv = [sys.executable, "-m", "uv", "--no-config", "-q"]
    subprocess.run([*uv, "venv", "--python", sys.executable, tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    wanted = f"{ROOT}[sqlite,openai]"
    pinned = tmp_path / "pinned.txt"
    pinned.write_text(re.sub(r" \\\n +--hash=\S+", "", re.sub(r"#.*", "", (ROOT / "requirements.lock").read_text())))
    subprocess.run([*uv, "pip", "install", "--python", python, "-c", pinned, wanted], check=True)
    assert subprocess.run([python, "-c", "import litestar"], capture_output=True).returncode != 0
    count = "from importlib.metadata import distributions; print(len(list(distributions())))"
    assert int(subprocess.run([python, "-c", count], capture_output=True, check=True).stdout) <= 30

    done = subprocess.run([python, "-"], input=example, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "You asked: “Hello from another program 👋”" in done.stdout
    assert done.stdout.endswith("['complete', 'complete']\n")


def test_the_site_is_built_without_a_warning_and_needs_no_other_host(tmp_path: Path) -> None:
    """A link to a page or heading that is missing is a warning."""
    build = (sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-d", tmp_path / "doctrees")
    done = subprocess.run([*build, ROOT / "docs", tmp_path / "site"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    pages = list((tmp_path / "site").glob("*.html"))
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} <= {page.stem for page in pages}
    for page in pages:
        loaded = re.findall(r'<(?:script|link|img|iframe)\b[^>]*?(?:src|href)="([^"]*)"', page.read_text("utf-8"))
        assert loaded
        assert [url for url in loaded if "//" in url] == []
