"""The contracts of `PasswordHasher`, `Cipher` and `TokenSigner`."""

import asyncio
import traceback
from abc import abstractmethod
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from chatcore.entities import ModelConfigId, OwnerId, SessionId, UserId
from chatcore.errors import Unauthenticated
from chatcore.ports import AccessClaims, Cipher, PasswordHasher, TokenSigner
from chatcore_testing.contract import Capability, Checks, Contract, Lacking, Made, Mark, each, needs, raises

OWNER, CONFIG = OwnerId(11), ModelConfigId(7)
API_KEY = "sk-proj-0123456789abcdefghijklmnopqrstuvwxyz"
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)

PASSWORDS = {
    "short": "x",
    "empty": "",
    "spaces": "  correct horse  ",
    "unicode": "pässwörd 🦄 漢字",
    "nul": "before\0after",
    "long": "🦄" * 1024,
}
passwords: Mark = each("password", list(PASSWORDS.values()), ids=list(PASSWORDS))


class PasswordHasherChecks(Checks):
    @passwords
    async def test_a_password_is_known_again(self, hasher: PasswordHasher, password: str) -> None:
        assert await hasher.verify(password, await hasher.hash(password)) is True

    @passwords
    async def test_a_password_is_compared_to_its_last_character(self, hasher: PasswordHasher, password: str) -> None:
        hashed = await hasher.hash(password)
        assert await hasher.verify(password + "x", hashed) is False
        assert await hasher.verify(password.upper() + " ", hashed) is False
        assert not password or await hasher.verify(password[:-1], hashed) is False

    async def test_a_hash_is_a_phc_string_that_hides_the_password(self, hasher: PasswordHasher) -> None:
        hashed = await hasher.hash("correct horse")
        assert hashed.startswith("$")
        assert hashed.isascii()
        assert len(hashed) < 200
        assert "correct horse" not in hashed

    async def test_every_hash_has_its_own_salt(self, hasher: PasswordHasher) -> None:
        hashes = [await hasher.hash("correct horse") for _ in range(3)]
        assert len(set(hashes)) == 3

    @each(
        "unknown",
        [
            None,
            "",
            "$",
            "correct horse",
            "$argon2id$v=19$m=19456,t=2,p=1$",
            "$argon2id$v=19$m=99999999999,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            "$argon2id$v=19$m=19456,t=2,p=1$🦄$🦄",
            "$2b$12$saltsaltsaltsaltsaltsu",
            "f52fbd32b2b3b86ff88ef6c490628285f482af15ddcb29541f94bcf526a3f6c7",
        ],
    )
    async def test_no_password_fits_no_hash(self, hasher: PasswordHasher, unknown: str | None) -> None:
        assert await hasher.verify("correct horse", unknown) is False
        assert await hasher.verify("", unknown) is False

    async def test_a_password_that_cannot_be_encoded_is_wrong(self, hasher: PasswordHasher) -> None:
        assert await hasher.verify("\ud800", await hasher.hash("correct horse")) is False
        assert await hasher.verify("\ud800", None) is False

    @needs(Capability.ADOPTION)
    async def test_an_older_systems_hash_is_adopted_and_is_to_be_replaced(self, hasher: PasswordHasher) -> None:
        foreign = sha256(b"correct horse").hexdigest()
        for spelling in (foreign, foreign.upper()):
            adopted = hasher.adopted(spelling)
            assert adopted is not None
            assert len(adopted) <= 255
            assert await hasher.verify("correct horse", adopted) is True
            assert await hasher.verify("correct horse ", adopted) is False
            assert await hasher.verify(foreign, adopted) is False
            assert hasher.needs_rehash(adopted) is True

    @needs(Capability.ADOPTION)
    async def test_a_hash_of_its_own_is_adopted_as_it_is(self, hasher: PasswordHasher) -> None:
        hashed = await hasher.hash("correct horse")
        assert hasher.adopted(hashed) == hashed

    @each("unknown", ["", "$", "correct horse", "f" * 63, "f" * 65, "g" * 64, "md5$abc", "ｆ" * 64])
    async def test_what_would_never_verify_is_not_adopted(self, hasher: PasswordHasher, unknown: str) -> None:
        assert hasher.adopted(unknown) is None

    async def test_several_at_once_are_not_mixed_up(self, hasher: PasswordHasher) -> None:
        hashes = await asyncio.gather(*(hasher.hash(str(number)) for number in range(6)))
        right = await asyncio.gather(*(hasher.verify(str(number), hashes[number]) for number in range(6)))
        wrong = await asyncio.gather(*(hasher.verify(str(number), hashes[number - 1]) for number in range(6)))
        assert (right, wrong) == ([True] * 6, [False] * 6)

    @needs(Capability.RENEWAL)
    async def test_a_hash_of_yesterday_is_valid_and_wants_renewal(
        self, hasher: PasswordHasher, outdated: PasswordHasher
    ) -> None:
        old, new = await outdated.hash("correct horse"), await hasher.hash("correct horse")
        assert await hasher.verify("correct horse", old) is True
        assert hasher.needs_rehash(old) is True
        assert hasher.needs_rehash(new) is False


class PasswordHasherContract(Contract, checks=(PasswordHasherChecks,)):
    """What `PasswordHasher` promises."""

    @abstractmethod
    def hasher(self) -> Made[PasswordHasher]: ...

    def outdated(self) -> Made[PasswordHasher]:
        """Make one that hashes with the parameters of yesterday."""
        raise Lacking(Capability.RENEWAL)


class CipherChecks(Checks):
    @each("api_key", [API_KEY, "", "x", "🦄 ké\u0301y\0\r\n:|.", "k" * 10_000], ids=range(5))
    def test_what_was_sealed_opens(self, cipher: Cipher, api_key: str) -> None:
        sealed = cipher.seal(api_key, owner=OWNER, config_id=CONFIG)
        assert cipher.open(sealed, owner=OWNER, config_id=CONFIG) == api_key
        assert sealed.isascii()

    def test_the_key_is_not_in_what_was_sealed(self, cipher: Cipher) -> None:
        sealed = cipher.seal(API_KEY, owner=OWNER, config_id=CONFIG)
        assert not any(API_KEY[start : start + 6] in sealed for start in range(len(API_KEY) - 6))

    @each(("owner", "config_id"), [(12, 7), (11, 8), (7, 11), (1, 17), (117, 7), (0, 0)])
    def test_it_opens_for_no_other_owner_or_config(self, cipher: Cipher, owner: int, config_id: int) -> None:
        sealed = cipher.seal(API_KEY, owner=OWNER, config_id=CONFIG)
        self.refuses(cipher, sealed, owner=OwnerId(owner), config_id=ModelConfigId(config_id))

    def test_a_key_that_looks_like_a_binding_is_only_a_key(self, cipher: Cipher) -> None:
        sealed = cipher.seal("7:secret", owner=OwnerId(1), config_id=ModelConfigId(1))
        self.refuses(cipher, sealed, owner=OwnerId(1), config_id=ModelConfigId(17))
        self.refuses(cipher, sealed, owner=OwnerId(11), config_id=ModelConfigId(7))

    def test_its_name_is_its_own_and_tells_nothing(self, cipher: Cipher, stranger: Cipher) -> None:
        assert cipher.newest != stranger.newest
        assert 1 <= len(cipher.newest) <= 32
        assert cipher.newest.isascii()
        assert cipher.newest == cipher.newest.strip().lower() != "unknown"

    def test_it_does_not_open_when_it_was_changed(self, cipher: Cipher) -> None:
        sealed = cipher.seal(API_KEY, owner=OWNER, config_id=CONFIG)
        for place in range(0, len(sealed) - 4, 5):
            changed = sealed[:place] + ("A" if sealed[place] != "A" else "B") + sealed[place + 1 :]
            self.refuses(cipher, changed)
        self.refuses(cipher, sealed[: len(sealed) // 2])

    @each("sealed", ["", "x", "🦄", API_KEY, "gAAAAA==", "." * 100, "\0"])
    def test_what_was_never_sealed_does_not_open(self, cipher: Cipher, sealed: str) -> None:
        self.refuses(cipher, sealed)

    def test_it_opens_with_no_other_key(self, cipher: Cipher, stranger: Cipher) -> None:
        self.refuses(stranger, cipher.seal(API_KEY, owner=OWNER, config_id=CONFIG))
        self.refuses(cipher, stranger.seal(API_KEY, owner=OWNER, config_id=CONFIG))

    def refuses(
        self, cipher: Cipher, sealed: str, *, owner: OwnerId = OWNER, config_id: ModelConfigId = CONFIG
    ) -> None:
        with raises(ValueError) as refusal:
            cipher.open(sealed, owner=owner, config_id=config_id)
        told = [str(refusal.value), repr(refusal.value)]
        assert not any(API_KEY in each or (len(sealed) > 1 and sealed in each) for each in told)


class CipherContract(Contract, checks=(CipherChecks,)):
    """What `Cipher` promises."""

    @abstractmethod
    def cipher(self) -> Made[Cipher]: ...

    def stranger(self) -> Made[Cipher]:
        """Make one with other keys."""
        raise Lacking(Capability.STRANGER)


class TokenSignerChecks(Checks):
    def claims(self) -> AccessClaims:
        return AccessClaims(
            user_id=UserId(OwnerId(2**53 + 1)),
            session_id=SessionId("aB-3_"),
            issued_at=NOW,
            expires_at=NOW + timedelta(hours=1),
            authenticated_at=NOW - timedelta(days=3),
        )

    def test_what_was_signed_is_known_again(self, signer: TokenSigner, claims: AccessClaims) -> None:
        token = signer.sign(claims)
        assert signer.verify(token, now=NOW) == claims
        assert token.isascii()
        assert not set(token) & set(" \r\n\t,;=\"'")

    def test_times_are_kept_to_the_second(self, signer: TokenSigner, claims: AccessClaims) -> None:
        fraction = timedelta(microseconds=999_999)
        exact = replace(
            claims,
            issued_at=claims.issued_at + fraction,
            expires_at=claims.expires_at + fraction,
            authenticated_at=claims.authenticated_at + fraction,
        )
        assert signer.verify(signer.sign(exact), now=NOW) == claims

    def test_it_holds_until_it_expires(self, signer: TokenSigner, claims: AccessClaims) -> None:
        token = signer.sign(claims)
        assert signer.verify(token, now=claims.expires_at - timedelta(microseconds=1)) == claims
        for late in (timedelta(0), timedelta(microseconds=1), timedelta(days=9999)):
            with raises(Unauthenticated):
                signer.verify(token, now=claims.expires_at + late)

    @each(
        "token", ["", ".", "..", "x", "a.b.c", "🦄", "\0", "\ud800", "Bearer x", "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0."]
    )
    def test_what_was_never_signed_is_refused(self, signer: TokenSigner, token: str) -> None:
        with raises(Unauthenticated):
            signer.verify(token, now=NOW)

    def test_a_token_that_was_changed_is_refused(self, signer: TokenSigner, claims: AccessClaims) -> None:
        token = signer.sign(claims)
        for place in range(0, len(token) - 4, 5):
            changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
            with raises(Unauthenticated):
                signer.verify(changed, now=NOW)

    def test_parts_of_two_tokens_make_no_third(self, signer: TokenSigner, claims: AccessClaims) -> None:
        mine = signer.sign(claims).split(".")
        theirs = signer.sign(replace(claims, user_id=UserId(OwnerId(1)))).split(".")
        for place in range(len(mine)):
            mixed = [*mine[:place], theirs[place], *mine[place + 1 :]]
            if mixed not in (mine, theirs):
                with raises(Unauthenticated):
                    signer.verify(".".join(mixed), now=NOW)

    def test_anothers_token_is_refused(self, signer: TokenSigner, stranger: TokenSigner, claims: AccessClaims) -> None:
        with raises(Unauthenticated):
            signer.verify(stranger.sign(claims), now=NOW)

    def test_a_refusal_does_not_repeat_the_token(
        self, signer: TokenSigner, stranger: TokenSigner, claims: AccessClaims
    ) -> None:
        token = stranger.sign(claims)
        with raises(Unauthenticated) as refusal:
            signer.verify(token, now=NOW)
        assert token not in "".join(traceback.format_exception(refusal.value))


class TokenSignerContract(Contract, checks=(TokenSignerChecks,)):
    """What `TokenSigner` promises."""

    @abstractmethod
    def signer(self) -> Made[TokenSigner]: ...

    def stranger(self) -> Made[TokenSigner]:
        """Make one with another secret."""
        raise Lacking(Capability.STRANGER)
