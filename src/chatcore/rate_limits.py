"""How often things may be done, by whom; what of these rules an installation wants, it sets.

Every try counts, whether it succeeds or not: who knows one password cannot buy tries at another account with it.
"""

import hashlib
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from chatcore import audit
from chatcore.entities import UserId, identity_key
from chatcore.errors import RateLimited, Unavailable
from chatcore.ports import Rate, RateLimiter

ACCOUNTS_PER_ADDRESS = 5
"""So many times the tries at one account may come from one address, for all accounts together."""

BUSY_FOR = 5
"""Seconds after which another try makes sense for whom too many replies are being written."""


@dataclass(frozen=True, kw_only=True)
class RateLimits:
    """A rule that is None does not hold, and without a `limiter` none does.

    `sign_in`: tries at one account from one address, and per user those with the current password; others go on from
    another address meanwhile. `register`: accounts from one address, and other names for one, which tell who is there
    as well; those also per user. `send`: messages, edits and regenerated replies of one user. `search`: pages
    of one user's searches. `requests`: whatever comes from one address. `replies`: how many may be written for one
    user at once.
    """

    limiter: RateLimiter | None = None
    sign_in: Rate | None = None
    register: Rate | None = None
    send: Rate | None = None
    search: Rate | None = None
    requests: Rate | None = None
    replies: int | None = None

    async def try_address(self, address: str) -> None:
        """For a sign-in, before anything is looked up. Raises `RateLimited`."""
        if self.sign_in is not None:
            wide = Rate(self.sign_in.times * ACCOUNTS_PER_ADDRESS, self.sign_in.seconds)
            await self._hit(wide, "sign-in", network_of(address), address=address)

    async def try_account(self, user_id: UserId | None, name: str, address: str) -> None:
        """For a sign-in. One account is one, by whichever of its names; `name`: of one that there is not. Raises
        `RateLimited`."""
        unknown = hashlib.sha256(identity_key(name).encode(errors="replace")).hexdigest()
        account = unknown if user_id is None else str(user_id)
        await self._hit(self.sign_in, "sign-in", account, network_of(address), address=address)

    async def try_password(self, user_id: UserId) -> None:
        """Of somebody who is signed in. Raises `RateLimited`."""
        await self._hit(self.sign_in, "password", str(user_id), user_id=user_id)

    async def try_register(self, address: str) -> None:
        """Raises `RateLimited`."""
        await self._hit(self.register, "register", network_of(address), address=address)

    async def try_rename(self, user_id: UserId, address: str) -> None:
        """Raises `RateLimited`."""
        await self._hit(self.register, "rename", str(user_id), user_id=user_id)
        await self.try_register(address)

    async def try_send(self, user_id: UserId) -> None:
        """Raises `RateLimited`."""
        await self._hit(self.send, "send", str(user_id), user_id=user_id)

    async def try_search(self, user_id: UserId) -> None:
        """Raises `RateLimited`."""
        await self._hit(self.search, "search", str(user_id), user_id=user_id)

    async def try_request(self, address: str) -> None:
        """Raises `RateLimited`."""
        await self._hit(self.requests, "requests", network_of(address), address=address)

    def check_replies(self, user_id: UserId, writing: int) -> None:
        """`writing`: how many replies are being written, with the new one. Raises `RateLimited`."""
        if self.replies is not None and writing > self.replies:
            audit.record("rate_limited", rule="replies", user_id=user_id)
            raise RateLimited("Too many replies are being written for you. Wait for one or stop it.", BUSY_FOR)

    async def _hit(self, rate: Rate | None, rule: str, *who: str, **told: object) -> None:
        if rate is None or self.limiter is None:
            return
        retry_after = await self.limiter.hit(rate, rule, *who)
        if retry_after is not None:
            audit.record("rate_limited", rule=rule, **told)
            raise RateLimited(retry_after=retry_after)


UNLIMITED = RateLimits()


class AtOnce:
    """Lets each user have at most so many of something going on at once in this process, and all together `in_all`.
    Something may weigh more than one; the first may weigh anything. `what`: its name in the audit log."""

    def __init__(self, what: str, most: int, *, in_all: int | None = None) -> None:
        self._what, self._most, self._in_all = what, most, in_all
        self._going_on = Counter[UserId]()

    @contextmanager
    def one_more(self, user_id: UserId, *, weight: int = 1) -> Generator[None, None, None]:
        """Raises `RateLimited`, `Unavailable`."""
        if self._going_on[user_id] + weight > max(self._most, weight):
            audit.record("rate_limited", rule=self._what, user_id=user_id)
            raise RateLimited(f"Too many {self._what} go on for you. Wait for one to end.", BUSY_FOR)
        if self._in_all is not None and self._going_on.total() >= self._in_all:
            raise Unavailable(f"Too many {self._what} go on. Try again later.", retry_after=60)
        self._going_on[user_id] += weight
        try:
            yield
        finally:
            self._going_on[user_id] -= weight
            self._going_on += Counter()  # forgets who has none


def network_of(address: str) -> str:
    """Whose address it is: of IPv6 one party has at least a /64 (RFC 6177), and what is no address stays as it is."""
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
