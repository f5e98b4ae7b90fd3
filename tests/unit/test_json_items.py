"""JSON that is read in pieces is read as `json.loads` reads it, and what is kept of it is bounded."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatcore.histories import json_items
from chatcore.histories.json_items import ANYTHING, Each, Fields, Item, JsonItems, Text, Wanted
from chatcore.histories.json_values import NotJson

WORDS = st.text(st.sampled_from('aé你🦄\\"/\n\tu{}[],: \ud83d\ude00'), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


def items_of(text: bytes, wanted: Wanted = ANYTHING, *, step: int = 1, **more: Any) -> list[Item]:
    items = JsonItems(wanted, **more)
    found = [item for at in range(0, len(text), step) for item in items.feed(text[at : at + step])]
    items.end()
    return found


def values_of(text: bytes, wanted: Wanted = ANYTHING, *, step: int = 1) -> list[Any]:
    return [item.value for item in items_of(text, wanted, step=step)]


@settings(max_examples=300, deadline=None)
@given(st.lists(VALUES, max_size=4), st.sampled_from([1, 2, 3, 7, 10_000]), st.booleans())
def test_it_reads_what_json_reads(value: list[Any], step: int, indented: bool) -> None:
    text = json.dumps(value, indent=1 if indented else None).encode()
    assert values_of(text, step=step) == json.loads(text)
    within = b'[{"x": ' + text + b', "y": ' + text + b"}, 5]"
    assert values_of(within, Fields({"y": ANYTHING}), step=step) == [{"y": json.loads(text)}, None]


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_text_that_is_not_escaped(step: int) -> None:
    assert values_of('["我想去巴黎 🦄"]'.encode(), step=step) == ["我想去巴黎 🦄"]
    assert values_of('\ufeff{"é": "🦄"}'.encode(), step=step) == [{"é": "🦄"}]


@pytest.mark.parametrize("step", [1, 5, 1000])
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"5",
        b'"text"',
        b"[",
        b"[1,",
        b"[1 2]",
        b"[1}",
        b'{"a" 1}',
        b'{"a":}',
        b"{1: 2}",
        b'{"a": 1]',
        b'["a]',
        b'["\\x"]',
        b'["\\u12"]',
        b"[truth]",
        b"[\xff]",
        b'["\xff"]',
        b"[]]",
        b"[1][2]",
        b"[" + b"1" * 100 + b"]",
        b"[" * 5000,
    ],
)
def test_what_is_no_json(text: bytes, step: int) -> None:
    with pytest.raises(NotJson):
        items_of(text, step=step)


@pytest.mark.parametrize("step", [1, 50, 10_000])
def test_only_what_is_wanted_is_kept(step: int) -> None:
    text = json.dumps([{"a": 1, "b": {"c": ["]", '"', {}], "d": "x"}, "e": [{"d": 1}, {"d": 2, "f": 3}]}]).encode()
    wanted = Fields(
        {"b": Fields({"d": ANYTHING}), "e": Each(Fields({"d": ANYTHING}, make=lambda found: found["d"] * 10))}
    )
    assert values_of(text, wanted, step=step) == [{"b": {"d": "x"}, "e": [10, 20]}]
    assert values_of(text, Fields({"a": Text(9), "b": Text(9), "e": Fields({})}), step=step) == [
        {"a": None, "b": None, "e": None}
    ]


@pytest.mark.parametrize("step", [1, 10_000])
def test_an_item_that_is_too_large_is_passed_over_and_told_by_its_own_texts(step: int) -> None:
    large = {"title": "Large", "list": [{"x": "y" * 100}] * 50, "late": "z"}
    text = json.dumps([{"title": "Before"}, large, {"title": "After"}]).encode()
    wanted = Fields({"title": Text(100), "list": Each(Fields({"x": ANYTHING})), "late": Text(10)})
    before, refused, after = items_of(text, wanted, step=step, longest=4000)
    assert (before.value["title"], before.why, after.value["title"], after.why) == ("Before", None, "After", None)
    assert refused.value["title"] == "Large"
    assert refused.why == "is larger than 4000 characters"


def test_a_text_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_items, "LONGEST_TEXT", 50)
    text = json.dumps([{"title": "Long", "a": "x" * 100}, {"a": "y"}]).encode()
    long, other = items_of(text, Fields({"title": Text(100), "a": ANYTHING}))
    assert (long.value, long.why) == ({"title": "Long", "a": None}, "has a text of more than 50 characters")
    assert (other.value, other.why) == ({"a": "y"}, None)
    (dropped, _) = items_of(text, Fields({"a": Text(10)}))
    assert (dropped.value, dropped.why) == ({"a": None}, None)


def test_many_small_values_count_more_than_their_text() -> None:
    """Each of them takes its room, however short it is written."""
    text = b"[[" + b"1," * 5000 + b"1]]"
    (refused,) = items_of(text, step=100, longest=100_000)
    assert refused.why is not None


@pytest.mark.parametrize("step", [1, 100, 100_000])
def test_deep_nesting_is_an_error_and_no_other(step: int) -> None:
    """But for what nests by its form, as a tree of messages does."""
    with pytest.raises(NotJson):
        items_of(b"[" * 100_000 + b"]" * 100_000, step=step)
    members: dict[str, Wanted] = {"n": ANYTHING}
    tree = Fields(members)
    members["in"] = tree
    (item,) = items_of(b'{"n": [1], "in": ' * 3000 + b"{}" + b"}" * 3000, tree, step=step)
    depth, at = 0, item.value
    while at.get("n") == [1]:
        depth, at = depth + 1, at["in"]
    assert depth == 3000


def test_what_is_not_wanted_takes_no_memory_and_no_more_time_than_its_length() -> None:
    """Pieces are looked at once: a string that reaches over many of them is not read again from its start."""
    items = JsonItems(Fields({"title": Text(10)}))
    pieces = [b'[{"metadata": "', *[b'x\\"[{' * 2000] * 200, b'", "title": "Kept"}]']
    assert [item.value for piece in pieces for item in items.feed(piece)] == [{"title": "Kept"}]
    assert len(items._open) == 0
