"""Messages as the items of a list: the input of a response, and what a conversation holds."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from litestar.params import QueryParameter

from chatcore import Message, MessageId, Page, Role
from chatcore.errors import FieldError, ValidationFailed
from chatcore.wire import Json
from chatcore_http.protocols.openai.ids import message_item_id, message_of_item
from chatcore_http.protocols.openai.response_objects import item_status, message_item

Limit: TypeAlias = Annotated[int, QueryParameter(ge=1, le=100)]
Order: TypeAlias = Annotated[Literal["asc", "desc"], QueryParameter(description="By their place in the conversation.")]
After: TypeAlias = Annotated[str | None, QueryParameter(description="The id of the last one of the page before.")]


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A page; `?after=` its `last_id` gives the next one."""

    object: Literal["list"] = "list"
    data: Sequence[Any]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, things: Sequence[Json], *, more: bool) -> "Listed":
        ids: Sequence[str | None] = [thing["id"] for thing in things] or [None]
        return cls(data=things, first_id=ids[0], last_id=ids[-1], has_more=more)


def listed(page: Page[Message]) -> Listed:
    return Listed.of([item_of(each) for each in page.items], more=page.has_more)


_PICTURE = {"type": "input_image", "image_url": None, "file_id": None, "detail": "auto"}
"""An image that is stored. Its bytes are at `/conversations/{id}/messages/{message_id}/images/{number}`."""


def item_of(message: Message) -> Json:
    if message.role is Role.ASSISTANT:
        return message_item(message, message.content, item_status(message))
    return {
        "id": message_item_id(message.conversation_id, message.id),
        "type": "message",
        "status": "completed",
        "role": message.role,
        "content": [{"type": "input_text", "text": message.content}, *[_PICTURE] * message.images],
    }


def place(after: str | None) -> MessageId | None:
    """Return the message that the id of an item names. Raise `ValidationFailed`."""
    if after is None:
        return None
    named = message_of_item(after)
    if named is None:
        raise ValidationFailed([FieldError("after", "must be the id of an item")])
    return named.message_id
