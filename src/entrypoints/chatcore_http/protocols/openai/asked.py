"""Requests that pass through: of their JSON only the top level is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from chatcore.bounds import check
from chatcore.errors import FieldError, ValidationFailed
from chatcore.ports import ModelEndpoint

T = TypeVar("T")

_MODEL = "model"
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
        return self.value(_MODEL, str | None, "must be a text") or ""

    def value(self, name: str, kind: Any, rule: str) -> Any:
        """Return a field's value, None for an absent one. Raise `ValidationFailed`, with the `rule`, for another
        kind."""
        try:
            return msgspec.json.decode(self.fields[name], type=kind) if name in self.fields else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            return check(FieldError(name, rule))

    def for_endpoint(self, endpoint: ModelEndpoint) -> bytes:
        """Return the JSON for this endpoint, every byte of a value as it was. To the server's own no second name of a
        model gets through: endpoints differ in which of two they take, and whether `Model` is one."""
        if self.model == endpoint.model and not endpoint.trusted:
            return self.body
        others = {field: value for field, value in self.fields.items() if field.lower() != _MODEL}
        return msgspec.json.encode({_MODEL: endpoint.model, **others})
