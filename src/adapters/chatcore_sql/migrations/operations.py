"""Alembic's operations on our tables: migrations give names without the prefix, which is put before them here."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.sql import quoted_name

from chatcore_sql.migrations.progress import Progress

_OF_ROWS = ("INSERT", "UPDATE", "DELETE")
_OF_SCHEMA = ("CREATE", "ALTER", "DROP")


def dialect() -> sa.Dialect:
    return op.get_context().dialect


def create_table(name: str, *parts: sa.schema.SchemaItem, **options: Any) -> sa.Table:
    """On MySQL and MariaDB with a collation that compares code points and nothing else, for every column.

    Their defaults take 🦄 for 🐴, é for e and A for a; even utf8mb4_bin takes `x ` for `x` (PAD SPACE). The two
    have no collation without padding in common, so the server decides.
    """
    exact = "utf8mb4_nopad_bin" if getattr(dialect(), "is_mariadb", False) else "utf8mb4_0900_bin"
    mysql: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": exact}
    named = [_part(part) for part in parts]
    made = sa.Table(_named(name), sa.MetaData(), *named)
    others = [part for part in named if not isinstance(part, sa.Index)]
    _change_schema(lambda: op.create_table(made.name, *others, **mysql, **options))
    for index in sorted(made.indexes, key=lambda index: str(index.name)):
        names = [column.name for column in index.columns]
        _change_schema(partial(op.create_index, index.name, made.name, names))
    return made


def drop_table(name: str) -> None:
    _change_schema(lambda: op.drop_table(_named(name)))


def add_column(table: str, column: sa.Column[Any]) -> None:
    _change_schema(lambda: op.add_column(_named(table), column))


def drop_column(table: str, name: str) -> None:
    _change_schema(lambda: op.drop_column(_named(table), name))


def create_index(name: str, table: str, columns: Sequence[str | sa.TextClause], *, unique: bool = False) -> None:
    _change_schema(lambda: op.create_index(_key(name), _named(table), columns, unique=unique))


def drop_index(name: str, table: str) -> None:
    _change_schema(lambda: op.drop_index(_key(name), _named(table)))


def add_reference(table: str, column: str, to: str) -> None:
    """Of a column to the `id` of another table. Not on SQLite."""
    name = _named(f"fk_{table}_{column}")
    _change_schema(lambda: op.create_foreign_key(name, _named(table), _named(to), [column], ["id"], ondelete="CASCADE"))


def drop_reference(table: str, column: str) -> None:
    """Not on SQLite."""
    _change_schema(lambda: op.drop_constraint(_named(f"fk_{table}_{column}"), _named(table), type_="foreignkey"))


def rewrite(table: str, old: str, new: str) -> None:
    """Change what SQLite knows of a table that its rows do not depend on, such as a foreign key, without copying the
    table (sqlite.org/lang_altertable.html, 7). Names stand in braces."""
    op.execute("PRAGMA writable_schema = ON")
    execute(
        "UPDATE sqlite_master SET sql = replace(sql, '{old}', '{new}') WHERE type = 'table' AND name = '{name}'",
        old=_filled(old),
        new=_filled(new),
        name=_named(table),
    )
    op.execute("PRAGMA writable_schema = RESET")


def bulk_insert(table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    _change_rows(lambda: op.bulk_insert(table, list(rows)))


def execute(statement: str, **parts: str) -> None:
    """Tables stand in braces, `DELETE FROM {messages}`, as do `parts`."""
    text = _filled(statement, **parts)
    word = text.split(maxsplit=1)[0]
    if word in _OF_ROWS:
        _change_rows(lambda: op.execute(text))
    elif word in _OF_SCHEMA:
        _change_schema(lambda: op.execute(text))
    else:  # of the session
        op.execute(text)


def has_rows(query: str) -> bool:
    """Whether there are any. Names stand in braces."""
    return op.get_bind().execute(sa.text(_filled(query))).first() is not None


def _change_rows(change: Callable[[], object]) -> None:
    progress: Progress | None = op.get_context().opts.get("progress")
    progress.change_rows(change) if progress else change()


def _change_schema(change: Callable[[], object]) -> None:
    progress: Progress | None = op.get_context().opts.get("progress")
    progress.change_schema(change) if progress else change()


def _filled(statement: str, **parts: str) -> str:
    return statement.format_map(_Tables(parts))


class _Tables(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return dialect().identifier_preparer.quote(_named(name))


def _named(name: str) -> str:
    return f"{op.get_context().opts.get('prefix', '')}{name}"


def _key(name: str) -> str:
    """Keys of MySQL's have their names within the table, and statements name them in hints."""
    return name if dialect().name == "mysql" else _named(name)


def _part(part: sa.schema.SchemaItem) -> sa.schema.SchemaItem:
    if isinstance(part, sa.ForeignKeyConstraint):
        return sa.ForeignKeyConstraint(
            part.column_keys,
            [_named(each.target_fullname) for each in part.elements],
            name=_named(str(part.name)),
            ondelete=part.ondelete,
        )
    if isinstance(part, sa.UniqueConstraint):
        part.name = _key(str(part.name))
    if isinstance(part, sa.Index):
        part.name = quoted_name(_key(str(part.name)), None)
    return part
