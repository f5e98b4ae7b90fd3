"""Parts of statements that not every database writes in the same way; its own is in its module of `dialects/`."""

from typing import Any

from sqlalchemy import BigInteger, Boolean
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement, GenericFunction


class Now(FunctionElement[int]):
    """The database's own time, in microseconds since 1970."""

    type: Any = BigInteger()
    inherit_cache: bool | None = True


class InTurn(FunctionElement[bool]):
    """True, once all transactions that asked earlier for this owner, the only argument, have ended. PostgreSQL needs
    it: there a row's later sharers overtake a transaction that waits for the row alone."""

    type: Any = Boolean()
    inherit_cache: bool | None = True


class InTurnShared(InTurn):
    """As `InTurn`, for those who go together."""

    inherit_cache: bool | None = True


class octet_length(GenericFunction[int]):  # noqa: N801 - as in SQL
    """Of a text in UTF-8."""

    type: Any = BigInteger()
    inherit_cache: bool = True


class HighestFirst(FunctionElement[int]):
    """An order of numbers that are never NULL."""

    inherit_cache: bool | None = True


class LowestFirst(FunctionElement[int]):
    inherit_cache: bool | None = True


@compiles(InTurn)
def _at_once(*_: Any, **__: Any) -> str:
    return "(1 = 1)"


@compiles(HighestFirst)
def _descending(element: HighestFirst, compiler: SQLCompiler, **options: Any) -> str:
    return f"{compiler.process(element.clauses, **options)} DESC"


@compiles(LowestFirst)
def _ascending(element: LowestFirst, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)
