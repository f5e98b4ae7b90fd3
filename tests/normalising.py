"""What is normalised while a test runs: lengths, since the time depends on the machine."""

import unicodedata
from typing import Literal

import pytest

MARKS = "a" + "\u0301" * 40_000 + "\u0323" * 40_000
"""Bringing these into their order takes quadratic time, seconds of it."""

_LEFT_AS_IT_IS = 10_000  # so that a test that fails does not take minutes

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]


def lengths_normalised(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Those of the texts that are normalised from now on."""
    normalize, lengths = unicodedata.normalize, list[int]()

    def noting(form: Form, text: str) -> str:
        lengths.append(len(text))
        return normalize(form, text) if len(text) < _LEFT_AS_IT_IS else text

    monkeypatch.setattr(unicodedata, "normalize", noting)
    return lengths
