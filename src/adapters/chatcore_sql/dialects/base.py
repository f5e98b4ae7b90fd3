"""What a kind of database has in its own way."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from enum import Enum, auto
from typing import Any, ClassVar, TypeAlias

from sqlalchemy import Connection, Engine, Insert, Select, Table, TextClause
from sqlalchemy.dialects import postgresql, sqlite

Row: TypeAlias = Sequence[Any]
Query: TypeAlias = Select[*tuple[Any, ...]] | TextClause

CONNECT_TIMEOUT = 5  # seconds
LOCK_TIMEOUT = 5  # seconds to wait for a row that another transaction has locked
STATEMENT_TIMEOUT = 35  # seconds, after which it has been given up here, and the server would go on (MySQL: only reads)
IDLE_TIMEOUT = 5  # seconds that a transaction may say nothing: then its process is gone, and its locks shall go too
UTF8 = r"utf8mb4(_\w+)?|utf8(_\w+)?|utf-8"


class Meaning(Enum):
    """What an error of a database means."""

    LOST = auto()  # against another transaction: it may be run again
    LATER = auto()  # not now, for want of time, memory or room
    GONE = auto()  # this server serves nobody now, or not us: connections to it are of no use
    READ_ONLY = auto()  # this server takes no changes: another one does, or will
    MISSING = auto()  # a table or column that a migration adds
    MISTAKE = auto()  # in the statement, its values or the schema: trying again is no use


class Dialect(ABC):
    """One object for all databases of a kind."""

    name: ClassVar[str]
    """As SQLAlchemy calls it."""
    driver: ClassVar[str]
    """Of a URL for SQLAlchemy."""
    schemes: ClassVar[Collection[str]]
    """Of the URLs that people write."""
    other_drivers: ClassVar[str]
    """A pattern of those that other clients name behind a scheme: the driver is ours."""

    # ---- the parameters of a URL ----

    parameters: ClassVar[Mapping[str, str]] = {}
    """Those that are honoured, by what they are called here."""
    aliases: ClassVar[Mapping[str, str]] = {}
    neutral: ClassVar[Mapping[str, str]] = {}
    """Those that change nothing, with the values for which that is so."""
    tls: ClassVar[Mapping[str, str]] = {}
    """As `parameters`."""
    tls_modes: ClassVar[str] = ""
    """For people."""
    tls_may_be_preferred: ClassVar[bool] = False
    no_tls: ClassVar[Mapping[str, Any]] = {}
    """The driver's arguments."""
    port: ClassVar[int] = 0
    socket: ClassVar[str] = ""
    """The parameter that takes a socket's path."""
    several_hosts: ClassVar[bool] = False
    timeout_argument: ClassVar[str] = "timeout"
    """The driver's, of connecting."""

    # ---- a connection ----

    is_server: ClassVar[bool] = True
    begin: ClassVar[str] = "BEGIN"
    takes_changes: ClassVar[Query]
    """Whether it does: one row, one value."""

    # ---- a change of the schema ----

    transactional_ddl: ClassVar[bool] = True
    has_schemas: ClassVar[bool] = False
    lock: ClassVar[Sequence[str]] = ()
    """A change may take as long as it takes, and waits for another."""
    unlock: ClassVar[Sequence[str]] = ()

    def unasked(self, scheme: str) -> dict[str, Any]:
        """Return SQLAlchemy's options for a server that cannot be asked what it is, by the scheme of its URL."""
        return {}

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Return the driver's arguments for every connection."""

    def asked(self, given: Mapping[str, str], connect: Mapping[str, Any]) -> dict[str, Any]:
        """Return the driver's arguments, besides those in `connect`, for what only a URL of this kind can ask for.
        Raise `ValueError`."""
        return {}

    @abstractmethod
    def set_up(self, engine: Engine) -> None:
        """Have the engine's connections as they are wanted here."""

    @abstractmethod
    async def fetch(self, connection: Any, text: str, arguments: Sequence[object]) -> Sequence[Row]:
        """Return all rows, from the driver itself. Raise its errors. `connection`: one of SQLAlchemy's pool."""

    @abstractmethod
    def upsert(self, table: Table) -> Insert:
        """Return the statement that inserts a row or replaces the one with its key."""

    @abstractmethod
    def meaning(self, error: BaseException | None) -> Meaning | None:
        """Return what the driver's error means; None for one that says nothing to this kind of database."""

    def is_full(self, error: BaseException | None) -> bool:
        """Return whether the server has as many connections as it may have."""
        return False

    @abstractmethod
    def dangles(self, error: BaseException | None) -> bool:
        """Return whether what a row refers to is not there."""

    def check_fit(self, connection: Connection) -> None:
        """Raise `UnfitError` for a database that cannot keep every text."""
        return

    def can_go_on(self, connection: Connection) -> bool:
        """Return whether a connection whose statement has failed, or was given up, is good for others."""
        return False

    def enter(self, connection: Connection) -> None:
        """Have the transaction that the driver is to be in for a savepoint."""
        return

    def current(self, query: Query) -> Query:
        """Return a query that reads what is committed now, in a transaction that may have begun to read before."""
        return query

    def has_rolled_back(self, connection: Connection) -> bool:
        """Return whether the failed transaction has ended already."""
        return False


def number_of(error: BaseException | None) -> object:
    """Return what stands first in an error; of MySQL's and MariaDB's their number."""
    return error.args[0] if error and error.args else None


def message_of(error: BaseException | None) -> str:
    return str(error.args[-1]) if error and error.args else ""


def sqlstate_of(error: BaseException | None) -> str:
    return getattr(error, "sqlstate", None) or ""


def on_conflict_replaced(insert: postgresql.Insert | sqlite.Insert, table: Table) -> Insert:
    return insert.on_conflict_do_update(
        index_elements=table.primary_key.columns, set_={name: insert.excluded[name] for name in replaced(table)}
    )


def replaced(table: Table) -> Sequence[str]:
    """Return the columns that `Dialect.upsert` replaces."""
    return [column.name for column in table.columns if not column.primary_key]
