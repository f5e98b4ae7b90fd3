"""What the shapes of the wire share."""

from collections.abc import Collection
from typing import Any, Generic, Self, TypeVar, get_type_hints

import msgspec

T = TypeVar("T")


class Shape(msgspec.Struct, frozen=True):
    """The fields of an entity that are shown."""

    @classmethod
    def of(cls, entity: Any) -> Self:
        return msgspec.convert(entity, cls, from_attributes=True)


def shown(entity: type, *, but: Collection[str]) -> dict[str, Any]:
    """Return the annotations of a shape with the fields of this entity, all but these. `docs/wire.md` names each."""
    return {name: kind for name, kind in get_type_hints(entity).items() if name not in but}


class Listing(msgspec.Struct, Generic[T], frozen=True):
    items: list[T]
    has_more: bool
    limit: int
    offset: int
