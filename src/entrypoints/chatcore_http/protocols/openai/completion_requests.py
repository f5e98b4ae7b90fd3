"""What a client asks of Chat Completions where the answer is stored. What is not supported is refused by its name."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from chatcore import ChatOptions, ConversationId
from chatcore.bounds import check
from chatcore.errors import FieldError
from chatcore.use_cases.sending import EARLIER
from chatcore_http.protocols.openai.fields import broken, range_of
from chatcore_http.protocols.openai.ids import conversation_of
from chatcore_http.protocols.openai.input_messages import Said, said_by

CONVERSATION = "conversation_id"
"""The name in the metadata of the conversation to continue."""

_SYSTEM = ("system", "developer")
_NO_TOOLS = (None, "none", "auto")
_UNSUPPORTED = "is not supported where completions are stored: without store it passes through"
_UNHEARD = {
    **dict.fromkeys(("tool_calls", "function_call", "tool_call_id", "audio"), _UNSUPPORTED),
    "name": "is not stored: write who speaks into the content, or leave store out",
}
"""Fields of a message, each with what to do."""


class CreateCompletion(msgspec.Struct, frozen=True):
    """The fields that are read here. All others go to the model as they are."""

    messages: list[dict[str, Any]]
    model: str | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    functions: list[Any] | None = None
    function_call: Any = None


_OURS = frozenset(CreateCompletion.__struct_fields__)


def read_completion(fields: Mapping[str, Any]) -> CreateCompletion:
    """Raise `ValidationFailed`, which names the field."""
    try:
        asked = msgspec.convert(fields, CreateCompletion)
    except msgspec.ValidationError as error:
        message, _, field = str(error).partition(" - at `$.")
        raise broken(field.removesuffix("`") or "messages", message) from None
    _check(asked)
    return asked


def _check(asked: CreateCompletion) -> None:
    given = {
        "tools": asked.tools,
        "functions": asked.functions,
        "tool_choice": asked.tool_choice not in _NO_TOOLS,
        "function_call": asked.function_call not in _NO_TOOLS,
        "audio": asked.audio,
        "modalities": asked.modalities not in (None, [], ["text"]),
        "logprobs": asked.logprobs,
        "top_logprobs": asked.top_logprobs,
    }
    check(
        *(FieldError(name, _UNSUPPORTED) for name, value in given.items() if value),
        FieldError("n", "must be 1 where completions are stored") if asked.n not in (None, 1) else None,
        range_of("temperature", asked.temperature, 0, 2),
        range_of("max_tokens", asked.max_tokens, 1, 1_000_000),
        range_of("max_completion_tokens", asked.max_completion_tokens, 1, 1_000_000),
    )


def continued_by(asked: CreateCompletion) -> ConversationId | None:
    """Return the conversation that the metadata names: `conv_…`, or its number. Raise `ValidationFailed`."""
    name = (asked.metadata or {}).get(CONVERSATION)
    if name is None:
        return None
    found = conversation_of(name if name.startswith("conv_") else f"conv_{name}")
    if found is None:
        raise broken(f"metadata.{CONVERSATION}", "is not the id of a conversation")
    return found


def completion_options(asked: CreateCompletion, fields: Mapping[str, Any]) -> ChatOptions:
    """Return the options without the model. Raise `ValidationFailed`."""
    return ChatOptions(
        system=_system_of(asked.messages),
        temperature=asked.temperature,
        max_tokens=asked.max_tokens if asked.max_completion_tokens is None else asked.max_completion_tokens,
        more={name: value for name, value in fields.items() if name not in _OURS and value is not None},
    )


def completion_echo(asked: CreateCompletion) -> Mapping[str, Any]:
    """Return what is stored of a request."""
    usage = bool((asked.stream_options or {}).get("include_usage"))
    return {"model": asked.model, "metadata": asked.metadata or {}, "include_usage": usage}


# ---- messages --------------------------------------------------------------------------------------------


def said_in(asked: CreateCompletion, *, last_only: bool) -> Sequence[Said]:
    """Return the messages without the system prompt. `last_only`: the others are in the conversation already. Raise
    `ValidationFailed`."""
    messages = asked.messages
    first = max(len(messages) - 1, 0) if last_only else int(_begins_with_system(messages))
    most = EARLIER + 1
    check(FieldError("messages", f"must be at most {most}") if len(messages) - first > most else None)
    return [_message(messages, number) for number in range(first, len(messages))]


def _system_of(messages: Sequence[Mapping[str, Any]]) -> str | None:
    return _message(messages, 0).content if _begins_with_system(messages) else None


def _begins_with_system(messages: Sequence[Mapping[str, Any]]) -> bool:
    return bool(messages) and messages[0].get("role") in _SYSTEM


def _message(messages: Sequence[Mapping[str, Any]], number: int) -> Said:
    message, name = messages[number], f"messages[{number}]"
    check(*(FieldError(f"{name}.{field}", rule) for field, rule in _UNHEARD.items() if message.get(field)))
    return said_by(message, name)
