"""Sessions and their tokens."""

from abc import abstractmethod
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from chatcore.authority import Caller
from chatcore.entities import RefreshToken, Session, SessionId, UserId


class TokenStore(Protocol):
    """Sessions and their refresh tokens. A refresh token's digest is looked up without an owner: to know
    256 random bits is to be the owner."""

    @abstractmethod
    async def add_session(self, session: Session) -> None: ...

    @abstractmethod
    async def caller(self, user_id: UserId, session_id: SessionId) -> Caller | None:
        """The user and the session as they are now, revoked or expired or not, in one query."""

    @abstractmethod
    async def key_holder(self, digest: bytes) -> Caller | None:
        """As `caller`, by the digest of a personal API key."""

    @abstractmethod
    async def hold(
        self, user_id: UserId, session_id: SessionId, *, role: str | None = None, alone: bool = False, now: datetime
    ) -> bool:
        """Whether the session is neither revoked nor expired, and its user active and with this role. If so, that stays
        so until this unit of work is closed: what would change it waits. Others may ask the same meanwhile, unless one
        of them asks `alone` or for a role."""

    @abstractmethod
    async def alive(self, session_ids: Collection[SessionId], *, now: datetime) -> Set[SessionId]:
        """Those among them, of whatever users, that are neither revoked nor expired and whose user is active."""

    @abstractmethod
    async def touch(self, user_id: UserId, session_id: SessionId, *, now: datetime) -> None:
        """Set `last_used_at`."""

    @abstractmethod
    async def sessions(self, user_id: UserId, *, limit: int, offset: int) -> Sequence[Session]:
        """All sign-ins of the user, also those that have ended, the latest `login_time` first."""

    @abstractmethod
    async def keys(self, user_id: UserId, *, limit: int, offset: int) -> Sequence[Session]:
        """As `sessions`, the user's personal API keys."""

    @abstractmethod
    async def live_keys(self, user_id: UserId, *, limit: int, now: datetime) -> int:
        """How many of the user's keys are neither revoked nor expired, counted to `limit`."""

    @abstractmethod
    async def revoke(self, user_id: UserId, session_id: SessionId, *, now: datetime) -> bool:
        """Set `logout_time` if it is empty; a key also expires. False: there is no such session, or it was revoked
        before."""

    @abstractmethod
    async def revoke_others(self, user_id: UserId, session_id: SessionId, *, now: datetime) -> None:
        """As `revoke`, all of the user's sign-ins but this one."""

    @abstractmethod
    async def revoke_all(self, user_id: UserId, *, keys: bool, now: datetime) -> None:
        """As `revoke`, all of the user's sign-ins. `keys`: and their keys."""

    @abstractmethod
    async def add_refresh_token(self, token: RefreshToken) -> None: ...

    @abstractmethod
    async def refresh_token(self, digest: bytes) -> RefreshToken | None: ...

    @abstractmethod
    async def exchange(self, digest: bytes, *, now: datetime) -> bool:
        """Mark the token as used if it is neither used nor expired: one conditional UPDATE.

        Of any number of callers at once exactly one gets True; the others, once that one has committed, False.
        """

    @abstractmethod
    async def delete_expired(self, *, before: datetime, limit: int) -> int:
        """Deletes, of whatever users, at most `limit` sessions that expired before then, with their refresh tokens, and
        at most `limit` other refresh tokens that did. How many rows that were; 0 as well if somebody else was quicker.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessClaims:
    """What an access token says. `authenticated_at` is the session's last password check (`auth_time`)."""

    user_id: UserId
    session_id: SessionId
    issued_at: datetime
    expires_at: datetime
    authenticated_at: datetime


class TokenSigner(Protocol):
    @abstractmethod
    def sign(self, claims: AccessClaims) -> str:
        """Times are kept to the second."""

    @abstractmethod
    def verify(self, token: str, *, now: datetime) -> AccessClaims:
        """Raise `Unauthenticated` for whatever `sign` did not make, and once `expires_at` has come."""
