"""What an operator is told of a database that does not answer as it should."""

import os
import ssl
from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from chatcore.errors import NotMigrated, Unavailable

_AUTHORITY = "in the URL's ssl-ca (MySQL, MariaDB) or sslrootcert (PostgreSQL)"
_OTHER_HOST = (62, 64)  # OpenSSL's numbers: for another name, for another address


class DatabaseUnreachable(Unavailable):
    """Where the database was looked for and what came of it, in a sentence for whoever runs the server.

    It has the database's own words, never the password; clients are not told it.
    """


class DatabaseUnfit(DatabaseUnreachable, NotMigrated):
    """The same of a database that is there, and cannot be migrated as it is."""


class UnfitError(Exception):
    """What a database is, and what to do about it."""


@contextmanager
def located(place: str) -> Generator[None, None, None]:
    """`DatabaseUnfit` in place of `UnfitError`, `DatabaseUnreachable` of `Unavailable` and of refusals."""
    try:
        yield
    except UnfitError as error:
        raise DatabaseUnfit(f"{place} {error}") from None
    except DBAPIError as error:
        raise DatabaseUnreachable(f"{place} refuses: {_reason(error)}") from error
    except Unavailable as error:
        cause = error.__cause__
        raise DatabaseUnreachable(f"{place} is not available: {_reason(cause)}") from cause


def _reason(cause: BaseException | None) -> str:
    if isinstance(cause, DBAPIError) and cause.orig:
        below = cause.orig.__cause__  # asyncmy wraps what the system said
        return _reason(below) if isinstance(below, OSError) else _line(str(cause.orig.args[-1]))
    if isinstance(cause, ConnectionError) and cause.errno:
        return os.strerror(cause.errno)  # asyncio's own words are about calls
    if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
        return "the server does not speak TLS"
    if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code not in _OTHER_HOST:
        return f"certificate verify failed: {_line(cause.verify_message)}; name the file of its authority {_AUTHORITY}"
    return _line(str(getattr(cause, "strerror", None) or cause or "")) or "no answer in time"


def _line(text: str) -> str:
    return " ".join(text.split())
