"""`chatcore_testing` from the wheel, in somebody else's environment: the code of docs/testing.md, and adapters that are
not ours."""

import re
from pathlib import Path

import pytest

from integration.wheels import ROOT, environment, install, run, wheel

pytestmark = pytest.mark.once

ADAPTERS = """\
import asyncio
import hashlib
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode

from chatcore.entities import storable
from chatcore.ports import Cipher, Delta, LLMGateway
from chatcore_testing import Silence


class MacCipher(Cipher):
    def __init__(self, key):
        self._key = key
        self.newest = hashlib.sha256(b"name" + key).hexdigest()[:8]

    def seal(self, api_key, *, owner, config_id):
        nonce = secrets.token_bytes(16)
        body = self._mixed(nonce, api_key.encode())
        return urlsafe_b64encode(self._mac(nonce, body, owner, config_id) + nonce + body).decode()

    def open(self, sealed, *, owner, config_id):
        try:
            raw = urlsafe_b64decode(sealed)
        except ValueError:
            raw = b""
        mac, nonce, body = raw[:32], raw[32:48], raw[48:]
        if not hmac.compare_digest(mac, self._mac(nonce, body, owner, config_id)):
            raise ValueError("it does not open")
        return self._mixed(nonce, body).decode()

    def _mac(self, nonce, body, owner, config_id):
        return hmac.digest(self._key, b"%b %d %d %b" % (nonce, owner, config_id, body), "sha256")

    def _mixed(self, nonce, text):
        stream = hashlib.shake_256(self._key + nonce).digest(len(text))
        return bytes(one ^ other for one, other in zip(text, stream))


class Agent:
    def __init__(self, *steps):
        self.steps, self.calls, self.left = steps, 0, asyncio.Event()


class AgentGateway(LLMGateway):
    def __init__(self, agent):
        self._agent = agent

    async def stream(self, endpoint, prompt):
        self._agent.calls += 1
        try:
            for step in self._agent.steps:
                await asyncio.sleep(0)
                if isinstance(step, Delta):
                    yield Delta(text=storable(step.text))
                elif isinstance(step, Silence):
                    await asyncio.Event().wait()
                else:
                    raise step()
        finally:
            self._agent.left.set()

    async def models(self, endpoint):
        return ["agent"]

    async def may_call(self, url, *, owner):
        return True
"""
WRONG = """\
from datetime import datetime

from adapters import MacCipher

from chatcore.ports import Clock
from chatcore_testing import CipherContract, ClockContract


class TestUnbound(CipherContract):
    def cipher(self):
        class Unbound(MacCipher):
            def _mac(self, nonce, body, owner, config_id):
                return super()._mac(nonce, body, 0, 0)

        return Unbound(b"a key")


class TestLocal(ClockContract):
    def clock(self):
        class Local(Clock):
            def now(self):
                return datetime.now()

        return Local()
"""
ANYIO = """

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""
STARTED = """\
import sys
import pytest
pytest.main(["-q", *sys.argv[1:]])
print(sorted(name for name in sys.modules if name.startswith("chatcore")))
"""
FOREIGN = [
    f"-pno:{name}" for name in ("faker", "hypothesispytest", "schemathesis", "pytest_socket", "timeout", "xdist")
]
"""Plugins that take their time to start, and are not needed."""
NEITHER = ("-pno:asyncio", "-pno:anyio")
STRICT = ("-oasyncio_mode=strict", "-oasyncio_default_fixture_loop_scope=function")
AUTO = ("-oasyncio_mode=auto", "-oasyncio_default_fixture_loop_scope=function")


def block(after: str) -> str:
    part = (ROOT / "docs/testing.md").read_text("utf-8").partition(f"<!-- {after} -->")[2]
    found = re.search(r"^```python\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory, built: Path) -> Path:
    """The Python of somebody else's environment, with pytest and its plugins."""
    python = environment(tmp_path_factory.mktemp("outside"), dependencies=True)
    install(python, built)
    return python


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "adapters.py").write_text(ADAPTERS)
    return tmp_path


def outcome_of(python: Path, project: Path, *options: str, fails: bool = False, **files: str) -> str:
    for name, code in files.items():
        (project / f"test_{name}.py").write_text(code)
    return run(python, "-m", "pytest", "-q", "-Werror", *FOREIGN, *options, cwd=project, fails=fails)


@pytest.mark.parametrize(
    ("options", "mark"),
    [
        (STRICT, "\npytestmark = pytest.mark.asyncio\n"),
        (AUTO, ""),
        (STRICT, f"\npytestmark = pytest.mark.anyio\n{ANYIO}"),
        (("-pno:asyncio",), f"\npytestmark = pytest.mark.anyio\n{ANYIO}"),
    ],
    ids=["asyncio strict", "asyncio auto", "anyio beside asyncio", "anyio alone"],
)
def test_the_fixtures_and_the_contracts_of_adapters_that_are_not_ours(
    outside: Path, project: Path, options: tuple[str, ...], mark: str
) -> None:
    said = outcome_of(outside, project, *options, fixtures=block("fixtures") + mark, contracts=block("contracts"))
    assert "53 passed, 14 skipped" in said


def test_without_an_asyncio_plugin_contracts_run_and_the_fixtures_say_what_is_missing(
    outside: Path, project: Path
) -> None:
    fixtures = "def test_it(me):\n    pass\n"
    said = outcome_of(
        outside, project, *NEITHER, fails=True, fixtures=fixtures, contracts=block("contracts"), wrong=WRONG
    )
    assert "need an async test, with pytest-asyncio or with anyio's plugin" in said
    assert "FAILED test_contracts.py" not in said
    assert "FAILED test_wrong.py::TestUnbound::test_it_opens_for_no_other_owner_or_config[12-7]" in said
    assert "AssertionError: ValueError is not raised" in said
    assert "assert None == datetime.timedelta(0)" in said
    assert "asyncio/runners.py" not in said


def test_without_pytest_there_is_a_report(built: Path, project: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv", dependencies=False)
    install(python, built)
    (project / "conforming.py").write_text(block("conform"))
    assert re.search(r"^\d\d passed, 0 failed, 0 skipped$", run(python, "conforming.py", cwd=project), re.MULTILINE)
    run(python, "-c", "import pytest", cwd=project, fails=True)


def test_pytest_starts_without_chatcore(outside: Path, tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text("def test_it():\n    pass\n")
    said = run(outside, "-c", STARTED, *AUTO, *FOREIGN, cwd=tmp_path)
    assert said.endswith("['chatcore_testing', 'chatcore_testing.plugin']\n")


@pytest.mark.parametrize("place", ["option", "ini"])
def test_a_database_that_is_named_is_migrated_and_kept(outside: Path, project: Path, place: str) -> None:
    url = f"sqlite:///{project}/kept.db"
    named = ("--chat-database-url", url) if place == "option" else (f"-ochat_database_url={url}",)
    code = "async def test_it(chat_database):\n    async with chat_database as it:\n        await it.check()\n"
    assert "1 passed" in outcome_of(outside, project, *AUTO, *named, database=code)
    assert (project / "kept.db").stat().st_size > 0
