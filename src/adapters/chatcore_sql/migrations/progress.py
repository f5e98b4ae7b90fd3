"""How far a revision is, on MySQL and MariaDB, which keep each change of the schema at once: any may be the last of a
process that is killed. The next process goes on there.
"""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, inspect
from sqlalchemy.exc import DBAPIError

from chatcore_sql.dialects.mysql import was_made
from chatcore_sql.unreachable import UnfitError

_TABLE = "chatcore_progress"


def is_half_way(connection: Connection, prefix: str) -> bool:
    return inspect(connection).has_table(f"{prefix}{_TABLE}")


@dataclass
class Progress:
    """A table that is there only while a revision is half-way. Its row has the revision that was there before, the way
    `up` or `down` from it, how many steps are done, and how many have begun."""

    connection: Connection
    prefix: str
    way: str
    _revision: str = field(init=False, default="")
    _step: int = field(init=False, default=0)
    _done: int = field(init=False, default=0)
    _begun: int = field(init=False, default=0)
    _kept: bool = field(init=False, default=False)

    def applied(self, ctx: object, step: object, heads: Collection[str], run_args: object) -> None:
        """After each revision, as Alembic calls it."""
        self.begin(heads)

    def begin(self, heads: Collection[str]) -> None:
        """Before the steps of each revision. Raise `UnfitError` if the other way from here is half-way."""
        self._revision, self._step, self._done, self._begun = "".join(heads), 0, 0, 0
        self._kept = is_half_way(self.connection, self.prefix)
        for revision, way, done, begun in self._run("SELECT revision, way, done, begun FROM") if self._kept else ():
            if revision == self._revision:
                if way != self.way:
                    raise UnfitError(f"is half-way {way} from {revision or 'base'}: go on that way first")
                self._done, self._begun = done, begun

    def end(self) -> None:
        if self._kept:
            self._run("DROP TABLE")

    def change_rows(self, change: Callable[[], object]) -> None:
        """With the note in one transaction."""
        if self._is_next():
            self.connection.exec_driver_sql("BEGIN")
            change()
            self._note(done=self._step)
            self.connection.exec_driver_sql("COMMIT")

    def change_schema(self, change: Callable[[], object]) -> None:
        """What had begun may have been done."""
        if self._is_next():
            again = self._begun == self._step
            self._note(done=self._step - 1)
            try:
                change()
            except DBAPIError as error:
                if not (again and was_made(error.orig)):
                    self._step -= 1
                    with suppress(DBAPIError):
                        self._note(done=self._step)
                    raise
            self._note(done=self._step)

    def _is_next(self) -> bool:
        self._step += 1
        if not self._kept:
            columns = "id INTEGER PRIMARY KEY, revision VARCHAR(32), way VARCHAR(4), done INTEGER, begun INTEGER"
            self._run("CREATE TABLE", f"({columns})")
            self._kept = True
        return self._step > self._done

    def _note(self, *, done: int) -> None:
        self._run("REPLACE INTO", f"VALUES (1, '{self._revision}', '{self.way}', {done}, {self._step})")

    def _run(self, first: str, last: str = "") -> Any:
        return self.connection.exec_driver_sql(f"{first} {self.prefix}{_TABLE} {last}")
