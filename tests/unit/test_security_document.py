"""SECURITY.md promises nothing without a test that is there."""

import re

import pytest

from unit.documents import ROOT, check_there, named_in, rows_of

DOCUMENT = (ROOT / "SECURITY.md").read_text("utf-8")
_NUMBER = re.compile(r"\d+\.\d+\.\d+|RFC \d{4} §[\d.]+(?:, §[\d.]+)*")


def rows_under(heading: str) -> list[list[str]]:
    """But the heads of the tables."""
    return [row for row in rows_of(DOCUMENT, heading) if row[0] != "requirement" and set(row[0]) != {"-"}]


HELD = rows_under("What is held, and by which test")
NOT_HELD = rows_under("What is not held, and why")
NAMED = sorted({name for row in HELD for name in named_in(row[2])})


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
