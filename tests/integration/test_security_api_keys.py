"""The Fernet cipher: what is bound to whom, which keys open what, and what its errors keep to themselves."""

import base64

import pytest
from cryptography.fernet import Fernet, InvalidToken

from chatcore.entities import ModelConfigId, OwnerId
from chatcore_security import FernetCipher

OLD, NEW, FOREIGN = (Fernet.generate_key().decode() for _ in range(3))
OWNER, CONFIG = OwnerId(7), ModelConfigId(11)
API_KEY = "sk-a key with spaces, 🔑 and a : colon"


def seal(cipher: FernetCipher, api_key: str = API_KEY) -> str:
    return cipher.seal(api_key, owner=OWNER, config_id=CONFIG)


@pytest.mark.parametrize("api_key", ["", "sk-1", API_KEY, "7:11:", "k" * 10_000])
def test_what_was_sealed_opens_for_its_owner_and_configuration(api_key: str) -> None:
    cipher = FernetCipher([NEW])
    assert cipher.open(seal(cipher, api_key), owner=OWNER, config_id=CONFIG) == api_key


@pytest.mark.parametrize(("owner", "config"), [(8, 11), (7, 12), (71, 1), (0, 0), (711, 0)])
def test_a_copied_row_does_not_open(owner: int, config: int) -> None:
    cipher = FernetCipher([NEW])
    with pytest.raises(ValueError, match="does not open"):
        cipher.open(seal(cipher), owner=OwnerId(owner), config_id=ModelConfigId(config))


def test_a_bit_that_is_changed_anywhere_is_noticed() -> None:
    cipher = FernetCipher([NEW])
    sealed = base64.urlsafe_b64decode(seal(cipher))
    for place in range(len(sealed)):
        changed = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        with pytest.raises(ValueError, match="does not open"):
            cipher.open(base64.urlsafe_b64encode(changed).decode(), owner=OWNER, config_id=CONFIG)


@pytest.mark.parametrize("sealed", ["", "=", "gAAAAA", "🔑", "\ud800", "\x00", API_KEY])
def test_what_is_no_sealed_text_at_all_does_not_open(sealed: str) -> None:
    with pytest.raises(ValueError, match="does not open"):
        FernetCipher([NEW]).open(sealed, owner=OWNER, config_id=CONFIG)


def test_the_first_key_seals_and_all_keys_open() -> None:
    before, during, after = FernetCipher([OLD]), FernetCipher([NEW, OLD]), FernetCipher([NEW])
    assert during.open(seal(before), owner=OWNER, config_id=CONFIG) == API_KEY
    assert after.open(seal(during), owner=OWNER, config_id=CONFIG) == API_KEY
    with pytest.raises(ValueError, match="its key is gone"):
        before.open(seal(during), owner=OWNER, config_id=CONFIG)


def test_the_same_key_sealed_twice_looks_different_and_shows_nothing() -> None:
    cipher = FernetCipher([NEW])
    assert seal(cipher) != seal(cipher)
    assert b"sk-a" not in base64.urlsafe_b64decode(seal(cipher))


def test_an_error_carries_nothing_of_the_text() -> None:
    cipher = FernetCipher([NEW])
    sealed = seal(cipher)
    with pytest.raises(ValueError, match="does not open") as caught:
        cipher.open(sealed, owner=OwnerId(8), config_id=CONFIG)
    assert API_KEY not in str(caught.value)
    assert sealed not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "keys",
    [
        ["secret"],
        [""],
        [NEW, NEW[:-1]],
        [NEW + "\n"],
        [NEW.replace("=", "A")],
        ["é" * 43 + "="],
        [f"!{NEW[1:]}"],
        [f"{NEW},{OLD}"],
    ],
)
def test_a_malformed_key_is_refused_with_a_sentence_that_does_not_show_it(keys: list[str]) -> None:
    with pytest.raises(ValueError, match=f"Encryption key {len(keys)} of {len(keys)} is no Fernet key") as caught:
        FernetCipher(keys)
    assert not keys[-1] or keys[-1] not in str(caught.value)


def test_no_key_is_refused() -> None:
    with pytest.raises(ValueError, match="At least one encryption key"):
        FernetCipher([])


def test_it_is_fernet_that_others_can_open_with_the_key_and_nobody_without() -> None:
    sealed = seal(FernetCipher([NEW]))
    assert Fernet(NEW).decrypt(sealed).decode() == f"7:11:{API_KEY}"
    with pytest.raises(InvalidToken):
        Fernet(FOREIGN).decrypt(sealed)
