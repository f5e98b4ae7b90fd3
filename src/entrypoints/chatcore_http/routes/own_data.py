"""Everything that one owns: away as JSON Lines, and conversations back."""

from contextlib import aclosing
from typing import Any

from dishka.integrations.litestar import FromDishka
from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec

from chatcore import Caller, ExportOwnData, ImportConversations, SessionWatch
from chatcore_http import json_lines, schemas
from chatcore_http.body_limits import streamed
from chatcore_http.routes._common import AnyRequest, described, private_router
from chatcore_http.streams import Stream

MEDIA_TYPE = "application/jsonl"


@get(
    "/me/export",
    description=described(ExportOwnData),
    responses={200: ResponseSpec(str, media_type=MEDIA_TYPE, description="A JSON object on each line.")},
)
async def export(
    caller: NamedDependency[Caller], export_own_data: FromDishka[ExportOwnData], watch: FromDishka[SessionWatch]
) -> Response[Any]:
    lines = json_lines.exported(export_own_data(caller=caller), session=caller.session.id)
    headers = {"Content-Disposition": 'attachment; filename="chatcore-export.jsonl"'}
    return Stream(lines, watch.while_alive(caller.session.id), bytes, media_type=MEDIA_TYPE, headers=headers)


@post("/import", status_code=200, description=described(ImportConversations))
async def import_conversations(
    request: AnyRequest,
    caller: NamedDependency[Caller],
    import_own: FromDishka[ImportConversations],
    watch: FromDishka[SessionWatch],
) -> schemas.Imported:
    """Raises `ValidationFailed`."""
    async with watch.while_alive(caller.session.id), aclosing(json_lines.imported(streamed(request))) as lines:
        imported = await import_own(by=caller, lines=lines)
    return schemas.Imported.of(imported)


def routers(*, max_import_bytes: int) -> list[Router]:
    return [
        private_router("/auth", [export], tag="auth"),
        private_router(
            "/conversations", [import_conversations], tag="conversations", request_max_body_size=max_import_bytes
        ),
    ]
