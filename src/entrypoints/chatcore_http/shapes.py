"""What the shapes of the wire share."""

from typing import Any, Generic, Self, TypeVar

import msgspec

T = TypeVar("T")


class Shape(msgspec.Struct, frozen=True):
    """The fields of an entity that are shown."""

    @classmethod
    def of(cls, entity: Any) -> Self:
        return msgspec.convert(entity, cls, from_attributes=True)


class Listing(msgspec.Struct, Generic[T], frozen=True):
    items: list[T]
    has_more: bool
    limit: int
    offset: int
