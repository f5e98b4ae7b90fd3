"""What a database says about a statement: how it finds the rows, whether it sorts, how much it reads."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, UniqueConstraint

from chatcore_sql.tables import metadata


@dataclass(frozen=True, slots=True)
class Access:
    """How rows of a table are found: by the columns of an index that have to equal something. By none: by reading
    all of the table, or a part of an index that may be all of it."""

    table: str
    columns: tuple[str, ...]
    index_only: bool = False


@dataclass(slots=True)
class Look:
    """At one statement: its accesses, whether it sorts, and, of a SELECT, how many rows it reads. `custom_reads`: the
    same with a plan that PostgreSQL makes for these values alone, as it does behind a pooler."""

    statement: str
    accesses: list[Access] = field(default_factory=list)
    sorts: bool = False
    reads: int = 0
    custom_reads: int = 0

    def complaints(self, across: str | None) -> list[str]:
        said = [
            str(access) for access in self.accesses if access.table not in (across or "").split() and not well(access)
        ]
        return [f"{each}: {self.statement}" for each in [*said, *["sorts"] * self.sorts]]


def well(access: Access) -> bool:
    """By the owner, or by a whole key; of workers there is a handful."""
    columns = set(access.columns)
    by_owner = owner_column(access.table) in columns
    return access.table == "workers" or by_owner or any(key <= columns for key in unique_keys(access.table))


def table_of(name: str) -> str | None:
    """What stands under this name in a statement."""
    return {"other": "messages"}.get(name, name if name in metadata.tables else None)


def owner_column(table: str) -> str:
    return "id" if table in ("owners", "users") else "user_id"


def unique_keys(table: str) -> list[set[str]]:
    return [set(columns) for name, (columns, unique) in keys(table).items() if unique]


def keys(table: str) -> dict[str, tuple[tuple[str, ...], bool]]:
    """Of each of a table's keys, by name: its columns, and whether it is unique."""
    it = metadata.tables[table]
    constraints = {
        str(each.name): (tuple(each.columns.keys()), True)
        for each in it.constraints
        if isinstance(each, UniqueConstraint)
    }
    indexes = {str(each.name): (tuple(each.columns.keys()), bool(each.unique)) for each in it.indexes}
    return {"PRIMARY": (tuple(it.primary_key.columns.keys()), True), **constraints, **indexes}


class Looking:
    """Looks at each statement before it runs, in its own transaction."""

    def __init__(self, kind: str) -> None:
        self.looks = list[Look]()
        self._look = LOOKS[kind]
        self._looking = False

    def before(self, connection: Connection, _: object, statement: str, parameters: Any, *__: object) -> None:
        if not self._looking and statement.startswith(("SELECT", "UPDATE", "DELETE")):
            self._looking = True
            self.looks.append(self._look(connection, statement, parameters))
            self._looking = False


def sqlite_look(connection: Connection, statement: str, parameters: Sequence[Any]) -> Look:
    lines = [(row[1], row[-1]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    sorting = {parent for parent, line in lines if "TEMP B-TREE" in line}
    look = Look(statement)
    for parent, line in lines:
        found = re.match(r"(SEARCH|SCAN) (\w+)(.*)", line)
        # What a page's sums are made over is the page.
        look.sorts = look.sorts or (parent in sorting and found is not None and table_of(found[2]) is not None)
        if found and (table := table_of(found[2])):
            columns = re.findall(r"(\w+)=\?", found[3]) if found[1] == "SEARCH" else []
            known = tuple(keys(table)["PRIMARY"][0][0] if column == "rowid" else column for column in columns)
            look.accesses.append(Access(table, known, "USING COVERING INDEX" in found[3]))

    def step() -> None:
        look.reads += 100

    if statement.startswith("SELECT"):
        driver: Any = connection.connection.driver_connection
        driver._conn.set_progress_handler(step, 100)
        connection.exec_driver_sql(statement, parameters).all()
        driver._conn.set_progress_handler(None, 100)
    return look


def mysql_look(connection: Connection, statement: str, parameters: Sequence[Any]) -> Look:
    def count() -> int:
        return sum(int(row[1]) for row in connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read%%'"))

    rows = connection.exec_driver_sql(f"EXPLAIN FORMAT=TRADITIONAL {statement}", parameters).mappings().all()
    # An UPDATE of its own index first collects the rows' numbers, which is not a sort.
    sorting = "filesort" if statement.startswith("UPDATE") else "filesort|temporary"
    # What a page's sums are made over is the page.
    tables = [row for row in rows if not str(row["table"]).startswith("<derived")]
    look = Look(statement, sorts=any(re.search(sorting, row["Extra"] or "") for row in tables))
    for row in rows:
        if row["table"] and (table := table_of(row["table"])):
            name = (row["key"] or "").partition("|")[0]  # what follows filters
            columns = keys(table)[name][0] if name else ()
            walks = row["type"] in ("ALL", "index")
            # A range does not say by how much of the index it is one; one of as few rows as values is of their keys.
            vague = row["type"] == "range" and int(row["rows"]) > len(parameters)
            known = () if walks else columns[:1] if vague else columns
            covering = "Using index" in (row["Extra"] or "").split("; ")
            look.accesses.append(Access(table, () if vague and known == ("id",) else known, covering))
    if statement.startswith("SELECT"):
        counted = [count(), count()]  # the second has counted what counting costs
        connection.exec_driver_sql(statement, parameters).all()
        look.reads = count() - counted[1] - (counted[1] - counted[0])
    return look


def postgresql_look(connection: Connection, statement: str, parameters: Sequence[Any]) -> Look:
    """As what it is, a prepared statement, with the plan for any values."""
    connection.exec_driver_sql(f"PREPARE explained AS {statement}")
    values = ", ".join(literal(each) for each in parameters)
    ran = statement.startswith("SELECT")
    plans = dict[str, Look]()
    for mode in ("custom", "generic"):
        connection.exec_driver_sql(f"SET LOCAL plan_cache_mode = force_{mode}_plan")
        explanation = connection.exec_driver_sql(
            f"EXPLAIN (FORMAT JSON, ANALYZE {ran}) EXECUTE explained{values and f'({values})'}"
        ).scalar_one()
        plans[mode] = postgresql_plan(statement, explanation, ran)
    plans["generic"].custom_reads = plans["custom"].reads
    connection.exec_driver_sql("DEALLOCATE explained")
    return plans["generic"]


def postgresql_plan(statement: str, explanation: Any, ran: bool) -> Look:
    look = Look(statement)
    for node in nodes(explanation):
        # What a page's sums are made over is the page.
        look.sorts = look.sorts or (
            "Sort" in node["Node Type"] and node["Plans"][0]["Node Type"] not in ("Subquery Scan", "Limit")
        )
        if "Relation Name" in node and node["Node Type"] != "ModifyTable":
            conditions = " ".join(each.get("Index Cond", "") for each in [node, *bitmaps(node)])
            columns = re.findall(r"\(\(?(\w+)\)?(?:::\w+)? = ", conditions)
            index_only = node["Node Type"] == "Index Only Scan"
            look.accesses.append(Access(node["Relation Name"], tuple(columns), index_only))
            if ran:
                look.reads += node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
    return look


def literal(value: Any) -> str:
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'"
    return "NULL" if value is None else str(value) if isinstance(value, int) else f"'{value}'"


def nodes(explanation: Any) -> Iterator[Any]:
    for each in explanation:
        yield from below(each["Plan"])


def bitmaps(node: Any) -> Iterator[Any]:
    return (each for each in below(node) if each["Node Type"].startswith("Bitmap") and each is not node)


def below(node: Any) -> Iterator[Any]:
    left = [node]
    while left:
        node = left.pop()
        left += node.get("Plans", [])
        yield node


LOOKS: Mapping[str, Callable[[Connection, str, Sequence[Any]], Look]] = {
    "sqlite": sqlite_look,
    "mysql": mysql_look,
    "postgresql": postgresql_look,
}
