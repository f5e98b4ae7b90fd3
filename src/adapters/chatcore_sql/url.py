"""Database URLs: what people write, and what the engine is given."""

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "mysql": "mysql+asyncmy",
    "mariadb": "mysql+asyncmy",  # which of the two it is, the server says itself
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
}


def engine_url(url: str) -> URL:
    """The URL with its async driver; a SQLite file's path is made absolute.

    Raises `ValueError`, without anything of the URL but its scheme, if it is none of `sqlite:///path`, `sqlite://`
    (in memory), `mysql://`, `mariadb://`, `postgres://`, `postgresql://`.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError("not a database URL; write for example mysql://user:password@host/name") from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise ValueError(
            f"a database URL starts with sqlite:///, mysql://, mariadb:// or postgresql://, not {parsed.drivername}://"
        )
    parsed = parsed.set(drivername=driver)
    file = sqlite_file(parsed)
    return parsed.set(database=str(file)) if file else parsed


def sqlite_file(url: URL) -> Path | None:
    """The absolute path of the file. None: a server, or in memory."""
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        return Path(url.database).resolve()
    return None
