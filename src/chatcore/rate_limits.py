"""Rate limits, which an installation sets.

Every attempt counts, whether it succeeds or not: a known password buys no attempts at another account.
"""

import hashlib
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from chatcore import audit
from chatcore.entities import OwnerId, SessionId, UserId, identity_key
from chatcore.errors import RateLimited, Unavailable
from chatcore.ports import Rate, RateLimiter

ACCOUNTS_PER_ADDRESS = 5
"""An address may make this many times the attempts at one account, at all accounts together."""

BUSY_FOR = 5
"""`Retry-After` when a user has too many replies in progress."""


@dataclass(frozen=True, kw_only=True)
class RateLimits:
    """None is no limit; without a `limiter` only `replies` holds.

    `sign_in`: attempts at one account from one address, and per user those with the current password. `register`: new
    accounts, and changes of username or e-mail, which also reveal taken names, from one address; those changes, and new
    API keys, also per user. `send`: messages, edits, regenerated replies and uploads of one user. `search`: pages of
    one user's searches. `key`: requests with one API key. `requests`: all requests from one address. `replies`: replies
    in progress for one user.
    """

    limiter: RateLimiter | None = None
    sign_in: Rate | None = None
    register: Rate | None = None
    send: Rate | None = None
    search: Rate | None = None
    key: Rate | None = None
    requests: Rate | None = None
    replies: int | None = None

    async def try_address(self, address: str) -> None:
        """Count a sign-in, before any lookup. Raise `RateLimited`."""
        if self.sign_in is not None:
            wide = Rate(self.sign_in.times * ACCOUNTS_PER_ADDRESS, self.sign_in.seconds)
            await self._hit(wide, "sign-in", network_of(address), address=address)

    async def try_account(self, user_id: UserId | None, name: str, address: str) -> None:
        """Count a sign-in to an account, whichever of its names it uses; `user_id` is None for an unknown `name`. Raise
        `RateLimited`."""
        unknown = hashlib.sha256(identity_key(name).encode(errors="replace")).hexdigest()
        account = unknown if user_id is None else str(user_id)
        await self._hit(self.sign_in, "sign-in", account, network_of(address), address=address)

    async def try_password(self, user_id: UserId) -> None:
        """Count a check of a signed-in user's password. Raise `RateLimited`."""
        await self._hit(self.sign_in, "password", str(user_id), user_id=user_id)

    async def try_register(self, address: str) -> None:
        """Raise `RateLimited`."""
        await self._hit(self.register, "register", network_of(address), address=address)

    async def try_rename(self, user_id: UserId, address: str) -> None:
        """Raise `RateLimited`."""
        await self._hit(self.register, "rename", str(user_id), user_id=user_id)
        await self.try_register(address)

    async def try_new_key(self, user_id: UserId) -> None:
        """Raise `RateLimited`."""
        await self._hit(self.register, "new key", str(user_id), user_id=user_id)

    async def try_key(self, user_id: UserId, key_id: SessionId) -> None:
        """Raise `RateLimited`."""
        await self._hit(self.key, "key", key_id, user_id=user_id)

    async def try_send(self, user_id: OwnerId) -> None:
        """Raise `RateLimited`."""
        await self._hit(self.send, "send", str(user_id), user_id=user_id)

    async def try_search(self, user_id: OwnerId) -> None:
        """Raise `RateLimited`."""
        await self._hit(self.search, "search", str(user_id), user_id=user_id)

    async def try_request(self, address: str) -> None:
        """Raise `RateLimited`."""
        await self._hit(self.requests, "requests", network_of(address), address=address)

    def check_replies(self, user_id: OwnerId, writing: int) -> None:
        """`writing`: replies in progress, the new one included. Raise `RateLimited`."""
        if self.replies is not None and writing > self.replies:
            audit.record("rate_limited", rule="replies", user_id=user_id)
            raise RateLimited("You have too many replies in progress. Wait for one or stop it.", BUSY_FOR)

    async def _hit(self, rate: Rate | None, rule: str, *who: str, **told: object) -> None:
        if rate is None or self.limiter is None:
            return
        retry_after = await self.limiter.hit(rate, rule, *who)
        if retry_after is not None:
            audit.record("rate_limited", rule=rule, **told)
            raise RateLimited(retry_after=retry_after)


UNLIMITED = RateLimits()


class AtOnce:
    """Limit how many of something run at once in this process: `most` per user, `in_all` together. One may weigh more
    than 1; the first may weigh anything. `what`: its name in the audit log."""

    def __init__(self, what: str, most: int, *, in_all: int | None = None) -> None:
        self._what, self._most, self._in_all = what, most, in_all
        self._going_on = Counter[OwnerId]()

    @contextmanager
    def one_more(self, user_id: OwnerId, *, weight: int = 1) -> Generator[None, None, None]:
        """Raise `RateLimited`, `Unavailable`."""
        if self._going_on[user_id] + weight > max(self._most, weight):
            audit.record("rate_limited", rule=self._what, user_id=user_id)
            raise RateLimited(f"You have too many {self._what} in progress. Wait for one to end.", BUSY_FOR)
        if self._in_all is not None and self._going_on.total() >= self._in_all:
            raise Unavailable(f"Too many {self._what} are in progress. Try again later.", retry_after=60)
        self._going_on[user_id] += weight
        try:
            yield
        finally:
            self._going_on[user_id] -= weight
            self._going_on += Counter()  # forgets who has none


def network_of(address: str) -> str:
    """Return the network of one party: an IPv4 address, or an IPv6 /64 (RFC 6177). Other text is returned as it is."""
    return _network_of(address[:64])


@lru_cache(4096)
def _network_of(address: str) -> str:
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return f"{IPv6Address(int(ip) >> 64 << 64)}/64"
