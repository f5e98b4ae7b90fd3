"""The README promises no feature without a test that is there."""

import pytest

from unit.documents import ROOT, check_there, named_in, rows_of

FEATURES = [
    row for row in rows_of((ROOT / "README.md").read_text("utf-8"), "Five systems in one") if len(row) == 4 and row[1]
][2:]
NAMED = sorted({name for row in FEATURES for name in named_in(row[3])})


def test_each_feature_of_the_five_systems_names_a_test() -> None:
    features = [row for row in FEATURES if row[0] in {*"ABCDE", "all"} and named_in(row[3])]
    assert {row[0] for row in features} == {*"ABCDE", "all"}
    assert len(features) > 35


@pytest.mark.parametrize("named", NAMED)
def test_a_test_that_is_named_is_there(named: str) -> None:
    check_there(named)
