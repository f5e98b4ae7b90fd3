"""A line of our own export, however long, is read in slices, and says the same as if it were read at once."""

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatcore import Message, MessageId, OwnConversation, OwnImage, OwnThing, Role, Status
from chatcore.entities import Failure, FinishReason, Image, Usage
from chatcore.histories import own
from chatcore.use_cases.own_data import EndOfExport, Line, Unreadable
from chatcore_http import account_schemas, export_lines, schemas

TEXTS = st.text(st.characters(codec="utf-8"), max_size=60) | st.text('"\\\n😀é\0d8', max_size=60)
THEN = "2025-05-04T03:02:01.000001Z"
HEADER = {"kind": "export", "format": "chatcore export", "version": 1}
CONVERSATION = {"kind": "conversation", "id": 1, "title": "Plans", "created_at": THEN, "updated_at": THEN}
MESSAGE = {"kind": "message", "id": 1, "conversation_id": 1, "role": "user", "content": "Hello", "created_at": THEN}

IMAGE = {"kind": "image", "message_id": 1, "number": 0, "media_type": "image/png", "data": "iVBORw=="}


@pytest.fixture
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every border is met within a few characters."""
    monkeypatch.setattr(own, "SLICE", 13)


async def read(*lines: Any) -> list[Line]:
    async def body() -> AsyncGenerator[bytes, None]:
        for line in (HEADER, *lines):
            yield (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n"

    return [line async for line in own.read(body())]


async def refused(line: Any) -> str:
    (found,) = await read(line)
    assert isinstance(found.thing, Unreadable), found
    return found.thing.why


# ---- what a line says ------------------------------------------------------------------------------------


async def test_a_conversation_and_a_message_are_read_by_name() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "estimated": True}
    failed = {"status": "failed", "error": {"code": "model_timeout", "detail": "Too slow"}}
    reply = {**MESSAGE, "role": "assistant", "parent_id": 7, "reasoning": "Hm", "model": "m", "usage": usage, **failed}
    titled = {**CONVERSATION, "titled_by_user": True, "config_id": 5, "current_message_id": 9}
    first, second, third = await read(
        titled, {**reply, "finish_reason": "length", "metadata": {"a": "🦄"}, "more": [1]}, {"kind": "end"}
    )
    assert isinstance(first.thing, OwnConversation)
    assert isinstance(second.thing, Message)
    conversation, message = first.thing.conversation, second.thing
    assert (conversation.title, conversation.titled_by_user, conversation.config_id) == ("Plans", True, None)
    assert (first.thing.current, conversation.created_at) == (9, datetime(2025, 5, 4, 3, 2, 1, 1, tzinfo=UTC))
    assert (message.role, message.status, message.finish_reason) == (Role.ASSISTANT, Status.FAILED, FinishReason.LENGTH)
    assert message.usage == Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3, estimated=True)
    assert message.metadata == {"a": "🦄"}
    assert message.error == Failure(code="model_timeout", detail="Too slow")
    assert (message.parent_id, message.reasoning, message.model) == (7, "Hm", "m")
    assert third.thing == EndOfExport()


async def test_an_image_is_written_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    image = OwnImage(MessageId(1), 1, Image("image/png", bytes(range(256)), "high"))

    async def things() -> AsyncGenerator[OwnThing, None]:
        yield image

    monkeypatch.setattr(own, "IMAGE_SLICE", 9)
    _, line, end = b"".join([piece async for piece in own.as_lines(things(), session=None)]).splitlines()
    assert set(json.loads(line)) == {"kind", *own.IMAGE}
    (found,) = await read(line)
    assert isinstance(found.thing, OwnImage)
    assert (found.thing.message_id, found.thing.image) == (1, image.image)
    assert json.loads(end)["images"] == 1
    (found,) = await read(IMAGE)
    assert found.thing == OwnImage(MessageId(1), 0, Image("image/png", b"\x89PNG"))


async def test_what_is_not_said_is_as_ever() -> None:
    conversation, message = await read(CONVERSATION, MESSAGE)
    assert isinstance(conversation.thing, OwnConversation)
    assert isinstance(message.thing, Message)
    assert (conversation.thing.current, conversation.thing.conversation.titled_by_user) == (None, False)
    assert (message.thing.status, message.thing.parent_id, message.thing.usage) == (Status.COMPLETE, None, None)


METADATA = "metadata: must be at most 16 pairs, with names of 1 to 64 characters and values of at most 512"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({**MESSAGE, "role": "wizard"}, "role: must be one of: system, user, assistant"),
        ({**MESSAGE, "role": ["user"]}, "role: must be one of: system, user, assistant"),
        ({**MESSAGE, "id": "1"}, "id: must be an integer"),
        ({**MESSAGE, "id": True}, "id: must be an integer"),
        ({**MESSAGE, "content": None}, "content: must be a string"),
        ({**MESSAGE, "reasoning": 1}, "reasoning: must be a string"),
        ({**MESSAGE, "metadata": {"a": 1}}, METADATA),
        ({**MESSAGE, "metadata": {str(n): "a" for n in range(17)}}, METADATA),
        ({**MESSAGE, "metadata": {"a" * 65: "a"}}, METADATA),
        ({**MESSAGE, "metadata": {"a": "a" * 513}}, METADATA),
        ({**MESSAGE, "usage": {"prompt_tokens": 1}}, "usage.completion_tokens: is required"),
        ({**MESSAGE, "error": {"detail": "Down"}}, "error.code: is required"),
        ({**MESSAGE, "created_at": "2025-05-04T03:02:01"}, "created_at: must be a time with its zone (RFC 3339)"),
        ({**MESSAGE, "created_at": 7}, "created_at: must be a time with its zone (RFC 3339)"),
        ({**CONVERSATION, "titled_by_user": 1}, "titled_by_user: must be true or false"),
        ({**CONVERSATION, "current_message_id": "9"}, "current_message_id: must be an integer"),
        ({"kind": "message"}, "id: is required"),
        ({**IMAGE, "data": None}, "data: must be a string"),
        ({**IMAGE, "data": "?"}, "data: must be base64"),
        ({**IMAGE, "data": "A" * 7_000_000}, "data: must be at most 5242880 bytes"),
        ({**IMAGE, "media_type": 1}, "media_type: must be a string"),
        ({**IMAGE, "message_id": "1"}, "message_id: must be an integer"),
        ({"id": 1}, "kind: must be a string"),
        ([MESSAGE], "is no JSON object"),
        ("text", "is no JSON"),
        (b'{"kind": "message"', "is no JSON"),
        (b'{"kind": ' + b"[" * 40_000, "is no JSON"),
    ],
)
async def test_what_is_wrong_is_named(line: Any, why: str) -> None:
    assert await refused(line) == why


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        (account_schemas.User, own.USER),
        (account_schemas.Session, (*own.SESSION, "current")),
        (schemas.ModelConfig, own.MODEL_CONFIG),
        (export_lines.ExportedConversation, (*own.CONVERSATION, "config_id", "current_message_id")),
        (export_lines.ExportedMessage, own.MESSAGE),
        (export_lines.ExportedImage, own.IMAGE),
    ],
)
def test_the_document_names_what_is_written(shape: Any, names: tuple[str, ...]) -> None:
    assert sorted(shape.__struct_fields__) == sorted(names)


# ---- in slices -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short_slices")
@settings(max_examples=300, deadline=None)
@given(content=TEXTS, reasoning=TEXTS, escaped=st.booleans())
async def test_it_says_the_same(content: str, reasoning: str, escaped: bool) -> None:
    thing = {"kind": "message", "id": 7, "content": content, "reasoning": reasoning, "parent_id": None}
    assert await own.members_of(json.dumps(thing, ensure_ascii=escaped).encode()) == thing


@pytest.mark.usefixtures("short_slices")
@pytest.mark.parametrize(
    "text",
    [b"\xff" * 40, b"\xe4\xbd" * 40, rb"\x" * 40, b"\\"],
    ids=["no UTF-8", "cut characters", "no escape", "no end"],
)
async def test_what_is_no_string_is_refused(text: bytes) -> None:
    assert await refused(b'{"kind": "message", "content": "' + text + b'"}') == await refused(b"{")


async def test_a_string_without_end_is_refused() -> None:
    assert await refused(b'{"content": "' + b"a" * 2**20) == await refused(b"{")


@pytest.mark.parametrize("name", ["id", "content", "usage", "more"])
async def test_what_stands_beside_the_texts_is_passed_over(name: str) -> None:
    beside = b'[{"' + b'":[1]},{"' * 2**17 + b'": 1}]'
    assert await own.members_of(b'{"kind": "message", "%b": %b}' % (name.encode(), beside)) in (
        {"kind": "message"},
        {"kind": "message", name: None},
    )


@pytest.mark.parametrize("part", ["a", "嗨", '"', "😀"])
async def test_no_more_is_decoded_at_once_than_a_slice(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, decode = list[int](), json.loads

    def counting(text: str, **more: Any) -> Any:
        sizes.append(len(text))
        return decode(text, **more)

    content = part * ((own.LONGEST_LINE - 100) // len(json.dumps(part)))
    line = json.dumps({"content": content}).encode()
    monkeypatch.setattr(json, "loads", counting)
    assert (await own.members_of(line))["content"] == content
    assert max(sizes, default=0) <= own.SLICE + 16
