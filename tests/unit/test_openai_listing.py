"""Which models a listing names, in the forms that servers give it."""

import pytest

from chatcore.errors import ModelProtocolError
from chatcore_openai.listing import models_in


@pytest.mark.parametrize(
    "listing",
    [
        b'{"object": "list", "data": [{"id": "b", "created": null}, {"id": "a"}], "models": []}',
        b'[{"id": "b", "display_name": "B"}, {"id": "a"}]',
        b'{"models": [{"name": "b", "model": "b"}, {"name": "a"}, {}]}',
        b'{"data": ["a", "b"]}',
        b'{"data": [{"id": "a", "owner": "\\ud83e"}, {"id": "b"}]}',
    ],
)
def test_a_listing_is_read_in_any_form(listing: bytes) -> None:
    assert models_in(listing) == ["a", "b"]


@pytest.mark.parametrize(
    "none",
    [
        pytest.param(b'{"data": [' + b"{}," * 350_000 + b"{}]}", id="a flood of objects"),
        b"",
        b"{}",
        b'{"object": "list", "data": null}',
        b'{"data": [1]}',
        b"<html>",
        b"[" * 9999,
    ],
)
def test_what_lists_nothing_is_refused(none: bytes) -> None:
    with pytest.raises(ModelProtocolError):
        models_in(none)
