"""What the parameters of a database URL ask for, in the words of the clients that providers write URLs for.

Of those that only tune another client's pool or prepared statements, none has a meaning here, and they are left out.
What is asked for and cannot be had is refused, in a sentence that names it and what there is instead. `-`, `_` and
capitals make no difference in a name. For TLS see `tls`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any

from sqlalchemy import URL

from chatcore_sql.tls import NAMES as TLS_NAMES
from chatcore_sql.tls import plain, tls_argument
from chatcore_sql.url import sqlite_file

_PORTS = {"mysql": 3306, "postgresql": 5432}
_MOST_SECONDS = 300
_TARGETS = ("any", "read-write", "primary")
_STARTUP = {"application": "application_name", "options": "options"}
_HOST = re.compile(r"(?P<folder>/.*)|(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]/]+))(?::(?P<port>[0-9]*))?")

# The names of what is honoured, by what it is called here.
_NAMES: Mapping[str, Mapping[str, str]] = {
    "sqlite": {},
    "mysql": {
        **TLS_NAMES["mysql"],
        "socket": "unix_socket",
        "username": "user",
        "password": "password",
        "timeout": "connect_timeout",
        "connections": "connection_limit",
    },
    "postgresql": {
        **TLS_NAMES["postgresql"],
        "host": "host",
        "port": "port",
        "username": "user",
        "password": "password",
        "database": "dbname",
        "application": "application_name",
        "options": "options",
        "schema": "schema",
        "target": "target_session_attrs",
        "negotiation": "sslnegotiation",
        "timeout": "connect_timeout",
        "connections": "connection_limit",
    },
}
_ALIASES = {
    "mysql": {"socket": "socket"},
    "postgresql": {"currentschema": "schema", "searchpath": "schema", "poolmaxconns": "connections"},
}
_UTF8 = r"utf8mb4(_\w+)?|utf8(_\w+)?|utf-8"
# What changes nothing, with the values for which that is so, and what is said of others.
_NEUTRAL: Mapping[str, Mapping[str, str]] = {
    "sqlite": {},
    "mysql": {
        "charset": _UTF8,
        "characterencoding": _UTF8,
        "collation": "utf8mb4_.*",
        "useunicode": "true|yes|1",
        "parsetime": ".*",
        "servertimezone": ".*",
        "reconnect": ".*",
        "autoreconnect": ".*",
        "allowpublickeyretrieval": ".*",
        "pooltimeout": ".*",
        "sockettimeout": ".*",
        "statementcachesize": ".*",
        "autocommit": "true|1",
        "interpolateparams": ".*",
        "loc": ".*",
        "multistatements": ".*",
        "timezone": ".*",
    },
    "postgresql": {
        "clientencoding": "utf-?8|unicode",
        "fallbackapplicationname": ".*",
        "gssencmode": "disable|prefer",
        "loadbalancehosts": "disable",
        "loadbalance": ".*",
        "keepalives": ".*",
        "keepalivesidle": ".*",
        "keepalivesinterval": ".*",
        "keepalivescount": ".*",
        "tcpkeepalive": ".*",
        "tcpusertimeout": ".*",
        "asyncfallback": ".*",
        "pgbouncer": ".*",
        "pool": ".*",
        "pooltimeout": ".*",
        "sockettimeout": ".*",
        "sslcompression": "0|false",
        "sslminprotocolversion": r"tlsv1(\.[012])?",
        "sslsni": ".*",
        "statementcachesize": ".*",
        "preparedstatementcachesize": ".*",
        "preparethreshold": ".*",
        "binaryparameters": ".*",
        "defaultqueryexecmode": ".*",
        "uselibpqcompat": ".*",
        "supa": ".*",
        "workaround": ".*",
    },
}
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
    """Raises `ValueError`, which names the parameter, if one is unknown or does not hold."""
    backend = url.get_backend_name()
    given = _given(url, backend)
    bare = url.set(
        username=given.get("username", url.username),
        password=given.get("password", url.password),
        database=given.get("database", url.database),
        query={},
    )
    if backend == "sqlite":
        return Asked(
            url=bare,
            place=str(sqlite_file(url) or "the database in memory"),
            connect={},
            connections=None,
            timeout=None,
        )
    at, connect = _where(bare, given)
    connect |= tls_argument(backend, given)
    timeout = _number(given, "timeout", backend, least=0, most=_MOST_SECONDS) or None  # 0: the URL sets none
    if timeout:
        connect["timeout" if backend == "postgresql" else "connect_timeout"] = timeout
    if backend == "postgresql":
        connect |= _postgresql(given, hosts=len(connect.get("host", ())))
        if "direct_tls" in connect and not isinstance(connect.get("ssl"), SSLContext):
            raise ValueError("the URL's sslnegotiation=direct goes with sslmode=require or a stricter one")
    return Asked(
        url=bare,
        place=f"the database {bare.database or ''!r} at {at}",
        connect=connect,
        connections=_number(given, "connections", backend, least=1, most=10_000),
        timeout=timeout,
    )


def _given(url: URL, backend: str) -> dict[str, str]:
    names, neutral = _NAMES[backend], _NEUTRAL[backend]
    known = {plain(name): part for part, name in names.items()} | _ALIASES.get(backend, {})
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


def _number(given: Mapping[str, str], part: str, backend: str, *, most: int, least: int = 0) -> int | None:
    text = given.get(part)
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,6}", text) or not least <= int(text) <= most:
        raise ValueError(f"the URL's {_NAMES[backend][part]} must be a whole number from {least} to {most}")
    return int(text)


def _where(url: URL, given: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """For people, and as arguments of the driver where the bare URL does not say it."""
    backend = url.get_backend_name()
    if "socket" in given:
        return given["socket"], {"unix_socket": given["socket"]}
    if "host" not in given and "port" not in given:
        return _address(url.host or "localhost", url.port or _PORTS[backend]), {}
    hosts, ports = _hosts(given.get("host") or url.host or "localhost", given.get("port") or str(url.port or ""))
    place = ", ".join(_address(host, port) for host, port in zip(hosts, ports, strict=True))
    return place, {"host": hosts, "port": ports}


def _hosts(hosts: str, ports: str) -> tuple[list[str], list[int]]:
    """`a:1,b,[::1]:3` or `a,b` and `1,2`, or one port for all."""
    found = [_HOST.fullmatch(each) for each in hosts.split(",")]
    listed = ports.split(",")
    if len(listed) == 1:
        listed *= len(found)
    if None in found or len(listed) != len(found):
        raise ValueError("the URL's hosts are written as in postgresql://user:password@a:5432,b:5432/name")
    pairs = [(each, each["port"] or port or "5432") for each, port in zip(found, listed, strict=True) if each]
    if not all(port.isdecimal() and 0 < int(port) < 65536 for _, port in pairs):
        raise ValueError("the URL's port must be a whole number from 1 to 65535")
    return [each["folder"] or each["six"] or each["host"] for each, _ in pairs], [int(port) for _, port in pairs]


def _address(host: str, port: int) -> str:
    if host.startswith("/"):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _postgresql(given: Mapping[str, str], *, hosts: int) -> dict[str, Any]:
    """What only its driver can be given."""
    settings = {_STARTUP[part]: given[part] for part in _STARTUP if part in given}
    if (schema := given.get("schema", "public")) != "public":
        settings["search_path"] = '"' + schema.replace('"', '""') + '"'
    connect: dict[str, Any] = {"server_settings": settings} if settings else {}
    target = given.get("target") or ("read-write" if hosts > 1 else "any")
    if target not in _TARGETS:
        raise ValueError(f"the URL's target_session_attrs must be {_one_of(_TARGETS)}: chatcore writes")
    if target != "any":
        connect["target_session_attrs"] = target
    negotiation = given.get("negotiation", "postgres")
    if negotiation not in ("postgres", "direct"):
        raise ValueError("the URL's sslnegotiation must be postgres or direct")
    if negotiation == "direct":
        connect["direct_tls"] = True
    return connect


def _one_of(words: Sequence[str]) -> str:
    return " or ".join((", ".join(words[:-1]), words[-1]))
