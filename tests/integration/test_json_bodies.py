"""JSON is taken for what it says: nothing in it is read as something else, as it may be in a query."""

import gc
from pathlib import Path

import pytest

from chatcore.ports import LLMGateway
from chatcore_memory import ScriptedModel
from integration.http_app import api_of, provided, settings_for


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stream", 0),
        ("stream", 1),
        ("stream", "true"),
        ("temperature", "0.5"),
        ("temperature", "null"),
        ("temperature", True),
        ("max_tokens", "5"),
        ("max_tokens", True),
        ("config_id", "1"),
        ("config_id", "null"),
    ],
)
async def test_what_only_looks_like_the_right_type_is_refused(tmp_path: Path, field: str, value: object) -> None:
    model = ScriptedModel("Hello")
    async with api_of(settings_for(tmp_path), provided(LLMGateway, model)) as stranger:
        ada = await stranger.user()
        path = f"/conversations/{await ada.conversation()}/chat"
        (await ada.post(path, {"content": "Hello", field: value})).problem(400, "validation_failed", field)
        assert model.calls == []


@pytest.mark.parametrize("filling", [b"[]", b"{}", b'{"a":[0]}'])
async def test_nothing_is_made_of_what_nobody_asks_for(tmp_path: Path, filling: bytes) -> None:
    """A body of a megabyte has room for a third of a million lists."""
    body = b'{"title": "Travel", "other": [%b]}' % b",".join([filling] * 20_000)
    async with api_of(settings_for(tmp_path)) as stranger:
        ada = await stranger.user()
        await ada.call("POST", "/conversations/create", body)
        made = 0

        def counting(phase: str, info: dict[str, int]) -> None:
            nonlocal made
            made += phase == "start"

        gc.callbacks.append(counting)
        try:
            (await ada.call("POST", "/conversations/create", body)).ok(201)
        finally:
            gc.callbacks.remove(counting)
        assert made < 5  # the collector starts after every 700


@pytest.mark.parametrize("other", [b"1e999", b"-1e999", b"9" * 5000, b"0." + b"1" * 5000, b'"\\ud83d\\ude00"'])
async def test_what_nobody_asks_for_may_be_any_value(tmp_path: Path, other: bytes) -> None:
    async with api_of(settings_for(tmp_path)) as stranger:
        ada = await stranger.user()
        (await ada.call("POST", "/conversations/create", b'{"title": "Travel", "other": %b}' % other)).ok(201)


@pytest.mark.parametrize(
    "fields",
    [
        b'"other": "\xff"',
        b'"other": ["\xc0\x80"]',
        b'"other": "\xed\xa0\x80"',
        b'"\xc3": 1',
        b'"other": "\\x"',
        b'"other": NaN',
        b'"other": ' + b"[" * 100_000 + b"]" * 100_000,
    ],
)
async def test_what_nobody_asks_for_is_json_all_the_same(tmp_path: Path, fields: bytes) -> None:
    async with api_of(settings_for(tmp_path)) as stranger:
        ada = await stranger.user()
        created = await ada.call("POST", "/conversations/create", b'{"title": "Travel", %b}' % fields)
        created.problem(400, "validation_failed", *(["body"] if len(fields) > 100_000 else []))
