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
    parsed = _parsed(url)
    parsed = parsed.set(drivername=_DRIVERS[parsed.drivername])
    file = sqlite_file(parsed)
    return parsed.set(database=str(file)) if file else parsed


def names_mariadb(url: str) -> bool:
    """Whether the URL says MariaDB. It matters only where the server cannot be asked."""
    return _parsed(url).drivername == "mariadb"


def sqlite_file(url: URL) -> Path | None:
    """The absolute path of the file. None: a server, or in memory."""
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        return Path(url.database).resolve()
    return None


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError("not a database URL; write for example mysql://user:password@host/name") from None
    if parsed.drivername not in _DRIVERS:
        raise ValueError(
            f"a database URL starts with sqlite:///, mysql://, mariadb:// or postgresql://, not {parsed.drivername}://"
        )
    if "@" in (parsed.host or ""):  # else a part of the password would be taken for the host's, and be shown
        raise ValueError("a database URL has one @, before the host; in a user's name or password it is written %40")
    return parsed
