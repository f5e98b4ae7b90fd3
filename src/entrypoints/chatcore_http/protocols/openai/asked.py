"""Requests that pass through: of their JSON only the top level is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from chatcore.bounds import check
from chatcore.errors import FieldError, ValidationFailed

T = TypeVar("T")

_fields = msgspec.json.Decoder(dict[str, Raw])


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's JSON. `fields`: each value of the top level, as it was written."""

    body: bytes
    fields: Mapping[str, Raw]

    @classmethod
    def of(cls, body: bytes) -> "Asked":
        """Raise `ValidationFailed`."""
        try:
            return cls(body, _fields.decode(body))
        except msgspec.ValidationError:
            raise ValidationFailed(detail="The body must be a JSON object.") from None
        except msgspec.DecodeError as error:
            raise ValidationFailed(detail=f"The body is not JSON: {error}") from None

    @property
    def model(self) -> str:
        """The name that the request has for its model; empty for none. Raise `ValidationFailed`."""
        return self.value("model", str | None, "must be a text") or ""

    def value(self, name: str, kind: Any, rule: str) -> Any:
        """Return a field's value, None for an absent one. Raise `ValidationFailed`, with the `rule`, for another
        kind."""
        try:
            return msgspec.json.decode(self.fields[name], type=kind) if name in self.fields else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            return check(FieldError(name, rule))

    def for_model(self, name: str) -> bytes:
        """Return the JSON for the model with this name, every other byte of a value as it was."""
        if self.model == name:
            return self.body
        return msgspec.json.encode({**self.fields, "model": name})
