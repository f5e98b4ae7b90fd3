"""Between aiohttp and the network: every numeric address is looked at before there is a socket for it, whatever name or
form of address led to it."""

import logging
import socket
from collections.abc import Callable
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from chatcore_openai.names import Names

Permits = Callable[[str, int], bool]
"""Whether this address, in numbers, and this port may be called."""

_log = logging.getLogger("chatcore.egress")


class Refused(OSError):
    """A connection that is not to be made. Aiohttp passes on nothing that is no `OSError`."""


class GuardedResolver(AbstractResolver):
    """Refuses a name as soon as one of its addresses is not permitted."""

    def __init__(self, permits: Permits, names: Names) -> None:
        self._permits = permits
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._names.addresses_of(host)
        for address in found:
            _check(self._permits, address.text, port)
        return [
            ResolveResult(
                hostname=host, host=address.text, port=port, family=address.family, proto=0, flags=socket.AI_NUMERICHOST
            )
            for address in found
        ]

    async def close(self) -> None:
        """Nothing: what is being looked up ends by itself."""


def guarded_socket(permits: Permits) -> Callable[[Any], socket.socket]:
    """For aiohttp's `socket_factory`: it is shown each address that would be dialled next."""

    def make(info: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        family, kind, protocol, _, address = info
        _check(permits, str(address[0]), int(address[1]))
        return socket.socket(family=family, type=kind, proto=protocol)

    return make


def _check(permits: Permits, address: str, port: int) -> None:
    if not permits(address, port):
        _log.warning("a user's call was refused: %s port %d is neither public nor in MODEL_URL_ALLOW", address, port)
        raise Refused
