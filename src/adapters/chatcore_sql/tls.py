"""TLS as a database URL asks for it, in the words of MySQL's and PostgreSQL's own clients and with their meaning.

| MySQL | PostgreSQL | |
|---|---|---|
| `ssl-mode` | `sslmode` | how much is asked for, see `Mode`; also as `ssl` |
| `ssl-ca` | `sslrootcert` | file of the authorities that are trusted; without it those of the system |
| `ssl-cert`, `ssl-key` | `sslcert`, `sslkey` | files of the client's own certificate and key |

`-`, `_` and nothing are the same in a name, and so are capitals. One of the files alone asks for `REQUIRE`; a file of
authorities that is given is used, so that it makes `VERIFY_CA` out of `REQUIRE`.
"""

import ssl
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from sqlalchemy import URL


class Mode(IntEnum):
    """In the order of strictness; where a URL asks for two, the stricter one holds."""

    DISABLE = 0
    PREFER = 1  # encrypted if the server can: what asyncpg does unasked, and asyncmy cannot
    REQUIRE = 2  # encrypted, whoever the server is
    VERIFY_CA = 3  # and its certificate is from an authority that is trusted
    VERIFY_IDENTITY = 4  # and is for this host


_MODES = {
    "0": Mode.DISABLE,
    "false": Mode.DISABLE,
    "disable": Mode.DISABLE,
    "disabled": Mode.DISABLE,
    "prefer": Mode.PREFER,
    "1": Mode.REQUIRE,
    "true": Mode.REQUIRE,
    "require": Mode.REQUIRE,
    "required": Mode.REQUIRE,
    "verifyca": Mode.VERIFY_CA,
    "verifyfull": Mode.VERIFY_IDENTITY,
    "verifyidentity": Mode.VERIFY_IDENTITY,
}
_MODES_SAID = {
    "mysql": "DISABLED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY",
    "postgresql": "disable, prefer, require, verify-ca or verify-full",
}
# How each database spells a parameter. The last one is no matter of TLS: the driver is given it as it is.
_NAMES = {
    "sqlite": {},
    "mysql": {
        "ssl": "ssl",
        "mode": "ssl-mode",
        "ca": "ssl-ca",
        "cert": "ssl-cert",
        "key": "ssl-key",
        "socket": "unix_socket",
    },
    "postgresql": {
        "ssl": "ssl",
        "mode": "sslmode",
        "ca": "sslrootcert",
        "cert": "sslcert",
        "key": "sslkey",
        "socket": "host",
    },
}


def tls_of(url: URL) -> tuple[URL, dict[str, Any]]:
    """The URL without its TLS parameters, and the argument that the driver takes in their place.

    Raises `ValueError`, which names the parameter, if one is unknown or does not hold.
    """
    backend = url.get_backend_name()
    names = _NAMES[backend]
    given = _given(url, names)
    socket = {names["socket"]: given.pop("socket")} if "socket" in given else {}
    bare = url.set(query=socket)
    if not given:
        return bare, {}
    mode = _mode(given, names, _MODES_SAID[backend], may_prefer=backend == "postgresql")
    if mode == Mode.DISABLE:
        return bare, {"ssl": False} if backend == "postgresql" else {}
    return bare, {"ssl": "prefer" if mode == Mode.PREFER else _context(mode, given, names)}


def _given(url: URL, names: Mapping[str, str]) -> dict[str, str]:
    known = {_plain(name): part for part, name in names.items()}
    given: dict[str, str] = {}
    for name, value in url.query.items():
        part = known.get(_plain(name))
        if part is None:
            allowed = f"it may have {', '.join(names.values())}" if names else "it has none"
            raise ValueError(f"the URL's parameter {name!r} is not known; {allowed}")
        if part in given or not isinstance(value, str):
            raise ValueError(f"the URL has its parameter {names[part]!r} twice")
        given[part] = value
    return given


def _mode(given: Mapping[str, str], names: Mapping[str, str], said: str, *, may_prefer: bool) -> Mode:
    asked = [_MODES.get(_plain(given[part])) for part in ("ssl", "mode") if part in given]
    if None in asked or (Mode.PREFER in asked and not may_prefer):
        raise ValueError(f"the URL's {names['mode']} must be {said}; its ssl may also be true or false")
    mode = max((one for one in asked if one is not None), default=Mode.REQUIRE)
    if mode == Mode.PREFER and given.keys() - {"ssl", "mode"}:
        raise ValueError("the URL's sslmode=prefer may fall back to no TLS; it goes without certificates")
    if given.get("ca") == "system" and mode >= Mode.REQUIRE:  # PostgreSQL's word
        return Mode.VERIFY_IDENTITY
    return max(mode, Mode.VERIFY_CA) if "ca" in given and mode == Mode.REQUIRE else mode


def _context(mode: Mode, given: Mapping[str, str], names: Mapping[str, str]) -> ssl.SSLContext:
    authorities = None if given.get("ca") == "system" else given.get("ca")
    try:
        context = ssl.create_default_context(cafile=authorities)
    except OSError as error:
        raise ValueError(f"the URL's {names['ca']}={authorities}: {error.strerror}") from None
    # As strict as the databases' own clients: those certificates that MySQL makes itself are not of the strictest form.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.check_hostname = mode == Mode.VERIFY_IDENTITY
    context.verify_mode = ssl.CERT_REQUIRED if mode >= Mode.VERIFY_CA else ssl.CERT_NONE
    if "key" in given and "cert" not in given:
        raise ValueError(f"the URL's {names['key']} goes with {names['cert']}")
    if "cert" in given:
        try:
            context.load_cert_chain(given["cert"], given.get("key"), password="")  # never asked for on a terminal
        except OSError as error:
            files = " and ".join(f"{names[part]}={given[part]}" for part in ("cert", "key") if part in given)
            raise ValueError(f"the URL's {files}: {error.strerror}") from None
    return context


def _plain(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "")
