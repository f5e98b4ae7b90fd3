"""Model endpoints."""

from abc import abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from chatcore.entities import ConversationId, FinishReason, MessageId, OwnerId, Usage
from chatcore.texts import utf8_length


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEndpoint:
    """An OpenAI-compatible base URL (such as https://api.openai.com/v1), a model there, and the key for it.

    `trusted`: named by the operator, not by a user. `owner`: the user whose endpoint it is, whose calls share limits.
    """

    url: str
    model: str
    api_key: str = field(repr=False)
    trusted: bool = False
    owner: OwnerId | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """`url`: an `https:` or `data:` URL, which the model's endpoint reads. `detail`: `low`, `high` or `auto`."""

    url: str
    detail: str | None = None


Part = TextPart | ImagePart | Mapping[str, Any]
"""A mapping is a part in the endpoint's own form, such as `{"type": "input_audio", …}`."""


@dataclass(frozen=True, slots=True)
class PromptMessage:
    """`role`: a `Role`, or another one that the endpoint knows (`tool`, `developer`). `more`: other fields of the
    message in the endpoint's own form (`name`, `tool_calls`, `tool_call_id`)."""

    role: str
    content: str | Sequence[Part]
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def text(self) -> str:
        """What of the content is text, parts one after the other."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart))


class Purpose(StrEnum):
    """Why a model is called."""

    REPLY = "reply"
    TITLE = "title"
    CHECK = "check"
    EMBEDDING = "embedding"
    RELAY = "relay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Whose call of a model it is, and why. `user` and `tenant`: an embedding program's own id for the owner; empty for
    an account. `message_id`: the message that the reply `reply_id` answers. The ids are None where the call is about no
    conversation. `metadata`: what was stored with the message."""

    purpose: Purpose
    owner: OwnerId
    user: str = ""
    tenant: str = ""
    conversation_id: ConversationId | None = None
    message_id: MessageId | None = None
    reply_id: MessageId | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """`temperature` 0 to 2 and `max_tokens` ≥ 1; None leaves the choice to the model. `more`: other fields of the
    request in the endpoint's own form (`tools`, `response_format`), which never replace those that chatcore sends.
    `turn`: on whose behalf, for gateways that need to know; endpoints are not told."""

    messages: Sequence[PromptMessage]
    temperature: float | None = None
    max_tokens: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])
    turn: Turn | None = field(default=None, compare=False)

    @property
    def size(self) -> int:
        """Return the bytes of its text, in UTF-8."""
        return sum(utf8_length(message.text) for message in self.messages)


@dataclass(slots=True)  # not frozen, as `LogEntry`
class Delta:
    """What arrived together. `usage` comes with the last one, if the endpoint counts; `finish_reason` once the model
    has ended its answer, if it says why.

    `reasoned`: all that was said before this, as text, was reasoning too. Only then does a model show that its answer
    begins: with a `</think>` that nothing has opened.
    """

    reasoning: str = ""
    text: str = ""
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    reasoned: bool = False


class LLMGateway(Protocol):
    """Models. A gateway that is an async context manager is opened and closed with `Chat`."""

    async def warm(self) -> None:
        """Load what the first call needs."""
        return  # as a rule nothing

    @abstractmethod
    def stream(self, endpoint: ModelEndpoint, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        """What the model says, as it comes; all its text is fit to store (`entities.storable`).

        It ends when the model has finished, and raises a `ModelError` when it has not: what was yielded before
        stays said. It calls once, never again after the first byte, and closes its connection when the iterator
        is closed or its task cancelled. No text of the endpoint's reaches an error.
        """

    @abstractmethod
    async def models(self, endpoint: ModelEndpoint) -> Sequence[str]:
        """The names of the models that the endpoint offers, sorted, at most 1,000, each fit to store.

        Raises a `ModelError` if it does not answer as an OpenAI-compatible endpoint does.
        """

    @abstractmethod
    async def may_call(self, url: str, *, owner: OwnerId) -> bool:
        """Whether this user's endpoint may be at this URL, as far as its addresses are known now. False is an answer
        for good; True is not: the address is looked at again whenever it is called."""
