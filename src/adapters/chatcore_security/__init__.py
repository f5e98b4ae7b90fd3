"""Secrets, kept with libraries that are made for it: passwords with Argon2id, API keys with Fernet, tokens as JWT;
and how often somebody may try.

Needs the extra `chatcore[security]`.
"""

from chatcore_security.api_keys import FernetCipher
from chatcore_security.common_passwords import CommonPasswords
from chatcore_security.passwords import Argon2Passwords
from chatcore_security.rate_limits import CountingLimiter
from chatcore_security.tokens import JWTSigner

__all__ = ["Argon2Passwords", "CommonPasswords", "CountingLimiter", "FernetCipher", "JWTSigner"]
