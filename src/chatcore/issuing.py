"""Sessions and their tokens, made inside a unit of work.

A refresh token is 256 random bits, stored as its SHA-256 and exchanged once. Its successor is an HMAC of it, so that
two tabs that refresh at the same moment get the same one without any token being stored (RFC 9700 §4.14.2 for rotation
and reuse detection).
"""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from chatcore import audit
from chatcore.entities import RefreshToken, Session, SessionId, User, storable
from chatcore.ports import AccessClaims, TokenSigner, TokenStore, Transaction

_LONGEST_TOKEN = 64  # characters; ours have 43


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPolicy:
    """Lifetimes. `refresh_secret` derives successors of refresh tokens; a change of it ends no session.

    A session lives at least as long as an access token.
    """

    refresh_secret: bytes = field(repr=False)
    access_ttl: timedelta = timedelta(minutes=60)
    refresh_ttl: timedelta = timedelta(days=7)
    session_ttl: timedelta = timedelta(days=30)
    grace: timedelta = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """A session and its tokens. `expires_in`: seconds that the access token lives."""

    user: User
    session: Session
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int


class IssuingWork(Transaction, Protocol):
    tokens: TokenStore


@dataclass(frozen=True, kw_only=True)
class SessionIssuer:
    """Make sessions and tokens inside a given unit of work."""

    signer: TokenSigner
    policy: SessionPolicy

    async def open(self, work: IssuingWork, user: User, *, user_agent: str, address: str, now: datetime) -> SignedIn:
        """Open a session for a user whose password has just been checked."""
        session = Session(
            id=new_id(),
            user_id=user.id,
            login_time=now,
            authenticated_at=now,
            last_used_at=now,
            expires_at=now + max(self.policy.session_ttl, self.policy.access_ttl),
            user_agent=storable(user_agent[:255]),
            address=address[:64],
        )
        return await self._begin(work, user, session, now=now)

    async def renewed(
        self, work: IssuingWork, user: User, session: Session, *, checked: bool, now: datetime
    ) -> SignedIn:
        """Open a session that replaces an ended one and expires when that would have. `checked`: the password has just
        been checked."""
        session = replace(
            session,
            id=new_id(),
            login_time=now,
            authenticated_at=now if checked else session.authenticated_at,
            last_used_at=now,
        )
        return await self._begin(work, user, session, now=now)

    async def _begin(self, work: IssuingWork, user: User, session: Session, *, now: datetime) -> SignedIn:
        await work.tokens.add_session(session)
        token = encoded(secrets.token_bytes(32))
        await self.store(work, session, token, now=now)
        return self.signed_in(user, session, token, now=now)

    async def store(self, work: IssuingWork, session: Session, token: str, *, now: datetime) -> None:
        await work.tokens.add_refresh_token(
            RefreshToken(
                digest=digest_of(token),
                session_id=session.id,
                user_id=session.user_id,
                created_at=now,
                expires_at=min(now + self.policy.refresh_ttl, session.expires_at),
            )
        )

    def successor(self, token: str) -> str:
        return encoded(hmac.digest(self.policy.refresh_secret, _bytes_of(token), "sha256"))

    def signed_in(self, user: User, session: Session, refresh_token: str, *, now: datetime) -> SignedIn:
        expires_at = min(now + self.policy.access_ttl, session.expires_at)
        claims = AccessClaims(
            user_id=user.id,
            session_id=session.id,
            issued_at=now,
            expires_at=expires_at,
            authenticated_at=session.authenticated_at,
        )
        return SignedIn(
            user=user,
            session=session,
            access_token=self.signer.sign(claims),
            refresh_token=refresh_token,
            expires_in=int((expires_at - now).total_seconds()),
        )


def note_sign_in(event: str, signed_in: SignedIn) -> None:
    session = signed_in.session
    audit.record(
        event,
        user_id=session.user_id,
        session_id=session.id,
        address=session.address,
        user_agent=session.user_agent,
    )


def new_id() -> SessionId:
    return SessionId(secrets.token_urlsafe(16))


def digest_of(token: str) -> bytes:
    """Return what is stored of a refresh token."""
    return hashlib.sha256(_bytes_of(token)).digest()


def _bytes_of(token: str) -> bytes:
    """Return the token's bytes, cut off where it is longer than any of ours."""
    return token[:_LONGEST_TOKEN].encode(errors="replace")


def encoded(secret: bytes) -> str:
    return urlsafe_b64encode(secret).rstrip(b"=").decode()
