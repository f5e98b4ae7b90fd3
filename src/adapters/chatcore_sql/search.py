"""How text is found in a column: without an index of words, in a bounded number of the owner's own rows.

An index that starts with the owner gives the newest of them; their texts alone are read and compared.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Integer, Select, String, Table, bindparam, func, select

from chatcore.entities import UserId, storable
from chatcore_sql.statements import Row, Statements
from chatcore_sql.tables import LARGEST_ID, Id


class Search:
    """Of a table that has an index of owner and id."""

    def __init__(self, table: Table, column: Column[Any], *, index: str) -> None:
        older = (table.c.user_id == bindparam("owner"), table.c.id < bindparam("before", type_=Id))
        ids = select(table.c.id).with_hint(table, f"FORCE INDEX ({index})", dialect_name="mysql")
        self._last = ids.where(*older).order_by(table.c.id.desc()).limit(1).offset(bindparam("others", type_=Integer))
        self.found = (
            ids.where(*older, table.c.id >= bindparam("last", type_=Id), has_text(column))
            .order_by(table.c.id.desc())
            .limit(bindparam("limit", type_=Integer))
            .subquery("page")
        )
        """The ids of a page's finds."""

    async def __call__(
        self,
        statements: Statements,
        query: Select[*tuple[Any, ...]],
        owner: UserId,
        text: str,
        *,
        before: int | None,
        limit: int,
        within: int,
    ) -> tuple[Sequence[Row], int | None]:
        """The rows of `query`, which joins `found` and begins with its id, the highest first; and up to which id was
        looked: None, if to the end."""
        if storable(text) != text:
            return [], None
        older = {"owner": owner, "before": LARGEST_ID if before is None else before}
        row = await statements.first(self._last, **older, others=within - 1)
        last = None if row is None else int(row[0])
        rows = await statements.rows(query, **older, last=last or 0, pattern=pattern_of(text), limit=limit)
        rows = sorted(rows, key=lambda row: int(row[0]), reverse=True)
        return rows, last if len(rows) < limit else int(rows[-1][0])


def pattern_of(text: str) -> str:
    return f"%{escaped(text)}%"


def escaped(text: str) -> str:
    """For a LIKE with `!` as its escape: `%` and `_` mean themselves."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def has_text(column: Column[Any]) -> ColumnElement[bool]:
    """Bound to a `pattern_of`. The database lowers both, so that what is the same stays the same; SQLite with the help
    of `sqlite`."""
    return func.lower(column).like(func.lower(bindparam("pattern", type_=String)), escape="!")
