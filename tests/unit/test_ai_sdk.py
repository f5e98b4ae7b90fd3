"""The AI SDK's chunks, messages, requests and frames."""

import json
from base64 import b64encode
from typing import Any

import msgspec
import pytest

from chatcore.bounds import MAX_IMAGE
from chatcore.entities import Image
from chatcore.errors import ValidationFailed
from chatcore_http.protocols.ai_sdk import Chat, Chunks, message_id, metadata_of, question_of, reply_of, ui_message
from chatcore_http.protocols.ai_sdk_socket import Abort, Channel, Resume, Send, decoded
from chatcore_http.protocols.frames import DONE
from recorded import ENDINGS, FAILURE

SENT = {"id": "chat", "trigger": "submit-message", "messages": [{"id": "m", "role": "user", "parts": []}]}
PNG = b"\x89PNG"
PNG_URL = "data:image/png;base64," + b64encode(PNG).decode()


def chunks_of(ending: str) -> list[dict[str, Any]]:
    chunks = Chunks()
    return [json.loads(chunk) for event in ENDINGS[ending].events() for chunk in chunks.of(event)]


def asked(*parts: dict[str, Any], **more: Any) -> Chat:
    message = {"id": "mine", "role": "user", "parts": parts}
    return msgspec.convert({"id": "chat", "messages": [{"id": "a", "role": "assistant"}, message], **more}, Chat)


def test_the_chunks_of_a_reply() -> None:
    around = ["start", "start-step", "finish-step", "finish"]
    reasoning = ["reasoning-start", "reasoning-delta", "reasoning-delta", "reasoning-end"]
    text = ["text-start", "text-delta", "text-delta", "text-end"]
    chunks = chunks_of("reasoned")
    assert [it["type"] for it in chunks] == [*around[:2], *reasoning, *text, *around[2:]]
    assert chunks[0] == {"type": "start", "messageId": "msg_7"}
    assert chunks[-1] == {
        "type": "finish",
        "finishReason": "stop",
        "messageMetadata": {
            "status": "complete",
            "model": "some-model",
            "finishReason": "stop",
            "usage": {"inputTokens": 11, "outputTokens": 4, "totalTokens": 15},
        },
    }


@pytest.mark.parametrize(
    ("ending", "last"),
    [
        ("stopped", {"type": "abort"}),
        ("stopped before its first word", {"type": "abort"}),
        ("failed", {"type": "error", "errorText": FAILURE.detail}),
    ],
)
def test_how_a_reply_ends_that_was_not_completed(ending: str, last: object) -> None:
    chunks = chunks_of(ending)
    assert chunks[-1] == last
    assert chunks[-2] == {"type": "message-metadata", "messageMetadata": metadata_of(ENDINGS[ending].ended)}


@pytest.mark.parametrize(
    ("ending", "reason"), [("long", "length"), ("filtered", "content-filter"), ("without a reason", "other")]
)
def test_the_reasons(ending: str, reason: str) -> None:
    assert chunks_of(ending)[-1]["finishReason"] == reason


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_stream_ends_with_done(ending: str) -> None:
    encode = Chunks().encode
    assert b"".join(map(encode, ENDINGS[ending].events())).endswith(DONE)


def test_the_whole_message() -> None:
    assert ui_message(ENDINGS["reasoned"].ended)["parts"] == [
        {"type": "step-start"},
        {"type": "reasoning", "text": "Hmm. ", "state": "done"},
        {"type": "text", "text": "Hello", "state": "done"},
    ]


@pytest.mark.parametrize("name", ["msg_", "msg_x", "msg_1_2", "7", "msg_²", "msg_" + "1" * 19, "xmsg_7"])
def test_what_names_no_message(name: str) -> None:
    assert reply_of(name) is None


def test_a_message_is_named() -> None:
    assert reply_of(message_id(7)) == 7


# ---- requests --------------------------------------------------------------------------------------------


async def test_the_last_message_is_the_question() -> None:
    parts: list[dict[str, Any]] = [
        {"type": "text", "text": "What is"},
        {"type": "text", "text": "this?"},
        {"type": "data-note", "data": 1},
    ]
    image = {"type": "file", "mediaType": "image/png", "url": PNG_URL}
    question = await question_of(asked(*parts, image))
    assert (question.id, question.text) == ("mine", "What is\nthis?")
    assert question.images == [Image("image/png", PNG)]


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"type": "tool-weather", "output": 1}, "messages[1].parts[0]"),
        ({"type": "text", "text": 1}, "messages[1].parts[0]"),
        ({}, "messages[1].parts[0]"),
        ({"type": "file", "url": "https://example.org/a.png"}, "messages[1].parts[0].url"),
        ({"type": "file", "url": "data:text/html;base64,AAAA"}, "messages[1].parts[0].url"),
        ({"type": "file", "url": "data:image/png;base64,A"}, "messages[1].parts[0].url"),
        ({"type": "file", "url": "data:image/png;base64,é==="}, "messages[1].parts[0].url"),
        (
            {"type": "file", "url": "data:image/png;base64," + "A" * (MAX_IMAGE * 4 // 3 + 8)},
            "messages[1].parts[0].url",
        ),
    ],
)
async def test_what_cannot_be_sent_is_named(part: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        await question_of(asked(part))
    assert [error.field for error in refused.value.errors] == [field]


@pytest.mark.parametrize("messages", [[], [{"id": "a", "role": "assistant", "parts": []}]])
async def test_there_is_a_question(messages: list[Any]) -> None:
    with pytest.raises(ValidationFailed, match="messages"):
        await question_of(msgspec.convert({"id": "chat", "messages": messages}, Chat))


# ---- frames of the socket --------------------------------------------------------------------------------


def test_frames_are_read() -> None:
    send = decoded(json.dumps({"type": "send", "requestId": "r", "headers": {}, "body": {}, **SENT}))
    assert isinstance(send, Send)
    assert (send.request_id, send.id, send.messages[0].id) == ("r", "chat", "m")
    assert decoded('{"type":"resume","requestId":"r","id":"chat"}') == Resume(request_id="r", id="chat")
    assert decoded('{"type":"abort","requestId":"r"}') == Abort(request_id="r")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"type":"other","requestId":"r"}', '{"type":"abort"}', "[" * 5000]
)
def test_other_frames_are_refused(text: str) -> None:
    with pytest.raises(ValidationFailed):
        decoded(text)


@pytest.mark.parametrize("ending", ENDINGS)
def test_from_every_chunk_on_it_is_the_rest(ending: str) -> None:
    def frames(after: int | None) -> list[dict[str, Any]]:
        channel = Channel("r", after=after)
        return [json.loads(frame) for event in ENDINGS[ending].events() for frame in channel.encode(event)]

    *sent, end = frames(None)
    assert end == {"type": "end", "requestId": "r"}
    assert [it["sequence"] for it in sent] == list(range(len(sent)))
    assert [it["chunk"] for it in sent] == chunks_of(ending)
    for number in range(len(sent)):
        assert frames(number) == [*sent[number + 1 :], end]


def test_a_request_is_named_in_every_frame() -> None:
    channel = Channel('"\u2028')
    frames = map(json.loads, [channel.start(), channel.nothing_to_resume(), channel.error('no "way"')])
    assert list(frames) == [
        {"type": "start", "requestId": '"\u2028'},
        {"type": "no-active", "requestId": '"\u2028'},
        {"type": "error", "requestId": '"\u2028', "errorText": 'no "way"'},
    ]
