"""What other makers' clients make of our streams: recorded ones, which a server without a mind of its own sends."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import pytest
import pytest_asyncio

from chatcore import ReplyEvent, Status
from chatcore.entities import FinishReason
from chatcore_http.protocols import ag_ui, ai_sdk
from chatcore_http.protocols.openai.response_events import ResponseEvents
from chatcore_http.protocols.openai.stored_completions import CompletionChunks
from clients.running import NEWEST, node, python
from integration.model_server import ModelServer, stream
from recorded import ENDINGS, Recorded

Encode: TypeAlias = Callable[[ReplyEvent], bytes]

ODD = Recorded(reasoning=["\u2028\x85 hm"], answer=["🦄", '\n\n"data: x\r', "\u2029漢\x1b", "\\"])
RECORDED = {**ENDINGS, "odd": ODD}
HELLO = [{"id": "mine", "role": "user", "parts": [{"type": "text", "text": "Hello?"}]}]
SENT = json.dumps({"chatId": "chat", "messages": HELLO, "trigger": "submit-message"})
every_ending = pytest.mark.parametrize("ending", ["reasoned", "stopped", "failed", "interrupted", "odd"])


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as server:
        yield server


def play(server: ModelServer, ending: str, encode: Encode) -> Recorded:
    """The answer to all requests, a piece at a time."""
    recorded = RECORDED[ending]
    server.always = stream(*filter(None, map(encode, recorded.events())))
    return recorded


def why(recorded: Recorded) -> str | None:
    """The sentence with which it failed."""
    return {Status.FAILED: "The model endpoint", Status.INTERRUPTED: "The server that wrote"}.get(recorded.status)


def check_error(errors: list[str], recorded: Recorded) -> None:
    assert len(errors) == (why(recorded) is not None)
    assert all(error.startswith(why(recorded) or "") for error in errors)


# ---- the AI SDK ------------------------------------------------------------------------------------------


@pytest.mark.needs("npm")
@pytest.mark.parametrize("package", ["ai5", "ai", "ai7"])
@every_ending
async def test_ai_sdk(server: ModelServer, package: str, ending: str) -> None:
    recorded = play(server, ending, ai_sdk.Chunks().encode)
    found = await node("ai_stream.mjs", PACKAGE=package, URL=server.url, KEY="key", REQUEST=SENT)
    message = found["message"]
    texts = {part["type"]: part["text"] for part in message["parts"] if "text" in part}
    assert texts.get("text", "") == "".join(recorded.answer)
    assert texts.get("reasoning", "") == "".join(recorded.reasoning)
    assert message["id"] == "msg_7"
    assert message["metadata"] == json.loads(json.dumps(ai_sdk.metadata_of(recorded.ended)))
    check_error(found["errors"], recorded)


@pytest.mark.needs("npm")
async def test_the_whole_message_is_what_the_stream_makes(server: ModelServer) -> None:
    recorded = play(server, "reasoned", ai_sdk.Chunks().encode)
    found = await node("ai_stream.mjs", PACKAGE="ai", URL=server.url, KEY="key", REQUEST=SENT)
    for part in found["message"]["parts"]:
        part.pop("id", None)  # of a part, within its stream
    assert found["message"] == json.loads(json.dumps(ai_sdk.ui_message(recorded.ended)))


@pytest.mark.needs("npm")
@pytest.mark.parametrize("ending", ["reasoned", "failed"])
async def test_use_chat(server: ModelServer, ending: str) -> None:
    recorded = play(server, ending, ai_sdk.Chunks().encode)
    steps = json.dumps([{"send": "Hello?"}])
    environ = {"URL": server.url, "KEY": "key", "CHAT": "chat", "MESSAGES": "[]", "STEPS": steps}
    (seen,) = await node("ai_react.mjs", **environ)
    assert seen["shown"] == "user,assistant"
    assert seen["status"] == ("error" if why(recorded) else "ready")
    check_error([seen["error"]] if seen["error"] else [], recorded)


# ---- AG-UI -----------------------------------------------------------------------------------------------


@pytest.mark.needs("npm")
@every_ending
async def test_ag_ui(server: ModelServer, ending: str) -> None:
    recorded = play(server, ending, ag_ui.RunEvents(thread_id="thread", run_id="run").encode)
    messages = json.dumps([{"id": "mine", "role": "user", "content": "Hello?"}])
    found = await node("ag_ui.mjs", URL=server.url, KEY="key", THREAD="thread", RUN="run", MESSAGES=messages)
    said = {message["role"]: message["content"] for message in found["messages"]}
    assert said["assistant"] == "".join(recorded.answer)
    assert said.get("reasoning", "") == "".join(recorded.reasoning)
    last = found["events"][-1]
    assert last["type"] == ("RUN_ERROR" if why(recorded) else "RUN_FINISHED")
    check_error([last["message"]] if why(recorded) else [], recorded)
    assert found["error"] is None


# ---- OpenAI ----------------------------------------------------------------------------------------------


def responses(recorded: Recorded, after: int = -1) -> Encode:
    return ResponseEvents(recorded.ended, {"model": "some-model"}, after=after).encode


async def by_openai(client: str, server: ModelServer, **environ: str) -> Any:
    """npm's client, or one of Python's."""
    given = {"URL": server.url, "KEY": "key", **environ}
    if client == "npm":
        return await node("openai_responses.mjs", **given)
    return await python(client, "openai_responses.py", **given)


every_client = pytest.mark.parametrize(
    "client",
    [
        pytest.param("npm", marks=pytest.mark.needs("npm")),
        pytest.param("openai1", marks=pytest.mark.needs("openai1")),
        NEWEST,
    ],
)


@every_client
@every_ending
async def test_openai_responses(server: ModelServer, client: str, ending: str) -> None:
    recorded = play(server, ending, responses(RECORDED[ending]))
    asked = json.dumps({"model": "some-model", "input": "Hello?"})
    found = await by_openai(client, server, REQUEST=asked)
    deltas = [event["delta"] for event in found["events"] if event["type"] == "response.output_text.delta"]
    assert deltas == list(recorded.answer)
    assert [event["sequence_number"] for event in found["events"]] == list(range(len(found["events"])))
    if recorded.ended.finish_reason is FinishReason.STOP:
        assert found["text"] == "".join(recorded.answer)


@every_client
@pytest.mark.parametrize("after", [0, 3, 8, 15])
async def test_openai_resumes_a_response(server: ModelServer, client: str, after: int) -> None:
    """Its `stream` drops what its caller has."""
    play(server, "reasoned", responses(ENDINGS["reasoned"]))
    found = await by_openai(client, server, RESPONSE="resp_5_7", AFTER=str(after))
    assert [event["sequence_number"] for event in found["events"]] == list(range(after + 1, 17))
    assert found["text"] == "Hello"


@pytest.mark.needs("npm")
@pytest.mark.parametrize("api", ["chat", "responses"])
@every_ending
async def test_the_ai_sdk_for_openai(server: ModelServer, api: str, ending: str) -> None:
    chunks = CompletionChunks(RECORDED[ending].ended, include_usage=True).encode
    recorded = play(server, ending, chunks if api == "chat" else responses(RECORDED[ending]))
    found = await node("ai_openai.mjs", URL=server.url, KEY="key", MODEL="gpt-5", API=api, PROMPT="Hello?")
    check_error(found["errors"], recorded)
    if not found["errors"]:
        assert found["text"] == "".join(recorded.answer)
        assert found["usage"]["totalTokens"] == 15


@pytest.mark.needs("agents")
@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_openai_agents(server: ModelServer, api: str) -> None:
    chunks = CompletionChunks(ODD.ended, include_usage=True).encode
    play(server, "odd", chunks if api == "chat" else responses(ODD))
    found = await python("agents", "agents_run.py", URL=server.url, KEY="key", MODEL="m", API=api, PROMPT="Hello?")
    assert found["text"] == "".join(ODD.answer)


@pytest.mark.needs("agents")
@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_langchain(server: ModelServer, api: str) -> None:
    chunks = CompletionChunks(ODD.ended, include_usage=True).encode
    play(server, "odd", chunks if api == "chat" else responses(ODD))
    environ = {"URL": server.url, "KEY": "key", "MODEL": "m", "PROMPT": "Hello?"}
    environ |= {"RESPONSES": "1"} if api == "responses" else {}
    found = await python("agents", "langchain_chat.py", **environ)
    assert found["text"] == "".join(ODD.answer)
    assert found["usage"]["total_tokens"] == 15
