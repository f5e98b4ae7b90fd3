"""Bodies of a few megabytes that would become objects for gigabytes, or that take a stack without end, are refused
before that, in the protocol's own form."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from chatcore.ports import LLMGateway
from chatcore_memory import ScriptedModel
from integration.http_app import api_of, provided, settings_for

USER = b'"id":"m","role":"user","content":"Hello","parts":[]'
FLOODS = {
    "/v1/chat/completions": b'{"messages":[{%b}],"other":[%b]}',
    "/v1/responses": b'{"input":[{%b,"other":[%b]}]}',
    "/v1/conversations": b'{"items":[{%b,"other":[%b]}]}',
    "/v1/embeddings": b'{"input":"Hello","user":{%b},"other":[%b]}',
    "/ai/chat": b'{"id":"c","messages":[{%b}],"other":[%b]}',
    "/ag-ui": b'{"threadId":"t","runId":"r","messages":[{%b}],"state":[%b]}',
    "/conversations/create": b'{"title":"Hello","mine":{%b},"other":[%b]}',
}


@pytest.mark.parametrize("path", FLOODS)
async def test_a_flood_of_values_is_refused_before_they_are_made(tmp_path: Path, path: str) -> None:
    model = ScriptedModel("Hello")
    async with api_of(settings_for(tmp_path), provided(LLMGateway, model)) as stranger:
        ada = await stranger.user()
        answer = await ada.call("POST", path, FLOODS[path] % (USER, b",".join([b"{}"] * 110_000)))
        assert answer.status == 400
        assert b"body: must have at most 100,000 values" in answer.body
        assert model.calls == []


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions"])
async def test_what_is_stored_has_fewer_values(tmp_path: Path, path: str) -> None:
    async with api_of(settings_for(tmp_path)) as stranger:
        ada = await stranger.user()
        numbers = b",".join([b"1"] * 60_000)
        body = b'{"model":"demo","store":true,"input":"Hello","messages":[{%b}],"text":{"other":[%b]}}' % (
            USER,
            numbers,
        )
        answer = await ada.call("POST", path, body)
        assert answer.status == 400
        assert b"body: must have at most 50,000 values" in answer.body


@pytest.mark.parametrize("levels", [101, 480, 900])
@pytest.mark.parametrize(
    ("path", "field", "more"),
    [
        ("/v1/responses", "text", {"input": "Hello"}),
        ("/v1/responses", "reasoning", {"input": "Hello"}),
        ("/v1/chat/completions", "other", {"store": True, "messages": [{"role": "user", "content": "Hello"}]}),
    ],
)
async def test_deep_values_are_named(tmp_path: Path, path: str, field: str, more: dict[str, Any], levels: int) -> None:
    async with api_of(settings_for(tmp_path)) as stranger:
        ada = await stranger.user()
        body = json.dumps(more).encode()[:-1] + b',"%b":%b}' % (
            field.encode(),
            b'{"a":' * levels + b"1" + b"}" * levels,
        )
        answer = await ada.call("POST", path, body)
        assert answer.status == 400
        assert answer.json["error"]["param"] == field


async def test_references_are_counted_before_they_are_read(tmp_path: Path) -> None:
    async with api_of(settings_for(tmp_path)) as stranger:
        ada = await stranger.user()
        answer = await ada.post("/v1/responses", {"input": [{"type": "item_reference", "id": "msg_1_1"}] * 1001})
        assert answer.json["error"]["param"] == "input"
        assert "1000 items" in answer.json["error"]["message"]


async def test_references_may_stand_for_only_so_much_text(tmp_path: Path) -> None:
    """Each of them is short, and what it stands for may be long."""
    async with api_of(settings_for(tmp_path)) as stranger:
        ada = await stranger.user()
        item = {"type": "message", "role": "user", "content": "x" * 200_000}
        conversation = (await ada.post("/v1/conversations", {"items": [item]})).json["id"]
        items = (await ada.get(f"/v1/conversations/{conversation}/items")).json["data"]
        said = [{"type": "item_reference", "id": items[0]["id"]}] * 21 + [{"role": "user", "content": "Hello"}]
        answer = await ada.post("/v1/responses", {"input": said})
        assert answer.status == 400
        assert "4,000,000 characters together" in answer.json["error"]["message"]


async def test_one_image_too_many_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    async with api_of(settings_for(tmp_path)) as stranger:
        ada = await stranger.user()
        url = "data:image/png;base64," + b64encode(b"\x89PNG").decode()
        parts = [{"type": "file", "mediaType": "image/png", "url": url}] * 10 + [{"type": "file", "url": "no image"}]
        answer = await ada.post("/ai/chat", {"id": "c", "messages": [{"id": "m", "role": "user", "parts": parts}]})
        assert answer.status == 400
        assert b"at most 10 images" in answer.body
