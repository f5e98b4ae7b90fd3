"""The Litestar application."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from dishka import AsyncContainer, Provider
from dishka.integrations.litestar import LitestarProvider, setup_dishka
from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin

from chatcore import SendMessage
from chatcore_app import Settings, make_container
from chatcore_http.auth import COMPONENTS
from chatcore_http.errors import exception_handlers
from chatcore_http.request_log import RequestLog
from chatcore_http.routes import auth, chat, conversations, docs, model_configs, system


def create_app(settings: Settings, *providers: Provider) -> Litestar:
    """The application for these settings. A provider replaces what it provides: a test's model, an embedder's users."""
    container = make_container(settings, LitestarProvider(), *providers)
    areas = (system, auth, model_configs, conversations, chat, docs)
    app = Litestar(
        route_handlers=[router for area in areas for router in area.routers()],
        exception_handlers=exception_handlers(),
        lifespan=[_opened(container)],
        openapi_config=_openapi(settings),
        request_max_body_size=settings.max_body_bytes,
        debug=False,
        logging_config=None,
    )
    setup_dishka(container, app)
    app.asgi_handler = RequestLog(app.asgi_handler)
    return app


def _opened(container: AsyncContainer) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncGenerator[None, None]:
        await container.get(SendMessage)  # with everything that may prevent a start
        try:
            yield
        finally:
            await container.close()

    return lifespan


def _openapi(settings: Settings) -> OpenAPIConfig:
    return OpenAPIConfig(
        title=settings.app_name,
        version=settings.app_version,
        description="A multi-user AI chat backend: streamed replies that outlive their connection.",
        components=COMPONENTS,
        openapi_router=docs.page_router(),
        render_plugins=[SwaggerRenderPlugin(path="/")],
        use_handler_docstrings=True,
    )
