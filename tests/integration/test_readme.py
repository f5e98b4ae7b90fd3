"""What the README shows works as it stands there."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str, after: str, before: str = "") -> list[str]:
    part = README.partition(after)[2]
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


def test_the_walkthrough(server: str) -> None:
    script = "\n".join(blocks("sh", "<!-- walkthrough", "<!-- end of walkthrough -->"))
    assert script.count("curl ") >= 9
    done = subprocess.run(
        ["sh", "-e"], input=script, env={**os.environ, "CHATCORE": server}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert '"username":"alice"' in done.stdout
    assert "You asked: “Why is the sky blue? 🌈”" in done.stdout
    assert "event: reply.started" in done.stdout
    assert '"offset":12,' in done.stdout
    assert "event: reply.completed" in done.stdout
    assert '"model_name":"llama3.2"' in done.stdout


def test_the_library_in_an_environment_without_the_http_packages(tmp_path: Path) -> None:
    (example,) = blocks("python", "<!-- embedded")
    uv = [sys.executable, "-m", "uv", "--no-config", "-q"]
    subprocess.run([*uv, "venv", "--python", sys.executable, tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    wanted = f"{ROOT}[sql,openai,security]"
    pinned = tmp_path / "pinned.txt"
    pinned.write_text(re.sub(r" \\\n +--hash=\S+", "", re.sub(r"#.*", "", (ROOT / "requirements.lock").read_text())))
    subprocess.run([*uv, "pip", "install", "--python", python, "-c", pinned, wanted], check=True)
    assert subprocess.run([python, "-c", "import litestar"], capture_output=True).returncode != 0

    done = subprocess.run([python, "-"], input=example, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "You asked: “Hello from another program 👋”" in done.stdout
    assert done.stdout.endswith("['complete', 'complete']\n")
