"""What a client asks of Responses, read from its JSON. What is not supported is refused by its name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from chatcore import ChatOptions, ConversationId, Earlier, MessageId, Role
from chatcore.bounds import JSON, check
from chatcore.data_urls import images_of
from chatcore.entities import Image
from chatcore.errors import FieldError, ValidationFailed
from chatcore.use_cases.sending import EARLIER
from chatcore_http.protocols.openai.ids import conversation_of, reply_of_response

_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM, "developer": Role.SYSTEM}
_TEXTS = ("input_text", "output_text", "text", "refusal")
_DETAILS = ("low", "high", "auto")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_AS_IT_IS = frozenset({"user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "metadata"})
"""Fields that are repeated, and change nothing here."""
_ECHOED = frozenset(
    {
        *_AS_IT_IS,
        "instructions",
        "temperature",
        "top_p",
        "max_output_tokens",
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
_KNOWN = frozenset(CreateResponse.__struct_fields__)


@dataclass(frozen=True, slots=True)
class Continued:
    """Where the conversation goes on: in one that the client named, after a reply, or (neither) in a new one."""

    conversation_id: ConversationId | None = None
    after: MessageId | None = None


@dataclass(frozen=True, slots=True)
class Spoken:
    """The last message, which the reply answers, with its images as the client sent them, and those before it."""

    content: str
    earlier: Sequence[Earlier] = ()
    pictures: Sequence[Mapping[str, Any]] = ()


def broken(field: str, rule: str) -> ValidationFailed:
    return ValidationFailed([FieldError(field, rule)])


def read_fields(body: bytes) -> Mapping[str, Any]:
    """Raise `ValidationFailed` for what is no JSON object."""
    try:
        decoded = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.ValidationError:
        raise ValidationFailed(detail="The body must be a JSON object.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValidationFailed(detail=f"The body is not JSON: {error}") from None
    check(*(JSON.broken(value, name) for name, value in decoded.items()))
    return decoded


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
    unsupported = "is not supported where replies are stored"
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
        range_of("max_output_tokens", asked.max_output_tokens, 1, 1_000_000),
    )


def range_of(name: str, value: float | None, least: float, most: float) -> FieldError | None:
    """Return what is wrong with a number; None for one between these two, or for none."""
    within = value is None or least <= value <= most
    return None if within else FieldError(name, f"must be between {least} and {most}")


def options_of(asked: CreateResponse) -> ChatOptions:
    """Return the options without the model."""
    more = {name: getattr(asked, name) for name in ("top_p", "presence_penalty", "frequency_penalty")}
    more |= {"reasoning_effort": (asked.reasoning or {}).get("effort"), **_format_of(asked)}
    return ChatOptions(
        system=asked.instructions,
        temperature=asked.temperature,
        max_tokens=asked.max_output_tokens,
        more={name: value for name, value in more.items() if value is not None},
    )


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


# ---- input -----------------------------------------------------------------------------------------------


def is_reference(item: Mapping[str, Any]) -> bool:
    """Whether an item is but the id of another."""
    return item.get("type") == "item_reference" or set(item) == {"id"}


def spoken_of(asked: CreateResponse) -> Spoken:
    """Return the messages of the input. Raise `ValidationFailed`."""
    if isinstance(asked.input, str):
        return Spoken(asked.input)
    if not asked.input:
        raise broken("input", "is required")
    last, pictures = without_pictures(asked.input[-1])
    items = [*asked.input[:-1], last]
    messages = [message_of(item, f"input[{number}]") for number, item in enumerate(items)]
    said = _rules_first([each for each in messages if each is not None])
    if not said or said[-1].role is not Role.USER:
        raise broken("input", "must end with a message of the user")
    return Spoken(said[-1].content, said[:-1], pictures)


def _rules_first(said: Sequence[Earlier]) -> Sequence[Earlier]:
    """Put system messages that end a list before the user's last message."""
    end = len(said)
    while end and said[end - 1].role is Role.SYSTEM:
        end -= 1
    return [*said[: end - 1], *said[end:], *said[end - 1 : end]] if end else said


def without_pictures(
    item: Mapping[str, Any], name: str = "input"
) -> tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]:
    """Return a message without its images, and these."""
    content = item.get("content")
    if isinstance(content, str) or item.get("role") != "user":
        return item, ()
    parts = _parts_of(content, name)
    pictures = [part for part in parts if part.get("type") == "input_image"]
    return {**item, "content": [part for part in parts if part.get("type") != "input_image"]}, pictures


async def images_in(pictures: Sequence[Mapping[str, Any]], name: str = "input") -> Sequence[Image]:
    """Raise `ValidationFailed`."""
    urls = [str(picture.get("image_url") or "") for picture in pictures]
    images = await images_of(urls, name=name)
    details = [picture.get("detail") for picture in pictures]
    return [
        replace(image, detail=detail if detail in _DETAILS else None)
        for image, detail in zip(images, details, strict=True)
    ]


def message_of(item: Mapping[str, Any], name: str) -> Earlier | None:
    """Return the message that an item is; None for what a model thought. Raise `ValidationFailed`."""
    kind = item.get("type", "message")
    if kind == "reasoning":
        return None
    if kind != "message":
        raise broken(name, f"is a {kind}, which is not supported where replies are stored"[:200])
    return said_by(item, name)


def said_by(message: Mapping[str, Any], name: str) -> Earlier:
    """Read role and content of a message. Raise `ValidationFailed`."""
    role = _ROLES.get(str(message.get("role")))
    if role is None:
        raise broken(f"{name}.role", f"must be one of: {', '.join(_ROLES)}")
    return Earlier(role, _text_of(message.get("content"), f"{name}.content"))


def _text_of(content: Any, name: str) -> str:
    if isinstance(content, str):
        return content
    texts = list[str]()
    for number, part in enumerate(_parts_of(content, name)):
        match part:
            case {"type": str(kind), "text": str(text)} if kind in _TEXTS:
                texts.append(text)
            case {"type": "refusal", "refusal": str(text)}:
                texts.append(text)
            case {"type": str(kind)}:
                raise broken(f"{name}[{number}]", f"is {kind[:50]}, which is not supported")
            case _:
                raise broken(name, "must be text, or a list of parts")
    return "\n".join(texts)


def _parts_of(content: Any, name: str) -> Sequence[Mapping[str, Any]]:
    try:
        return msgspec.convert(content, list[dict[str, Any]])
    except msgspec.ValidationError:
        raise broken(name, "must be text, or a list of parts") from None
