"""What a client asks of Responses, read from its JSON. What is not supported is refused by its name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from chatcore import ChatOptions, ConversationId, MessageId
from chatcore.bounds import check
from chatcore.errors import FieldError
from chatcore.use_cases.sending import EARLIER
from chatcore_http.protocols.openai.fields import broken, range_of
from chatcore_http.protocols.openai.ids import conversation_of, reply_of_response

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_AS_CHAT = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "min_p",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning_effort",
        "repetition_penalty",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "top_k",
        "top_p",
        "user",
        "verbosity",
    }
)
"""Fields that reach the model as Chat Completions has them, also those that are none of Responses'."""
_TWICE = "is sent under another name, too"
_LENGTHS = ("max_tokens", "max_completion_tokens")
"""Names of Chat Completions for `max_output_tokens`."""
_ECHOED = frozenset(
    {
        "user",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "metadata",
        "instructions",
        "temperature",
        "top_p",
        "max_output_tokens",
        "max_tool_calls",
        "truncation",
        "text",
        "reasoning",
        "background",
        "store",
        "tool_choice",
        "parallel_tool_calls",
        "previous_response_id",
        "conversation",
        "presence_penalty",
        "frequency_penalty",
    }
)
_INCLUDED = frozenset(
    {
        "reasoning.encrypted_content",
        "message.output_text.logprobs",
        "web_search_call.results",
        "message.input_image.image_url",
        "file_search_call.results",
        "web_search_call.action.sources",
        "code_interpreter_call.outputs",
        "computer_call_output.output.image_url",
    }
)
"""What may be asked for where there is nothing of it."""


class CreateResponse(msgspec.Struct, frozen=True):
    """The fields that are understood. Others are refused."""

    input: str | list[dict[str, Any]] | None = None
    model: str | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    background: bool | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    max_output_tokens: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    truncation: str | None = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    include: list[str] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: int | None = None
    top_logprobs: int | None = None
    service_tier: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: Any = None
    client_metadata: Any = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


_ITEMS = 2 * EARLIER
"""Of an input: messages, and what a model thought before each."""
_KNOWN = frozenset((*CreateResponse.__struct_fields__, *_AS_CHAT))


@dataclass(frozen=True, slots=True)
class Continued:
    """Where the conversation goes on: in one that the client named, after a reply, or (neither) in a new one."""

    conversation_id: ConversationId | None = None
    after: MessageId | None = None


def read_request(fields: Mapping[str, Any]) -> CreateResponse:
    """Raise `ValidationFailed`, which names the field."""
    check(
        *(
            FieldError(name, "is not supported")
            for name, value in fields.items()
            if value is not None and name not in _KNOWN
        )
    )
    try:
        return msgspec.convert(fields, CreateResponse)
    except msgspec.ValidationError as error:
        message, _, field = str(error).partition(" - at `$.")
        raise broken(field.removesuffix("`") or "body", message) from None


def check_stored(asked: CreateResponse) -> None:
    """Raise `ValidationFailed` for what a stored reply does not have."""
    unsupported = "is not supported where responses are stored: with store: false it passes through"
    check(
        FieldError("tools", unsupported) if asked.tools else None,
        FieldError("tool_choice", unsupported) if asked.tool_choice not in (None, "auto", "none") else None,
    )


def check_request(asked: CreateResponse) -> None:
    """Raise `ValidationFailed` for values that nothing here can keep."""
    choices = {
        "truncation": (asked.truncation, ("auto", "disabled")),
        "reasoning.effort": ((asked.reasoning or {}).get("effort"), _EFFORTS),
    }
    check(
        FieldError("input", f"must be at most {_ITEMS} items")
        if len(asked.input or "") > _ITEMS and isinstance(asked.input, list)
        else None,
        *(
            FieldError(name, f"must be one of: {', '.join(words)}")
            for name, (value, words) in choices.items()
            if value is not None and value not in words
        ),
        *(FieldError("include", f"{name} is not supported") for name in asked.include or () if name not in _INCLUDED),
        FieldError("top_logprobs", "is not supported") if asked.top_logprobs else None,
        range_of("top_p", asked.top_p, 0, 1),
        range_of("temperature", asked.temperature, 0, 2),
        *(range_of(name, getattr(asked, name), 1, 1_000_000) for name in ("max_output_tokens", *_LENGTHS)),
        FieldError("n", "must be 1: a response has one output") if asked.n not in (None, 1) else None,
    )


def options_of(asked: CreateResponse, fields: Mapping[str, Any]) -> ChatOptions:
    """Return the options without the model. Raise `ValidationFailed` for a field that is there under two names."""
    more = {name: value for name, value in fields.items() if name in _AS_CHAT and value is not None}
    effort = (asked.reasoning or {}).get("effort")
    its_own = {**_format_of(asked), **({} if effort is None else {"reasoning_effort": effort})}
    check(*(FieldError(name, _TWICE) for name in its_own if name in more))
    return ChatOptions(
        system=asked.instructions,
        temperature=asked.temperature,
        max_tokens=_length_of(asked),
        more={**more, **its_own},
    )


def _length_of(asked: CreateResponse) -> int | None:
    given: dict[str, int | None] = {name: getattr(asked, name) for name in ("max_output_tokens", *_LENGTHS)}
    first, *others = [name for name, value in given.items() if value is not None] or ["max_output_tokens"]
    check(*(FieldError(name, _TWICE) for name in others))
    return given[first]


def _format_of(asked: CreateResponse) -> Mapping[str, Any]:
    """Return the form of the answer as Chat Completions names it."""
    text = asked.text or {}
    form, verbosity = text.get("format"), text.get("verbosity")
    more = {} if verbosity is None else {"verbosity": verbosity}
    match form:
        case None | {"type": "text"}:
            return more
        case {"type": "json_object"}:
            return {"response_format": {"type": "json_object"}, **more}
        case {"type": "json_schema", **schema}:
            return {"response_format": {"type": "json_schema", "json_schema": schema}, **more}
        case _:
            raise broken("text.format", "must be of the type text, json_object or json_schema")


def echo_of(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the response repeats of its request."""
    return {name: value for name, value in fields.items() if name in _ECHOED and value is not None}


def continued_of(asked: CreateResponse) -> Continued:
    """Raise `ValidationFailed`."""
    if asked.previous_response_id is not None and asked.conversation is not None:
        check(FieldError("conversation", "must not be sent together with previous_response_id"))
    if asked.previous_response_id is not None:
        named = reply_of_response(asked.previous_response_id)
        if named is None:
            raise broken("previous_response_id", "is not the id of a response")
        return Continued(named.conversation_id, named.message_id)
    if asked.conversation is None:
        return Continued()
    name = asked.conversation if isinstance(asked.conversation, str) else asked.conversation.get("id")
    conversation_id = conversation_of(name) if isinstance(name, str) else None
    if conversation_id is None:
        raise broken("conversation", "is not the id of a conversation")
    return Continued(conversation_id)
