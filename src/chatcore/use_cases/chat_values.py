"""What is given to a send, and what it gives back."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chatcore.bounds import IMAGES, Bounds, Range, Said, Text
from chatcore.entities import ConversationId, Image, Message, ModelConfigId, Role
from chatcore.errors import FieldError
from chatcore.events import Cursor
from chatcore.ports import ModelEndpoint
from chatcore.prompt import PromptLimits
from chatcore.storage import images_size

OPTIONS = Bounds(system=Text(0, 48_000), temperature=Range(0, 2), max_tokens=Range(1, 1_000_000))
CONTENT = Text(1, 200_000)
SAID = Said(1, 200_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatDefaults:
    """Defaults for requests. `model`: the server's own endpoint, if it has one.

    `model_titles`: ask the model for a new conversation's title, beside the first reply.
    """

    model: ModelEndpoint | None = None
    system_prompt: str = ""
    model_titles: bool = False
    temperature: float | None = None
    max_tokens: int | None = None
    limits: PromptLimits = field(default_factory=PromptLimits)


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """Options of one request, within `OPTIONS`. `config_id`: one of the owner's configurations. `server_model`: the
    server's own model, whatever configurations there are. `more`: other fields of the model's request in the endpoint's
    own form, such as `top_p` or `stop`."""

    config_id: ModelConfigId | None = None
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    server_model: bool = False
    more: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)


NO_OPTIONS = ChatOptions()


@dataclass(frozen=True, slots=True)
class Earlier:
    """A message that a client has from elsewhere, stored before the one that it sends. A user's may have images."""

    role: Role
    content: str
    images: Sequence[Image] = ()


def rules_broken_by(item: Earlier, *, content: str, images: str) -> Iterator[FieldError | None]:
    """`content`, `images`: what the caller has for the names of these fields."""
    if item.content or not item.images:
        yield CONTENT.broken(item.content, content)
    yield IMAGES.broken(item.images, images)
    if item.images and item.role is not Role.USER:
        yield FieldError(images, "must be in a message of the user")


def too_many_images(images: Iterable[Sequence[Image]], field: str) -> FieldError | None:
    """Return what is wrong with the images of several messages that are stored at once."""
    size = sum(map(images_size, images))
    return FieldError(field, f"must have at most {IMAGES.total} bytes of images") if size > IMAGES.total else None


@dataclass(frozen=True, slots=True)
class Asked:
    """How a client of another protocol asks, stored beside the reply (`chatcore.entities.Request`)."""

    kind: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sent:
    """The stored message, and the reply to it, in progress."""

    message: Message
    reply: Message

    @property
    def conversation_id(self) -> ConversationId:
        return self.reply.conversation_id

    @property
    def beginning(self) -> Cursor:
        """The place before the reply's first text: `me.reply(sent.conversation_id, after=sent.beginning)`."""
        return Cursor(self.reply.id, 0)
