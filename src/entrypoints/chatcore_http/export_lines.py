"""The lines of an export, as the OpenAPI document shows them; `chatcore.histories.own` writes and reads them."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from chatcore_http import account_schemas, schemas

_Moment = Annotated[datetime, Meta(tz=True)]


class ExportHeader(msgspec.Struct, frozen=True, tag_field="kind", tag="export"):
    """The first line."""

    format: str
    version: int
    exported_at: datetime | None = None


class ExportedUser(account_schemas.User, frozen=True, tag_field="kind", tag="user"):
    pass


class ExportedSession(account_schemas.Session, frozen=True, tag_field="kind", tag="session"):
    pass


class ExportedModelConfig(schemas.ModelConfig, frozen=True, tag_field="kind", tag="model_config"):
    pass


class ExportedConversation(schemas.Conversation, frozen=True, tag_field="kind", tag="conversation"):
    """`current_message_id`: the last message of the active branch."""

    titled_by_user: bool = False
    current_message_id: int | None = None


class ExportedMessage(msgspec.Struct, frozen=True, tag_field="kind", tag="message"):
    """Follows its conversation and its parent."""

    id: schemas.Id
    conversation_id: schemas.Id
    role: Literal["system", "user", "assistant"]
    content: str
    created_at: _Moment
    parent_id: int | None = None
    reasoning: str | None = None
    status: Literal["complete", "writing", "stopped", "failed", "interrupted"] = "complete"
    model: str | None = None
    usage: schemas.Usage | None = None
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls", "error"] | None = None
    error: schemas.Failure | None = None
    metadata: dict[str, str] = {}
    images: int = 0


class ExportedImage(msgspec.Struct, frozen=True, tag_field="kind", tag="image"):
    """Follows its message. `data`: base64."""

    message_id: schemas.Id
    media_type: str
    data: str
    number: int = 0
    detail: Literal["auto", "low", "high"] | None = None


class ExportEnd(msgspec.Struct, frozen=True, tag_field="kind", tag="end"):
    """The last line of a complete export, with the number of lines of each kind."""

    conversations: int = 0
    messages: int = 0
    images: int = 0


LINES: tuple[type[msgspec.Struct], ...] = (
    *(ExportHeader, ExportedUser, ExportedSession, ExportedModelConfig),
    *(ExportedConversation, ExportedMessage, ExportedImage, ExportEnd),
)
