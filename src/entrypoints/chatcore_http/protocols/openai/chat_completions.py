"""/v1/chat/completions."""

from typing import Any, Never

from dishka.integrations.litestar import FromDishka
from litestar import Response, Router, post
from litestar.di import NamedDependency

from chatcore import Owner
from chatcore.errors import FieldError, ValidationFailed
from chatcore_http.protocols.openai.asked import Asked
from chatcore_http.protocols.openai.relaying import Relaying, body_of
from chatcore_http.routing import AnyRequest, private_router

_CONVERSATION = "conversation_id"


@post("/chat/completions", status_code=200)
async def complete(
    request: AnyRequest, caller: NamedDependency[Owner], relaying: FromDishka[Relaying]
) -> Response[Any]:
    asked = Asked.of(await body_of(request))
    if is_stored(asked):
        durable(asked)
    return await relaying.answer(request, caller, "/chat/completions", asked)


def is_stored(asked: Asked) -> bool:
    """Return whether the answer is to be a reply of a conversation. Raise `ValidationFailed`."""
    return bool(asked.value("store", bool | None, "must be true or false")) or _CONVERSATION in (
        asked.value("metadata", dict[str, Any] | None, "must be an object") or {}
    )


def durable(asked: Asked) -> Never:
    """Answer with a reply of a conversation. Raise `ValidationFailed`."""
    field = "store" if asked.value("store", bool | None, "") else f"metadata.{_CONVERSATION}"
    raise ValidationFailed([FieldError(field, "is not supported: completions are not stored")])


def routers(max_body_bytes: int) -> list[Router]:
    return [
        private_router(
            "/v1", [complete], tag="openai", keys=True, include_in_schema=False, request_max_body_size=max_body_bytes
        )
    ]
