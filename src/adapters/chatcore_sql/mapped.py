"""Entities from and to rows, by name: a field has a column of its name."""

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import Column, Table

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


class Mapped(Generic[T]):
    """`columns`: those of the table that are fields of the entity, in the order of the fields."""

    def __init__(self, entity: type[T], table: Table) -> None:
        self._entity = entity
        self._names = [field.name for field in fields(entity) if field.name in table.c]
        self.columns: tuple[Column[Any], ...] = tuple(table.c[name] for name in self._names)

    def values(self, entity: T) -> dict[str, Any]:
        """For an insert, which gives the id."""
        return {name: getattr(entity, name) for name in self._names if name != "id"}

    def from_row(self, row: Sequence[Any], **more: Any) -> T:
        """From these columns. `more`: fields that are none."""
        return self._entity(**dict(zip(self._names, row, strict=True)), **more)
