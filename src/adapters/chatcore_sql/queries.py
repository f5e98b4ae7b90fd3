"""A SELECT outside of any transaction, without SQLAlchemy's way of executing it.

That way costs twice what the drivers need for a short query (`bench/list.py`). So a query is compiled by SQLAlchemy
once, its types convert what goes in and what comes out, and the driver is given the text. A query whose text depends
on its values goes SQLAlchemy's way.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Select
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from chatcore_sql._internals import greenlet_spawn, raise_as_sqlalchemy
from chatcore_sql.dialects import dialect_of
from chatcore_sql.dialects.base import Query, Row


async def fetch(connection: Connection, query: Query, values: Mapping[str, object]) -> Sequence[Row]:
    """Return all rows. Raise SQLAlchemy's errors, and leave the connection to the caller then."""
    prepared = _prepared(query, connection.dialect)
    if not prepared.fixed:
        return await greenlet_spawn(lambda: connection.execute(query, values).all())
    try:
        rows = await dialect_of(connection).fetch(connection.connection, prepared.text, prepared.arguments(values))
    except Exception as error:
        await greenlet_spawn(raise_as_sqlalchemy, connection, prepared.text, error)
        raise
    return prepared.results(rows)


class _Prepared:
    """A query as one database takes it."""

    def __init__(self, query: Query, dialect: Dialect) -> None:
        compiled = query.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)  # noqa: S101 - which is what compiles a query
        self.text = compiled.string
        self.fixed = not (compiled.post_compile_params or compiled.literal_execute_params)
        binds = [(name, compiled.binds[name]) for name in compiled.positiontup or ()]
        self._constants = {name: bind.value for name, bind in binds if not bind.required}
        self._in = [(name, _type(bind.type, dialect).bind_processor(dialect)) for name, bind in binds]
        columns = query.column_descriptions if isinstance(query, Select) else ()
        processes = [_type(column["type"], dialect).result_processor(dialect, None) for column in columns]
        self._out = [(index, process) for index, process in enumerate(processes) if process]

    def arguments(self, values: Mapping[str, object]) -> Sequence[object]:
        named = {**self._constants, **values}
        return [process(named[name]) if process else named[name] for name, process in self._in]

    def results(self, rows: Sequence[Row]) -> Sequence[Row]:
        if not self._out:
            return rows
        converted = [list(row) for row in rows]
        for row in converted:
            for index, process in self._out:
                row[index] = process(row[index])
        return converted


def _type(type_: Any, dialect: Dialect) -> TypeEngine[Any]:
    found: TypeEngine[Any] = type_.dialect_impl(dialect)
    return found


_prepared = lru_cache(maxsize=256)(_Prepared)  # more than there are
