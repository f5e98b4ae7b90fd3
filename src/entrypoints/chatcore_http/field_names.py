"""Clients' names of a use case's parameters, where they differ: a route declares them once, for its errors and its
description.

    @post("/chat", called={"content": "message"})

A header that a handler reads under another name needs no declaration.
"""

from collections.abc import Mapping
from typing import Any

from litestar.handlers import BaseRouteHandler


def called(handler: BaseRouteHandler) -> Mapping[str, str]:
    """Return the client's names, by those of the use case."""
    names: dict[str, Any] = handler.opt.get("called", {})
    return names
