"""The Dockerfile and compose.yaml, as far as they can be looked at without Docker. Their form: `make check`."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from chatcore_app import Settings

ROOT = Path(__file__).parents[2]
Instructions = list[tuple[str, str]]


@pytest.fixture(scope="module")
def stages() -> list[Instructions]:
    """Each FROM and what follows it."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    starts = [number for number, line in enumerate(lines) if line[0] == "FROM"]
    return [
        [(line[0], line[1]) for line in lines[start:end]]
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)
    ]


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def of(stage: Instructions, instruction: str) -> list[str]:
    return [arguments for name, arguments in stage if name == instruction]


# ---- the image -------------------------------------------------------------------------------------------


def test_what_is_copied_exists_and_is_not_ignored(stages: list[Instructions]) -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for arguments in of(stages[0], "COPY")
        for source in shlex.split(arguments)[:-1]
        if not source.startswith("--")
    }
    assert copied == kept
    assert all((ROOT / source).exists() for source in copied)


def test_the_last_stage_has_only_what_was_built_and_is_not_root(stages: list[Instructions]) -> None:
    build, last = stages
    assert of(build, "FROM")[0].endswith(" AS build")
    assert [copy.split()[0] for copy in of(last, "COPY")] == ["--from=build"]
    (user,) = of(last, "USER")
    assert int(user) > 0
    assert f"--uid {user} " in of(last, "RUN")[0]
    names = [name for name, _ in last]
    assert names.index("USER") > max(index for index, name in enumerate(names) if name == "RUN")


def test_everything_from_an_index_is_pinned_by_its_hash(stages: list[Instructions]) -> None:
    installs = [run for run in of(stages[0], "RUN") if " install " in run]
    assert ["--require-hashes" in run or "--no-deps" in run for run in installs] == [True, True]
    assert not re.search(r"://|index", (ROOT / "Dockerfile").read_text())


def test_what_the_image_sets_are_settings(stages: list[Instructions]) -> None:
    values = dict(pair.split("=", 1) for arguments in of(stages[1], "ENV") for pair in shlex.split(arguments))
    assert set(values) - {"PATH"} <= set(Settings.__struct_encode_fields__)
    assert not {name for name in values if "KEY" in name or "URL" in name}


def test_the_health_check_is_a_program_that_compiles(stages: list[Instructions]) -> None:
    (check,) = of(stages[1], "HEALTHCHECK")
    command = json.loads(check.split(" CMD ")[1])
    assert command[:2] == ["python", "-c"]
    compile(command[2], "HEALTHCHECK", "exec")
    assert "/ready" in command[2]


# ---- compose.yaml ----------------------------------------------------------------------------------------


def test_what_runs_and_in_which_order(compose: Any) -> None:
    services = compose["services"]
    assert set(services) == {"chatcore", "migrate", "mysql", "postgres", "redis"}
    assert {name for name, service in services.items() if "profiles" in service} == {"postgres"}
    assert services["chatcore"]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert services["migrate"]["command"] == ["migrate"]
    assert services["migrate"]["depends_on"]["mysql"] == {"condition": "service_healthy"}
    for name in ("mysql", "postgres", "redis"):
        assert services[name]["healthcheck"]["test"]
    waited_for = {name for service in services.values() for name in service.get("depends_on", {})}
    assert waited_for <= set(services)


def test_what_has_to_last_is_in_a_volume(compose: Any) -> None:
    mounted = {
        volume.split(":")[0] for service in compose["services"].values() for volume in service.get("volumes", [])
    }
    passing = {"/var/tmp"}  # where uploads wait
    assert mounted - passing == set(compose["volumes"]) == {"mysql", "postgres"}


def test_no_secret_has_a_default(compose: Any) -> None:
    text = (ROOT / "compose.yaml").read_text()
    for name in ("SECRET_KEY", "ENCRYPTION_KEYS", "MYSQL_PASSWORD"):
        assert f"{name}: ${{{name}:?" in text
    for service in compose["services"].values():
        for name, value in service["environment"].items() if "environment" in service else ():
            if "PASSWORD" in name and name != "MYSQL_RANDOM_ROOT_PASSWORD":
                assert value.startswith(f"${{{name}:")


def test_only_the_application_is_reached_from_outside_and_by_default_from_this_machine(compose: Any) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert published == {"chatcore": ["${PUBLISH:-127.0.0.1:8000}:8000"]}


def test_a_stop_leaves_replies_their_time(compose: Any) -> None:
    grace = int(compose["services"]["chatcore"]["stop_grace_period"].removesuffix("s"))
    assert grace > Settings.load({"SECRET_KEY": "s" * 32, "ENCRYPTION_KEYS": "x"}).shutdown_grace + 5
