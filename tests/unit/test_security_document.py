"""SECURITY.md promises nothing without a test that is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
DOCUMENT = (ROOT / "SECURITY.md").read_text("utf-8")
_NUMBER = re.compile(r"\d+\.\d+\.\d+|RFC \d{4} §[\d.]+(?:, §[\d.]+)*")


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the table under this heading."""
    part = re.split(r"^## ", DOCUMENT.partition(f"## {heading}\n")[2], flags=re.MULTILINE)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


HELD = rows_of("What is held, and by which test")
NOT_HELD = rows_of("What is not held, and why")
NAMED = sorted({name for row in HELD for name in re.findall(r"`([^`]+::[^`]+)`", row[2])})


def test_each_requirement_that_is_held_names_a_test_and_each_other_one_a_reason() -> None:
    assert len(HELD) > 60
    assert len(NOT_HELD) > 10
    for number, short, tests in HELD:
        assert _NUMBER.match(number), number
        assert short
        assert tests.replace(", ", "").replace("`", "") == "".join(re.findall(r"`([^`]+::[^`]+)`", tests)) != ""
    for number, short, reason in NOT_HELD:
        assert _NUMBER.match(number), number
        assert short
        assert reason


@pytest.mark.parametrize("named", NAMED)
def test_a_test_that_is_named_is_there(named: str) -> None:
    path, _, name = named.partition("::")
    functions = {
        node.name
        for node in ast.walk(ast.parse((TESTS / path).read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name.startswith("test_")
    assert name in functions
