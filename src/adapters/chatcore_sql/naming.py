"""Where the tables are in a database that has other tables too: what their names begin with, and their schema."""

import re
from dataclasses import dataclass

from sqlalchemy import Engine, Table
from sqlalchemy.sql import quoted_name

from chatcore_sql._internals import beside, renamed
from chatcore_sql.dialects import Dialect

MAX_PREFIX = 12  # characters; the longest name of an index has 51, and PostgreSQL tells names apart by the first 63
_PREFIX = re.compile(rf"([A-Za-z_][A-Za-z0-9_]{{0,{MAX_PREFIX - 1}}})?")
_SCHEMA = re.compile("[A-Za-z_][A-Za-z0-9_]{0,62}")


class TableName(quoted_name):
    """The name of one of our tables, without the prefix."""

    __slots__ = ()

    def __new__(cls, name: str) -> "TableName":
        return super().__new__(cls, name, None)


@dataclass(frozen=True, slots=True)
class Naming:
    """`prefix`: of the names of tables, indexes and constraints; `schema`: one of PostgreSQL's. None: the first of the
    connection's search_path."""

    prefix: str = ""
    schema: str | None = None

    def __post_init__(self) -> None:
        """Raise `ValueError`, which tells what is wrong."""
        if not _PREFIX.fullmatch(self.prefix):
            raise ValueError(
                f"a prefix of tables' names is at most {MAX_PREFIX} letters, digits and _, with no digit first"
            )
        if self.schema is not None and not _SCHEMA.fullmatch(self.schema):
            raise ValueError("a schema's name is at most 63 letters, digits and _, with no digit first")

    def check(self, dialect: Dialect) -> None:
        """Raise `ValueError` if such a database has no schemas."""
        if self.schema is not None and not dialect.has_schemas:
            raise ValueError("schemas are PostgreSQL's; of MySQL and MariaDB, name another database in the URL")

    def apply(self, engine: Engine) -> None:
        """Have all statements on `tables.metadata` that this engine runs written with these names."""
        if self.prefix or self.schema:
            renamed(engine, self._table, self._schema)

    def beside(self, engine: Engine, dialect: Dialect) -> Engine:
        """Return an engine that runs such statements on the connections of a program's own."""
        return beside(engine, dialect.name, self._table, self._schema)

    def _table(self, name: str) -> str:
        return f"{self.prefix}{name}" if isinstance(name, TableName) else name

    def _schema(self, part: object) -> str | None:
        return self.schema if isinstance(part, Table) and isinstance(part.name, TableName) else None
