"""/files: what a user has uploaded."""

from contextlib import aclosing
from typing import Annotated, Any
from urllib.parse import quote

from dishka.integrations.litestar import FromDishka
from litestar import Response, Router, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, HeaderParameter, QueryParameter

from chatcore import DeleteFile, FileId, FindFile, ListFiles, Owner, ReadFile, Scope, SessionWatch, UploadFile
from chatcore.entities import File
from chatcore.use_cases.files import DEFAULT_COLLECTION, UNKNOWN_TYPE
from chatcore_http import schemas
from chatcore_http.body_limits import streamed
from chatcore_http.byte_ranges import Span, span_of
from chatcore_http.media import FILE_CONTENT, FILE_FORM
from chatcore_http.routing import AnyRequest, PathId, answering, described, private_router
from chatcore_http.sent_files import FORM_ROOM, sent_file
from chatcore_http.streams import Stream

UNNAMED = "file"


@post(
    "/",
    status_code=201,
    operation_id="files_upload",
    description=described(UploadFile),
    body_content=FILE_FORM,
)
async def upload(
    request: AnyRequest,
    caller: NamedDependency[Owner],
    upload_file: FromDishka[UploadFile],
    watch: FromDishka[SessionWatch],
    name: FromQuery[str | None] = None,
    collection: FromQuery[str | None] = None,
) -> schemas.File:
    """Send a form with the field `file`, and before it perhaps `collection`; or the bytes themselves, whatever their
    type, with the `name` in the URL."""
    async with watch.while_valid(caller), aclosing(streamed(request)) as pieces:
        sent = await sent_file(pieces, request.headers.get("content-type", ""))
        file = await upload_file(
            by=caller,
            name=(sent.name or UNNAMED) if name is None else name,
            data=sent.content,
            collection=sent.fields.get("collection", DEFAULT_COLLECTION) if collection is None else collection,
            media_type=sent.media_type or UNKNOWN_TYPE,
        )
    return schemas.File.of(file)


@get("/", description=described(ListFiles))
async def list_files(
    caller: NamedDependency[Owner],
    files: FromDishka[ListFiles],
    collection: FromQuery[str | None] = None,
    before: Annotated[int, QueryParameter(ge=1, le=2**63 - 1)] = 2**63 - 1,
    limit: FromQuery[int] = 50,
) -> schemas.Files:
    page = await files(owner=caller.owner, collection=collection, before=FileId(before), limit=limit)
    return schemas.Files([schemas.File.of(file) for file in page.items], page.has_more)


@get("/{file_id:int}", description=described(FindFile))
async def read(file_id: PathId, caller: NamedDependency[Owner], find_file: FromDishka[FindFile]) -> schemas.File:
    return schemas.File.of(await find_file(owner=caller.owner, file_id=FileId(file_id)))


@get(
    "/{file_id:int}/content",
    description=described(ReadFile),
    responses={200: answering(bytes, "The bytes.", media_type=UNKNOWN_TYPE)},
    answer_content=FILE_CONTENT,
)
async def content(
    file_id: PathId,
    caller: NamedDependency[Owner],
    find_file: FromDishka[FindFile],
    read_file: FromDishka[ReadFile],
    watch: FromDishka[SessionWatch],
    range_: Annotated[str | None, HeaderParameter(name="Range")] = None,
) -> Response[Any]:
    """With one range of bytes (RFC 9110 §14.2) that part; other ranges are ignored."""
    file = await find_file(owner=caller.owner, file_id=FileId(file_id))
    span = span_of(range_, file.size)
    return Stream(
        read_file(owner=caller.owner, file_id=file.id, start=span.start, end=span.end),
        watch.while_valid(caller),
        bytes,
        media_type=UNKNOWN_TYPE,
        status_code=206 if span.partial else 200,
        headers=_headers(file, span),
    )


@post("/{file_id:int}/delete", status_code=200, description=described(DeleteFile))
async def delete(file_id: PathId, caller: NamedDependency[Owner], delete_file: FromDishka[DeleteFile]) -> schemas.Said:
    await delete_file(by=caller, file_id=FileId(file_id))
    return schemas.Said("The file is deleted.")


def _headers(file: File, span: Span) -> dict[str, str]:
    """Whatever is in it, a browser saves it, and does not show it."""
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.name, safe='')}",
        "Content-Length": str(span.end - span.start),
        "Accept-Ranges": "bytes",
        "ETag": f'"{file.digest.hex()}"',
    }
    return headers | ({"Content-Range": f"bytes {span.start}-{span.end - 1}/{file.size}"} if span.partial else {})


def routers(*, max_file_bytes: int) -> list[Router]:
    return [
        private_router(
            "/files",
            [upload, list_files, read, content, delete],
            tag="files",
            keys=True,
            scope=Scope.FILES,
            request_max_body_size=max_file_bytes + FORM_ROOM,
        )
    ]
