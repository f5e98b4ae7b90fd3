"""Where the server listens."""

import errno
import socket
from typing import Any

from chatcore_app import Settings, SettingsError


def listen(settings: Settings) -> list[socket.socket]:
    """Bound, and not listening yet: one for each address of HOST. `::` is IPv4 too (RFC 3493 §5.3).

    Raise `SettingsError`.
    """
    host, port, found = settings.address, settings.port, list[socket.socket]()
    addresses = _addresses(host, port)
    try:
        for family, address in addresses:
            found.append(_bound(family, (address[0], port, *address[2:])))
            port = found[0].getsockname()[1]  # one that the system has chosen is that of all of them
    except OSError as error:
        for each in found:
            each.close()
        raise SettingsError(_sentence(error, settings)) from None
    return found


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:  # a name that nobody knows
        raise SettingsError(
            f"HOST: {host!r} is neither an address nor a name of this machine: {error.strerror}"
        ) from None
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bound(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def _sentence(error: OSError, settings: Settings) -> str:
    at = f"{settings.address}, port {settings.port}"
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"PORT: {settings.port} is taken: another program listens at {at}. Set PORT to another one, or end it."
            )
        case errno.EACCES | errno.EPERM:
            return f"PORT: this user may not listen at {at}. Set PORT to 1024 or above."
        case errno.EADDRNOTAVAIL:
            return f"HOST: {settings.address} is no address of this machine. 0.0.0.0 and :: are all of them."
        case _:
            return f"HOST and PORT: cannot listen at {at}: {error.strerror}"
