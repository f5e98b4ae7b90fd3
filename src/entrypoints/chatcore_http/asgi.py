"""The application of this environment's settings, for any ASGI server: `uvicorn chatcore_http.asgi:app`.

The limits of a request's head are those of `chatcore serve` (`http_protocol`); another server has its own.
"""

from litestar import Litestar

from chatcore_app import Settings
from chatcore_app.logs import configure_logging
from chatcore_http.app import create_app

settings: Settings = Settings.load()
configure_logging(settings)
app: Litestar = create_app(settings)
