"""A request: its query, headers and body, each within its bounds."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast
from urllib.parse import parse_qsl

from chatcore import ChatOptions, Problem
from chatcore.bounds import METADATA, check
from chatcore.entities import ModelConfigId
from chatcore.errors import FieldError, ValidationFailed
from chatcore.json_values import check_values
from chatcore_asgi.types import Receive

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_LARGEST = 2**63 - 1
_BODY_WITHIN = 30.0  # seconds

TOO_LARGE = Problem(413, "payload_too_large", "The request body is too large.")
_COMPRESSED = Problem(413, "payload_too_large", "Compressed bodies are not accepted. Send it without Content-Encoding.")
_TOO_SLOW = Problem(408, "request_timeout", "The request's body did not arrive in time.")


class Refusal(Exception):
    """The request cannot be read; `problem` is the answer. None: its client has left."""

    def __init__(self, problem: Problem | None) -> None:
        self.problem = problem


class Fields:
    """The fields of a JSON object, by their types. A field that is absent or null is None."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named

    @classmethod
    async def parse(cls, body: bytes, max_bytes: int) -> Self:
        """Read JSON, an object or nothing. Raise `ValidationFailed`, `Refusal`."""
        if len(body) > max_bytes:
            raise Refusal(TOO_LARGE)
        if not body.strip():
            return cls({})
        await check_values(body)
        try:
            found: Any = json.loads(body.decode())
        except (ValueError, RecursionError) as error:
            wrong = "is nested too deeply" if isinstance(error, RecursionError) else "must be JSON in UTF-8"
            raise ValidationFailed([FieldError("body", wrong)]) from None
        check(None if isinstance(found, dict) else FieldError("body", "must be a JSON object"))
        return cls(cast("Mapping[str, Any]", found))

    def text(self, name: str) -> str | None:
        found: str | None = self._of(name, str, "must be a text")
        return found

    def required_text(self, name: str) -> str:
        found = self.text(name)
        if found is None:
            raise ValidationFailed([FieldError(name, "is required")])
        return found

    def texts(self, name: str) -> Sequence[str]:
        found: Sequence[Any] = self._of(name, list, "must be a list of texts") or ()
        check(None if all(isinstance(each, str) for each in found) else FieldError(name, "must be a list of texts"))
        return found

    def flag(self, name: str) -> bool:
        return bool(self._of(name, bool, "must be true or false"))

    def integer(self, name: str) -> int | None:
        found: int | None = self._of(name, int, "must be an integer")
        return found

    def id(self, name: str) -> int | None:
        found = self.integer(name)
        check(None if found is None or 1 <= found <= _LARGEST else FieldError(name, "must be an id"))
        return found

    def required_id(self, name: str) -> int:
        found = self.id(name)
        if found is None:
            raise ValidationFailed([FieldError(name, "is required")])
        return found

    def number(self, name: str) -> float | None:
        given = self._named.get(name)
        return (
            float(given) if type(given) is int and abs(given) < _LARGEST else self._of(name, float, "must be a number")
        )

    def pairs(self, name: str) -> Mapping[str, str]:
        found: Mapping[str, str] | None = self._of(name, dict, "must be an object")
        check(None if found is None else METADATA.broken(found, name))
        return found or {}

    def options(self) -> ChatOptions:
        config = self.id("config_id")
        return ChatOptions(
            config_id=None if config is None else ModelConfigId(config),
            system=self.text("system"),
            temperature=self.number("temperature"),
            max_tokens=self.integer("max_tokens"),
        )

    def _of(self, name: str, kind: type[Any], rule: str) -> Any:
        given = self._named.get(name)
        check(None if given is None or type(given) is kind else FieldError(name, rule))
        return given


class Request:
    """The query and the headers of a request."""

    def __init__(self, query: str, headers: Mapping[str, str]) -> None:
        """Raise `ValidationFailed`."""
        self._headers = {name.lower(): value for name, value in headers.items()}
        try:
            self._query = dict(parse_qsl(query, max_num_fields=20))
        except ValueError:
            raise ValidationFailed([FieldError("query", "has too many fields")]) from None

    def header(self, name: str) -> str | None:
        return self._headers.get(name.lower())

    def text(self, name: str) -> str:
        """Return a parameter of the query; it is empty if it is absent."""
        return self._query.get(name, "")

    def integer(self, name: str, default: int) -> int:
        given = self._query.get(name)
        if not given:
            return default
        check(None if _INTEGER.fullmatch(given) else FieldError(name, "must be an integer"))
        return int(given)


async def read(request: Request, receive: Receive, max_bytes: int) -> Fields:
    """Read the body, a JSON object or nothing. Raise `ValidationFailed`, `Refusal`."""
    if (request.header("Content-Encoding") or "identity").strip().lower() != "identity":
        raise Refusal(_COMPRESSED)
    announced = request.header("Content-Length") or ""
    if announced.isdecimal() and int(announced[:19]) > max_bytes:
        raise Refusal(TOO_LARGE)
    try:
        async with asyncio.timeout(_BODY_WITHIN):
            return await Fields.parse(await _whole(receive, max_bytes), max_bytes)
    except TimeoutError:
        raise Refusal(_TOO_SLOW) from None


async def _whole(receive: Receive, max_bytes: int) -> bytes:
    pieces, size = list[bytes](), 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise Refusal(None)
        pieces.append(event.get("body", b""))
        size += len(pieces[-1])
        if size > max_bytes:
            raise Refusal(TOO_LARGE)
        if not event.get("more_body", False):
            return b"".join(pieces)
