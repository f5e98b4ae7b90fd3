"""chatcore over HTTP. `create_app(settings, *providers)`; the ASGI application of the environment's settings is
`chatcore_http.asgi:app`."""

from chatcore_http.app import create_app
from chatcore_http.parts import Part

__all__ = ["Part", "create_app"]
