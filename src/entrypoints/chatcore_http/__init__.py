"""chatcore over HTTP. `create_app(settings, *providers)`; the ASGI application of the environment's settings is
`chatcore_http.asgi:app`."""

from chatcore_http.app import create_app

__all__ = ["create_app"]
