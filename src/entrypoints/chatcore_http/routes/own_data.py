"""Export of all that a user owns, in several formats, and import of conversations, also of other products."""

from contextlib import aclosing
from typing import Any

from dishka.integrations.litestar import FromDishka
from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery

from chatcore import ExportOwnData, ImportConversations, Owner, SessionWatch
from chatcore.histories import ExportFormat, Format, Histories, exported
from chatcore.ports import Clock
from chatcore_app import Settings
from chatcore_http import schemas
from chatcore_http.body_limits import streamed
from chatcore_http.media import EXPORTS, IMPORTS
from chatcore_http.routing import AnyRequest, answering, described, private_router
from chatcore_http.streams import Stream

MEDIA_TYPE = "application/jsonl"
_UNPACKED = 4  # times as much as may be sent

_FILES = {
    ExportFormat.CHATCORE: (MEDIA_TYPE, "chatcore-export.jsonl"),
    ExportFormat.OPENAI: ("application/json", "conversations.json"),
    ExportFormat.MARKDOWN: ("text/markdown", "chatcore-export.md"),
}


@get(
    "/me/export",
    description=described(ExportOwnData),
    responses={200: answering(str, "A JSON object on each line.", media_type=MEDIA_TYPE)},
    answer_content=EXPORTS,
)
async def export(
    caller: NamedDependency[Owner],
    export_own_data: FromDishka[ExportOwnData],
    watch: FromDishka[SessionWatch],
    format: FromQuery[ExportFormat] = ExportFormat.CHATCORE,  # noqa: A002 - as the client says it
) -> Response[Any]:
    """`openai`: the conversations as ChatGPT exports them; `markdown`: for reading."""
    media_type, name = _FILES[format]
    return Stream(
        exported(export_own_data, caller, format),
        watch.while_valid(caller),
        bytes,
        media_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@post("/import", status_code=200, description=described(ImportConversations), body_content=IMPORTS)
async def import_conversations(
    request: AnyRequest,
    caller: NamedDependency[Owner],
    import_own: FromDishka[ImportConversations],
    watch: FromDishka[SessionWatch],
    clock: FromDishka[Clock],
    settings: FromDishka[Settings],
    format: FromQuery[Format] = Format.AUTO,  # noqa: A002 - as the client says it
) -> schemas.Imported:
    histories = Histories(now=clock.now, longest=_UNPACKED * settings.max_import_bytes)
    async with watch.while_valid(caller), aclosing(histories.lines(streamed(request), format)) as lines:
        imported = await import_own(by=caller, lines=lines)
    return schemas.Imported.of(imported)


def routers(*, max_import_bytes: int) -> list[Router]:
    return [
        private_router("/auth", [export], tag="auth"),
        private_router(
            "/conversations",
            [import_conversations],
            tag="conversations",
            keys=True,
            request_max_body_size=max_import_bytes,
        ),
    ]
