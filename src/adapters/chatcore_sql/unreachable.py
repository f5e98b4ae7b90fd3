"""What an operator is told of a database that does not answer as it should."""

import os
import ssl
from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from chatcore.errors import Unavailable
from chatcore_sql.url import sqlite_file

_PORTS = {"mysql": 3306, "postgresql": 5432}


class DatabaseUnreachable(Unavailable):
    """Where the database was looked for and what came of it, in a sentence for whoever runs the server.

    It has the database's own words, never the password; clients are not told it.
    """


@contextmanager
def located(url: URL) -> Generator[None, None, None]:
    """`DatabaseUnreachable` in place of `Unavailable`."""
    try:
        yield
    except Unavailable as error:
        cause = error.__cause__
        raise DatabaseUnreachable(f"{_place(url)} is not available: {_reason(cause)}") from cause


def _place(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return str(sqlite_file(url) or "the database in memory")
    port = url.port or _PORTS[url.get_backend_name()]
    return f"the database {url.database or ''!r} at {url.host or 'localhost'}:{port}"


def _reason(cause: BaseException | None) -> str:
    if isinstance(cause, DBAPIError) and cause.orig:
        below = cause.orig.__cause__  # asyncmy wraps what the system said
        return _reason(below) if isinstance(below, OSError) else _line(str(cause.orig.args[-1]))
    if isinstance(cause, ConnectionError) and cause.errno:
        return os.strerror(cause.errno)  # asyncio's own words are about calls
    if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
        return "the server does not speak TLS"
    return _line(str(getattr(cause, "strerror", None) or cause or "")) or "no answer in time"


def _line(text: str) -> str:
    return " ".join(text.split())
