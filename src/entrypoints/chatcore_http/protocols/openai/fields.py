"""Fields of a request's JSON, and what is wrong with one."""

from collections.abc import Mapping
from typing import Any

import msgspec

from chatcore.bounds import JSON, check
from chatcore.errors import FieldError, ValidationFailed


def broken(field: str, rule: str) -> ValidationFailed:
    return ValidationFailed([FieldError(field, rule)])


def read_fields(body: bytes) -> Mapping[str, Any]:
    """Raise `ValidationFailed` for what is no JSON object."""
    try:
        decoded = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.ValidationError:
        raise ValidationFailed(detail="The body must be a JSON object.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValidationFailed(detail=f"The body is not JSON: {error}") from None
    check(*(JSON.broken(value, name) for name, value in decoded.items()))
    return decoded


def range_of(name: str, value: float | None, least: float, most: float) -> FieldError | None:
    """Return what is wrong with a number; None for one between these two, or for none."""
    within = value is None or least <= value <= most
    return None if within else FieldError(name, f"must be between {least} and {most}")
