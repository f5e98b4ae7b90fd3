"""/conversations/{id}/chat: the same reply as JSON, as events and in the history."""

from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from chatcore import Usage
from chatcore.entities import FinishReason, Role
from chatcore.live_reply import MAX_PIECE
from chatcore.ports import Delta, LLMGateway, ModelEndpoint, PromptMessage
from chatcore_demo import DEMO_ENDPOINT
from chatcore_memory import ScriptedModel
from integration.http_app import (
    EVENTS,
    MESSAGE,
    Api,
    Event,
    api_of,
    check_shape,
    provided,
    settings_for,
    text_of,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "b3e7f0a94c5d4d1f8a6b2c90d7e1f358",
    "ENCRYPTION_KEYS": "kWb1p0S3yHqgM2xq0v6yCw8T9d3m5uX7nLr4oJ1aBcE=",
}
TEXTS = {
    "emoji": "🦄 👩‍👩‍👧‍👦 🏴󠁧󠁢󠁷󠁬󠁳󠁿 é e\u0301",
    "line ends": "\r\na\rb\nc\r\r\n\n\u2028d\u2029e\x0bf\x0cg\x85h\r\n",
    "what looks like events": "data: {}\n\nevent: reply.completed\nid: 1:1\ndata: [DONE]\n\n: comment\n\nretry: 1\n\n",
    "what looks like JSON": '"},"x":"\\u0041\\n\\"\\\\"',
    "what looks like HTML": "</script><!-- &amp; \x00".replace("\x00", "\x01"),
    "the ends of Unicode": "\x01\x7f\ud7ff\ue000\ufeff\uffff\U00010000\U0010ffff",
    "64 KB": "64 KB 🦄 " * 8_192,
}


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel("Hello", " world")


async def streamed(api: Api, conversation: int, content: str) -> list[Event]:
    async with api.events(f"/conversations/{conversation}/chat", {"content": content}, EVENTS) as events:
        return await events.rest()


async def chatted(api: Api, conversation: int, content: str) -> Any:
    return (await api.post(f"/conversations/{conversation}/chat", {"content": content})).ok()


async def check_same_everywhere(ada: Api, content: str, said: str) -> list[Event]:
    """Asks once over JSON and once over events; the events."""
    conversation = await ada.conversation("Any")
    chat = await chatted(ada, conversation, content)
    events = await streamed(ada, conversation, content)
    history = await ada.messages(conversation)
    assert [message["content"].encode() for message in history] == [content.encode(), said.encode()] * 2
    assert [chat["message"], chat["reply"]] == history[:2]
    assert text_of(events).encode() == said.encode()
    left_out = {"content": None, "reasoning": None} if len(said) > MAX_PIECE else {}
    assert events[-1].data["message"] == history[3] | left_out
    async with ada.events(f"/conversations/{conversation}/reply") as later:
        assert text_of(await later.rest()).encode() == said.encode()
    return events


# ---- shapes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["chat", "messages"])
async def test_a_chat_as_json(ada: Api, model: ScriptedModel, route: str) -> None:
    usage = Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5)
    model.then(Delta(reasoning="Hm."), "Hello", Delta(text=" world", usage=usage, finish_reason=FinishReason.LENGTH))
    conversation, metadata = await ada.conversation(), {"source": "🦄"}
    chat = (await ada.post(f"/conversations/{conversation}/{route}", {"content": "Hi", "metadata": metadata})).ok()
    assert set(chat) == {"message", "reply"}
    for message in chat.values():
        check_shape(message, MESSAGE)
    message, reply = chat["message"], chat["reply"]
    assert message == {
        "id": message["id"],
        "conversation_id": conversation,
        "parent_id": None,
        "siblings": [message["id"]],
        "role": "user",
        "content": "Hi",
        "reasoning": None,
        "status": "complete",
        "model": None,
        "usage": None,
        "finish_reason": None,
        "error": None,
        "metadata": metadata,
        "images": 0,
        "created_at": message["created_at"],
    }
    assert reply == {
        "id": reply["id"],
        "conversation_id": conversation,
        "parent_id": message["id"],
        "siblings": [reply["id"]],
        "role": "assistant",
        "content": "Hello world",
        "reasoning": "Hm.",
        "status": "complete",
        "model": "demo",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "estimated": False},
        "finish_reason": "length",
        "error": None,
        "metadata": {},
        "images": 0,
        "created_at": reply["created_at"],
    }
    assert await ada.messages(conversation) == [message, reply]


async def test_a_chat_as_events(ada: Api, model: ScriptedModel) -> None:
    model.then(Delta(reasoning="Hm."), "Hello 🦄", " world")
    conversation = await ada.conversation()
    path = f"/conversations/{conversation}/chat"
    async with ada.events(path, {"content": "Hi"}, EVENTS) as stream:
        assert stream.headers["Cache-Control"] == "no-store"
        assert len(stream.headers["X-Request-ID"]) == 32
        events = await stream.rest()
    message, reply = await ada.messages(conversation)
    started, *deltas, completed = events
    assert started.data == {
        "type": "reply.started",
        "reply_id": reply["id"],
        "offset": 0,
        "conversation_id": conversation,
        "message_id": message["id"],
        "model": "demo",
    }
    assert deltas[0].data == {"type": "reply.reasoning", "reply_id": reply["id"], "offset": 3, "text": "Hm."}
    assert {delta.type for delta in deltas[1:]} == {"reply.delta"}
    assert text_of(deltas[1:]) == "Hello 🦄 world"
    for delta, offset in zip(deltas, accumulate(len(delta.data["text"]) for delta in deltas), strict=True):
        assert set(delta.data) == {"type", "reply_id", "offset", "text"}
        assert delta.data["offset"] == offset  # code points
    assert completed.data == {"type": "reply.completed", "reply_id": reply["id"], "offset": 16, "message": reply}


@pytest.mark.parametrize(
    ("accept", "stream", "is_stream"),
    [
        ("text/event-stream", None, True),
        ("text/event-stream", False, True),
        ("text/html, text/event-stream;q=0.9", None, True),
        ("application/json", True, True),
        ("*/*", True, True),
        ("*/*", None, False),
        ("application/json", False, False),
    ],
)
async def test_events_are_asked_for_by_header_or_body(
    ada: Api, accept: str, stream: bool | None, is_stream: bool
) -> None:
    body = {"content": "Hi"} if stream is None else {"content": "Hi", "stream": stream}
    answer = await ada.post(f"/conversations/{await ada.conversation()}/chat", body, {"Accept": accept})
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/event-stream" if is_stream else "application/json")


@pytest.mark.parametrize("headers", [EVENTS, {}])
async def test_a_refusal_is_a_problem_in_either_form(ada: Api, headers: dict[str, str]) -> None:
    own = await ada.conversation()
    (await ada.post("/conversations/999/chat", {"content": "Hi", "stream": True}, headers)).problem(404, "not_found")
    empty = await ada.post(f"/conversations/{own}/chat", {"content": "", "stream": True}, headers)
    empty.problem(400, "validation_failed", "content")
    assert await ada.messages(own) == []


# ---- faithfulness ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_a_text_is_the_same_everywhere_byte_for_byte(ada: Api, model: ScriptedModel, text: str) -> None:
    for _ in range(2):
        model.then(text)
    await check_same_everywhere(ada, f"{text}?", text)


async def test_a_text_in_single_characters_is_the_same_everywhere(ada: Api, model: ScriptedModel) -> None:
    text = "".join(text for name, text in TEXTS.items() if name != "64 KB")
    for _ in range(2):
        model.then(*text)
    await check_same_everywhere(ada, "Spell it.", text)


async def test_a_thousand_deltas_at_once(ada: Api, model: ScriptedModel) -> None:
    pieces = [f"{number} 🦄\r\n" for number in range(1_000)]
    for _ in range(2):
        model.then(*pieces)
    events = await check_same_everywhere(ada, "Count.", "".join(pieces))
    assert len(events) <= 1_002


async def test_what_no_database_stores_is_replaced_one_for_one(ada: Api, model: ScriptedModel) -> None:
    for _ in range(2):
        model.then("a\0b\ud800c")
    await check_same_everywhere(ada, "Odd?", "a\ufffdb\ufffdc")


async def test_a_reply_without_a_word_is_no_success(ada: Api, model: ScriptedModel) -> None:
    conversation = await ada.conversation("Any")
    for _ in range(2):
        model.then(Delta(finish_reason=FinishReason.CONTENT_FILTER))
    path = f"/conversations/{conversation}/chat"
    problem = (await ada.post(path, {"content": "Silence?"})).problem(
        502, "model_refused", more=frozenset({"reply_id"})
    )
    async with ada.events(path, {"content": "Silence?"}, EVENTS) as stream:
        events = await stream.rest()
    assert [event.type for event in events] == ["reply.started", "reply.failed"]
    ended = events[-1].data
    assert (ended["code"], ended["message"]["finish_reason"]) == ("model_refused", "content_filter")
    assert [message["status"] for message in await ada.messages(conversation)] == ["complete", "failed"] * 2
    assert problem["reply_id"] != ended["reply_id"]


# ---- what the model is asked -----------------------------------------------------------------------------


async def test_the_model_gets_the_conversation_and_the_options(ada: Api, model: ScriptedModel) -> None:
    conversation = await ada.conversation()
    await chatted(ada, conversation, "One")
    options = {"system": "Be brief.", "temperature": 0.5, "max_tokens": 7}
    (await ada.post(f"/conversations/{conversation}/chat", {"content": "Two", **options})).ok()
    first, second = (call.prompt for call in model.calls)
    assert model.calls[0].endpoint == DEMO_ENDPOINT
    assert [message.role for message in first.messages] == [Role.SYSTEM, Role.USER]
    assert (first.temperature, first.max_tokens) == (None, None)
    assert list(second.messages) == [
        PromptMessage(Role.SYSTEM, "Be brief."),
        PromptMessage(Role.USER, "One"),
        PromptMessage(Role.ASSISTANT, "Hello world"),
        PromptMessage(Role.USER, "Two"),
    ]
    assert (second.temperature, second.max_tokens) == (0.5, 7)


async def test_the_settings_choose_what_a_request_leaves_open(tmp_path: Path, model: ScriptedModel) -> None:
    settings = settings_for(
        tmp_path,
        OPENAI_API_KEY="sk-server",
        OPENAI_BASE_URL="http://127.0.0.1:1/v1",
        OPENAI_MODEL="llama",
        SYSTEM_PROMPT="Rhyme.",
        DEFAULT_TEMPERATURE="1.5",
        DEFAULT_MAX_TOKENS="9",
        PROMPT_MAX_MESSAGES="2",
    )
    async with api_of(settings, provided(LLMGateway, model)) as api:
        ada = await api.user()
        conversation = await ada.conversation()
        for content in ("One", "Two"):
            assert (await chatted(ada, conversation, content))["reply"]["model"] == "llama"
    call = model.calls[1]
    assert call.endpoint == ModelEndpoint(url="http://127.0.0.1:1/v1", model="llama", api_key="sk-server", trusted=True)
    assert [message.content for message in call.prompt.messages] == ["Rhyme.", "Two"]
    assert (call.prompt.temperature, call.prompt.max_tokens) == (1.5, 9)


async def test_production_has_no_demo_model(tmp_path: Path, model: ScriptedModel) -> None:
    async with api_of(settings_for(tmp_path, **PRODUCTION), provided(LLMGateway, model)) as api:
        ada = await api.user()
        conversation = await ada.conversation()
        for headers in ({}, EVENTS):
            answer = await ada.post(f"/conversations/{conversation}/chat", {"content": "Hi"}, headers)
            answer.problem(400, "model_not_configured")
        assert await ada.messages(conversation) == []
        own = {"model_url": "https://own.test/v1", "model_name": "own", "api_key": "sk-0123456789ab"}
        (await ada.post("/auth/config/create", own)).ok(201)
        assert (await chatted(ada, conversation, "Hi"))["reply"]["model"] == "own"
