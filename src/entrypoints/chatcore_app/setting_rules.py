"""What single values of the settings must be. The rules raise `SettingsError` with a sentence for the operator."""

import re
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_network

from chatcore.ports import Rate

_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:(?P<port>[1-9][0-9]{0,4}))?")
_EXAMPLE = re.compile("(change|replace).?(me|this|it)|your.?(own|super|secret|refresh|jwt|key)|example", re.IGNORECASE)
_DIFFERENT = 8
_WIDE = re.compile(r"/(\d+)\]?(?::|$)")
_LEAST_BITS = 7  # bits: of IPv6 what is private is fc00::/7, of IPv4 10.0.0.0/8
_PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_RATE = re.compile(rf"([1-9][0-9]{{0,8}})/({'|'.join(_PERIODS)})")


class SettingsError(Exception):
    """The settings are invalid; the message says what to set."""


def can_be_guessed(secret: str) -> bool:
    """Words of examples, few different characters, or one text again and again. A random one of 128 bits is none of
    these, but for one in millions."""
    repeats = secret in (secret + secret)[1:-1]
    return repeats or len(set(secret)) < _DIFFERENT or bool(_EXAMPLE.search(secret))


def check_origin(origin: str) -> None:
    """As a browser sends it (RFC 6454 §6.2), since it is compared as text: no wildcard, no path, no default port."""
    found = _ORIGIN.fullmatch(origin)
    if not found or (found["scheme"], found["port"]) in (("http", "80"), ("https", "443")):
        raise SettingsError(
            f"CORS_ORIGINS: {origin!r} is not an origin as a browser sends it, such as https://app.example.com or "
            "http://localhost:3000: in lower case, without a path, a final slash, a wildcard or the default port."
        )


def check_host(host: str) -> None:
    """An address, in brackets or not, or a name; the port is a setting of its own."""
    example = "Name an address or a name, such as 127.0.0.1, 0.0.0.0 or :: for all of them, and the port in PORT."
    if "/" in host or host == "*":
        raise SettingsError(f"HOST: {host!r} is not one to listen at. {example}")
    if host.startswith("[") or host.count(":") > 1:
        try:
            IPv6Address(host.removeprefix("[").removesuffix("]") if host.endswith("]") else host)
        except ValueError:
            raise SettingsError(f"HOST: {host!r} is no IPv6 address. {example}") from None
    elif ":" in host:
        raise SettingsError(f"HOST: {host!r} has a port in it. {example}")


def check_network(proxy: str) -> None:
    try:
        ip_network(proxy)
    except ValueError as error:
        raise SettingsError(
            f"TRUSTED_PROXIES: {error}. Name addresses or networks, such as 10.0.0.7 or 10.0.0.0/8."
        ) from None


def check_not_everything(name: str, networks: Sequence[str]) -> None:
    """Refuse nearly the whole internet: it would trust anybody, or let users call all that the server can reach."""
    for text in networks:
        found = _WIDE.search(text)
        if found and int(found[1]) < _LEAST_BITS:
            raise SettingsError(f"{name}: {text} is nearly every address. Name the networks that are meant.")


def rate(name: str, text: str) -> Rate | None:
    if text == "off":
        return None
    found = _RATE.fullmatch(text)
    if not found:
        raise SettingsError(f"{name} must be a number per second, minute, hour or day, such as 10/minute, or off.")
    return Rate(int(found[1]), _PERIODS[found[2]])
