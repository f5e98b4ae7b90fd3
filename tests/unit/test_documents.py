"""The documents promise nothing without a test that exists, and say of settings and commands what the code says."""

import re
import shlex
from pathlib import Path

import click
import msgspec
import pytest

from chatcore_app import Settings
from chatcore_cli.main import cli
from unit.documents import ROOT, check_there, named_in, read, rows_of, tables_of

pytestmark = pytest.mark.once

_NUMBER = re.compile(r"\d+\.\d+\.\d+|RFC \d{4} §[\d.]+(?:, §[\d.]+)*")


def test_the_readme_is_short() -> None:
    assert len(read("README.md").encode()) <= 8 * 1024


@pytest.mark.parametrize("document", ["README.md", "SECURITY.md"])
def test_links_of_the_root_lead_to_pages(document: str) -> None:
    """Those of the pages themselves are checked where their site is built."""
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", read(document))
    assert links
    assert [link for link in links if not (ROOT / link).is_file()] == []


# ---- tests that are named ------------------------------------------------------------------------------------

FEATURES = rows_of(read("docs/systems.md"), "Features")
HELD = rows_of(read("docs/security.md"), "What is held, and by which test")
NOT_HELD = rows_of(read("docs/security.md"), "What is not held, and why")
NAMED = sorted({name for row in (*FEATURES, *HELD) for name in named_in(row[-1])})


def test_each_feature_of_the_five_systems_names_a_test() -> None:
    assert {row[0] for row in FEATURES} == {*"ABCDE", "all"}
    assert all(len(row) == 4 and named_in(row[3]) for row in FEATURES)
    assert len(FEATURES) > 35


def test_each_requirement_that_is_held_names_a_test_and_each_other_one_a_reason() -> None:
    assert len(HELD) > 60
    assert len(NOT_HELD) > 10
    for number, short, tests in HELD:
        assert _NUMBER.match(number), number
        assert short
        assert tests.replace(", ", "").replace("`", "") == "".join(named_in(tests)) != ""
    for number, short, reason in NOT_HELD:
        assert _NUMBER.match(number), number
        assert short
        assert reason


@pytest.mark.parametrize("named", NAMED)
def test_a_test_that_is_named_is_there(named: str) -> None:
    check_there(named)


# ---- settings ------------------------------------------------------------------------------------------------

SETTINGS = {row[0].strip("`"): row[1] for row in tables_of(read("docs/settings.md"))}
FIELDS = {field.encode_name: field for field in msgspec.structs.fields(Settings)}
SECRETS = {"SECRET_KEY": "b3e7f0a94c5d4d1f8a6b2c90d7e1f358", "ENCRYPTION_KEYS": "0" * 44}
ELSEWHERE = {"APP_VERSION", "OPENAI_MODEL"}
"""Their defaults are the package's version, and the container's."""


def test_each_setting_is_described_once() -> None:
    described = [row[0].strip("`") for row in tables_of(read("docs/settings.md"))]
    assert sorted(described) == sorted(FIELDS)


@pytest.mark.parametrize("name", sorted(FIELDS.keys() - ELSEWHERE))
def test_the_default_of_a_setting_is_the_code_s(name: str) -> None:
    """In words only where it depends on something else."""
    value = re.fullmatch(r"`(.*)`", SETTINGS[name])
    if value is None or "`" in value[1]:
        assert FIELDS[name].default in ("", None, ())
    else:
        field = FIELDS[name].name
        stated = Settings.load({**SECRETS, name: value[1]}, env_file="none")
        assert getattr(stated, field) == getattr(Settings(), field)


def test_the_rates_of_production_are_the_code_s() -> None:
    stated = {
        name.lower().removeprefix("rate_limit_"): found[1]
        for name, default in SETTINGS.items()
        if (found := re.fullmatch(r"production: (\S+); development: off", default))
    }
    named = {f"RATE_LIMIT_{kind.upper()}": rate for kind, rate in stated.items()}
    production, development = Settings(environment="production"), Settings.load({**SECRETS, **named}, env_file="none")
    assert stated.keys() == {"register", "send", "search", "key", "requests"}
    assert production.rate_limits == development.rate_limits
    assert all(Settings().rate_limits[kind] is None for kind in stated)


# ---- commands ------------------------------------------------------------------------------------------------


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", read("docs/operating.md"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("chatcore ")]


@pytest.mark.parametrize("line", commands())
def test_a_command_is_one_that_there_is(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, *arguments = shlex.split(line, comments=True)
    for file in [argument for argument in arguments if "." in argument]:
        (tmp_path / file).touch()
    command: click.Command = cli
    while isinstance(command, click.Group):
        _, found, arguments = command.resolve_command(click.Context(command), arguments)
        assert found is not None
        command = found
    command.make_context(command.name, arguments)  # which raises for an argument or option that it has not


# ---- files ---------------------------------------------------------------------------------------------------


def test_the_files_that_contributors_change_are_there() -> None:
    files = [row[0].strip("`") for row in tables_of(read("docs/contributing.md"))]
    assert files
    assert [file for file in files if not (ROOT / file).exists()] == []
