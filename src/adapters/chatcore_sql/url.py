"""Database URLs: what people write, and what the engine is given. For their parameters see `parameters`."""

import re
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from chatcore_sql.dialects import DIALECTS

_DIALECTS = {scheme: dialect for dialect in DIALECTS.values() for scheme in dialect.schemes}
_OTHER_DRIVERS = re.compile("|".join(["", *(dialect.other_drivers for dialect in DIALECTS.values())]))
_FORMS = "sqlite:///, mysql://, mariadb:// or postgresql://"
# What stands around a URL where providers print it: in a shell's command, or in a line of settings.
_AROUND = re.compile(r"\s*(?:psql\s+|(?:export\s+)?[A-Z_]*DATABASE_URL\s*=\s*)?['\"]?\s*(.*?)[\s'\";]*", re.DOTALL)
_SCHEME = re.compile(r"([A-Za-z0-9_+]+)://")
_SEVERAL_HOSTS = re.compile(r"(\w+://(?:[^:/]*(?::[^@]*)?@)?)([^/?@]*,[^/?@]*)(.*)", re.DOTALL)


def engine_url(url: str) -> URL:
    """The URL with its async driver; a SQLite file's path is made absolute. What providers print around it is left
    out: blanks, quotes, `psql`, `DATABASE_URL=`. Several hosts, and one that is a socket's folder, are in its parameter
    `host`, as PostgreSQL's clients take them.

    Raise `ValueError`, without anything of the URL but its scheme, if it is none of `sqlite:///path`, `sqlite://`
    (in memory), `mysql://`, `mariadb://`, `postgres://`, `postgresql://`.
    """
    parsed = _parsed(url)
    parsed = parsed.set(drivername=_DIALECTS[parsed.drivername].driver)
    file = sqlite_file(parsed)
    return parsed.set(database=str(file)) if file else parsed


def need_driver(url: URL) -> None:
    """Raise `ModuleNotFoundError`, which says what to install, unless the driver is there. It is not imported."""
    driver = url.get_driver_name()
    if find_spec(driver) is None:
        install = f"pip install 'chatcore[{url.get_backend_name()}]'"
        raise ModuleNotFoundError(f"this database needs the driver {driver}: {install}", name=driver)


def scheme_of(url: str) -> str:
    """Return the URL's scheme, of which `Dialect.unasked` makes what a server would say."""
    return _parsed(url).drivername


def sqlite_file(url: URL) -> Path | None:
    """The absolute path of the file. None: a server, or in memory."""
    if DIALECTS[url.get_backend_name()].is_server or url.database in (None, "", ":memory:"):
        return None
    return Path(url.database).resolve()


def _parsed(url: str) -> URL:
    found = _AROUND.fullmatch(url)
    text = _with_scheme(found[1] if found else url)
    several = _SEVERAL_HOSTS.fullmatch(text)
    try:
        parsed = make_url(several[1] + several[3] if several else text)
    except (ArgumentError, ValueError):
        raise ValueError(
            "not a database URL; write for example mysql://user:password@host/name, with a number as the port, if "
            "any, and what is not a letter or digit of the password percent-encoded"
        ) from None
    if "@" in (parsed.host or ""):  # else a part of the password would be taken for the host's, and be shown
        raise ValueError("a database URL has one @, before the host; in a user's name or password it is written %40")
    return _with_host(parsed, several[2] if several else unquote(parsed.host or ""))


def _with_scheme(text: str) -> str:
    """With one of `_DIALECTS`, without another client's driver."""
    found = _SCHEME.match(text)
    if not found:
        raise ValueError(f"not a database URL; it starts with {_FORMS}, as in mysql://user:password@host/name")
    scheme, _, driver = found[1].lower().partition("+")
    if scheme not in _DIALECTS or not _OTHER_DRIVERS.fullmatch(driver):
        raise ValueError(f"a database URL starts with {_FORMS}, not {found[0]}")
    return f"{scheme}://{text[found.end() :]}"


def _with_host(url: URL, host: str) -> URL:
    dialect = _DIALECTS[url.drivername]
    if "," in host and not dialect.several_hosts:
        raise ValueError("a MySQL or MariaDB URL names one host; in front of several stands a proxy")
    if not host.startswith("/") and "," not in host:
        return url.set(host=host or None)
    if dialect.socket in url.query:
        raise ValueError("the URL says twice where the database is")
    return url.set(host=None).update_query_dict({dialect.socket: host})
