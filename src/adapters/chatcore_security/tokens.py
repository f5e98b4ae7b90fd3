"""Access tokens: JSON Web Tokens after the profile of RFC 9068, verified after the practices of RFC 8725."""

import secrets
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import jwt

from chatcore.entities import OwnerId, SessionId, UserId
from chatcore.errors import Unauthenticated
from chatcore.ports import AccessClaims, TokenSigner

ALGORITHMS = ("HS256", "HS384", "HS512")
MIN_SECRET = 32
MAX_TOKEN = 4096
VERIFIED_TOKENS = 1024  # of the least recently used the signature is checked again
MAX_CLOCK_SKEW = timedelta(seconds=60)

_TYPE = "at+jwt"
_BLOCK = 64
_CLAIMS = ("iss", "aud", "sub", "sid", "jti", "iat", "exp", "auth_time")


class JWTSigner(TokenSigner):
    """Signs with one algorithm and one secret, and believes nothing that was signed in another way.

    The header says `typ: at+jwt` (RFC 9068 §2.1), so that no other kind of JWT passes for an access token; the claims
    are `iss`, `aud`, `sub` (the user's id), `sid`, `jti` (random), `iat`, `exp` and `auth_time`, all of them required.
    Roles are not among them: what an account may do is looked up when it asks.

    `secret` has at least 32 characters. A token of more than 4,096 characters is not even decoded, one that was issued
    more than 60 s ahead of `now` is refused, and there is no leeway after `exp`.
    """

    def __init__(
        self, secret: str, *, algorithm: str = "HS256", issuer: str = "chatcore", audience: str = "chatcore"
    ) -> None:
        if len(secret) < MIN_SECRET:
            raise ValueError(f"The secret for access tokens must have at least {MIN_SECRET} characters.")
        if algorithm not in ALGORITHMS:
            raise ValueError(f"The algorithm for access tokens must be one of {', '.join(ALGORITHMS)}.")
        # HMAC fills a short key up with zeros (RFC 2104 §2). It is done here because PyJWT warns of one that is shorter
        # than the hash, and 256 bits are enough under any of the three.
        self._key = secret.encode().ljust(_BLOCK, b"\0")
        self._algorithm = algorithm
        self._issuer = issuer
        self._audience = audience
        # What a signature says never changes, a client repeats its token for an hour, and to check one costs as much as
        # a query. Only when a token is good is asked each time.
        self._signed = lru_cache(maxsize=VERIFIED_TOKENS)(self._claims)

    def sign(self, claims: AccessClaims) -> str:
        payload = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": str(claims.user_id),
            "sid": claims.session_id,
            "jti": secrets.token_urlsafe(16),
            "iat": int(claims.issued_at.timestamp()),
            "exp": int(claims.expires_at.timestamp()),
            "auth_time": int(claims.authenticated_at.timestamp()),
        }
        return jwt.encode(payload, self._key, self._algorithm, headers={"typ": _TYPE})

    def verify(self, token: str, *, now: datetime) -> AccessClaims:
        if len(token) > MAX_TOKEN:
            raise Unauthenticated
        try:
            claims = self._signed(token)
        except (jwt.PyJWTError, ValueError, OverflowError, OSError):  # the last two: no such date
            raise Unauthenticated from None
        if claims.expires_at <= now or claims.issued_at > now + MAX_CLOCK_SKEW:
            raise Unauthenticated
        return claims

    def _claims(self, token: str) -> AccessClaims:
        return _claims(self._payload(token))

    def _payload(self, token: str) -> dict[str, Any]:
        decoded = jwt.decode_complete(
            token,
            self._key,
            algorithms=[self._algorithm],
            issuer=self._issuer,
            audience=self._audience,
            # The time is the caller's to say, not this machine's clock.
            options={"require": list(_CLAIMS), "strict_aud": True, "verify_exp": False, "verify_iat": False},
        )
        if decoded["header"].get("typ") != _TYPE:
            raise jwt.InvalidTokenError("no access token")
        payload: dict[str, Any] = decoded["payload"]
        return payload


def _claims(payload: dict[str, Any]) -> AccessClaims:
    session_id = payload["sid"]
    if not isinstance(session_id, str):
        raise jwt.InvalidTokenError("no session")
    return AccessClaims(
        user_id=UserId(OwnerId(int(payload["sub"]))),
        session_id=SessionId(session_id),
        issued_at=_time(payload["iat"]),
        expires_at=_time(payload["exp"]),
        authenticated_at=_time(payload["auth_time"]),
    )


def _time(seconds: object) -> datetime:
    if type(seconds) is not int:
        raise jwt.InvalidTokenError("no time")
    return datetime.fromtimestamp(seconds, UTC)
