"""The JSON shapes of the wire, each with the way from its entity. Other fields are ignored."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal, Self

import msgspec
from msgspec import UNSET, Meta, UnsetType

from chatcore import (
    ChatOptions,
    ListPage,
    ModelConfigId,
    SearchPage,
    entities,
    ports,
)
from chatcore.live_reply import MAX_PIECE
from chatcore.use_cases.model_configs import Checked
from chatcore.wire import HIDDEN
from chatcore_http.shapes import Listing, Shape, shown

Id = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class Said(msgspec.Struct, frozen=True, rename={"text": "message"}):
    """The answer of an action without a result."""

    text: str


class ModelConfig(Shape, frozen=True):
    """The key itself is never shown; `api_key_hint` is its last four characters."""

    id: int
    model_url: str
    model_name: str
    api_key_hint: str
    created_at: datetime
    updated_at: datetime


class ModelConfigs(Listing[ModelConfig], frozen=True):
    pass


class NewModelConfig(msgspec.Struct, frozen=True):
    model_url: Annotated[str, Meta(examples=["https://api.openai.com/v1"])]
    model_name: Annotated[str, Meta(examples=["gpt-4o-mini"])]
    api_key: Annotated[str, Meta(description="Empty for an endpoint that needs none.")]


class ModelConfigChange(msgspec.Struct, frozen=True):
    model_url: str | None = None
    model_name: str | None = None
    api_key: str | None = None


class ModelCheck(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether the endpoint answers: its models, or the error."""

    ok: bool
    models: list[str] | UnsetType = UNSET
    code: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET

    @classmethod
    def of(cls, checked: Checked) -> Self:
        if failure := checked.failure:
            return cls(False, code=failure.code, detail=failure.detail)
        return cls(True, models=list(checked.models))


class Conversation(Shape, frozen=True):
    vars()["__annotations__"] = shown(entities.Conversation, but=HIDDEN)


class Conversations(msgspec.Struct, frozen=True):
    """`next_cursor`: send it as `cursor` for the next page of the list as it was at the first request."""

    items: list[Conversation]
    has_more: bool
    limit: int
    offset: int
    next_cursor: str | None

    @classmethod
    def of(cls, page: ListPage, *, limit: int, offset: int) -> Self:
        cursor = None if page.next is None else str(page.next)
        return cls([Conversation.of(item) for item in page.items], page.has_more, limit, offset, cursor)


class NewConversation(msgspec.Struct, frozen=True):
    title: Annotated[str, Meta(examples=["Travel plans 🏝️"])] | None = None
    config_id: Id | None = None
    metadata: dict[str, str] = {}


class Rename(msgspec.Struct, frozen=True):
    title: Annotated[str, Meta(examples=["Plans for the summer"])]


class File(Shape, frozen=True):
    """`sha256`: of its bytes, in hexadecimal digits."""

    id: int
    collection: str
    name: str
    media_type: str
    size: int
    sha256: str
    created_at: datetime

    @classmethod
    def of(cls, entity: entities.File) -> Self:
        return msgspec.convert({**asdict(entity), "sha256": entity.digest.hex()}, cls)


class Files(msgspec.Struct, frozen=True):
    """For the next page send the last `id` as `before`."""

    items: list[File]
    has_more: bool


class Usage(Shape, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    estimated: bool


class Failure(Shape, frozen=True):
    code: str
    detail: str


class _Message(Shape, frozen=True, kw_only=True):
    """A message without its text."""

    id: int
    conversation_id: int
    parent_id: int | None
    siblings: list[int]
    role: Literal["system", "user", "assistant"]
    status: Literal["complete", "writing", "stopped", "failed", "interrupted"]
    model: str | None
    usage: Usage | None
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls", "error"] | None
    error: Failure | None
    metadata: dict[str, str]
    images: int
    created_at: datetime


class Message(_Message, frozen=True, kw_only=True):
    """`parent_id`: the message that this one follows. `siblings`: the ids of all messages with this parent, its own
    included."""

    content: str
    reasoning: str | None


class EndedReply(_Message, frozen=True, kw_only=True):
    """A message. `content` and `reasoning` are null if the text has more than 10,000 code points: the client has it
    from the events before."""

    content: str | None
    reasoning: str | None

    @classmethod
    def of(cls, entity: entities.Message) -> Self:
        shown = super().of(entity)
        return shown if entity.length <= MAX_PIECE else msgspec.structs.replace(shown, content=None, reasoning=None)


class History(Shape, frozen=True):
    conversation: Conversation
    messages: list[Message]
    has_more: bool
    next_before_id: int | None


class MessageRef(Shape, frozen=True):
    id: int
    role: Literal["system", "user", "assistant"]
    created_at: datetime


class Hit(msgspec.Struct, frozen=True):
    """A message, or with `message` null a title, that has the text.

    `excerpt`: at most 240 characters of the message or title, from its character `excerpt_start` on, counted from 0.
    `hit_start`: where in the excerpt the text starts. `score`: how well it fits; null while hits are not ranked.
    """

    conversation: Conversation
    message: MessageRef | None
    excerpt: str
    excerpt_start: int
    hit_start: int
    score: float | None

    @classmethod
    def of(cls, hit: ports.Hit) -> Self:
        excerpt, message = hit.excerpt, None if hit.message is None else MessageRef.of(hit.message)
        return cls(Conversation.of(hit.conversation), message, excerpt.text, excerpt.start, excerpt.hit, None)


class Hits(msgspec.Struct, frozen=True):
    """`has_more`: there is more to search, with or without hits; `next_cursor` continues."""

    items: list[Hit]
    has_more: bool
    next_cursor: str | None
    limit: int

    @classmethod
    def of(cls, page: SearchPage, *, limit: int) -> Self:
        items = [Hit.of(hit) for hit in page.hits]
        return cls(items, page.next is not None, None if page.next is None else str(page.next), limit)


class Refusal(Shape, frozen=True):
    """Why a conversation was not stored. `line`: the line of chatcore's export, from 1, that prevented it."""

    line: int | None
    title: str | None
    reason: str


class TakenConversation(Shape, frozen=True):
    """A stored conversation. `left_out`: parts of another product's that were not stored, and how often."""

    id: Id
    title: str
    messages: int
    left_out: dict[str, int]


class Imported(Shape, frozen=True):
    """What was stored: `taken` has the first 10,000 conversations. `refusals` counts the others; `refused` has 100 of
    them."""

    conversations: int
    messages: int
    refusals: int
    refused: list[Refusal]
    taken: list[TakenConversation]


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """Options of one request to a model."""

    config_id: Id | None = None
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    stream: Annotated[bool, Meta(description="As `Accept: text/event-stream`: answer with the event stream.")] = False

    @property
    def options(self) -> ChatOptions:
        return ChatOptions(
            config_id=None if self.config_id is None else ModelConfigId(self.config_id),
            system=self.system,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
        )


class Send(Asking, frozen=True, kw_only=True):
    content: Annotated[str, Meta(examples=["Why is the sky blue?"])]
    images: Annotated[
        list[str], Meta(description="Data URLs: `data:image/png;base64,…`. With images `content` may be empty.")
    ] = []
    metadata: dict[str, str] = {}


class Regenerate(Asking, frozen=True, kw_only=True):
    """`message_id`: the reply to regenerate, or the message to reply to; default: the last reply."""

    message_id: Id | None = None


class Branch(msgspec.Struct, frozen=True):
    """`message_id`: a message of the branch, which ends with the newest message below it."""

    message_id: Id


class Chat(msgspec.Struct, frozen=True):
    """The stored message, and the ended reply."""

    message: Message
    reply: Message

    @classmethod
    def of(cls, message: entities.Message, reply: entities.Message) -> Self:
        return cls(Message.of(message), Message.of(reply))


class FieldProblem(msgspec.Struct, frozen=True):
    field: str
    message: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457. `code` is stable; `detail` is for a person. `reply_id`: the reply that failed in a JSON chat."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldProblem] | UnsetType = UNSET
    reply_id: int | UnsetType = UNSET


# ---- events ----------------------------------------------------------------------------------------------


class ReplyStarted(msgspec.Struct, frozen=True):
    type: str
    reply_id: int
    offset: int
    conversation_id: int
    message_id: int | None
    model: str | None


class ReplyText(msgspec.Struct, frozen=True):
    type: str
    reply_id: int
    offset: int
    text: str


class ConversationTitled(msgspec.Struct, frozen=True):
    type: str
    reply_id: int
    offset: int
    title: str


class ReplyEnded(msgspec.Struct, frozen=True):
    type: str
    reply_id: int
    offset: int
    message: EndedReply


class ReplyFailed(ReplyEnded, frozen=True):
    code: str
    detail: str


Event = ReplyStarted | ReplyText | ConversationTitled | ReplyEnded | ReplyFailed
