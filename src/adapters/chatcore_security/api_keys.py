"""API keys at rest: Fernet (AES-128-CBC with HMAC-SHA256)."""

import hashlib
import re
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from chatcore.entities import ModelConfigId, OwnerId
from chatcore.ports import Cipher

_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")


class FernetCipher(Cipher):
    """Seals with the first of `keys` (newest first) and opens with any of them.

    A key is 32 random bytes in URL-safe base64, 44 characters. Owner and configuration are sealed in with the API
    key, so that a row copied to somebody else's account does not open there.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ValueError("At least one encryption key is needed.")
        for number, key in enumerate(keys, start=1):
            if not _KEY.fullmatch(key):
                raise ValueError(
                    f"Encryption key {number} of {len(keys)} is no Fernet key: "
                    "32 random bytes in URL-safe base64, which makes 44 characters."
                )
        self.newest: str = hashlib.sha256(b"chatcore encryption key " + keys[0].encode()).hexdigest()[:16]
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def seal(self, api_key: str, *, owner: OwnerId, config_id: ModelConfigId) -> str:
        return self._fernet.encrypt(_binding(owner, config_id) + api_key.encode()).decode()

    def open(self, sealed: str, *, owner: OwnerId, config_id: ModelConfigId) -> str:
        binding = _binding(owner, config_id)
        text = self._decrypt(sealed)
        if not text.startswith(binding):
            raise ValueError("The sealed API key does not open: it was copied or changed, or its key is gone.")
        return text.removeprefix(binding).decode()

    def _decrypt(self, sealed: str) -> bytes:
        """What was sealed; nothing if that cannot be known."""
        try:
            return self._fernet.decrypt(sealed)
        except (InvalidToken, ValueError):  # ValueError: not even ASCII
            return b""


def _binding(owner: OwnerId, config_id: ModelConfigId) -> bytes:
    return f"{owner}:{config_id}:".encode()
