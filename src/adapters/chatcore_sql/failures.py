"""What a database's error means to the core."""

import sqlite3

from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from chatcore.errors import Contention, NotFound, Unavailable

FAILURES = (DBAPIError, PoolTimeout, TimeoutError, OSError)

# Classes of SQLSTATE (the standard's, and PostgreSQL's manual, appendix A).
_CONTENTION = ("40001", "40P01", "55P03")  # serialization failure, deadlock, lock time-out
# MySQL, MariaDB: record changed since it was read, lock time-out, deadlock; a group's certification lost at the commit,
# which Galera calls a deadlock, too.
_LOST_TO_ANOTHER = (1020, 1205, 1213, 3101)
_FAILED_AT_COMMIT, _DEADLOCK = 1180, "Got error 149"  # the same from the storage engine (HA_ERR_LOCK_DEADLOCK)
_PASSING = ("08", "40", "53", "55", "57", "58")  # connection, rollback, resources, object state, operator, system
_REFUSALS = (1153, 1366, 3819, 4025)  # MySQL, MariaDB: packet too large, incorrect string value, check violated
_MISTAKE = "42"  # in the statement or the schema: trying again is no use
_MISSING_REFERENCE = "23503"
_NO_REFERENCED_ROW = (1216, 1452)  # the same in MySQL, whose 23000 says less


def meaning(error: Exception) -> Exception:
    """`Contention` if the database gave up this transaction for another's sake; `Unavailable` if it is gone or
    overloaded; `NotFound` if what is referred to is not there; else the error itself, which is a mistake of ours."""
    if not isinstance(error, DBAPIError):
        return Unavailable()
    if isinstance(error, IntegrityError):
        return NotFound() if _dangles(error) else error
    if _contends(error):
        return Contention()
    unconnected = error.statement is None or error.connection_invalidated
    return Unavailable() if unconnected or _passes(error) else error


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


def _contends(error: DBAPIError) -> bool:
    code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF  # the primary code, of which there are extended ones
    return (
        _sqlstate(error) in _CONTENTION
        or _number(error) in _LOST_TO_ANOTHER
        or (_number(error) == _FAILED_AT_COMMIT and _message(error).startswith(_DEADLOCK))
        or code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    )


def _passes(error: DBAPIError) -> bool:
    state = _sqlstate(error)
    if state.startswith(_PASSING):
        return True
    mistaken = state.startswith(_MISTAKE) or getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
    return isinstance(error, OperationalError) and not mistaken and _number(error) not in _REFUSALS


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
