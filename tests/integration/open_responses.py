"""The shapes of Open Responses (its OpenAPI document of 2026-04-24), as strict as it is: what it requires has no
default here, and a wrong type is an error. Fields beyond it are allowed."""

from typing import Any, Literal, TypeAlias

import msgspec


class Tagged(msgspec.Struct, tag_field="type", kw_only=True):
    """What `type` tells apart."""


# ---- content ---------------------------------------------------------------------------------------------


class UrlCitation(Tagged, tag="url_citation"):
    url: str
    start_index: int
    end_index: int
    title: str


class LogProb(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[Any]


class InputText(Tagged, tag="input_text"):
    text: str


class OutputText(Tagged, tag="output_text"):
    text: str
    annotations: list[UrlCitation]
    logprobs: list[LogProb] = []


class Text(Tagged, tag="text"):
    text: str


class SummaryText(Tagged, tag="summary_text"):
    text: str


class ReasoningText(Tagged, tag="reasoning_text"):
    text: str


class Refusal(Tagged, tag="refusal"):
    refusal: str


class InputImage(Tagged, tag="input_image"):
    image_url: str | None
    detail: Literal["low", "high", "auto"]


class InputFile(Tagged, tag="input_file"):
    filename: str = ""
    file_url: str = ""


Content: TypeAlias = InputText | OutputText | Text | SummaryText | ReasoningText | Refusal | InputImage | InputFile

# ---- items -----------------------------------------------------------------------------------------------

ItemStatus: TypeAlias = Literal["in_progress", "completed", "incomplete"]


class Message(Tagged, tag="message"):
    id: str
    status: ItemStatus
    role: Literal["user", "assistant", "system", "developer"]
    content: list[Content]
    phase: Literal["commentary", "final_answer"] | msgspec.UnsetType = msgspec.UNSET


class FunctionCall(Tagged, tag="function_call"):
    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemStatus


class FunctionCallOutput(Tagged, tag="function_call_output"):
    id: str
    call_id: str
    output: str | list[Content]
    status: ItemStatus


class Reasoning(Tagged, tag="reasoning"):
    id: str
    summary: list[Content]
    content: list[Content] = []
    encrypted_content: str = ""


class Compaction(Tagged, tag="compaction"):
    id: str
    encrypted_content: str


Item: TypeAlias = Message | FunctionCall | FunctionCallOutput | Reasoning | Compaction

# ---- the response ----------------------------------------------------------------------------------------


class IncompleteDetails(msgspec.Struct):
    reason: str


class Error(msgspec.Struct):
    code: str
    message: str


class InputTokensDetails(msgspec.Struct):
    cached_tokens: int


class OutputTokensDetails(msgspec.Struct):
    reasoning_tokens: int


class Usage(msgspec.Struct):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens_details: OutputTokensDetails


class FunctionTool(Tagged, tag="function"):
    name: str
    description: str | None
    parameters: dict[str, Any] | None
    strict: bool | None


class FunctionChoice(Tagged, tag="function"):
    name: str


class AllowedTools(Tagged, tag="allowed_tools"):
    tools: list[Any]
    mode: Literal["none", "auto", "required"]


class TextFormat(Tagged, tag="text"):
    pass


class JsonFormat(Tagged, tag="json_object"):
    pass


class SchemaFormat(Tagged, tag="json_schema"):
    name: str
    description: str | None
    schema: Any
    strict: bool


class TextField(msgspec.Struct):
    format: TextFormat | JsonFormat | SchemaFormat
    verbosity: Literal["low", "medium", "high"] | msgspec.UnsetType = msgspec.UNSET


class ReasoningField(msgspec.Struct):
    effort: Literal["none", "low", "medium", "high", "xhigh"] | None
    summary: Literal["concise", "detailed", "auto"] | None


class ResponseResource(msgspec.Struct):
    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: str
    incomplete_details: IncompleteDetails | None
    model: str
    previous_response_id: str | None
    instructions: str | None
    output: list[Item]
    error: Error | None
    tools: list[FunctionTool]
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | AllowedTools
    truncation: Literal["auto", "disabled"]
    parallel_tool_calls: bool
    text: TextField
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int
    temperature: float
    reasoning: ReasoningField | None
    usage: Usage | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    store: bool
    background: bool
    service_tier: str
    metadata: Any
    safety_identifier: str | None
    prompt_cache_key: str | None


# ---- events ----------------------------------------------------------------------------------------------


class Event(Tagged):
    sequence_number: int


class Lifecycle(Event):
    response: ResponseResource


class Created(Lifecycle, tag="response.created"): ...


class Queued(Lifecycle, tag="response.queued"): ...


class InProgress(Lifecycle, tag="response.in_progress"): ...


class Completed(Lifecycle, tag="response.completed"): ...


class Failed(Lifecycle, tag="response.failed"): ...


class Incomplete(Lifecycle, tag="response.incomplete"): ...


class OfItem(Event):
    output_index: int
    item: Item | None


class ItemAdded(OfItem, tag="response.output_item.added"): ...


class ItemDone(OfItem, tag="response.output_item.done"): ...


class Placed(Event):
    item_id: str
    output_index: int


class OfPart(Placed):
    content_index: int
    part: Content


class PartAdded(OfPart, tag="response.content_part.added"): ...


class PartDone(OfPart, tag="response.content_part.done"): ...


class TextDelta(Placed, tag="response.output_text.delta"):
    content_index: int
    delta: str
    logprobs: list[LogProb] = []


class TextDone(Placed, tag="response.output_text.done"):
    content_index: int
    text: str
    logprobs: list[LogProb] = []


class ReasoningDelta(Placed, tag="response.reasoning_text.delta"):
    """As OpenAI and its clients name it. Open Responses says `response.reasoning.delta`."""

    content_index: int
    delta: str


class ReasoningDone(Placed, tag="response.reasoning_text.done"):
    content_index: int
    text: str


class ArgumentsDelta(Placed, tag="response.function_call_arguments.delta"):
    delta: str


class ArgumentsDone(Placed, tag="response.function_call_arguments.done"):
    arguments: str


class ErrorPayload(msgspec.Struct):
    type: str
    code: str | None
    message: str
    param: str | None


class ErrorEvent(Event, tag="error"):
    error: ErrorPayload


AnyEvent: TypeAlias = (
    Created
    | Queued
    | InProgress
    | Completed
    | Failed
    | Incomplete
    | ItemAdded
    | ItemDone
    | PartAdded
    | PartDone
    | TextDelta
    | TextDone
    | ReasoningDelta
    | ReasoningDone
    | ArgumentsDelta
    | ArgumentsDone
    | ErrorEvent
)


class CompactResource(msgspec.Struct):
    id: str
    object: Literal["response.compaction"]
    output: list[Item]
    created_at: int
    usage: Usage


def response_of(body: bytes) -> ResponseResource:
    """Raise `msgspec.ValidationError`, which says where it breaks the rules."""
    return msgspec.json.decode(body, type=ResponseResource)


def events_of(body: bytes) -> list[AnyEvent]:
    """Read a whole stream. Its events are named by their type, numbered, and followed by `[DONE]`."""
    *frames, done, rest = body.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    events = list[AnyEvent]()
    for frame in frames:
        name, data = frame.split("\n")
        events.append(msgspec.json.decode(data.removeprefix("data: "), type=AnyEvent))
        assert name == f"event: {msgspec.json.decode(data.removeprefix('data: '))['type']}"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    return events


def told_by(events: list[AnyEvent]) -> ResponseResource:
    """Put a response together as a client does, and return it as the last event has it. Whatever an event says of a
    place must be true of it."""
    first, last = events[0], events[-1]
    assert isinstance(first, Created)
    assert isinstance(last, Completed | Failed | Incomplete)
    items, texts = dict[int, Item](), dict[tuple[int, int], str]()
    for event in events:
        _take_item(event, items)
        _take_text(event, texts)
        if isinstance(event, Placed):
            assert items[event.output_index].id == event.item_id
        if isinstance(event, Lifecycle):
            assert event.response.id == first.response.id
    assert last.response.output == [items[index] for index in sorted(items)]
    return last.response


def _take_item(event: AnyEvent, items: dict[int, Item]) -> None:
    match event:
        case ItemAdded(item=item) if item is not None:
            assert event.output_index not in items
            items[event.output_index] = item
        case ItemDone(item=item) if item is not None:
            added = items[event.output_index]
            assert (item.id, type(item)) == (added.id, type(added))
            items[event.output_index] = item
        case _:
            pass


def _take_text(event: AnyEvent, texts: dict[tuple[int, int], str]) -> None:
    match event:
        case PartAdded():
            texts[event.output_index, event.content_index] = ""
        case TextDelta() | ReasoningDelta():
            texts[event.output_index, event.content_index] += event.delta
        case TextDone() | ReasoningDone():
            assert texts[event.output_index, event.content_index] == event.text
        case ArgumentsDelta():
            texts[event.output_index, -1] = texts.get((event.output_index, -1), "") + event.delta
        case ArgumentsDone():
            assert texts[event.output_index, -1] == event.arguments
        case _:
            pass
