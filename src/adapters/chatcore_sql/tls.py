"""TLS as a database URL asks for it, in the words of MySQL's and PostgreSQL's own clients and with their meaning.

| MySQL | PostgreSQL | |
|---|---|---|
| `ssl-mode` | `sslmode` | how much is asked for, see `Mode`; also as `ssl` |
| `ssl-ca` | `sslrootcert` | file of the authorities that are trusted; without it those of the system |
| `ssl-cert`, `ssl-key` | `sslcert`, `sslkey` | files of the client's own certificate and key |
| `sslaccept` | `sslaccept` | Prisma's: `strict` is `VERIFY_IDENTITY`, `accept_invalid_certs` is `REQUIRE` |
| `ssl_verify_cert`, `ssl_verify_identity` | | SQLAlchemy's: `VERIFY_CA`, `VERIFY_IDENTITY` |
| `ssl-verify-server-cert` | | MariaDB's: `VERIFY_IDENTITY` |
| `tls` | | Go's: `true` is `VERIFY_IDENTITY`, `skip-verify` is `REQUIRE` |
| `useSSL`, `requireSSL`, `verifyServerCertificate` | | Java's: `REQUIRE`, `REQUIRE`, `VERIFY_CA` |
| | `channel_binding` | `require` is `VERIFY_IDENTITY`: the driver cannot bind, and that keeps out the same attacker |

`-`, `_` and nothing are the same in a name, and so are capitals. One of the files alone asks for `REQUIRE`; a file of
authorities that is given is used, so that it makes `VERIFY_CA` out of `REQUIRE`.
"""

import re
import ssl
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from chatcore_sql.dialects import Dialect


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
    "no": Mode.DISABLE,
    "off": Mode.DISABLE,
    "disable": Mode.DISABLE,
    "disabled": Mode.DISABLE,
    "prefer": Mode.PREFER,
    "1": Mode.REQUIRE,
    "true": Mode.REQUIRE,
    "yes": Mode.REQUIRE,
    "on": Mode.REQUIRE,
    "noverify": Mode.REQUIRE,  # the word of Node's clients
    "require": Mode.REQUIRE,
    "required": Mode.REQUIRE,
    "verifyca": Mode.VERIFY_CA,
    "verifyfull": Mode.VERIFY_IDENTITY,
    "verifyidentity": Mode.VERIFY_IDENTITY,
}
_FOR_NODE = re.compile(r'\{("minversion":"tlsv1\.2",?)?("rejectunauthorized":(?P<verify>true|false))?\}')


def _if_true(mode: Mode) -> Mapping[str, Mode | None]:
    return {"true": mode, "1": mode, "false": None, "0": None}


# What these mean as a mode, None: nothing.
_MEANINGS: Mapping[str, Mapping[str, Mode | None]] = {
    "accept": {"strict": Mode.VERIFY_IDENTITY, "acceptinvalidcerts": Mode.REQUIRE},
    "verify": _if_true(Mode.VERIFY_CA),
    "identity": _if_true(Mode.VERIFY_IDENTITY),
    "server": _if_true(Mode.VERIFY_IDENTITY),
    "go": {**_if_true(Mode.VERIFY_IDENTITY), "skipverify": Mode.REQUIRE},
    "use": _if_true(Mode.REQUIRE),
    "need": _if_true(Mode.REQUIRE),
    "java": _if_true(Mode.VERIFY_CA),
    "binding": {"disable": None, "prefer": None, "require": Mode.VERIFY_IDENTITY},
}
_MEANINGS_SAID = {
    "accept": "strict or accept_invalid_certs",
    "go": "true, skip-verify or false",
    "binding": "disable, prefer or require",
}


def tls_argument(dialect: Dialect, given: Mapping[str, str]) -> Mapping[str, Any]:
    """The driver's argument for those of the parameters that are `Dialect.tls`; empty if there are none.

    Raise `ValueError`, which names the parameter, if one does not hold.
    """
    names = dialect.tls
    asked = {part: given[part] for part in names if part in given}
    meant = _meant(asked, names)
    if not asked.keys() - _MEANINGS.keys() and not meant:
        return {}
    mode = _mode(asked, dialect)
    if mode == Mode.DISABLE:
        if meant:
            raise ValueError(f"the URL's {names['mode']} allows no TLS, and another of its parameters asks for it")
        return dialect.no_tls
    mode = max([mode, *meant])
    return {"ssl": "prefer" if mode == Mode.PREFER else _context(mode, asked, names)}


def _meant(asked: Mapping[str, str], names: Mapping[str, str]) -> list[Mode]:
    found: list[Mode] = []
    for part, meanings in _MEANINGS.items():
        if part in asked:
            word = plain(asked[part])
            if word not in meanings:
                raise ValueError(f"the URL's {names[part]} must be {_MEANINGS_SAID.get(part, 'true or false')}")
            if (mode := meanings[word]) is not None:
                found.append(mode)
    return found


def _mode(given: Mapping[str, str], dialect: Dialect) -> Mode:
    asked = [_mode_named(given[part]) for part in ("ssl", "mode") if part in given]
    if None in asked or (Mode.PREFER in asked and not dialect.tls_may_be_preferred):
        name = dialect.tls["mode"]
        raise ValueError(f"the URL's {name} must be {dialect.tls_modes}; its ssl may also be true or false")
    mode = max((one for one in asked if one is not None), default=Mode.REQUIRE)
    if mode == Mode.PREFER and given.keys() & {"ca", "cert", "key"}:
        raise ValueError("the URL's sslmode=prefer may fall back to no TLS; it goes without certificates")
    if given.get("ca") == "system" and mode >= Mode.REQUIRE:  # PostgreSQL's word
        return Mode.VERIFY_IDENTITY
    return max(mode, Mode.VERIFY_CA) if "ca" in given and mode == Mode.REQUIRE else mode


def _mode_named(text: str) -> Mode | None:
    word = plain(text)
    if found := _FOR_NODE.fullmatch(word):
        return Mode.REQUIRE if found["verify"] == "false" else Mode.VERIFY_IDENTITY
    return _MODES.get(word)


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


def plain(word: str) -> str:
    """Without what makes no difference: capitals, `-`, `_`, blanks."""
    return word.lower().replace("-", "").replace("_", "").replace(" ", "")
