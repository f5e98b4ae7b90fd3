"""What a deployment is made from says what the settings and the command are."""

import json
import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from chatcore_app import Settings, SettingsError
from chatcore_cli.main import cli
from chatcore_http.request_limit import WATCHED_PATHS

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / ".env.example"
LINES = EXAMPLE.read_text().splitlines()
FIELDS = {field.encode_name: field for field in msgspec.structs.fields(Settings)}
SECRETS = {"SECRET_KEY", "REFRESH_SECRET_KEY", "ENCRYPTION_KEYS", "OPENAI_API_KEY"}
EMPTY = {"", None, ()}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- .env.example ----------------------------------------------------------------------------------------


def shown() -> dict[str, str]:
    pairs = [(line.partition("=")[0], line.partition("=")[2]) for line in LINES if line and not line.startswith("#")]
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


def test_the_example_names_every_setting_and_nothing_else() -> None:
    assert set(shown()) == set(FIELDS)


def test_its_values_are_the_defaults() -> None:
    """Those that depend on something, as comments say, are empty."""
    secret = "b3e7f0a94c5d4d1f8a6b2c90d7e1f358"
    secrets: dict[str, str] = {"SECRET_KEY": secret, "ENCRYPTION_KEYS": secret}
    assert Settings.load(secrets, env_file=str(EXAMPLE)) == Settings.load(secrets, env_file="none")
    left_out = {name for name, value in shown().items() if not value}
    assert left_out == {"APP_VERSION"} | {name for name, field in FIELDS.items() if field.default in EMPTY}


def test_each_has_a_line_of_explanation() -> None:
    for before, line in pairwise(LINES):
        if line and not line.startswith("#"):
            assert re.fullmatch(r"# .{5,117}[^-]", before), line


def test_unchanged_it_serves_development(folder: Path) -> None:
    settings = Settings.load({}, env_file=str(EXAMPLE))
    assert (settings.environment, len(settings.secret_key)) == ("development", 64)
    assert (folder / "var/secrets.env").exists()


def test_unchanged_it_does_not_serve_production() -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.load({"ENVIRONMENT": "production"}, env_file=str(EXAMPLE))
    for name in ("SECRET_KEY", "ENCRYPTION_KEYS"):
        assert f"{name} must " in str(raised.value)


def test_it_holds_no_secret() -> None:
    assert {name for name in SECRETS if shown()[name]} == set()


def test_it_is_not_ignored() -> None:
    assert ".env*" not in (ROOT / ".gitignore").read_text().split()


# ---- platforms -------------------------------------------------------------------------------------------


def is_a_command(line: list[str]) -> bool:
    """`chatcore …`, with options and commands that it has."""
    program, *arguments = line
    command, context = cli.resolve_command(click.Context(cli), arguments)[1:]
    return program == "chatcore" and command is not None and context == []


def railway() -> Any:
    return tomllib.loads((ROOT / "railway.toml").read_text())


def zeabur() -> Any:
    return json.loads((ROOT / "zeabur.json").read_text())


def test_railway_builds_the_image_migrates_and_looks_whether_it_lives() -> None:
    assert (ROOT / railway()["build"]["dockerfilePath"]).exists()
    deploy = railway()["deploy"]
    assert all(is_a_command(line.split()) for line in deploy["preDeployCommand"])
    assert "startCommand" not in deploy  # the image's own, which takes PORT and HOST from the environment
    assert deploy["healthcheckPath"] in WATCHED_PATHS
    assert deploy["drainingSeconds"] > Settings().shutdown_grace


def test_railways_variables_are_settings() -> None:
    named = set(re.findall(r"\b[A-Z]{3,}(?:_[A-Z]+)+\b", (ROOT / "railway.toml").read_text()))
    assert named - {"ON_FAILURE"} <= set(FIELDS)
    assert named >= {"DATABASE_URL", "SECRET_KEY", "ENCRYPTION_KEYS", "TRUSTED_PROXIES"}


def test_zeabur_has_a_database_migrates_and_looks_whether_it_lives() -> None:
    services = {service["name"]: service for service in zeabur()["spec"]["services"]}
    chatcore = services["chatcore"]
    assert set(chatcore["dependencies"]) == set(services) - {"chatcore"}
    (init,) = chatcore["spec"]["init"]
    assert is_a_command(init["command"])
    assert chatcore["spec"]["healthCheck"]["http"]["path"] in WATCHED_PATHS
    assert str(chatcore["spec"]["ports"][0]["port"]) == chatcore["spec"]["env"]["PORT"]["default"]


def test_zeabur_knows_no_secret_and_no_setting_that_is_none() -> None:
    spec = zeabur()["spec"]
    env = next(service for service in spec["services"] if service["name"] == "chatcore")["spec"]["env"]
    assert set(env) <= set(FIELDS)
    asked = {variable["key"] for variable in spec["variables"]}
    for name in SECRETS & set(env):
        assert env[name] == {"default": f"${{{name}}}"}
        assert name in asked
    exposed = {
        name for service in spec["services"] for name, value in service["spec"]["env"].items() if value.get("expose")
    }
    for value in env.values():
        assert set(re.findall(r"\$\{(\w+)\}", value["default"])) <= asked | exposed
