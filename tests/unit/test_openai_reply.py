"""What the reader makes of an answer's bytes."""

import json
from dataclasses import replace
from typing import Any

import pytest

from chatcore.entities import FinishReason, Usage
from chatcore.errors import (
    ModelContextLength,
    ModelError,
    ModelNotFound,
    ModelPaymentRequired,
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


def read(*pieces: bytes, max_bytes: int = 1_000_000) -> tuple[list[Delta], ReplyReader]:
    """The deltas, without finish reasons."""
    reader = ReplyReader(max_bytes=max_bytes)
    deltas = [reader.feed(piece) for piece in pieces if not reader.done]
    unfinished = [replace(delta, finish_reason=None) for delta in (*deltas, reader.end()) if delta]
    return [delta for delta in unfinished if delta != Delta()], reader


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


def test_the_older_form_of_completions_is_read() -> None:
    assert said(
        event({"choices": [{"text": "Hel"}]}), event({"choices": [{"text": "lo", "finish_reason": "stop"}]})
    ) == [
        Delta(text="Hel"),
        Delta(text="lo"),
    ]


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
        b'data: {"choices": [{"delta": {"content": [1, "WORDS"]}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": {"text": 1, "b": "WORDS"}}}]}\n\n',
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


# ---- other forms -----------------------------------------------------------------------------------------


def delta(**fields: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": fields, "finish_reason": None}]})


def test_a_content_may_be_a_list_of_parts() -> None:
    """Mistral's form."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}, {"type": "text", "text": "m"}]}
    parts = [{"type": "text", "text": "Hel"}, {"type": "reference", "reference_ids": [1]}, {"type": "image_url"}]
    assert said(
        delta(content=[thinking]), delta(content=parts), delta(content=[{"type": "text", "text": "lo"}]), FINISH
    ) == [
        Delta(reasoning="Hmm"),
        Delta(text="Hel"),
        Delta(text="lo"),
    ]


@pytest.mark.parametrize(
    "content",
    [
        [],
        [{"type": "text", "text": None}],
        [{"type": "citation", "url": ["x"]}],
        [{"type": "thinking", "thinking": None}],
        [{"type": "thinking"}],
    ],
)
def test_parts_that_say_nothing_are_passed_over(content: list[Any]) -> None:
    assert said(chunk("Hel"), delta(content=content), chunk("lo"), FINISH) == [Delta(text="Hel"), Delta(text="lo")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (["Hel", "lo"], Delta(text="Hello")),
        ([{"type": "output_text", "text": "Hello"}], Delta(text="Hello")),
        ([{"text": "Hello"}], Delta(text="Hello")),
        ({"type": "text", "text": "Hello"}, Delta(text="Hello")),
        ([{"type": "thinking", "thinking": "Hm"}], Delta(reasoning="Hm")),
        ([{"type": "reasoning", "text": "Hm"}], Delta(reasoning="Hm")),
        ([{"type": "refusal", "refusal": "No."}], Delta(text="No.")),
    ],
)
def test_parts_whose_meaning_is_clear_are_read(content: Any, expected: Delta) -> None:
    assert said(delta(content=content), FINISH) == [expected]


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_content": ["?"], "content": "Hello"},
        {"reasoning": {"text": "?"}, "content": "Hello"},
        {"content": "Hello", "refusal": 0},
        {"content": "Hello", "tool_calls": "?", "role": 7},
    ],
)
def test_what_is_not_needed_may_have_any_form(fields: dict[str, Any]) -> None:
    assert said(delta(**fields), FINISH) == [Delta(text="Hello")]


def test_a_refusal_is_the_answer() -> None:
    assert said(delta(refusal="I can"), delta(refusal="'t."), FINISH) == [Delta(text="I can"), Delta(text="'t.")]


def test_only_the_first_choice_counts() -> None:
    two = [{"index": 0, "delta": {"content": "Hello"}}, {"index": 1, "delta": {"content": "Bye"}}]
    assert said(event({"choices": two}), FINISH) == [Delta(text="Hello")]


def test_a_message_beside_each_delta_is_no_end() -> None:
    events = [
        event({"choices": [{"delta": {"content": text}, "message": {"content": sum_}, "finish_reason": None}]})
        for text, sum_ in (("Hel", "Hel"), ("lo", "Hello"))
    ]
    deltas, reader = read(*events)
    assert deltas == [Delta(text="Hel"), Delta(text="lo")]
    assert type(reader.failure) is ModelUnavailable
    assert said(*events, FINISH) == [Delta(text="Hel"), Delta(text="lo")]


def test_nor_is_one_in_its_place() -> None:
    deltas, reader = read(event({"choices": [{"message": {"content": "Hel"}}]}))
    assert deltas == [Delta(text="Hel")]
    assert type(reader.failure) is ModelUnavailable


# ---- why it ended ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", FinishReason.STOP),
        ("STOP", FinishReason.STOP),
        ("end_turn", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("MAX_TOKENS", FinishReason.LENGTH),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("max_output_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("SAFETY", FinishReason.CONTENT_FILTER),
        ("PROHIBITED_CONTENT", FinishReason.CONTENT_FILTER),
        ("content_filter: RECITATION", FinishReason.CONTENT_FILTER),
        ("guardrail_intervened", FinishReason.CONTENT_FILTER),
        ("tool_calls", FinishReason.TOOL_CALLS),
        ("function_call", FinishReason.TOOL_CALLS),
        ("something new", None),
    ],
)
def test_the_finish_reason_comes_with_the_last_delta(word: str, reason: FinishReason | None) -> None:
    reader = ReplyReader(max_bytes=1000)
    assert reader.feed(chunk("Hello")) == Delta(text="Hello")
    assert reader.feed(chunk(finish=word, usage=(1, 2))) is None
    last = reader.end()
    assert last is not None
    assert (last.usage is not None, last.finish_reason) == (True, reason)
    assert reader.failure is None


def test_done_alone_gives_no_reason() -> None:
    reader = ReplyReader(max_bytes=1000)
    reader.feed(chunk("Hello") + DONE)
    assert reader.end() is None
    assert reader.failure is None


@pytest.mark.parametrize("word", ["null", "", "None"])
def test_a_word_for_none_is_no_reason(word: str) -> None:
    _, reader = read(chunk("Hello", finish=word))
    assert type(reader.failure) is ModelUnavailable


ERROR = {"code": 502, "message": "WORDS"}


@pytest.mark.parametrize(
    "broken",
    [
        event({"choices": [{"delta": {"content": "lo"}, "finish_reason": "error"}]}),
        event({"choices": [{"delta": {"content": "lo"}, "finish_reason": "network_error"}]}),
        event({"choices": [{"delta": {"content": "lo"}, "error": ERROR, "finish_reason": "error"}]}),
        event({"choices": [{"delta": {"content": "lo"}, "error": ERROR, "finish_reason": "stop"}]}),
        chunk("lo") + event({"error": ERROR, "choices": [{"delta": {"content": ""}, "finish_reason": "error"}]}),
        chunk("lo") + b"event: error\n" + event(ERROR),
        chunk("lo") + b"event: error\n" + event({"error": ERROR}),
        chunk("lo") + b"event: error\r\ndata: WORDS\r\n\r\n",
        chunk("lo") + b"event: error\n\n",
        chunk("lo") + b'error: {"code": 500, "message": "WORDS", "type": "server_error"}\n\n',
        chunk("lo") + b"error: WORDS\n\n",
        chunk("lo") + event({"detail": "WORDS"}),
        chunk("lo") + event(ERROR),
        chunk("lo") + event([{"error": ERROR}]),
        chunk("lo") + event({"error": ["WORDS"]}),
        chunk("lo") + event({"error": {"status": 503, "reason": "WORDS"}}),
    ],
)
def test_a_model_that_breaks_down_fails_and_what_it_said_is_kept(broken: bytes) -> None:
    reader = ReplyReader(max_bytes=1000)
    said = [reader.feed(chunk("Hel")), reader.feed(broken + DONE), reader.end()]
    assert "".join(delta.text for delta in said if delta) == "Hello"
    assert [delta.finish_reason for delta in said if delta][-1] is FinishReason.ERROR
    assert type(reader.failure) is ModelUnavailable
    assert reader.fault is not None
    assert "WORDS" not in str(reader.failure)


@pytest.mark.parametrize("empty", [{}, "", None, False, []])
def test_an_error_that_is_empty_is_none(empty: Any) -> None:
    assert said(event({"choices": [{"delta": {"content": "Hello"}, "error": empty}], "error": empty}), FINISH) == [
        Delta(text="Hello")
    ]


# ---- forms of the whole ----------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [b"", b"\n\n", b" \r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf \n"])
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_whether_it_streams_is_seen_in_the_answer_itself(before: bytes, step: int) -> None:
    whole = before + b'{"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}'
    streamed = before + chunk("Hello") + FINISH + DONE
    for answer in (whole, streamed):
        pieces = [answer[start : start + step] for start in range(0, len(answer), step)]
        assert said(*pieces) == [Delta(text="Hello")]


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (b'{"error": {"code": "invalid_api_key"}}', ModelUnauthorized),
        (b'[{"error": {"code": 429, "message": "WORDS", "status": "RESOURCE_EXHAUSTED"}}]', ModelRateLimited),
        (b'{"code": 401, "message": "WORDS"}', ModelUnauthorized),
        (b'{"object": "error", "message": "WORDS", "code": 404}', ModelNotFound),
        (b'{"choices": [{"message": {"content": ""}, "finish_reason": "error"}]}', ModelUnavailable),
    ],
)
def test_an_error_as_json_is_told_by_its_code(body: bytes, failure: type[ModelError]) -> None:
    _, reader = read(body)
    assert type(reader.failure) is failure


# ---- reasoning in tags -----------------------------------------------------------------------------------


def spoken(*texts: str) -> tuple[str, str]:
    """Reasoning and answer of a model that says this."""
    deltas = said(*map(chunk, texts), FINISH)
    reasoning, answer = "", ""
    for delta in deltas:
        if delta.reasoned:
            reasoning, answer = reasoning + answer, ""
        reasoning, answer = reasoning + delta.reasoning, answer + delta.text
    return reasoning, answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>Hm</think>Hello", ("Hm", "Hello")),
        ("\n<thinking>Hm</think></thinking>\n\nHello", ("Hm</think>", "Hello")),
        ("<thought>\nHm\n</thought>Hello", ("Hm\n", "Hello")),
        ("<reasoning>Hm</reasoning>Hello", ("Hm", "Hello")),
        ("[THINK]a[0] Hm[/THINK]Hello [1]", ("a[0] Hm", "Hello [1]")),
        ("[THIN] Hello", ("", "[THIN] Hello")),
        ("<seed:think>Hm</seed:think>Hello", ("Hm", "Hello")),
        ("\u25c1think\u25b7Hm\u25c1/think\u25b7Hello", ("Hm", "Hello")),
        ("<|begin_of_thought|>Hm<|end_of_thought|>Hello", ("Hm", "Hello")),
        ("<|channel>thought\nHm<channel|>Hello", ("Hm", "Hello")),
        ("<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>final<|message|>Hello", ("Hm", "Hello")),
        ("<|channel|>analysis<|message|>Hm<|end|><|start|>x", ("Hm<|end|><|start|>x", "")),
        ("\n <think>\nHm\n</think>\n\nHello", ("Hm\n", "Hello")),
        ("<think></think>Hello", ("", "Hello")),
        ("<think>a < b </ c <think> </thin> </think>Hello", ("a < b </ c <think> </thin> ", "Hello")),
        ("<think>Hm", ("Hm", "")),
        ("<think>Hm</thi", ("Hm</thi", "")),
        ("Hm</think>Hello", ("Hm", "Hello")),
        ("Hm\n</think>\n\nHello </think>", ("Hm\n", "Hello </think>")),
        ("</think>Hello", ("", "Hello")),
        ("Hello", ("", "Hello")),
        ("Hello <", ("", "Hello <")),
        ("a < b, </b>, <thinker> and </thinking>", ("", "a < b, </b>, <thinker> and </thinking>")),
        ("It writes <think> and </think>.", ("", "It writes <think> and </think>.")),
        ("It ends with `</think>`.", ("", "It ends with `</think>`.")),
        ("<thinker>", ("", "<thinker>")),
        ("  Hello", ("", "  Hello")),
        ("<thi", ("", "<thi")),
    ],
)
def test_reasoning_in_tags_is_reasoning_however_it_is_cut(text: str, expected: tuple[str, str]) -> None:
    assert spoken(text) == expected
    assert spoken(*text) == expected
    for cut in range(1, len(text)):
        assert spoken(text[:cut], text[cut:]) == expected, text[:cut]


def test_where_reasoning_comes_apart_tags_are_text() -> None:
    assert said(chunk(reasoning="Hm"), chunk("<think>no</think>"), FINISH) == [
        Delta(reasoning="Hm"),
        Delta(text="<think>no</think>"),
    ]


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
        ({"code": "context_length_exceeded", "type": "invalid_request_error"}, ModelContextLength),
        ({"code": "insufficient_quota", "type": "insufficient_quota"}, ModelPaymentRequired),
        ({"code": 402}, ModelPaymentRequired),
        ({"code": 400, "message": "API key not valid. WORDS"}, ModelUnauthorized),
        ({"message": "maximum context length is 8192 tokens WORDS"}, ModelContextLength),
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
    assert type(reader.failure) is ModelRefused


# ---- servers that do not stream --------------------------------------------------------------------------


def test_one_json_completion_is_one_delta() -> None:
    message = {"role": "assistant", "content": "data: x\r\n\r\n🦄", "reasoning_content": "Hm"}
    counts = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    body = json.dumps({"choices": [{"message": message}], "usage": counts}, indent=2).encode()
    deltas, reader = read(body[:50], body[50:])
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
    deltas, reader = read(body, max_bytes=1000)
    assert deltas == []
    assert type(reader.failure) is failure
