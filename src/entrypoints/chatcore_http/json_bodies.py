"""Strict JSON bodies. The framework alone reads a body like a query: `"1"` as a number, 0 as false."""

from functools import cache
from typing import Any

import msgspec
from litestar import Request
from litestar.exceptions import SerializationException, ValidationException

from chatcore.json_values import check_values


class JSONRequest(Request[Any, Any, Any]):
    async def json(self) -> Any:
        """Return the body as the type that the handler needs, without making objects of other fields.

        Raise `SerializationException`, `ValidationException`, `ValidationFailed` and `UnicodeDecodeError`.
        """
        asked = self.route_handler.parsed_data_field
        if asked is None:
            return await super().json()
        body = await self.body() or b"null"
        await check_values(body)
        body.decode()  # what is skipped is not looked at
        try:
            return _decoder(asked.annotation).decode(body)
        except msgspec.ValidationError as error:
            message, _, field = str(error).partition(" - at `$.")
            found = {"key": field.removesuffix("`") or "data", "message": message, "source": "body"}
            raise ValidationException(extra=[found]) from None
        except msgspec.DecodeError as error:
            raise SerializationException(str(error)) from None


@cache
def _decoder(asked: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(asked)
