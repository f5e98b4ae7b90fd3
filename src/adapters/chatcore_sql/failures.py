"""What a database's error means to the core."""

import sqlite3

from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from chatcore.errors import NotFound, Unavailable

FAILURES = (DBAPIError, PoolTimeout, TimeoutError, OSError)

# Classes of SQLSTATE (the standard's, and PostgreSQL's manual, appendix A).
_PASSING = ("08", "40", "53", "55", "57", "58")  # connection, rollback, resources, object state, operator, system
_MISTAKE = "42"  # in the statement or the schema: trying again is no use
_MISSING_REFERENCE = "23503"
_NO_REFERENCED_ROW = (1216, 1452)  # the same in MySQL, whose 23000 says less


def meaning(error: Exception) -> Exception:
    """`Unavailable` if the database is gone, overloaded or gave up; `NotFound` if what is referred to is not there;
    else the error itself, which is a mistake of ours."""
    if not isinstance(error, DBAPIError):
        return Unavailable()
    if isinstance(error, IntegrityError):
        return NotFound() if _dangles(error) else error
    unconnected = error.statement is None or error.connection_invalidated
    return Unavailable() if unconnected or _passes(error) else error


def violates(error: IntegrityError, key: str) -> bool:
    """Whether this unique key is the one: MySQL and PostgreSQL end their message with the constraint, SQLite with the
    column. The value, which MySQL repeats before it, is the user's and proves nothing."""
    return _message(error).rstrip("'\"").endswith(key)


def _passes(error: DBAPIError) -> bool:
    state = _sqlstate(error)
    if state.startswith(_PASSING):
        return True
    mistaken = state.startswith(_MISTAKE) or getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
    return isinstance(error, OperationalError) and not mistaken


def _dangles(error: IntegrityError) -> bool:
    return (
        _sqlstate(error) == _MISSING_REFERENCE
        or (error.orig is not None and error.orig.args[0] in _NO_REFERENCED_ROW)
        or _message(error) == "FOREIGN KEY constraint failed"
    )


def _sqlstate(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _message(error: DBAPIError) -> str:
    return str(error.orig.args[-1]) if error.orig else ""
