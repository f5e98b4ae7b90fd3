"""Entities from and to rows, by name: a field has a column of its name."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import Column, Table

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


class Mapped(Generic[T]):
    """`columns`: those of the table that are fields of the entity, in the order of the fields, then those of its
    parts.

    `only`: some of the fields. `prefix`: what the columns' names begin with. `parts`: fields that are entities
    themselves, or None where their first column is NULL.
    """

    def __init__(
        self,
        entity: type[T],
        table: Table,
        *,
        only: Collection[str] | None = None,
        prefix: str = "",
        **parts: "Mapped[Any]",
    ) -> None:
        self._entity = entity
        self._parts = parts
        names = [field.name for field in fields(entity) if only is None or field.name in only]
        names = [name for name in names if prefix + name in table.c]
        self._columns = {name: table.c[prefix + name] for name in names}
        self.columns: tuple[Column[Any], ...] = tuple(self._columns.values())
        self._places: list[tuple[str, slice, Callable[..., Any]]] = []
        for name, part in parts.items():
            start = len(self.columns)
            self.columns = (*self.columns, *part.columns)
            self._places.append((name, slice(start, len(self.columns)), part.from_row))

    def values(self, entity: T | None) -> dict[str, Any]:
        """For an insert, which gives the id."""
        own = {column.name: entity and getattr(entity, name) for name, column in self._columns.items() if name != "id"}
        for name, part in self._parts.items():
            own |= part.values(entity and getattr(entity, name))
        return own

    def from_row(self, row: Sequence[Any], **more: Any) -> T:
        """From these columns. `more`: fields that are none."""
        more |= zip(self._columns, row, strict=False)
        for name, place, made in self._places:
            more[name] = None if row[place.start] is None else made(row[place])
        return self._entity(**more)
