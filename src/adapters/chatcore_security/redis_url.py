"""Redis URLs, as providers and other clients write them."""

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit

_NUMBER, _TRUTH, _FILE = "[0-9]{1,6}", "true|false|yes|no|1|0", ".+"
_KNOWN: Mapping[str, str] = {
    "db": _NUMBER,
    "protocol": "[23]",
    "client_name": r"[^\s]+",
    "max_connections": "[1-9][0-9]{0,3}",
    "health_check_interval": _NUMBER,
    "socket_keepalive": _TRUTH,
    "ssl_cert_reqs": "none|optional|required",
    "ssl_check_hostname": _TRUTH,
    "ssl_ca_certs": _FILE,
    "ssl_certfile": _FILE,
    "ssl_keyfile": _FILE,
}
_NEUTRAL = frozenset({"family"})  # Node's: which kind of addresses to look for; here both are
_ENCODED = "with what is not a letter or digit of the password percent-encoded"
_EXAMPLE = "rediss://user:password@host:6379/0"


def normal_redis_url(url: str) -> str:
    """As the library reads it. Raise `ValueError`, without anything of the URL but its parameters' names."""
    url = url.strip().strip("'\"").strip()
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(f"not a Redis URL; write for example {_EXAMPLE}, {_ENCODED}") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError(f"a Redis URL starts with redis://, rediss:// (TLS) or unix://, as in {_EXAMPLE}")
    if "@" in parts.path or "@" in parts.fragment or "," in parts.netloc.rpartition("@")[2]:
        raise ValueError(f"a Redis URL has one @, before its one host; write for example {_EXAMPLE}, {_ENCODED}")
    query = _query(parts.query, tls=parts.scheme == "rediss")
    bare = re.split("[?#]", url, maxsplit=1)[0]
    return f"{bare}?{urlencode(query)}" if query else bare


def _query(text: str, *, tls: bool) -> dict[str, str]:
    query: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        plain = name.lower()
        if plain in _NEUTRAL:
            continue
        if plain not in _KNOWN:
            raise ValueError(f"the URL's parameter {name!r} is not known; it may have {', '.join(_KNOWN)}")
        value = value.lower().removeprefix("cert_") if plain == "ssl_cert_reqs" else value
        if not re.fullmatch(_KNOWN[plain], value, re.IGNORECASE):
            raise ValueError(f"the URL's {name} does not hold; it must be {_said(plain)}")
        if plain.startswith("ssl_") and not tls:
            raise ValueError(f"the URL's {name} goes with rediss://, which is Redis over TLS")
        query[plain] = value
    if query.get("ssl_cert_reqs") == "none":
        query["ssl_check_hostname"] = "no"
    return query


def _said(name: str) -> str:
    pattern = _KNOWN[name]
    if pattern == _FILE:
        return "a file"
    return {"protocol": "2 or 3", "client_name": "a word"}.get(name) or (
        " or ".join(pattern.split("|")) if "|" in pattern else "a whole number"
    )
