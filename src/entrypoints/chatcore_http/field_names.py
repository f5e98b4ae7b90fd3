"""What a client calls the parameters of a use case, where it calls them otherwise: a route says so once, for its errors
and for its description.

    @post("/chat", called={"content": "message"})

A header that a handler takes under another name needs no saying.
"""

from collections.abc import Mapping
from typing import Any

from litestar.handlers import BaseRouteHandler

from chatcore.errors import FieldError, ValidationFailed


def called(handler: BaseRouteHandler) -> Mapping[str, str]:
    """The client's names, by those of the use case."""
    names: dict[str, Any] = handler.opt.get("called", {})
    return names


def renamed(failed: ValidationFailed, names: Mapping[str, str]) -> ValidationFailed:
    """As the client calls the fields."""
    if not failed.errors or not names:
        return failed
    return ValidationFailed([FieldError(names.get(error.field, error.field), error.message) for error in failed.errors])
