"""Passwords, keys and tokens that look protected and are not. For tests only: anybody can undo or forge them."""

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from chatcore.entities import ModelConfigId, OwnerId, SessionId, UserId
from chatcore.errors import Unauthenticated
from chatcore.ports import AccessClaims, Cipher, PasswordHasher, TokenSigner


class PlainPasswords(PasswordHasher):
    """Hashes at once, and therefore NOT SECURELY: `$plain$v=1$<salt>$<digest>`.

    Setting `version` to another number makes every older hash one that `needs_rehash`.
    """

    def __init__(self, version: int = 1) -> None:
        self.version = version

    async def hash(self, password: str) -> str:
        salt = secrets.token_hex(4)
        return f"$plain$v={self.version}${salt}${digest(salt, password)}"

    async def verify(self, password: str, password_hash: str | None) -> bool:
        match (password_hash or "").split("$"):
            case ["", "plain", _, salt, hashed]:
                return hashed == digest(salt, password)
            case ["sha256", hashed]:
                return hashed == hashlib.sha256(password.encode(errors="surrogatepass")).hexdigest()
            case _:
                return False

    def adopted(self, foreign_hash: str) -> str | None:
        """Knows hashes of its own, and SHA-256 as 64 hex digits."""
        if re.fullmatch("[0-9a-fA-F]{64}", foreign_hash):
            return f"sha256${foreign_hash.lower()}"
        return foreign_hash if foreign_hash.startswith("$plain$") else None

    def needs_rehash(self, password_hash: str) -> bool:
        return not password_hash.startswith(f"$plain$v={self.version}$")


class PlainCipher(Cipher):
    """Seals by writing down who may open: `plain.<owner, configuration and key in Base64>.<checksum>`. NOT SECRET.

    What was sealed with another `key` does not open.
    """

    def __init__(self, key: str = "key") -> None:
        self._key = key
        self.newest: str = digest("name", key)

    def seal(self, api_key: str, *, owner: OwnerId, config_id: ModelConfigId) -> str:
        return stamped("plain", self._key, [owner, config_id, api_key])

    def open(self, sealed: str, *, owner: OwnerId, config_id: ModelConfigId) -> str:
        match unstamped("plain", self._key, sealed):
            case [sealed_for, sealed_in, str(api_key)] if (sealed_for, sealed_in) == (owner, config_id):
                return api_key
            case _:
                raise ValueError("this sealed key does not open")


class PlainSigner(TokenSigner):
    """Signs with a checksum: `token.<claims in Base64>.<checksum>`. NOT SECURE: whoever knows `key` can sign."""

    def __init__(self, key: str = "key") -> None:
        self._key = key

    def sign(self, claims: AccessClaims) -> str:
        times = [claims.issued_at, claims.expires_at, claims.authenticated_at]
        said = [claims.user_id, claims.session_id, *(int(time.timestamp()) for time in times)]
        return stamped("token", self._key, said)

    def verify(self, token: str, *, now: datetime) -> AccessClaims:
        match unstamped("token", self._key, token):
            case [int(user_id), str(session_id), int(issued_at), int(expires_at), int(authenticated_at)]:
                claims = AccessClaims(
                    user_id=UserId(OwnerId(user_id)),
                    session_id=SessionId(session_id),
                    issued_at=datetime.fromtimestamp(issued_at, UTC),
                    expires_at=datetime.fromtimestamp(expires_at, UTC),
                    authenticated_at=datetime.fromtimestamp(authenticated_at, UTC),
                )
            case _:
                raise Unauthenticated
        if claims.expires_at <= now:
            raise Unauthenticated
        return claims


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:32]


def stamped(kind: str, key: str, values: Sequence[object]) -> str:
    """`values` as a text in three parts that tells whether it was changed."""
    body = base64.urlsafe_b64encode(json.dumps(values).encode()).decode()
    return f"{kind}.{body}.{digest(key, kind, body)}"


def unstamped(kind: str, key: str, text: str) -> list[object] | None:
    """What `stamped` was given, or None if it did not make this text."""
    match text.split("."):
        case [found, body, stamp] if (found, stamp) == (kind, digest(key, kind, body)):
            values: list[object] = json.loads(base64.urlsafe_b64decode(body))
            return values
        case _:
            return None
