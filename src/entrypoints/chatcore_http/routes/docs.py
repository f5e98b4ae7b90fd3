"""The API's description for machines; `/docs` shows it to people."""

from typing import Any

from litestar import Request, Router, get
from litestar.openapi.spec import OpenAPI


@get("/openapi.json", include_in_schema=False, sync_to_thread=False)
def openapi(request: Request[Any, Any, Any]) -> dict[str, Any]:
    schema: OpenAPI = request.app.openapi_schema
    return schema.to_schema()


def routers() -> list[Router]:
    return [Router(path="", route_handlers=[openapi])]
