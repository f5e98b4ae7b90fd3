"""Long lines of JSON are read in slices, and say the same as if they were read at once."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatcore_http import long_lines
from chatcore_http.long_lines import AT_ONCE, TooMuchBesideTexts, restored, without_long_texts

TEXTS = st.text(st.characters(codec="utf-8"), max_size=60) | st.text('"\\\n😀é\0d8', max_size=60)


@pytest.fixture
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every border is met within a few characters."""
    monkeypatch.setattr(long_lines, "_SLICE", 13)


async def read(line: bytes) -> Any:
    rest, texts = await without_long_texts(line)
    return _back(msgspec.json.decode(rest), texts)


def _back(value: Any, texts: Any) -> Any:
    if isinstance(value, dict):
        return {key: _back(found, texts) for key, found in value.items()}
    return restored(value, texts) if isinstance(value, str) else value


@pytest.mark.usefixtures("short_slices")
@settings(max_examples=300, deadline=None)
@given(content=TEXTS, reasoning=TEXTS, escaped=st.booleans())
async def test_it_says_the_same(content: str, reasoning: str, escaped: bool) -> None:
    thing = {"kind": "message", "id": 7, "content": content, "reasoning": reasoning, "parent_id": None}
    assert await read(json.dumps(thing, ensure_ascii=escaped).encode()) == thing


@pytest.mark.usefixtures("short_slices")
@pytest.mark.parametrize(
    "text",
    [rb"\ud83d" * 40, rb"\ude00" * 40, b"\xff" * 40, b"\xe4\xbd" * 40, b"a" * 40 + b"\x01", rb"\x" * 40, b"\\"],
    ids=["half a pair", "the other half", "no UTF-8", "cut characters", "a control character", "no escape", "no end"],
)
async def test_what_is_no_string_is_refused(text: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        await read(b'{"content": "' + text + b'"}')


async def test_a_string_without_end_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        await read(b'{"content": "' + b"a" * 2**20)


@pytest.mark.parametrize("beside", [b"[" + b"1," * AT_ONCE, b'["' + b'","' * AT_ONCE, b'"":' * AT_ONCE, b" " * 2**20])
async def test_little_may_stand_beside_the_texts(beside: bytes) -> None:
    with pytest.raises(TooMuchBesideTexts):
        await read(b'{"content": "Hello", "more": ' + beside)


@pytest.mark.parametrize("part", ["a", "嗨", '"', "😀"])
async def test_no_more_is_decoded_at_once_than_a_slice(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, decode = list[int](), msgspec.json.Decoder(str).decode

    def counting(text: bytes) -> str:
        sizes.append(len(text))
        return decode(text)

    monkeypatch.setattr(long_lines, "_decode_text", counting)
    content = part * (7 * 2**20 // len(part.encode()))
    rest, texts = await without_long_texts(json.dumps({"content": content}).encode())
    assert restored(msgspec.json.decode(rest)["content"], texts) == content
    assert max(sizes) <= 64 * 1024 + 2
    assert len(rest) < 100
