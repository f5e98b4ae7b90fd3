"""Argon2id, Fernet and PyJWT keep the contracts of the ports."""

from collections.abc import Iterator

from cryptography.fernet import Fernet

from chatcore.ports import Cipher, PasswordHasher, TokenSigner
from chatcore_security import Argon2Passwords, FernetCipher, JWTSigner
from chatcore_testing import CipherContract, PasswordHasherContract, TokenSignerContract


class TestArgon2Passwords(PasswordHasherContract):
    def hasher(self) -> Iterator[PasswordHasher]:
        hasher = Argon2Passwords()
        yield hasher
        hasher.close()

    def outdated(self) -> Iterator[PasswordHasher]:
        outdated = Argon2Passwords(memory_cost=8_192, time_cost=1)
        yield outdated
        outdated.close()


class TestFernetCipher(CipherContract):
    def cipher(self) -> Cipher:
        return FernetCipher([Fernet.generate_key().decode(), Fernet.generate_key().decode()])

    def stranger(self) -> Cipher:
        return FernetCipher([Fernet.generate_key().decode()])


class TestJWTSigner(TokenSignerContract):
    def signer(self) -> TokenSigner:
        return JWTSigner("one secret of thirty-two characters")

    def stranger(self) -> TokenSigner:
        return JWTSigner("another secret of as many characters")
