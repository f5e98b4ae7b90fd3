"""JSON as it stands. The framework by itself reads a body as it reads a query: with `"1"` for a number, 0 for false."""

from typing import Any

import msgspec
from litestar import Request
from litestar.exceptions import ValidationException


class JSONRequest(Request[Any, Any, Any]):
    async def json(self) -> Any:
        """The body as the type that the handler asks for. Raises `ValidationException`."""
        value = await super().json()
        body = self.route_handler.parsed_data_field
        if body is None:
            return value
        try:
            return msgspec.convert(value, body.annotation)
        except msgspec.ValidationError as error:
            message, _, field = str(error).partition(" - at `$.")
            found = {"key": field.removesuffix("`") or "data", "message": message, "source": "body"}
            raise ValidationException(extra=[found]) from None
