"""The API's description for machines; `/docs` shows it to people."""

from typing import Any

from litestar import Request, Response, Router, get
from litestar.exceptions import NotFoundException
from litestar.openapi.spec import OpenAPI


@get("/openapi.json", include_in_schema=False, sync_to_thread=False)
def openapi(request: Request[Any, Any, Any]) -> dict[str, Any]:
    schema: OpenAPI = request.app.openapi_schema
    return schema.to_schema()


def page_router() -> Router:
    """Where the framework puts the page. Beside it there is nothing, which it would say in HTML."""

    def refuse_the_rest(response: Response[Any]) -> Response[Any]:
        if response.status_code == 404:
            raise NotFoundException
        return response

    return Router(path="/docs", route_handlers=[], include_in_schema=False, after_request=refuse_the_rest)


def routers() -> list[Router]:
    return [Router(path="", route_handlers=[openapi])]
