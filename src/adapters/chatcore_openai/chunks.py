"""One event of an answer, in any of the forms that servers give it.

What is meant is read; what is not needed is ignored whatever its form; and only text that would be lost is a fault.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec

from chatcore.entities import FinishReason

_MAX_ODD = 256 * 1024, 10_000  # bytes and brackets of an event that is read by the slower way


class Said(msgspec.Struct, gc=False):
    """`reasoning_content` is DeepSeek's and vLLM's word for it, `reasoning` is OpenRouter's and Ollama's."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None


class Fault(msgspec.Struct, gc=False):
    """What an endpoint says of an error."""

    code: str | int | None = None
    status: str | int | None = None
    type: str | None = None
    message: str | None = None


class Choice(msgspec.Struct, gc=False):
    """`message` instead of `delta`: the server has not streamed. `text`: it speaks the older completions."""

    delta: Said | None = None
    message: Said | None = None
    text: str | None = None
    finish_reason: str | None = None
    error: Fault | str | None = None

    @property
    def said(self) -> Said | None:
        return self.delta or self.message or (Said(content=self.text) if self.text else None)


class Choices(msgspec.Struct, gc=False, array_like=True):
    """The first of them; a million others are not even made."""

    first: Choice | None = None


class Counts(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None


class Chunk(msgspec.Struct, gc=False):
    """No part of it is of a type that a large event could fill with objects."""

    choices: Choices | None = None
    usage: Counts | None = None
    error: Fault | str | None = None
    object: str | None = None
    code: str | int | None = None
    message: str | None = None
    detail: str | None = None

    @property
    def fault(self) -> Fault | None:
        """The error that it tells of, in one of the places where servers put one."""
        error = self.error or (self.choices and self.choices.first and self.choices.first.error)
        if isinstance(error, str) and error:
            return Fault(message=error)
        if isinstance(error, Fault) and any((error.code, error.status, error.type, error.message)):
            return error
        if self.object == "error" or (self.choices is None and self.code and self.message):
            return Fault(code=self.code, message=self.message)
        if self.choices is None and self.detail:  # FastAPI's
            return Fault(message=self.detail)
        return None


decode: Callable[[bytes], Chunk] = msgspec.json.Decoder(Chunk).decode
"""Read an event of the usual form. Raise `ValueError` or `RecursionError` for any other."""


def decode_odd(data: bytes) -> Chunk:
    """Read an event of any form. Raise `ValueError` or `RecursionError` for one that makes no sense.

    msgspec refuses what is not UTF-8 and half characters; the standard library can be talked into both.
    """
    if len(data) > _MAX_ODD[0] or data.count(b"{") + data.count(b"[") > _MAX_ODD[1]:
        raise ValueError
    value: Any = json.loads(data.decode(errors="replace"))
    if data.lstrip().startswith(b"["):  # as Google wraps its errors
        value = next(iter(_list(value)), None)
    fields = _object(value)
    return Chunk(
        choices=_choices(fields.get("choices")),
        usage=_counts(fields.get("usage")),
        error=_fault(fields.get("error")),
        object=_text(fields.get("object")),
        code=_code(fields.get("code")),
        message=_text(fields.get("message")),
        detail=_text(fields.get("detail")),
    )


def finish_of(word: str | None) -> tuple[bool, FinishReason | None]:
    """Whether a `finish_reason` says that the model has ended its answer, and why, if that is known."""
    word = (word or "").lower().partition(":")[0]
    if word in ("", "null", "none"):
        return False, None
    if word.startswith("error") or word in _BREAKDOWNS:
        return True, FinishReason.ERROR
    return True, _REASONS.get(word)


_BREAKDOWNS = ("network_error", "insufficient_system_resource", "abort", "unknown_error")  # Zhipu, DeepSeek, SGLang
_REASONS = {
    "stop": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "end_turn": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "eos_token": FinishReason.STOP,
    "complete": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "max_output_tokens": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
    "safety": FinishReason.CONTENT_FILTER,
    "sensitive": FinishReason.CONTENT_FILTER,
    "recitation": FinishReason.CONTENT_FILTER,
    "refusal": FinishReason.CONTENT_FILTER,
    "content_filtered": FinishReason.CONTENT_FILTER,  # Bedrock's, as is the next
    "guardrail_intervened": FinishReason.CONTENT_FILTER,
    "prohibited_content": FinishReason.CONTENT_FILTER,  # Gemini's, as are the next
    "blocklist": FinishReason.CONTENT_FILTER,
    "spii": FinishReason.CONTENT_FILTER,
    "image_safety": FinishReason.CONTENT_FILTER,
    "tool_calls": FinishReason.TOOL_CALLS,
    "tool_use": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
}


def _object(value: Any) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    raise ValueError


def _list(value: Any) -> Sequence[Any]:
    if isinstance(value, list):
        return cast("Sequence[Any]", value)
    raise ValueError


def _choices(value: Any) -> Choices | None:
    if value is None:
        return None
    choices = _list(value)
    if not choices or choices[0] is None:
        return Choices()
    fields = _object(choices[0])
    return Choices(
        Choice(
            delta=_said(fields.get("delta")),
            message=_said(fields.get("message")),
            text=_text(fields.get("text")),
            finish_reason=_text(fields.get("finish_reason")),
            error=_fault(fields.get("error")),
        )
    )


def _said(value: Any) -> Said | None:
    if value is None or isinstance(value, str):
        return None if value is None else Said(content=value)
    fields = _object(value)
    parts = [*_parts(fields.get("content"))]
    reasoning = _text(fields.get("reasoning_content")) or _text(fields.get("reasoning"))
    return Said(
        content="".join(text for is_answer, text in parts if is_answer),
        reasoning=reasoning or "".join(text for is_answer, text in parts if not is_answer),
        refusal=_text(fields.get("refusal")),
    )


def _parts(content: Any) -> Iterator[tuple[bool, str]]:
    """The texts of a content, and whether each is of the answer. Parts of an unknown type are skipped."""
    if content is None:
        return
    for part in _list(content) if isinstance(content, list) else [content]:
        if isinstance(part, str):
            yield True, part
            continue
        fields = _object(part)
        match fields.get("type", "text"):
            case "text" | "output_text":
                yield True, _needed(fields.get("text"))
            case "refusal":
                yield True, _needed(fields.get("refusal"))
            case "thinking" | "reasoning":
                yield False, _thought(fields)
            case _:
                pass


def _thought(fields: Mapping[str, Any]) -> str:
    thought = next((fields[name] for name in ("thinking", "reasoning", "text", "content") if fields.get(name)), None)
    return "".join(text for _, text in _parts(thought))


def _needed(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    raise ValueError


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _code(value: Any) -> str | int | None:
    return value if isinstance(value, str | int) else None


def _counts(value: Any) -> Counts | None:
    try:
        return msgspec.convert(value, Counts) if value is not None else None
    except msgspec.ValidationError:
        return None


def _fault(value: Any) -> Fault | str | None:
    """An error of an unknown form is one."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return Fault(
            code=_code(fields.get("code")),
            status=_code(fields.get("status")),
            type=_text(fields.get("type")),
            message=_text(fields.get("message")) or ("an error of an unknown form" if fields else None),
        )
    return (value if isinstance(value, str) else "an error of an unknown form") if value else None
