"""What a database's error means to the core."""

from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from chatcore.errors import Contention, NotFound, NotMigrated, ReadOnly, Unavailable
from chatcore_sql.dialects import DIALECTS
from chatcore_sql.dialects.base import Meaning, message_of, sqlstate_of

FAILURES = (DBAPIError, PoolTimeout, TimeoutError, OSError)


def meaning(error: Exception) -> Exception:
    """`Contention` if the database gave up this transaction for another's sake; `ReadOnly` if it takes no changes;
    `NotMigrated` if it lacks a table or a column; `Unavailable` if it is gone or overloaded; `NotFound` if what is
    referred to is not there; else the error itself, which is a mistake of ours."""
    if not isinstance(error, DBAPIError):
        return Unavailable()
    if isinstance(error, IntegrityError):
        return NotFound() if _dangles(error) else error
    match _meaning_of(error):
        case Meaning.LOST:
            return Contention()
        case Meaning.READ_ONLY:
            return ReadOnly()
        case Meaning.MISSING:
            return NotMigrated()
        case Meaning.MISTAKE if error.statement is not None and not error.connection_invalidated:
            return error
        case _:
            return Unavailable()


def is_gone(error: DBAPIError) -> bool:
    """Whether connections to the server that said this are of no use any more."""
    return _meaning_of(error) in (Meaning.GONE, Meaning.READ_ONLY)


def is_full(error: BaseException) -> bool:
    """Whether the server has as many connections as it may have."""
    return isinstance(error, DBAPIError) and any(dialect.is_full(error.orig) for dialect in DIALECTS.values())


def discard_what_is_gone(context: ExceptionContext) -> None:
    """For SQLAlchemy's event `handle_error`: a connection that is gone counts as closed, and is not used again."""
    error = context.sqlalchemy_exception
    if context.connection is not None and isinstance(error, DBAPIError) and is_gone(error):
        context.is_disconnect = True


def in_its_own_words(error: BaseException) -> str:
    """The number or SQLSTATE that the engine gave, and its text, for the log: one line of at most 300 characters. No
    statement and no value of it is in there."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    text = ": ".join(str(part) for part in original.args) or "no answer in time"
    return f"{type(original).__name__} {sqlstate_of(original)} {text}".replace("\n", " ")[:300]


def violates(error: IntegrityError, key: str) -> bool:
    """Whether this unique key is the one: MySQL and PostgreSQL end their message with the constraint, SQLite with the
    column. The value, which MySQL repeats before it, is the user's and proves nothing."""
    return message_of(error.orig).rstrip("'\"").endswith(key)


def _meaning_of(error: DBAPIError) -> Meaning:
    for dialect in DIALECTS.values():
        if (found := dialect.meaning(error.orig)) is not None:
            return found
    return Meaning.LATER if isinstance(error, OperationalError) else Meaning.MISTAKE


def _dangles(error: IntegrityError) -> bool:
    return any(dialect.dangles(error.orig) for dialect in DIALECTS.values())
