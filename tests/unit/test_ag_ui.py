"""AG-UI's events and requests."""

import json
from base64 import b64encode
from typing import Any

import msgspec
import pytest

from chatcore.entities import Image
from chatcore.errors import ValidationFailed
from chatcore_http.protocols.ag_ui import Run, RunEvents, question_of
from recorded import ENDINGS, FAILURE

RUN = {"threadId": "t", "runId": "r"}
USAGE = [{"model": "some-model", "inputTokens": 11, "outputTokens": 4, "totalTokens": 15}]


def events_of(ending: str) -> list[dict[str, Any]]:
    encode = RunEvents(thread_id="t", run_id="r").encode
    frames = b"".join(map(encode, ENDINGS[ending].events())).decode().split("\n\n")[:-1]
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def asked(content: object, **more: object) -> Run:
    messages = [{"id": "mine", "role": "user", "content": content}]
    return msgspec.convert({**RUN, "messages": messages, "tools": [], "context": [], **more}, Run)


def test_the_events_of_a_reply() -> None:
    assert events_of("reasoned") == [
        {"type": "RUN_STARTED", **RUN, "protocolVersion": "1.0"},
        {"type": "REASONING_START", "messageId": "rs_7"},
        {"type": "REASONING_MESSAGE_START", "messageId": "rs_7", "role": "reasoning"},
        {"type": "REASONING_MESSAGE_CONTENT", "messageId": "rs_7", "delta": "Hm"},
        {"type": "REASONING_MESSAGE_CONTENT", "messageId": "rs_7", "delta": "m. "},
        {"type": "REASONING_MESSAGE_END", "messageId": "rs_7"},
        {"type": "REASONING_END", "messageId": "rs_7"},
        {"type": "TEXT_MESSAGE_START", "messageId": "msg_7", "role": "assistant"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "msg_7", "delta": "Hel"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "msg_7", "delta": "lo"},
        {"type": "TEXT_MESSAGE_END", "messageId": "msg_7"},
        {"type": "RUN_FINISHED", **RUN, "outcome": {"type": "success"}, "usage": USAGE},
    ]


@pytest.mark.parametrize(
    ("ending", "last"),
    [
        ("stopped", {"type": "RUN_FINISHED", **RUN, "outcome": {"type": "cancelled"}, "usage": USAGE}),
        ("failed", {"type": "RUN_ERROR", "message": FAILURE.detail, "code": FAILURE.code, "usage": USAGE}),
        ("without a reason", {"type": "RUN_FINISHED", **RUN, "outcome": {"type": "success"}}),
    ],
)
def test_how_a_run_ends(ending: str, last: object) -> None:
    assert events_of(ending)[-1] == last
    assert events_of("interrupted")[-1]["code"] == "interrupted"


async def test_the_last_message_is_the_question() -> None:
    source = {"type": "data", "value": b64encode(b"\x89PNG").decode(), "mimeType": "image/png"}
    question = await question_of(
        asked([{"type": "text", "text": "What is this?"}, {"type": "image", "source": source}])
    )
    assert (question.id, question.text, question.images) == ("mine", "What is this?", [Image("image/png", b"\x89PNG")])
    assert (await question_of(asked("Hello?"))).text == "Hello?"


@pytest.mark.parametrize("part", [{"data": "iVBORw=="}, {"url": "data:image/png;base64,iVBORw==", "data": None}])
async def test_images_as_clients_before_version_1_send_them(part: dict[str, Any]) -> None:
    question = await question_of(asked([{"type": "binary", "mimeType": "image/png", **part}]))
    assert question.images == [Image("image/png", b"\x89PNG")]


async def test_a_run_that_offers_tools_hears_once_that_none_is_called() -> None:
    run = asked("Hello?", tools=[{"name": "weather", "description": "", "parameters": {}}])
    assert (await question_of(run)).text == "Hello?"
    encode = RunEvents(thread_id="t", run_id="r", tools=True).encode
    frames = b"".join(map(encode, ENDINGS["reasoned"].events())).decode().split("\n\n")[:-1]
    events = [json.loads(frame.removeprefix("data: ")) for frame in frames]
    assert [event["name"] for event in events if event["type"] == "CUSTOM"] == ["chatcore.tools_not_called"]
    assert [event for event in events if event["type"] != "CUSTOM"] == events_of("reasoned")
    assert [event["type"] for event in events[:2]] == ["RUN_STARTED", "CUSTOM"]


@pytest.mark.parametrize(
    ("run", "field"),
    [
        (asked("Hello?", resume=[{"interruptId": "i"}]), "resume"),
        (asked("Hello?", protocolVersion="2.0"), "protocolVersion"),
        (asked([{"type": "audio"}]), "messages[0].content[0]"),
        (asked([{"type": "binary", "mimeType": "application/pdf", "data": "JVBE"}]), "messages[0].content[0].data"),
        (asked([{"type": "binary", "mimeType": "image/png", "data": "?"}]), "messages[0].content[0].data"),
        (asked([{"type": "binary", "mimeType": "image/png", "url": "http://x.test"}]), "messages[0].content[0].url"),
        (asked([{"type": "binary", "mimeType": "image/png", "id": "file"}]), "messages[0].content[0]"),
        (
            asked([{"type": "image", "source": {"type": "url", "value": "https://x.test"}}]),
            "messages[0].content[0].source",
        ),
        (msgspec.convert({**RUN, "messages": []}, Run), "messages"),
        (msgspec.convert({**RUN, "messages": [{"id": "a", "role": "tool", "content": "x"}]}, Run), "messages"),
    ],
)
async def test_what_is_not_supported_is_named(run: Run, field: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        await question_of(run)
    assert [error.field for error in refused.value.errors] == [field]
