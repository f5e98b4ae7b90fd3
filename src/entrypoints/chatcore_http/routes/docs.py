"""The API's description: for machines `/openapi.json`, for people Swagger UI and Redoc.

The pages need no other host: their scripts lie in `chatcore_http_assets`, where the build puts them, and the
Content-Security-Policy lets them call nobody but this application.
"""

from collections.abc import Callable
from functools import cache, lru_cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from litestar import MediaType, Response, Router, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.response import File

from chatcore_http.path_prefix import prefix_of
from chatcore_http.routing import AnyRequest

_CSP = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'; "
    "font-src 'self' data:; img-src 'self' data:; script-src 'self'; style-src 'self' 'unsafe-inline'; worker-src blob:"
)
_PAGE_HEADERS = {"Content-Security-Policy": _CSP}
_PREFIXES = 8  # of which the document is kept
_ASSET_HEADERS = {"Cache-Control": "public, max-age=3600"}
_ASSETS = {
    "redoc.standalone.js": "text/javascript",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
{head}
</head>
<body style="margin: 0">
{body}
</body>
</html>
"""
_SWAGGER = {
    "head": '<link rel="stylesheet" href="{prefix}/docs/swagger-ui.css">',
    "body": '<div id="ui"></div>\n<script src="{prefix}/docs/swagger-ui-bundle.js"></script>\n'
    '<script src="{prefix}/docs/start.js"></script>',
}
_REDOC = {
    "head": "",
    "body": '<redoc spec-url="{prefix}/openapi.json"></redoc>\n'
    '<script src="{prefix}/docs/redoc.standalone.js"></script>',
}
_START = """SwaggerUIBundle({
  url: "{prefix}/openapi.json",
  dom_id: "#ui",
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null,
});
"""


def routers(title: str, describe: Callable[[], dict[str, Any]]) -> list[Router]:
    """`describe` makes the OpenAPI document, once and in a thread, at the first request."""
    described = cache(describe)

    @lru_cache(maxsize=_PREFIXES)
    def document(prefix: str) -> bytes:
        servers = {"servers": [{"url": prefix}]} if prefix else {}
        return msgspec.json.encode({**described(), **servers})

    @get("/openapi.json", media_type=MediaType.JSON, sync_to_thread=True)
    def openapi(request: AnyRequest) -> bytes:
        return document(prefix_of(request.scope))

    @get("/docs", sync_to_thread=False)
    def swagger(request: AnyRequest) -> Response[str]:
        return _page(title, _SWAGGER, prefix_of(request.scope))

    @get("/redoc", sync_to_thread=False)
    def redoc(request: AnyRequest) -> Response[str]:
        return _page(title, _REDOC, prefix_of(request.scope))

    return [Router(path="", route_handlers=[openapi, swagger, redoc, start, asset], include_in_schema=False)]


@get("/docs/start.js", media_type="text/javascript", sync_to_thread=False)
def start(request: AnyRequest) -> str:
    return _START.replace("{prefix}", prefix_of(request.scope))


@get("/docs/{name:str}", sync_to_thread=False)
def asset(name: FromPath[str]) -> File:
    if name not in _ASSETS:
        raise NotFoundException
    return File(
        Path(str(files("chatcore_http_assets") / name)),
        filename=name,
        media_type=_ASSETS[name],
        content_disposition_type="inline",
        headers=_ASSET_HEADERS,
    )


def _page(title: str, parts: dict[str, str], prefix: str) -> Response[str]:
    placed = {name: part.replace("{prefix}", prefix) for name, part in parts.items()}
    content = _PAGE.format(title=escape(title), **placed)
    return Response(content, media_type=MediaType.HTML, headers=_PAGE_HEADERS)
