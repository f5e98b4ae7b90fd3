"""What the parameters of a database URL ask for, in the words of the clients that providers write URLs for.

Of those that only tune another client's pool or prepared statements, none has a meaning here, and they are left out.
What is asked for and cannot be had is refused, in a sentence that names it and what there is instead. `-`, `_` and
capitals make no difference in a name. For TLS see `tls`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL

from chatcore_sql.dialects import DIALECTS, Dialect
from chatcore_sql.tls import plain, tls_argument
from chatcore_sql.url import sqlite_file

_MOST_SECONDS = 300
_HOST = re.compile(r"(?P<folder>/.*)|(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]/]+))(?::(?P<port>[0-9]*))?")

# Of `Dialect.neutral`, what is said of other values.
_INSTEAD = {
    "charset": "utf8mb4",
    "characterencoding": "UTF-8",
    "collation": "one of utf8mb4",
    "useunicode": "true",
    "autocommit": "true",
    "sslcompression": "0",
    "sslminprotocolversion": "TLSv1.2",
    "clientencoding": "utf8",
    "gssencmode": "disable or prefer",
    "loadbalancehosts": "disable",
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """`url` has no parameters any more, and `place` says for people where that is. `connect`: arguments of the driver.
    `connections`: the most that there may be; `timeout`: seconds for connecting; None: as many as the program wants."""

    url: URL
    place: str
    connect: Mapping[str, Any]
    connections: int | None
    timeout: int | None


def asked_by(url: URL) -> Asked:
    """Raise `ValueError`, which names the parameter, if one is unknown or does not hold."""
    dialect = DIALECTS[url.get_backend_name()]
    given = _given(url, dialect)
    bare = url.set(
        username=given.get("username", url.username),
        password=given.get("password", url.password),
        database=given.get("database", url.database),
        query={},
    )
    at, connect = _where(bare, given, dialect)
    connect |= tls_argument(dialect, given)
    timeout = _number(given, "timeout", dialect, least=0, most=_MOST_SECONDS) or None  # 0: the URL sets none
    if timeout:
        connect[dialect.timeout_argument] = timeout
    return Asked(
        url=bare,
        place=at,
        connect=connect | dialect.asked(given, connect),
        connections=_number(given, "connections", dialect, least=1, most=10_000),
        timeout=timeout,
    )


def _given(url: URL, dialect: Dialect) -> dict[str, str]:
    names, neutral = dialect.parameters, dialect.neutral
    known = {plain(name): part for part, name in names.items()} | dict(dialect.aliases)
    given: dict[str, str] = {}
    for name, value in url.query.items():
        if (allowed := neutral.get(plain(name))) is not None:
            _check_neutral(name, value, allowed)
            continue
        part = known.get(plain(name))
        if part is None:
            may = f"it may have {', '.join(names.values())}" if names else "it has none"
            raise ValueError(f"the URL's parameter {name!r} is not known; {may}")
        if part in given or not isinstance(value, str):
            raise ValueError(f"the URL has its parameter {names[part]!r} twice")
        given[part] = value
    return given


def _check_neutral(name: str, value: object, allowed: str) -> None:
    if not isinstance(value, str) or not re.fullmatch(allowed, value, re.IGNORECASE):
        raise ValueError(f"the URL's {name} must be {_INSTEAD[plain(name)]}, or be left out")


def _number(given: Mapping[str, str], part: str, dialect: Dialect, *, most: int, least: int = 0) -> int | None:
    text = given.get(part)
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,6}", text) or not least <= int(text) <= most:
        raise ValueError(f"the URL's {dialect.parameters[part]} must be a whole number from {least} to {most}")
    return int(text)


def _where(url: URL, given: Mapping[str, str], dialect: Dialect) -> tuple[str, dict[str, Any]]:
    """For people, and as arguments of the driver where the bare URL does not say it."""
    if not dialect.is_server:
        return str(sqlite_file(url) or "the database in memory"), {}
    at, connect = _server(url, given, dialect)
    return f"the database {url.database or ''!r} at {at}", connect


def _server(url: URL, given: Mapping[str, str], dialect: Dialect) -> tuple[str, dict[str, Any]]:
    if "socket" in given:
        return given["socket"], {dialect.socket: given["socket"]}
    if "host" not in given and "port" not in given:
        return _address(url.host or "localhost", url.port or dialect.port), {}
    port = given.get("port") or str(url.port or "")
    hosts, ports = _hosts(given.get("host") or url.host or "localhost", port, dialect.port)
    place = ", ".join(_address(host, port) for host, port in zip(hosts, ports, strict=True))
    return place, {"host": hosts, "port": ports}


def _hosts(hosts: str, ports: str, usual: int) -> tuple[list[str], list[int]]:
    """`a:1,b,[::1]:3` or `a,b` and `1,2`, or one port for all."""
    found = [_HOST.fullmatch(each) for each in hosts.split(",")]
    listed = ports.split(",")
    if len(listed) == 1:
        listed *= len(found)
    if None in found or len(listed) != len(found):
        raise ValueError("the URL's hosts are written as in postgresql://user:password@a:5432,b:5432/name")
    pairs = [(each, each["port"] or port or str(usual)) for each, port in zip(found, listed, strict=True) if each]
    if not all(port.isdecimal() and 0 < int(port) < 65536 for _, port in pairs):
        raise ValueError("the URL's port must be a whole number from 1 to 65535")
    return [each["folder"] or each["six"] or each["host"] for each, _ in pairs], [int(port) for _, port in pairs]


def _address(host: str, port: int) -> str:
    if host.startswith("/"):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
