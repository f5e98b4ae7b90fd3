"""OPTIONS, where a path has several handlers: the framework's answer names only the methods of the first one (litestar
issue 4169, fixed in its version 3)."""

from litestar import Litestar
from litestar.routes import HTTPRoute


def allow_all_methods(app: Litestar) -> None:
    """Give each path an OPTIONS handler that names the methods of all its handlers."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            handlers = [handler for handler in route.route_handlers if "OPTIONS" not in handler.http_methods]
            if len(handlers) > 1:
                options = route.create_options_handler(route.path)
                options.owner = handlers[0].owner
                options.on_registration(app)
                route.route_handlers = [*handlers, options]
                route.route_handler_map.clear()
                route.create_handler_map()
    app.asgi_router.construct_routing_trie()
