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
