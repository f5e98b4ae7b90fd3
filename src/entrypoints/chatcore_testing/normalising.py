"""What is normalised while a test runs: lengths, since the time depends on the machine."""

import unicodedata
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal
from unittest.mock import patch

MARKS = "a" + "\u0301" * 40_000 + "\u0323" * 40_000
"""Bringing these into their order takes quadratic time, seconds of it."""

_LEFT_AS_IT_IS = 10_000  # so that a test that fails does not take minutes

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]


@contextmanager
def lengths_normalised() -> Generator[list[int], None, None]:
    """Yield the lengths of the texts that are normalised in the block."""
    normalize, lengths = unicodedata.normalize, list[int]()

    def noting(form: Form, text: str) -> str:
        lengths.append(len(text))
        return normalize(form, text) if len(text) < _LEFT_AS_IT_IS else text

    with patch.object(unicodedata, "normalize", noting):
        yield lengths
