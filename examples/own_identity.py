"""chatcore's whole HTTP application, for users that the host knows, under a path of it. `uvicorn own_identity:app`"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

from starlette.applications import Starlette
from starlette.routing import Mount

from chatcore_app import Settings
from chatcore_asgi import Scope
from chatcore_http import create_app


def authenticate(scope: Scope) -> str | None:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    return headers[b"x-user"].decode() if b"x-user" in headers else None


chatcore = create_app(Settings(), authenticate=authenticate)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncGenerator[None, None]:
    async with chatcore.lifespan():
        yield


app = Starlette(lifespan=lifespan, routes=[Mount("/tools/chat", app=cast("Any", chatcore))])
