"""Which addresses calls for a user may go to (OWASP ASVS 5.0, 1.3.6; CWE-918)."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

LOOPBACK = tuple(f"{scheme}://{network}:*" for scheme in ("http", "https") for network in ("127.0.0.0/8", "[::1]/128"))
"""What development allows, for a model server on one's own machine."""

_ALLOWED = re.compile(
    r"(?P<scheme>https?)://(?P<network>\[[0-9A-Fa-f:.]+\](?:/\d+)?|[0-9.]+(?:/\d+)?):(?P<port>[1-9]\d{0,4}|\*)"
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _networks(*names: str) -> tuple[Network, ...]:
    return tuple(ip_network(name) for name in names)


# What cloud providers tell a machine about itself, keys included. No setting allows these: all clouds' link-local
# addresses, Alibaba's, Azure's, Oracle's …
_METADATA_4 = _networks("169.254.0.0/16", "100.100.100.200", "168.63.129.16", "192.0.0.192")
# … Amazon's, Google's, Oracle's, Scaleway's and Linode's.
_METADATA_6 = _networks(
    "fe80::/10", "fd00:ec2::/32", "fd20:ce::/32", "fd00:c1::/32", "fd00:42::42", "fd00:a9fe:a9fe::/48"
)

# IANA's registries of special-purpose addresses: what of IPv4 is not public …
_SPECIAL = _networks(
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
)
# … and of IPv6 what is: global unicast, without Teredo and its neighbours, documentation and 6to4.
_GLOBAL = IPv6Network("2000::/3")
_NOT_GLOBAL = _networks("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
_NAT64 = IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")


@dataclass(frozen=True, slots=True)
class _Allowed:
    scheme: str
    network: Network
    port: int | None

    @staticmethod
    def of(text: str) -> "_Allowed":
        found = _ALLOWED.fullmatch(text)
        network = _network_of(found["network"]) if found else None
        if found is None or network is None:
            raise ValueError(
                f"{text!r} is not of the form scheme://network:port, such as http://127.0.0.0/8:11434 or "
                "https://[fd00::]/8:443; the port may be *"
            )
        return _Allowed(found["scheme"], network, None if found["port"] == "*" else int(found["port"]))

    def permits(self, scheme: str, address: Address, port: int) -> bool:
        return self.scheme == scheme and address in self.network and self.port in (None, port)


def _network_of(text: str) -> Network | None:
    try:
        return ip_network(text.replace("[", "").replace("]", ""))
    except ValueError:
        return None


class Egress:
    """Public addresses, and those private ones that `allow` names as `scheme://network:port`."""

    def __init__(self, allow: Iterable[str] = ()) -> None:
        """Raise `ValueError` for what is not of that form."""
        self._allowed = [_Allowed.of(text) for text in allow]

    def permits(self, scheme: str, address: str, port: int) -> bool:
        """`address` in numbers, as it would be dialled."""
        try:
            meant = _meant(ip_address(address.partition("%")[0]))
        except ValueError:
            return False
        if _leads_to_metadata(meant):
            return False
        return _is_public(meant) or any(each.permits(scheme, meant, port) for each in self._allowed)


def _meant(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one that leads to it."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _leads_to_metadata(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return any(address in network for network in _METADATA_4)
    return any(address in network for network in _METADATA_6) or any(map(_leads_to_metadata, _embedded(address)))


def _embedded(address: IPv6Address) -> Iterator[IPv4Address]:
    """Every IPv4 address that a gateway or the system's own tunnels may take out of this one.

    The last 32 bits are where most forms have it: mapped, compatible, translated (RFC 2765), ISATAP (RFC 5214) and
    NAT64 of any prefix of 96 bits (RFC 6052).
    """
    yield _bits(address, 96)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _LOCAL_NAT64:  # RFC 8215: prefixes of 48, 56 and 64 bits; bits 64 to 71 are zero
        yield IPv4Address(int(_bits(address, 48)) & 0xFFFF0000 | int(_bits(address, 72)) >> 16)
        yield IPv4Address(int(_bits(address, 56)) & 0xFF000000 | int(_bits(address, 72)) >> 8)
        yield _bits(address, 72)


def _bits(address: IPv6Address, first: int) -> IPv4Address:
    """The 32 bits of it that begin with bit `first`."""
    return IPv4Address(int(address) >> (96 - first) & 0xFFFFFFFF)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL)
    return address in _GLOBAL and not any(address in network for network in _NOT_GLOBAL)
