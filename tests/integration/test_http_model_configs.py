"""/auth/config: the user's own model endpoints."""

from pathlib import Path
from typing import Any

import pytest

from chatcore.ports import LLMGateway, ModelEndpoint
from chatcore_memory import ScriptedModel
from integration.databases import on_one
from integration.http_app import MODEL_CONFIG, Api, api_of, check_shape, provided, settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")
KEY = "sk-proj-0123456789-WXYZ"
CONFIG = {"model_url": "https://own.test/v1", "model_name": "own-model", "api_key": KEY}
MODEL = ScriptedModel("Hello")


@pytest.fixture
def model() -> ScriptedModel:
    return MODEL


async def created(api: Api, **change: str) -> Any:
    return (await api.post("/auth/config/create", {**CONFIG, **change})).ok(201)


async def endpoint_asked(api: Api, **body: object) -> ModelEndpoint:
    (await api.post(f"/conversations/{await api.conversation()}/chat", {"content": "Hi", **body})).ok()
    return MODEL.calls[-1].endpoint


async def test_a_configuration_is_shown_without_its_key(ada: Api) -> None:
    answer = await ada.post("/auth/config/create", CONFIG)
    config = answer.ok(201)
    check_shape(config, MODEL_CONFIG)
    assert (config["model_url"], config["model_name"]) == (CONFIG["model_url"], CONFIG["model_name"])
    assert config["api_key_hint"] == "WXYZ"
    listed = await ada.get("/auth/config")
    assert listed.ok() == {"items": [config], "has_more": False, "limit": 100, "offset": 0}
    updated = await ada.post(f"/auth/config/{config['id']}/update", {"api_key": KEY})
    for seen in (answer, listed, updated):
        assert KEY.encode() not in seen.body
        assert KEY[:-4].encode() not in seen.body


async def test_a_short_key_has_no_hint(ada: Api) -> None:
    assert [(await created(ada, api_key=key))["api_key_hint"] for key in ("", "x" * 11, "x" * 12)] == ["", "", "xxxx"]


async def test_the_newest_comes_first(ada: Api) -> None:
    ids = [(await created(ada, model_name=f"model {number}"))["id"] for number in range(3)]
    assert [config["id"] for config in (await ada.get("/auth/config")).ok()["items"]] == ids[::-1]


async def test_an_update_changes_what_it_names(ada: Api) -> None:
    config = await created(ada)
    path = f"/auth/config/{config['id']}/update"
    renamed = (await ada.post(path, {"model_name": "newer"})).ok()
    check_shape(renamed, MODEL_CONFIG)
    assert renamed == config | {"model_name": "newer", "updated_at": renamed["updated_at"]}
    assert renamed["updated_at"] > config["updated_at"]
    assert await endpoint_asked(ada) == ModelEndpoint(url="https://own.test/v1", model="newer", api_key=KEY)
    moved = {"model_url": "http://other.test", "api_key": "sk-another-key", "model_name": None}
    assert (await ada.post(path, moved)).ok()["api_key_hint"] == "-key"
    assert await endpoint_asked(ada) == ModelEndpoint(url="http://other.test", model="newer", api_key="sk-another-key")
    assert (await ada.post(path, {"api_key": ""})).ok()["api_key_hint"] == ""
    assert (await endpoint_asked(ada)).api_key == ""


@on_one
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_url", ""),
        ("model_url", "own.test/v1"),
        ("model_url", "ftp://own.test"),
        ("model_url", "demo:"),
        ("model_url", "https://user:secret@own.test/v1"),
        ("model_url", "https://own.test/v1?key=secret"),
        ("model_url", "https://öwn.test/v1"),
        ("model_url", "https://own.test:99999/v1"),
        ("model_url", "https://own.test/\r\nX: y"),
        ("model_name", ""),
        ("model_name", " "),
        ("model_name", "a\0b"),
        ("model_name", "x" * 201),
        ("api_key", "två"),
        ("api_key", "a b"),
        ("api_key", "a\r\nX-Other: b"),
        ("api_key", "x" * 4097),
    ],
    ids=lambda value: f"{value!r:.30}",
)
async def test_a_broken_rule_is_named(ada: Api, field: str, value: str) -> None:
    (await ada.post("/auth/config/create", {**CONFIG, field: value})).problem(400, "validation_failed", field)
    config = await created(ada)
    (await ada.post(f"/auth/config/{config['id']}/update", {field: value})).problem(400, "validation_failed", field)
    assert (await ada.get("/auth/config")).ok()["items"] == [config]


async def test_a_deleted_one_is_gone_and_conversations_forget_it(ada: Api) -> None:
    config = await created(ada)
    chosen = (await ada.post("/conversations/create", {"config_id": config["id"]})).ok(201)
    assert chosen["config_id"] == config["id"]
    assert set((await ada.post(f"/auth/config/{config['id']}/delete")).ok()) == {"message"}
    assert (await ada.get("/auth/config")).ok()["items"] == []
    assert (await ada.get("/conversations")).ok()["items"][0]["config_id"] is None
    for action in ("update", "delete"):
        (await ada.post(f"/auth/config/{config['id']}/{action}")).problem(404, "not_found")


async def test_the_model_is_the_requests_then_the_conversations_then_the_newest(ada: Api) -> None:
    first, second, third = [(await created(ada, model_name=name))["id"] for name in ("first", "second", "third")]
    chosen = (await ada.post("/conversations/create", {"config_id": second})).ok(201)["id"]
    for conversation, body, name in (
        (chosen, {"config_id": first}, "first"),
        (chosen, {}, "second"),
        (chosen, {"config_id": None}, "second"),
        (await ada.conversation(), {}, "third"),
    ):
        answer = (await ada.post(f"/conversations/{conversation}/chat", {"content": "Hi", **body})).ok()
        assert answer["reply"]["model"] == MODEL.calls[-1].endpoint.model == name
    (await ada.post(f"/auth/config/{third}/delete")).ok()
    assert (await endpoint_asked(ada)).model == "second"


async def test_a_key_that_opens_no_more_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    async with api_of(settings_for(folder), provided(LLMGateway, MODEL)) as api:
        tokens = await api.register("ada")
        await created(api.with_token(tokens["access_token"]))
    lost = settings_for(folder, ENCRYPTION_KEYS="kWb1p0S3yHqgM2xq0v6yCw8T9d3m5uX7nLr4oJ1aBcE=")
    async with api_of(lost, provided(LLMGateway, MODEL)) as api:
        ada = api.with_token(tokens["access_token"])
        conversation = await ada.conversation()
        (await ada.post(f"/conversations/{conversation}/chat", {"content": "Hi"})).problem(400, "model_not_configured")
        assert await ada.messages(conversation) == []
