"""/v1/embeddings."""

from typing import Any

from dishka.integrations.litestar import FromDishka
from litestar import Response, Router, post
from litestar.di import NamedDependency

from chatcore import Owner
from chatcore_http.protocols.openai.asked import Asked
from chatcore_http.protocols.openai.relaying import Relaying, body_of
from chatcore_http.routing import AnyRequest, private_router


@post("/embeddings", status_code=200)
async def embed(request: AnyRequest, caller: NamedDependency[Owner], relaying: FromDishka[Relaying]) -> Response[Any]:
    return await relaying.answer(request, caller, "/embeddings", Asked.of(await body_of(request)))


def routers(max_body_bytes: int) -> list[Router]:
    return [
        private_router(
            "/v1", [embed], tag="openai", keys=True, include_in_schema=False, request_max_body_size=max_body_bytes
        )
    ]
