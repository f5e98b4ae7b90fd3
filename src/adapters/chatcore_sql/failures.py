"""What a database's error means to the core."""

import sqlite3
from collections.abc import Mapping
from enum import Enum, auto

from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from chatcore.errors import Contention, NotFound, ReadOnly, Unavailable

FAILURES = (DBAPIError, PoolTimeout, TimeoutError, OSError)


class Meaning(Enum):
    LOST = auto()  # against another transaction: it may be run again
    LATER = auto()  # not now, for want of time, memory or room
    GONE = auto()  # this server serves nobody now, or not us: connections to it are of no use
    READ_ONLY = auto()  # this server takes no changes: another one does, or will
    MISTAKE = auto()  # in the statement, its values or the schema: trying again is no use


# By SQLSTATE, by its first three characters or by its class (PostgreSQL's manual, appendix A).
_BY_STATE: Mapping[object, Meaning] = {
    "08": Meaning.GONE,  # connection; of a pooler all that it says itself
    "25006": Meaning.READ_ONLY,  # read-only transaction: a standby, or set so
    "25P": Meaning.GONE,  # ended after being idle or open for too long
    "25P02": Meaning.MISTAKE,  # in a transaction that has failed
    "26000": Meaning.GONE,  # a prepared statement is missing, or there already: the session is shared
    "42P05": Meaning.GONE,
    "40": Meaning.LATER,  # rolled back
    "40001": Meaning.LOST,  # serialization failure
    "40P01": Meaning.LOST,  # deadlock
    "42": Meaning.MISTAKE,
    "53": Meaning.LATER,  # disk full, out of memory, too many connections
    "55": Meaning.LATER,  # object in use, not in the state for it
    "55P03": Meaning.LOST,  # lock time-out
    "57": Meaning.LATER,  # cancelled, which is how a statement's time ends
    "57P": Meaning.GONE,  # shut down, crashed, starting up, database dropped, idle for too long
    "58": Meaning.GONE,  # the system's error, such as I/O
    "72": Meaning.LATER,  # snapshot too old
    "XX": Meaning.GONE,  # the server's own mistake, or a cloud's proxy
}
# MySQL's and MariaDB's numbers. Others go by their state; those without any are operational to the driver: LATER.
_BY_NUMBER: Mapping[object, Meaning] = {
    1020: Meaning.LOST,  # record changed since it was read
    1205: Meaning.LOST,  # lock time-out
    1213: Meaning.LOST,  # deadlock; in Galera a lost certification
    3101: Meaning.LOST,  # a group's certification lost at the commit
    1290: Meaning.READ_ONLY,  # --read-only, --super-read-only
    1792: Meaning.READ_ONLY,  # read-only transaction
    1836: Meaning.READ_ONLY,  # read-only mode
    1047: Meaning.GONE,  # a Galera node that has not joined, or has left
    1053: Meaning.GONE,  # shutting down
    1077: Meaning.GONE,
    1079: Meaning.GONE,
    1080: Meaning.GONE,  # forced to close
    1129: Meaning.GONE,  # host is blocked
    1152: Meaning.GONE,  # aborted connection
    1158: Meaning.GONE,  # reading, writing packets
    1159: Meaning.GONE,
    1160: Meaning.GONE,
    1161: Meaning.GONE,
    1184: Meaning.GONE,
    1927: Meaning.GONE,  # MariaDB: killed; its MaxScale: no server
    2002: Meaning.GONE,  # the drivers' own: cannot connect, gone away, lost
    2003: Meaning.GONE,
    2006: Meaning.GONE,
    2013: Meaning.GONE,
    2055: Meaning.GONE,
    3100: Meaning.GONE,  # a group's member cannot commit
    3168: Meaning.GONE,  # server is not available
    3169: Meaning.GONE,  # session was killed
    4031: Meaning.GONE,  # disconnected for idleness
    9001: Meaning.GONE,  # ProxySQL: no server in time
    1040: Meaning.LATER,  # too many connections: of all, of the user, of what the user may have otherwise
    1203: Meaning.LATER,
    1226: Meaning.LATER,
    1153: Meaning.MISTAKE,  # packet too large
    1366: Meaning.MISTAKE,  # incorrect string value
    3819: Meaning.MISTAKE,  # check violated
    4025: Meaning.MISTAKE,
}
_BY_SQLITE_CODE: Mapping[object, Meaning] = {  # of primary codes, of which there are extended ones
    sqlite3.SQLITE_BUSY: Meaning.LOST,
    sqlite3.SQLITE_LOCKED: Meaning.LOST,
    sqlite3.SQLITE_READONLY: Meaning.READ_ONLY,
    sqlite3.SQLITE_ERROR: Meaning.MISTAKE,
}
_FULL = ("53300", 1040, 1203, 1226)
_FAILED_AT_COMMIT, _DEADLOCK = 1180, "Got error 149"  # MySQL, from the storage engine (HA_ERR_LOCK_DEADLOCK)
_STALE = AsyncAdapt_asyncpg_dbapi.InvalidCachedStatementError  # the schema has changed under a prepared statement
_MISSING_REFERENCE = "23503"
_NO_REFERENCED_ROW = (1216, 1452)  # the same in MySQL, whose 23000 says less


def meaning(error: Exception) -> Exception:
    """`Contention` if the database gave up this transaction for another's sake; `ReadOnly` if it takes no changes;
    `Unavailable` if it is gone or overloaded; `NotFound` if what is referred to is not there; else the error itself,
    which is a mistake of ours."""
    if not isinstance(error, DBAPIError):
        return Unavailable()
    if isinstance(error, IntegrityError):
        return NotFound() if _dangles(error) else error
    match _meaning_of(error):
        case Meaning.LOST:
            return Contention()
        case Meaning.READ_ONLY:
            return ReadOnly()
        case Meaning.MISTAKE if error.statement is not None and not error.connection_invalidated:
            return error
        case _:
            return Unavailable()


def is_gone(error: DBAPIError) -> bool:
    """Whether connections to the server that said this are of no use any more."""
    return _meaning_of(error) in (Meaning.GONE, Meaning.READ_ONLY)


def is_full(error: BaseException) -> bool:
    """Whether the server has as many connections as it may have."""
    return isinstance(error, DBAPIError) and (_number(error) in _FULL or _sqlstate(error) in _FULL)


def discard_what_is_gone(context: ExceptionContext) -> None:
    """For SQLAlchemy's event `handle_error`: a connection that is gone counts as closed, and is not used again."""
    error = context.sqlalchemy_exception
    if context.connection is not None and isinstance(error, DBAPIError) and is_gone(error):
        context.is_disconnect = True


def in_its_own_words(error: BaseException) -> str:
    """The number or SQLSTATE that the engine gave, and its text, for the log: one line of at most 300 characters. No
    statement and no value of it is in there."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    state = getattr(original, "sqlstate", None) or ""
    text = ": ".join(str(part) for part in original.args) or "no answer in time"
    return f"{type(original).__name__} {state} {text}".replace("\n", " ")[:300]


def violates(error: IntegrityError, key: str) -> bool:
    """Whether this unique key is the one: MySQL and PostgreSQL end their message with the constraint, SQLite with the
    column. The value, which MySQL repeats before it, is the user's and proves nothing."""
    return _message(error).rstrip("'\"").endswith(key)


def _meaning_of(error: DBAPIError) -> Meaning:
    number, state = _number(error), _sqlstate(error)
    if number == _FAILED_AT_COMMIT and _message(error).startswith(_DEADLOCK):
        return Meaning.LOST
    if isinstance(error.orig, _STALE):
        return Meaning.LOST
    for table, key in (
        (_BY_NUMBER, number),
        (_BY_SQLITE_CODE, getattr(error.orig, "sqlite_errorcode", 0) & 0xFF),
        *((_BY_STATE, state[:length]) for length in (5, 3, 2)),
    ):
        if key in table:
            return table[key]
    return Meaning.LATER if isinstance(error, OperationalError) else Meaning.MISTAKE


def _dangles(error: IntegrityError) -> bool:
    return (
        _sqlstate(error) == _MISSING_REFERENCE
        or _number(error) in _NO_REFERENCED_ROW
        or _message(error) == "FOREIGN KEY constraint failed"
    )


def _number(error: DBAPIError) -> object:
    """MySQL's and MariaDB's; of other engines, whatever stands first."""
    return error.orig.args[0] if error.orig and error.orig.args else None


def _sqlstate(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _message(error: DBAPIError) -> str:
    return str(error.orig.args[-1]) if error.orig else ""
