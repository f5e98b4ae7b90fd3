"""Pages of a table: found by the index that starts with their owner, and no larger than so many bytes.

Where an owner has many rows, PostgreSQL would rather walk the primary key in search of them, over the rows of all
others. So it is asked for an order that the primary key has not: its indexes that end with an id have `NULLS LAST`, as
these queries have. There are no NULLs.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import BigInteger, Column, ColumnElement, Integer, Select, Subquery, bindparam, func, or_, select

from chatcore_sql.functions import HighestFirst, LowestFirst
from chatcore_sql.tables import Id

LIMIT = bindparam("limit", type_=Integer)

Values = Mapping[Column[Any], ColumnElement[Any]]


def newest_first(query: Select[*tuple[Any, ...]], values: Values, column: Column[Any]) -> Select[*tuple[Any, ...]]:
    """Of an index that begins with the columns of `values` and ends with `column`: those with these values, below the
    parameter `before`."""
    same = (each == value for each, value in values.items())
    return query.where(*same, column < bindparam("before", type_=Id)).order_by(HighestFirst(column))


def oldest_first(query: Select[*tuple[Any, ...]], values: Values, column: Column[Any]) -> Select[*tuple[Any, ...]]:
    """As `newest_first`, above the parameter `after`."""
    same = (each == value for each, value in values.items())
    return query.where(*same, column > bindparam("after", type_=Id)).order_by(LowestFirst(column))


def sized(page: Subquery, *columns: str) -> tuple[Subquery, ColumnElement[bool]]:
    """Of a page with the columns `id` and `size`: the ids with their places, and the condition under which one is among
    the first that have at most `max_bytes` together. The highest of `columns` is the first, and always among them."""
    order = [HighestFirst(page.c[column]) for column in columns]
    counted = select(
        page.c.id,
        func.sum(page.c.size).over(order_by=order).label("total"),
        func.row_number().over(order_by=order).label("place"),
    ).subquery("sized")
    return counted, or_(counted.c.place == 1, counted.c.total <= bindparam("max_bytes", type_=BigInteger))
