"""Responses: what OpenAI's own client makes of the events, from whichever it begins."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import pytest
from openai import OpenAI, omit
from openai.types.responses import Response, ResponseStreamEvent

from chatcore.errors import Unauthenticated
from chatcore.wire import problem
from chatcore_http.protocols.frames import DONE, written
from chatcore_http.protocols.openai import response_events
from chatcore_http.protocols.openai.response_events import ResponseEvents
from chatcore_http.protocols.openai.response_objects import response_object
from recorded import ENDED_AT, ENDINGS, USAGE, WRITING, Recorded

ASKED = {"model": "asked-for", "input": "Hello?", "temperature": 0.5, "metadata": {"a": "b"}}
KEYS = {
    "id",
    "object",
    "created_at",
    "completed_at",
    "status",
    "incomplete_details",
    "model",
    "previous_response_id",
    "instructions",
    "output",
    "error",
    "tools",
    "tool_choice",
    "truncation",
    "parallel_tool_calls",
    "text",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "top_logprobs",
    "temperature",
    "reasoning",
    "user",
    "usage",
    "max_output_tokens",
    "max_tool_calls",
    "store",
    "background",
    "service_tier",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
}
every_ending = pytest.mark.parametrize("ending", ENDINGS)


def stream_of(recorded: Recorded, *, after: int = -1, asked: Mapping[str, Any] = ASKED) -> bytes:
    return b"".join(map(ResponseEvents(recorded.ended, asked, after=after).encode, recorded.events()))


def frames_of(stream: bytes) -> list[dict[str, Any]]:
    frames = [frame for frame in stream.decode().split("\n\n") if frame and frame != "data: [DONE]"]
    named = [frame.split("\n") for frame in frames]
    events = [json.loads(data.removeprefix("data: ")) for _, data in named]
    assert [name for name, _ in named] == [f"event: {it['type']}" for it in events]
    return events


def client_of(stream: bytes) -> OpenAI:
    """OpenAI's client, whose server has nothing to say but this."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=stream, headers={"Content-Type": "text/event-stream"})

    server = httpx2.Client(transport=httpx2.MockTransport(answer))
    return OpenAI(api_key="key", base_url="http://test/v1", http_client=server)


def read_by_client(stream: bytes) -> Iterator[ResponseStreamEvent]:
    with client_of(stream) as client:
        yield from client.responses.create(model="m", input="Hello?", stream=True)


def test_the_order_of_the_events() -> None:
    reasoned = ENDINGS["reasoned"]
    around = ["output_item.added", "content_part.added", "*", "content_part.done", "output_item.done"]
    reasoning = [f"reasoning_text.{it}" for it in ("delta", "delta", "done")]
    answer = [f"output_text.{it}" for it in ("delta", "delta", "done")]
    expected = ["created", "in_progress", *around[:2], *reasoning, *around[3:], *around[:2], *answer, *around[3:]]
    events = frames_of(stream_of(reasoned))
    assert [it["type"] for it in events] == [f"response.{name}" for name in (*expected, "completed")]
    assert [it["sequence_number"] for it in events] == list(range(len(events)))
    assert {it["output_index"] for it in events if "reasoning_text" in it["type"]} == {0}
    assert {it["output_index"] for it in events if "output_text" in it["type"]} == {1}


@every_ending
def test_from_every_event_on_it_is_the_rest(ending: str) -> None:
    whole = stream_of(ENDINGS[ending])
    events = whole.split(b"\n\n")[:-1]
    for number in range(len(events)):
        rest = b"".join(event + b"\n\n" for event in events[number + 1 :])
        assert stream_of(ENDINGS[ending], after=number) == (rest or DONE)
    assert whole.endswith(DONE)


@every_ending
def test_a_long_text_is_written_once(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four of the last events have it, and one that writes megabytes four times keeps all others waiting."""
    seen = list[object]()

    def recording(data: Any) -> str:
        seen.append(data)
        return written(data)

    monkeypatch.setattr(response_events, "written", recording)
    recorded = ENDINGS[ending]
    stream_of(recorded)
    for text in filter(None, (recorded.ended.content, recorded.ended.reasoning)):
        assert not [data for data in seen if text in repr(data)]


@every_ending
def test_the_last_event_has_the_whole_response(ending: str) -> None:
    recorded = ENDINGS[ending]
    first, *_, last = frames_of(stream_of(recorded))
    assert last["response"] == response_object(recorded.ended, ASKED)
    assert set(first["response"]) >= KEYS
    assert set(last["response"]) >= KEYS
    Response.model_validate(last["response"], strict=False)
    assert first["response"] | {"id": 0, "status": 0} == response_object(WRITING, ASKED) | {"id": 0, "status": 0}
    done = [it["item"] for it in frames_of(stream_of(recorded)) if it["type"] == "response.output_item.done"]
    assert last["response"]["output"] == done


@pytest.mark.parametrize(
    ("ending", "event", "status", "details"),
    [
        ("complete", "completed", "completed", None),
        ("without a reason", "completed", "completed", None),
        ("long", "incomplete", "incomplete", {"reason": "max_output_tokens"}),
        ("filtered", "incomplete", "incomplete", {"reason": "content_filter"}),
        ("stopped", "incomplete", "cancelled", None),
        ("failed", "failed", "failed", None),
        ("interrupted", "failed", "failed", None),
    ],
)
def test_how_a_response_ends(ending: str, event: str, status: str, details: object) -> None:
    last = frames_of(stream_of(ENDINGS[ending]))[-1]
    assert last["type"] == f"response.{event}"
    response = last["response"]
    assert (response["status"], response["incomplete_details"]) == (status, details)
    message = response["output"][-1]
    assert message["content"][0]["text"] == "Hello"
    assert message["status"] == ("completed" if event == "completed" else "incomplete")
    assert (response["error"] is not None) == (event == "failed")
    assert response["completed_at"] == (int(ENDED_AT.timestamp()) if event == "completed" else None)


def test_the_response_repeats_its_request() -> None:
    asked = ASKED | {"conversation": "conv_5", "previous_response_id": None, "instructions": "Be brief."}
    response = response_object(WRITING, asked)
    assert (response["temperature"], response["metadata"]) == (0.5, {"a": "b"})
    assert (response["instructions"], response["conversation"]) == ("Be brief.", {"id": "conv_5"})
    assert response["model"] == "some-model"
    assert response["created_at"] == int(WRITING.created_at.timestamp())


@pytest.mark.parametrize("after", [-1, 2, 7])
def test_the_end_of_a_connection_alone_has_the_number_after_which_it_goes_on(after: int) -> None:
    events = ResponseEvents(WRITING, ASKED, after=after)
    seen = frames_of(b"".join(map(events.encode, list(ENDINGS["reasoned"].events())[:3])))
    (error,) = frames_of(events.broken(problem(Unauthenticated())))
    assert (error["type"], error["error"]["code"]) == ("error", "unauthenticated")
    assert error["sequence_number"] == (seen[-1]["sequence_number"] if seen else after)
    assert error["message"] == error["error"]["message"]


@every_ending
def test_openais_client_reads_every_event(ending: str) -> None:
    recorded = ENDINGS[ending]
    events = list(read_by_client(stream_of(recorded)))
    assert [it.sequence_number for it in events] == list(range(len(events)))
    assert "".join(it.delta for it in events if it.type == "response.output_text.delta") == "".join(recorded.answer)
    assert "".join(it.delta for it in events if it.type == "response.reasoning_text.delta") == "".join(
        recorded.reasoning
    )


@pytest.mark.parametrize("after", [None, 0, 3, 9])
def test_openais_client_puts_the_response_together(after: int | None) -> None:
    """Its `stream` asks for all events, and drops those that its caller has."""
    whole = stream_of(ENDINGS["reasoned"])
    resumed = omit if after is None else after
    with client_of(whole).responses.stream(response_id="resp_5_7", starting_after=resumed) as stream:
        numbers = [event.sequence_number for event in stream]
        response = stream.get_final_response()
    assert numbers == [*range(len(frames_of(whole)))][0 if after is None else after + 1 :]
    assert response.output_text == "Hello"
    assert response.usage is not None
    assert response.usage.total_tokens == USAGE.total_tokens
