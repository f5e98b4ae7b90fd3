"""Values of a JSON body are counted before they are made."""

import json
from random import Random

import pytest

from chatcore import json_values
from chatcore.bounds import JSON
from chatcore.errors import FieldError, ValidationFailed
from chatcore.json_values import VALUES, check_values
from chatcore_http.protocols.openai import unstored_responses
from chatcore_http.protocols.openai.asked import Asked


def separators_in(body: bytes) -> int:
    """Count what stands before values, one character after the other."""
    found, inside, escaped = 0, False, False
    for character in body.decode():
        if escaped:
            escaped = False
        elif inside:
            escaped, inside = character == "\\", character != '"'
        elif character == '"':
            inside = True
        else:
            found += character in VALUES.decode()
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
async def test_what_is_in_a_string_does_not_count_wherever_a_slice_ends(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_values, "_SLICE", size)
    random = Random(size)
    for _ in range(300):
        words = ["".join(random.choices('\\",[{a:', k=random.randrange(8))) for _ in range(random.randrange(1, 6))]
        body = json.dumps([{word: [word, {}]} for word in words]).encode() + b" " * 200
        values = separators_in(body)
        await check_values(body, most=values)
        with pytest.raises(ValidationFailed):
            await check_values(body, most=values - 1)


async def test_a_body_that_has_no_room_for_too_many_values_is_not_looked_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_values, "_SLICE", None)
    await check_values(b"[" * 20, most=10)


def test_levels_of_lists_and_objects() -> None:
    value: object = "a text"
    for _ in range(50):
        value = [{"in": value}, 1]
    assert JSON.broken(value, "text") is None
    assert JSON.broken([value], "text") == FieldError("text", "must be nested at most 100 deep")


def test_an_error_repeats_little_of_what_a_client_sent() -> None:
    error = ValidationFailed([FieldError("x" * 10_000, "y" * 10_000)] * 10_000)
    assert len(error.errors) == 20
    assert len(error.detail) < 25_000


@pytest.mark.parametrize("before", range(140))
async def test_a_stored_item_is_found_wherever_a_slice_ends(before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unstored_responses, "_SLICE", 70)
    item = b'{"type":"item_reference","id":"msg_123456789012345678_123456789012345678"}'
    asked = Asked.of(b'{"input":[%b%b]}' % (b" " * before, item))
    with pytest.raises(ValidationFailed, match="stored item"):
        await unstored_responses.check_unstored(asked)
