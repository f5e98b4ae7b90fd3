"""JSON Schema, for the OpenAPI document."""

from collections.abc import Mapping
from typing import Any

from chatcore.bounds import Bound, Count, Email, Images, OneOf, Pairs, Range, Said, Text

Json = dict[str, Any]

REFERENCE = "#/components/schemas/{name}"
NULL = {"type": "null"}


def reference_to(shape: type) -> str:
    return REFERENCE.format(name=shape.__name__)


def without_null(schema: Json) -> Json:
    others = [other for other in schema.get("oneOf", ()) if other != NULL]
    if len(others) != 1:
        return schema
    return {**{name: value for name, value in schema.items() if name != "oneOf"}, **others[0]}


def referred(schema: Json) -> str:
    """Return the name of the schema that this one refers to, if any."""
    return str(schema.get("$ref", "").rpartition("/")[2])


def facets(bound: Bound[Any] | None) -> Json:
    """Return a bound as JSON Schema."""
    match bound:
        case Range(minimum, maximum):
            return {"minimum": minimum, "maximum": maximum}
        case Count(minimum, maximum):
            return {"minItems": minimum, "maxItems": maximum}
        case Pairs(most):
            return {"maxProperties": most}
        case OneOf(words):
            return {"enum": sorted(words)}
        case Images(most=most):
            return {"maxItems": most}
        case Said(maximum=maximum):
            return {"maxLength": maximum}
        case Text(minimum, maximum):
            least = {"minLength": minimum} if minimum else {}
            form = {"pattern": f"^{bound.pattern}$"} if isinstance(bound, Email) else {}
            return {**least, "maxLength": maximum, **form}
        case _:
            return {}


def one_of(description: str, tag: str, kinds: Mapping[str, type]) -> Json:
    """Return a union of schemas, told apart by the field `tag`."""
    references = {name: reference_to(kind) for name, kind in kinds.items()}
    return {
        "description": description,
        "anyOf": [{"$ref": reference} for reference in dict.fromkeys(references.values())],
        "discriminator": {"propertyName": tag, "mapping": references},
    }
