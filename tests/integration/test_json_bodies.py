"""JSON is taken for what it says: nothing in it is read as something else, as it may be in a query."""

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
