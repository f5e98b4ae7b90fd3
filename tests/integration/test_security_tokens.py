"""Access tokens: their form after RFC 9068, and every kind of forgery that RFC 8725 warns of."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from chatcore.entities import OwnerId, SessionId, UserId
from chatcore.errors import Unauthenticated
from chatcore.ports import AccessClaims
from chatcore_security import JWTSigner

SECRET = "a secret that is thirty-two bytes"
NOW = datetime(2031, 5, 4, 3, 2, 1, tzinfo=UTC)
CLAIMS = AccessClaims(
    user_id=UserId(OwnerId(7)),
    session_id=SessionId("a-session"),
    issued_at=NOW,
    expires_at=NOW + timedelta(hours=1),
    authenticated_at=NOW - timedelta(days=1),
)
PAYLOAD: dict[str, Any] = {
    "iss": "chatcore",
    "aud": "chatcore",
    "sub": "7",
    "sid": "a-session",
    "jti": "a-token",
    "iat": int(NOW.timestamp()),
    "exp": int(NOW.timestamp()) + 3600,
    "auth_time": int(NOW.timestamp()) - 86400,
}


@pytest.fixture
def signer() -> JWTSigner:
    return JWTSigner(SECRET)


def token(
    changes: dict[str, Any] | None = None, *, secret: str = SECRET, algorithm: str = "HS256", typ: str | None = "at+jwt"
) -> str:
    payload = {name: value for name, value in {**PAYLOAD, **(changes or {})}.items() if value is not None}
    return jwt.encode(payload, secret, algorithm, headers={"typ": typ})


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def refused(signer: JWTSigner, forged: str, now: datetime = NOW) -> None:
    with pytest.raises(Unauthenticated) as caught:
        signer.verify(forged, now=now)
    assert type(caught.value) is Unauthenticated
    assert caught.value.detail == Unauthenticated.default_detail


def test_the_token_has_the_header_and_the_claims_of_an_access_token(signer: JWTSigner) -> None:
    signed = signer.sign(CLAIMS)
    assert jwt.get_unverified_header(signed) == {"alg": "HS256", "typ": "at+jwt"}
    payload = jwt.decode(signed, options={"verify_signature": False})
    assert payload.pop("jti")
    assert payload == {name: value for name, value in PAYLOAD.items() if name != "jti"}


def test_no_two_tokens_are_the_same(signer: JWTSigner) -> None:
    assert signer.sign(CLAIMS) != signer.sign(CLAIMS)


def test_a_token_with_exactly_these_claims_is_believed(signer: JWTSigner) -> None:
    assert signer.verify(token(), now=NOW) == CLAIMS


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_every_algorithm_takes_a_secret_of_32_characters(algorithm: str) -> None:
    signer = JWTSigner("s" * 32, algorithm=algorithm)
    signed = signer.sign(CLAIMS)
    assert jwt.get_unverified_header(signed)["alg"] == algorithm
    assert signer.verify(signed, now=NOW) == CLAIMS


def test_a_long_secret_counts_to_its_last_character() -> None:
    long = "s" * 200
    refused(JWTSigner(long), JWTSigner(long[:-1]).sign(CLAIMS))


@pytest.mark.parametrize("secret", [SECRET, "s" * 64, "s" * 200])
def test_the_key_is_the_secret_as_it_stands_so_that_others_can_verify_too(secret: str) -> None:
    signed = JWTSigner(secret, algorithm="HS256").sign(CLAIMS)
    assert jwt.PyJWS().decode(signed, secret, ["HS256"])


@pytest.mark.parametrize("algorithm", ["none", "RS256", "hs256", ""])
def test_another_algorithm_cannot_be_configured(algorithm: str) -> None:
    with pytest.raises(ValueError, match="HS256, HS384, HS512"):
        JWTSigner(SECRET, algorithm=algorithm)


def test_a_short_secret_is_refused_with_a_sentence_that_does_not_show_it() -> None:
    with pytest.raises(ValueError, match="at least 32 characters") as caught:
        JWTSigner("s" * 31)
    assert "sss" not in str(caught.value)


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "HS384", "RS256", "", None, ["HS256"], 1])
def test_the_token_does_not_choose_its_algorithm(signer: JWTSigner, alg: object) -> None:
    signature = token().rsplit(".", 1)[1]
    unsigned = f"{part({'alg': alg, 'typ': 'at+jwt'})}.{part(PAYLOAD)}."
    refused(signer, unsigned)
    refused(signer, unsigned + signature)


def test_another_algorithm_with_the_right_secret_is_refused(signer: JWTSigner) -> None:
    refused(signer, JWTSigner(SECRET, algorithm="HS512").sign(CLAIMS))


@pytest.mark.parametrize("typ", ["JWT", "refresh+jwt", "AT+JWT ", "", None])
def test_another_kind_of_token_is_refused(signer: JWTSigner, typ: str | None) -> None:
    refused(signer, token(typ=typ))


@pytest.mark.parametrize("header", [{"crit": ["b64"], "b64": False}, {"crit": ["exp"]}, {"kid": 1}])
def test_header_extensions_are_refused(signer: JWTSigner, header: dict[str, Any]) -> None:
    key = jwt.get_algorithm_by_name("HS256")
    body = f"{part({'alg': 'HS256', 'typ': 'at+jwt', **header})}.{part(PAYLOAD)}"
    signature = base64.urlsafe_b64encode(key.sign(body.encode(), SECRET.encode())).rstrip(b"=").decode()
    refused(signer, f"{body}.{signature}")


def test_another_secret_is_refused(signer: JWTSigner) -> None:
    refused(signer, token(secret="another secret of thirty-two bytes"))


@pytest.mark.parametrize(
    "changes",
    [
        *({name: None} for name in PAYLOAD),
        {"iss": "somebody else"},
        {"aud": "somebody else"},
        {"aud": ["chatcore", "somebody else"]},
        {"sub": "somebody"},
        {"sub": ""},
        {"sid": 1},
        {"jti": 1},
        {"exp": "1935630121"},
        {"exp": 1e30},
        {"exp": 10**30},
        {"exp": float(PAYLOAD["exp"])},
        {"iat": True},
        {"iat": -(10**30)},
        {"auth_time": "yesterday"},
    ],
)
def test_every_claim_is_required_and_has_its_form(signer: JWTSigner, changes: dict[str, Any]) -> None:
    refused(signer, token(changes))


def test_it_is_refused_from_the_second_on_in_which_it_expires(signer: JWTSigner) -> None:
    signed = signer.sign(CLAIMS)
    assert signer.verify(signed, now=CLAIMS.expires_at - timedelta(microseconds=1)) == CLAIMS
    refused(signer, signed, CLAIMS.expires_at)


def test_it_is_refused_if_it_was_issued_more_than_a_minute_ahead(signer: JWTSigner) -> None:
    signed = signer.sign(CLAIMS)
    assert signer.verify(signed, now=NOW - timedelta(seconds=60)) == CLAIMS
    refused(signer, signed, NOW - timedelta(seconds=61))


def test_a_changed_character_anywhere_is_noticed(signer: JWTSigner) -> None:
    signed = signer.sign(CLAIMS)
    for place, character in enumerate(signed):
        refused(signer, signed[:place] + ("A" if character != "A" else "B") + signed[place + 1 :])


@pytest.mark.parametrize(
    "garbage", ["", ".", "..", "...", "a.b.c", "Bearer x", "é.é.é", "\ud800", "\x00.\x00.\x00", "[]", f"{'[' * 4000}"]
)
def test_garbage_is_refused(signer: JWTSigner, garbage: str) -> None:
    refused(signer, garbage)


def test_a_header_of_endless_brackets_is_refused(signer: JWTSigner) -> None:
    nested = base64.urlsafe_b64encode(b"[" * 2900).rstrip(b"=").decode()
    refused(signer, f"{nested}.{part(PAYLOAD)}.AAAA"[:4096])


def test_a_token_that_is_too_long_is_not_even_decoded(signer: JWTSigner, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*_: object, **__: object) -> None:
        pytest.fail("it was decoded")

    monkeypatch.setattr(jwt, "decode_complete", decoded)
    refused(signer, "a" * 4097)


def test_issuer_and_audience_are_those_it_was_made_with() -> None:
    ours = JWTSigner(SECRET, issuer="ours", audience="our API")
    assert ours.verify(ours.sign(CLAIMS), now=NOW) == CLAIMS
    refused(JWTSigner(SECRET, issuer="ours", audience="their API"), ours.sign(CLAIMS))
    refused(JWTSigner(SECRET, issuer="theirs", audience="our API"), ours.sign(CLAIMS))
