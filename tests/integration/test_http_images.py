"""Images of messages over chatcore's own API: sent, shown, read again, refused."""

import json
from base64 import b64encode
from typing import Any

import pytest

from chatcore.bounds import MAX_IMAGE
from chatcore.errors import ModelRefusesImages
from chatcore.ports import ImagePart, TextPart
from chatcore_memory import ScriptedModel
from integration.http_app import MESSAGE, Api, check_shape

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:Sending a large body"),  # aiohttp's client
]

CAT, DOG = bytes(range(256)), b"a dog"


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{b64encode(data).decode()}"


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel("A cat.")


async def chatted(api: Api, conversation: int, *images: str, content: str = "Which?") -> Any:
    return (await api.post(f"/conversations/{conversation}/chat", {"content": content, "images": images})).ok()


async def test_images_are_sent_shown_and_read_again(ada: Api, model: ScriptedModel, conversation: int) -> None:
    chat = await chatted(ada, conversation, data_url(CAT), data_url(DOG, "image/jpeg"), content="")
    check_shape(chat["message"], MESSAGE)
    assert (chat["message"]["images"], chat["reply"]["images"]) == (2, 0)
    assert await ada.messages(conversation) == [chat["message"], chat["reply"]]
    assert model.calls[-1].prompt.messages[-1].content == [
        ImagePart(data_url(CAT)),
        ImagePart(data_url(DOG, "image/jpeg")),
    ]
    path = f"/conversations/{conversation}/messages/{chat['message']['id']}/images"
    for number, (data, kind) in enumerate([(CAT, "image/png"), (DOG, "image/jpeg")]):
        answer = await ada.get(f"{path}/{number}")
        assert (answer.status, answer.headers["Content-Type"], answer.body) == (200, kind, data)
        assert answer.headers["Content-Disposition"].startswith("attachment; filename=")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for number in (2, 2**63 - 1):
        (await ada.get(f"{path}/{number}")).problem(404, "not_found")
    (await (await ada.user()).get(f"{path}/0")).problem(404, "not_found")


async def test_images_are_in_an_export_and_come_back(ada: Api, conversation: int) -> None:
    await chatted(ada, conversation, data_url(CAT), data_url(DOG, "image/jpeg"))
    exported = (await ada.get("/auth/me/export")).body
    assert json.loads(exported.splitlines()[-1])["images"] == 2
    bob = await ada.user()
    imported = (await bob.call("POST", "/conversations/import", exported)).ok()
    assert [(each["messages"], each["left_out"]) for each in imported["taken"]] == [(2, {})]
    copy = imported["taken"][0]["id"]
    message = (await bob.messages(copy))[0]
    path = f"/conversations/{copy}/messages/{message['id']}/images"
    assert [(await bob.get(f"{path}/{number}")).body for number in range(2)] == [CAT, DOG]


async def test_a_message_is_edited_with_other_images(ada: Api, model: ScriptedModel, conversation: int) -> None:
    first = (await chatted(ada, conversation, data_url(CAT)))["message"]
    path = f"/conversations/{conversation}/messages/{first['id']}/edit"
    edited = (await ada.post(path, {"content": "And this?", "images": [data_url(DOG)]})).ok()
    assert edited["message"]["images"] == 1
    assert model.calls[-1].prompt.messages[-1].content == [TextPart("And this?"), ImagePart(data_url(DOG))]


async def test_a_message_may_be_larger_with_its_images(ada: Api, conversation: int) -> None:
    large = data_url(bytes(MAX_IMAGE))
    chat = await chatted(ada, conversation, large, large)
    assert chat["message"]["images"] == 2
    body = json.dumps({"content": "Which?", "images": [large] * 3}).encode()
    path = f"/conversations/{conversation}/chat"
    (await ada.call("POST", path, body)).problem(413, "payload_too_large")


@pytest.mark.parametrize(
    ("images", "field"),
    [
        (["https://example.org/cat.png"], "images[0]"),
        ([data_url(CAT), "cat.png"], "images[1]"),
        (["data:image/png;base64,?"], "images[0]"),
        ([data_url(bytes(MAX_IMAGE + 4))], "images[0]"),
        ([data_url(b"")], "images"),
        ([data_url(CAT, "image/svg+xml")], "images"),
        ([data_url(CAT)] * 11, "images"),
        ("cat", "images"),
        ([1], "images[0]"),
    ],
)
async def test_what_is_no_image_is_refused(ada: Api, conversation: int, images: object, field: str) -> None:
    body = {"content": "Which?", "images": images}
    (await ada.post(f"/conversations/{conversation}/chat", body)).problem(400, "validation_failed", field)
    assert await ada.messages(conversation) == []


async def test_a_model_without_eyes_is_said_to_have_none(ada: Api, model: ScriptedModel, conversation: int) -> None:
    model.then(ModelRefusesImages())
    answer = await ada.post(f"/conversations/{conversation}/chat", {"content": "Which?", "images": [data_url(CAT)]})
    answer.problem(502, "model_no_images", more=frozenset({"reply_id"}))
