"""What the reader makes of an answer's bytes."""

import json
from typing import Any

import pytest

from chatcore.entities import Usage
from chatcore.errors import (
    ModelError,
    ModelNotFound,
    ModelProtocolError,
    ModelRateLimited,
    ModelRefused,
    ModelUnauthorized,
    ModelUnavailable,
)
from chatcore.ports import Delta
from chatcore_openai.reply import ReplyReader
from integration.model_server import DONE, chunk, event

FINISH = chunk(finish="stop")


def read(*pieces: bytes, max_bytes: int = 1_000_000, streamed: bool = True) -> tuple[list[Delta], ReplyReader]:
    reader = ReplyReader(max_bytes=max_bytes, streamed=streamed)
    deltas = [reader.feed(piece) for piece in pieces if not reader.done]
    return [delta for delta in (*deltas, reader.end()) if delta], reader


def said(*pieces: bytes) -> list[Delta]:
    """Of an answer that has no fault."""
    deltas, reader = read(*pieces)
    assert reader.failure is None
    assert reader.finished
    return deltas


def escaped(text: str) -> bytes:
    """An event with this between the quotation marks of its text."""
    return b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % text.encode()


def test_what_comes_together_is_one_delta() -> None:
    whole = b"".join([*(chunk(str(number)) for number in range(1000)), FINISH, DONE])
    assert said(whole) == [Delta(text="".join(str(number) for number in range(1000)))]


def test_reasoning_and_answer_that_come_together_are_one_delta() -> None:
    assert said(chunk(reasoning="Hm") + chunk(reasoning="m") + chunk("Hel") + chunk("lo") + FINISH) == [
        Delta(reasoning="Hmm", text="Hello")
    ]


def test_nothing_after_done_counts() -> None:
    assert said(chunk("Hello") + DONE + chunk("!"), chunk("!"), DONE) == [Delta(text="Hello")]


@pytest.mark.parametrize("end", [FINISH, DONE, FINISH + DONE, FINISH.rstrip(), b"data:[DONE]", b"data: [DONE] \r\n"])
def test_a_finish_reason_or_done_is_an_end(end: bytes) -> None:
    assert said(chunk("Hello"), end) == [Delta(text="Hello")]


@pytest.mark.parametrize("end", [b"", chunk(), chunk(finish=""), b'data: {"choices":[{"delta":{"content":"lo'])
def test_a_stream_without_its_end_is_cut(end: bytes) -> None:
    deltas, reader = read(chunk("Hel"), end)
    assert deltas == [Delta(text="Hel")]
    assert type(reader.failure) is ModelUnavailable


@pytest.mark.parametrize("nothing", [b"", b"\n\n", b": ping\n\n", b"Internal error", b"data: \n\n", b"data: {}\n\n"])
def test_an_empty_stream_is_no_reply(nothing: bytes) -> None:
    deltas, reader = read(nothing)
    assert deltas == []
    assert type(reader.failure) is ModelProtocolError


def test_a_model_may_have_nothing_to_say() -> None:
    assert said(chunk(""), FINISH, DONE) == []


@pytest.mark.parametrize(
    "odd",
    [
        b": ping\n\n",
        b"data:\n\n",
        b"event: ping\ndata: {}\n\n",
        b'data: {"choices": null}\n\n',
        b'data: {"choices": [{"delta": null, "finish_reason": null, "content_filter_results": {"hate": {}}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": null, "role": "assistant", "tool_calls": []}}]}\n\n',
        b'data: {"choices": [], "prompt_filter_results": [{"prompt_index": 0}], "error": null}\n\n',
    ],
)
def test_events_that_say_nothing_are_passed_over(odd: bytes) -> None:
    assert said(odd + chunk("Hel") + odd, odd, chunk("lo"), odd, FINISH) == [Delta(text="Hel"), Delta(text="lo")]


@pytest.mark.parametrize(
    "garbage",
    [
        b"data: WORDS\n\n",
        b"data: {WORDS}\n\n",
        b"data: null\n\n",
        b"data: [1]\n\n",
        b'data: {"choices": "WORDS"}\n\n',
        b'data: {"choices": [{"delta": {"content": ["WORDS"]}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": "WORDS}\n\n',
        b'data: {"a": ' + b"[" * 100_000 + b"\n\n",
    ],
)
def test_garbage_fails_the_reply_and_what_came_before_it_is_said(garbage: bytes) -> None:
    deltas, reader = read(chunk("Hel") + garbage + chunk("lo") + FINISH)
    assert deltas == [Delta(text="Hel")]
    assert type(reader.failure) is ModelProtocolError
    assert "WORDS" not in str(reader.failure)


@pytest.mark.parametrize("kind", [b"WORDS", b'{"a": ' + b"[" * 100_000])
def test_garbage_fails_the_reply_also_by_itself_in_the_middle_of_an_answer(kind: bytes) -> None:
    deltas, reader = read(chunk("Hel"), b"data: " + kind + b"\n\n", chunk("lo"), FINISH)
    assert deltas == [Delta(text="Hel")]
    assert type(reader.failure) is ModelProtocolError


def test_nothing_is_said_after_the_end() -> None:
    reader = ReplyReader(max_bytes=1000)
    assert reader.feed(chunk("Hel")) == Delta(text="Hel")
    assert reader.feed(DONE) is None
    assert reader.feed(chunk("lo")) is None


# ---- reasoning -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_both_words_for_reasoning_are_known(name: str) -> None:
    assert said(event({"choices": [{"delta": {name: "Hm"}}]}), FINISH) == [Delta(reasoning="Hm")]


def test_reasoning_said_twice_counts_once() -> None:
    twice = event({"choices": [{"delta": {"reasoning": "Hm", "reasoning_content": "Hm"}}]})
    assert said(twice, FINISH) == [Delta(reasoning="Hm")]


def test_reasoning_after_the_answer_has_begun_is_dropped() -> None:
    late = chunk(reasoning="late")
    assert said(chunk(reasoning="Hm") + chunk("a") + late + chunk("b"), late + chunk("c"), late, FINISH) == [
        Delta(reasoning="Hm", text="ab"),
        Delta(text="c"),
    ]


# ---- text ------------------------------------------------------------------------------------------------


def test_a_character_in_two_halves_becomes_whole() -> None:
    assert said(escaped(r"a\ud83e"), escaped(r"\udd84b"), FINISH) == [Delta(text="a"), Delta(text="🦄b")]
    assert said(escaped(r"a\ud83e") + escaped(r"\udd84b"), FINISH) == [Delta(text="a🦄b")]
    assert said(chunk(reasoning="\ud83e"), chunk(reasoning="\udd84"), FINISH) == [Delta(reasoning="🦄")]


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([r"a\ud83e", "b"], "a\ufffdb"),
        ([r"a\ud83e", r"\ud83e", "b"], "a\ufffd\ufffdb"),
        ([r"a\udd84", r"\ud83eb"], "a\ufffd\ufffdb"),
        ([r"a\ud83e"], "a\ufffd"),
        ([r"\u0000", "b"], "\ufffdb"),
    ],
)
def test_what_cannot_be_stored_is_replaced_one_for_one(pieces: list[str], text: str) -> None:
    assert "".join(delta.text for delta in said(*map(escaped, pieces), FINISH)) == text


def test_half_a_character_of_reasoning_is_said_before_the_answer() -> None:
    assert said(chunk(reasoning="a\ud83e"), chunk("b"), FINISH) == [
        Delta(reasoning="a"),
        Delta(reasoning="\ufffd", text="b"),
    ]


def test_what_is_not_utf_8_is_replaced() -> None:
    event = b'data: {"choices":[{"delta":{"content":"a\xff\xc3\xa9"}}]}\n\n'
    assert said(event, FINISH) == [Delta(text="a\ufffdé")]


def test_a_character_cut_by_the_network_stays_whole() -> None:
    stream = escaped("🦄") + FINISH
    for cut in range(len(stream)):
        assert "".join(delta.text for delta in said(stream[:cut], stream[cut:])) == "🦄"


# ---- bounds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", ["x", "é", "漢", "🦄"])
def test_the_bound_is_on_the_bytes_of_the_text(letter: str) -> None:
    width = len(letter.encode())
    within = [chunk(letter * 100) for _ in range(10)]
    deltas, reader = read(*within, FINISH, max_bytes=1000 * width)
    assert len("".join(delta.text for delta in deltas)) == 1000
    assert reader.failure is None
    deltas, reader = read(*within, chunk("x"), FINISH, max_bytes=1000 * width)
    assert len("".join(delta.text for delta in deltas)) == 1000
    assert type(reader.failure) is ModelProtocolError


def test_reasoning_counts_too() -> None:
    _, reader = read(chunk(reasoning="x" * 600), chunk("x" * 600), FINISH, max_bytes=1000)
    assert type(reader.failure) is ModelProtocolError


def test_an_endless_event_fails() -> None:
    deltas, reader = read(chunk("Hello"), b"data: " + b"x" * 1000, max_bytes=1000)
    assert deltas == [Delta(text="Hello")]
    assert type(reader.failure) is ModelProtocolError


# ---- usage -----------------------------------------------------------------------------------------------


def test_usage_is_that_of_the_last_event_that_has_one() -> None:
    deltas = said(chunk("Hel", usage=(3, 1)), chunk("lo", usage=(3, 2)), FINISH, DONE)
    usage = Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5)
    assert deltas == [Delta(text="Hel"), Delta(text="lo"), Delta(usage=usage)]


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4}, (3, 4, 7)),
        ({"prompt_tokens": 3, "total_tokens": 3}, (3, 0, 3)),
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 9, "prompt_tokens_details": {}}, (3, 4, 9)),
        ({"prompt_tokens": "3", "completion_tokens": 4}, None),
        ({"prompt_tokens": -3, "completion_tokens": 4}, None),
        ({"prompt_tokens": 10**30, "completion_tokens": 4}, None),
        ("many", None),
        ([], None),
    ],
)
def test_a_usage_that_makes_no_sense_is_none(counts: Any, usage: tuple[int, int, int] | None) -> None:
    deltas = said(chunk("Hello"), FINISH, event({"choices": [], "usage": counts}), DONE)
    expected = usage and Usage(prompt_tokens=usage[0], completion_tokens=usage[1], total_tokens=usage[2])
    assert deltas[0] == Delta(text="Hello")
    assert [delta.usage for delta in deltas[1:]] == ([expected] if expected else [])


# ---- errors in mid-stream --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ({"message": "WORDS"}, ModelUnavailable),
        ("WORDS", ModelUnavailable),
        ({"code": 429, "message": "WORDS"}, ModelRateLimited),
        ({"code": "429"}, ModelRateLimited),
        ({"code": 401}, ModelUnauthorized),
        ({"code": 404}, ModelNotFound),
        ({"code": 400}, ModelRefused),
        ({"code": 502}, ModelUnavailable),
        ({"code": 200}, ModelUnavailable),
        ({"code": "WORDS", "type": "invalid_request_error"}, ModelRefused),
        ({"code": "rate_limit_exceeded", "type": "tokens"}, ModelRateLimited),
        ({"code": None, "type": "server_error"}, ModelUnavailable),
        ({"code": "context_length_exceeded", "type": "invalid_request_error"}, ModelRefused),
        ({"code": {"a": 1}, "type": ["WORDS"]}, ModelUnavailable),
    ],
)
def test_an_error_in_mid_stream_is_told_by_its_code(error: object, failure: type[ModelError]) -> None:
    deltas, reader = read(chunk("Hel") + event({"error": error}) + chunk("lo") + FINISH + DONE)
    assert deltas == [Delta(text="Hel")]
    assert type(reader.failure) is failure
    assert "WORDS" not in str(reader.failure)


def test_an_event_that_calls_itself_an_error_is_one() -> None:
    deltas, reader = read(chunk("Hel"), event({"object": "error", "message": "WORDS", "code": 400}), DONE)
    assert deltas == [Delta(text="Hel")]
    assert type(reader.failure) is ModelUnavailable


# ---- servers that do not stream --------------------------------------------------------------------------


def test_one_json_completion_is_one_delta() -> None:
    message = {"role": "assistant", "content": "data: x\r\n\r\n🦄", "reasoning_content": "Hm"}
    counts = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    body = json.dumps({"choices": [{"message": message}], "usage": counts}, indent=2).encode()
    deltas, reader = read(body[:50], body[50:], streamed=False)
    usage = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    assert deltas == [Delta(reasoning="Hm", text="data: x\r\n\r\n🦄", usage=usage)]
    assert reader.failure is None


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (b"", ModelProtocolError),
        (b"{", ModelProtocolError),
        (b'{"message": "WORDS"}', ModelProtocolError),
        (b'"WORDS"', ModelProtocolError),
        (b'{"error": {"code": "invalid_api_key"}}', ModelUnauthorized),
        (b'{"choices": [{"message": {"content": "' + b"x" * 2000 + b'"}}]}', ModelProtocolError),
    ],
)
def test_other_json_is_no_reply(body: bytes, failure: type[ModelError]) -> None:
    deltas, reader = read(body, max_bytes=1000, streamed=False)
    assert deltas == []
    assert type(reader.failure) is failure
