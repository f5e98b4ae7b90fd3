"""Stored chat completions: what OpenAI's own client makes of the chunks and of the whole object."""

from typing import Any

import httpx2
import pytest
from openai import APIError, OpenAI
from openai.types.chat import ChatCompletion

from chatcore_http.protocols.openai.stored_completions import CompletionChunks, completion_object
from recorded import ENDINGS, FAILURE, WRITING

COUNTS = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}


def client_of(ending: str, *, include_usage: bool = False) -> OpenAI:
    """OpenAI's client, whose server has nothing to say but this."""
    recorded = ENDINGS[ending]
    encode = CompletionChunks(WRITING, include_usage=include_usage).encode
    stream = b"".join(map(encode, recorded.events()))
    assert stream.endswith(b"data: [DONE]\n\n")

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=stream, headers={"Content-Type": "text/event-stream"})

    server = httpx2.Client(transport=httpx2.MockTransport(answer))
    return OpenAI(api_key="key", base_url="http://test/v1", http_client=server)


def chunks_of(ending: str, **options: Any) -> list[Any]:
    with client_of(ending, **options) as client:
        return list(client.chat.completions.create(model="m", messages=[], stream=True))


def test_the_chunks_of_a_reply() -> None:
    chunks = chunks_of("reasoned")
    assert {(it.id, it.created, it.model, it.object) for it in chunks} == {
        ("chatcmpl-5_7", int(WRITING.created_at.timestamp()), "some-model", "chat.completion.chunk")
    }
    deltas = [it.choices[0].delta.model_dump(exclude_unset=True) for it in chunks]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "Hm"},
        {"reasoning_content": "m. "},
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert [it.choices[0].finish_reason for it in chunks] == [*[None] * 5, "stop"]
    assert "usage" not in chunks[-1].model_fields_set


def test_usage_comes_last_if_it_was_asked_for() -> None:
    *others, last = chunks_of("complete", include_usage=True)
    assert [it.usage for it in others] == [None] * len(others)
    assert all("usage" in it.model_fields_set for it in others)
    assert last.choices == []
    assert last.usage.model_dump(exclude_unset=True) == COUNTS


@pytest.mark.parametrize(
    ("ending", "reason"), [("long", "length"), ("filtered", "content_filter"), ("stopped", "stop")]
)
def test_the_reasons(ending: str, reason: str) -> None:
    assert chunks_of(ending)[-1].choices[0].finish_reason == reason


@pytest.mark.parametrize("ending", ["failed", "failed before its first word", "interrupted"])
def test_the_client_raises_what_has_failed(ending: str) -> None:
    with pytest.raises(APIError, match=r"The model endpoint|The server that wrote"):
        chunks_of(ending)


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_whole_object(ending: str) -> None:
    reply = ENDINGS[ending].ended
    shown = completion_object(reply, {"metadata": {"a": "b"}})
    completion = ChatCompletion.model_validate(shown)
    assert completion.choices[0].message.content == reply.content
    assert (completion.id, shown["metadata"]) == ("chatcmpl-5_7", {"a": "b"})
    assert ("error" in shown) == (ending.startswith(("failed", "interrupted")))


def test_why_it_failed() -> None:
    shown = completion_object(ENDINGS["failed"].ended, {})
    assert shown["error"]["message"] == FAILURE.detail
    assert shown["choices"][0]["finish_reason"] == "length"


def test_one_that_is_being_written_has_no_reason_yet() -> None:
    assert completion_object(WRITING, {})["choices"][0]["finish_reason"] is None


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_chunks_after_those_that_the_client_has(ending: str) -> None:
    def sent(after: int) -> bytes:
        return b"".join(map(CompletionChunks(WRITING, include_usage=True, after=after).encode, recorded.events()))

    recorded = ENDINGS[ending]
    whole = sent(0)
    frames = whole.split(b"\n\n")[:-1]
    for number in range(len(frames)):
        assert sent(number) == b"".join(frame + b"\n\n" for frame in frames[number:])
    assert sent(len(frames)) == b"data: [DONE]\n\n"
