"""The rules that a value must keep, at their bounds."""

import unicodedata
from dataclasses import asdict

import pytest

from chatcore import PasswordPolicy
from chatcore.bounds import EMAIL, MODEL, PROFILE, USERNAME, Password, Range, Text, check
from chatcore.entities import (
    MAX_NAME,
    MAX_PASSWORD,
    Profile,
    identity_key,
    key_hint,
    normal_model_url,
    normal_password,
    storable,
    title_from,
    title_of,
    without_thinking,
)
from chatcore.errors import FieldError, ValidationFailed
from chatcore_testing.normalising import MARKS

PASSWORD = Password(8, MAX_PASSWORD)
COMPOSED, DECOMPOSED = "é", "e\u0301"


def test_check_names_every_broken_rule() -> None:
    check(None, None)
    broken = [FieldError("a", "must be b"), FieldError("c", "must be d")]
    with pytest.raises(ValidationFailed) as raised:
        check(broken[0], None, broken[1])
    assert raised.value.errors == tuple(broken)
    assert raised.value.detail == "a: must be b; c: must be d"


# ---- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ada", "a" * 64, "漢字名", "🦄🦄🦄", "a.b-c_d", "O'Brien", "1';--"])
def test_a_username_is_3_to_64_characters(name: str) -> None:
    assert USERNAME.broken(name, "username") is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ab",
        "a" * 65,
        "a b c",
        " ada",
        "ada\n",
        "a\u00a0da",
        "a\u3000da",
        "a@da",
        "a\0da",
        "a\x7fda",
        "ad\ud800a",
        "ad\u200ba",
        "ad\u034fa",
        "ad\u115fa",
        "ad\u1160a",
        "ad\u17b4a",
        "ad\u180ba",
        "ad\u2800a",
        "ad\u3164a",
        "\u3164\u3164\u3164",
        "ad\ufe0fa",
        "ad\uffa0a",
        "ad\U000e0100a",
        "a＠da",
    ],
)
def test_a_username_is_refused(name: str) -> None:
    assert USERNAME.broken(name, "username") == FieldError(
        "username", "must be 3 to 64 visible characters without spaces or '@'"
    )


def test_the_bounds_of_a_username_hold_for_its_key_too() -> None:
    assert len(identity_key("İ" * 64)) == 128
    assert USERNAME.broken("İ" * 32, "username") is None
    assert USERNAME.broken("İ" * 33, "username") is not None
    assert len(identity_key("e\u0301" * 2)) == 2
    assert USERNAME.broken("e\u0301" * 2, "username") is not None


@pytest.mark.parametrize(
    "email", ["a@b.de", "Ada.Lovelace+x@sub.example.org", "ä@bücher.example", "a" * 64 + "@" + "b" * 185 + ".com"]
)
def test_an_email_address_has_a_local_part_and_a_domain(email: str) -> None:
    assert EMAIL.broken(email, "email") is None


@pytest.mark.parametrize(
    "email",
    [
        "",
        "ada",
        "@b.de",
        "a@b",
        "a@.de",
        "a@b.d",
        "a@b.de.",
        "a@b@c.de",
        "a b@c.de",
        "a@b.de\n",
        "a\0@b.de",
        "\ud800@b.de",
        "a" * 65 + "@b.de",
        "a" * 64 + "@" + "b" * 186 + ".com",
        "İ" * 60 + "@" + "İ" * 100 + ".com",
    ],
)
def test_an_email_address_is_refused(email: str) -> None:
    assert EMAIL.broken(email, "email") == FieldError("email", "must be an e-mail address of at most 254 characters")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ada", "aDA"),
        ("straße", "STRASSE"),
        ("ẞ", "ss"),
        ("ｇｒａｃｅ", "grace"),
        ("ﬁn", "FIN"),
        ("K", "k"),  # the Kelvin sign
        ("ΣΑΣ", "σας"),
        ("ren" + COMPOSED, "REN" + DECOMPOSED.upper()),
        ("İpek", "i\u0307pek"),
        ("Istanbul", "istanbul"),
    ],
)
def test_the_same_name(one: str, other: str) -> None:
    assert identity_key(one) == identity_key(other)


@pytest.mark.parametrize(
    ("one", "other"), [("ıda", "ida"), ("İda", "ida"), ("resume", "résumé"), ("ада", "aдa"), ("🦄", "🐴"), ("a1", "a2")]
)
def test_another_name(one: str, other: str) -> None:
    assert identity_key(one) != identity_key(other)


def test_what_is_longer_than_a_name_or_a_password_may_be_is_not_normalised(normalised: list[int]) -> None:
    for bound in (USERNAME, EMAIL):
        assert bound.broken(MARKS, "name") is not None
        assert bound.broken("a" + MARKS[:200] + "@example.org" + MARKS, "name") is not None
    assert PASSWORD.broken(MARKS, "password") is not None
    assert PasswordPolicy(blocked={"password"}).rule(MARKS) is not None
    assert identity_key(MARKS) == identity_key("x" * (MAX_NAME + 1))
    assert normal_password(MARKS) == normal_password("x" * (2 * MAX_PASSWORD + 1))
    assert max(normalised, default=0) <= 2 * MAX_PASSWORD


def test_nobody_has_what_is_too_long() -> None:
    assert USERNAME.broken(identity_key(MARKS), "username") is not None
    assert EMAIL.broken(identity_key(MARKS), "email") is not None
    assert Password(1, MAX_PASSWORD).broken(normal_password(MARKS), "password") is not None


def test_the_key_of_a_key_is_the_key() -> None:
    for code in range(0x3000):
        key = identity_key("x" + chr(code))
        assert identity_key(key) == key, hex(code)


# ---- passwords -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "password", ["12345678", " " * 8, "🦄" * 8, "pass\0word", "a" * 1024, COMPOSED * 8, DECOMPOSED * 1024]
)
def test_a_password_is_anything_of_8_to_1024_characters(password: str) -> None:
    assert PASSWORD.broken(password, "password") is None


@pytest.mark.parametrize("password", ["", "1234567", "a" * 1025, DECOMPOSED * 7, "1234567\ud800"])
def test_a_password_is_refused(password: str) -> None:
    assert PASSWORD.broken(password, "password") == FieldError("password", "must be 8 to 1024 characters")


def test_the_minimum_of_a_password_can_be_chosen() -> None:
    assert Password(15, MAX_PASSWORD).broken("a" * 14, "new") == FieldError("new", "must be 15 to 1024 characters")
    assert Password(15, MAX_PASSWORD).broken("a" * 15, "new") is None


def test_a_password_is_the_same_on_every_keyboard() -> None:
    assert normal_password(DECOMPOSED) == normal_password(COMPOSED) == COMPOSED
    assert normal_password("ﬁ K") == unicodedata.normalize("NFC", "ﬁ K") != identity_key("ﬁ K")


# ---- text and numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "minimum", "message"),
    [
        ("", 0, None),
        ("", 1, "must not be empty"),
        (" \n\t\u3000", 1, "must not be empty"),
        (" \n\t", 0, None),
        ("🦄" * 10, 1, None),
        ("🦄" * 11, 1, "must be at most 10 characters"),
        ("\ud800" * 11, 1, "must be at most 10 characters"),
        (" " * 11, 1, "must be at most 10 characters"),
        ("a\r\nb\x01", 1, None),
        ("a\0b", 1, "must not contain NUL or unpaired surrogates"),
        ("a\udfff", 0, "must not contain NUL or unpaired surrogates"),
    ],
)
def test_text(text: str, minimum: int, message: str | None) -> None:
    expected = FieldError("field", message) if message else None
    assert Text(minimum, 10).broken(text, "field") == expected


def test_each_part_of_a_profile_is_optional_and_at_most_200_characters() -> None:
    assert list(PROFILE.broken(**asdict(Profile()))) == [None] * len(PROFILE)
    assert list(PROFILE.broken(**asdict(Profile(job="x" * 200, phone="")))) == [None] * len(PROFILE)
    broken = [each.field for each in PROFILE.broken(**asdict(Profile(country="x" * 201, job="\0"))) if each]
    assert broken == ["country", "job"]


@pytest.mark.parametrize(
    ("value", "fine"), [(0, True), (2, True), (1.5, True), (-0.01, False), (2.01, False), (3, False)]
)
def test_a_number_lies_within_its_bounds(value: float, fine: bool) -> None:
    assert (Range(0, 2).broken(value, "field") is None) is fine


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_lies_within_no_bounds(value: float) -> None:
    assert Range(0, 2).broken(value, "field") == FieldError("field", "must be between 0 and 2")


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("", ""),
        ("🦄\r\n\x01", "🦄\r\n\x01"),
        ("a\0b", "a\ufffdb"),
        ("\ud83e\udd84", "\ufffd\ufffd"),
        ("\udfff", "\ufffd"),
    ],
)
def test_foreign_text_is_made_fit_to_store_one_for_one(text: str, stored: str) -> None:
    assert storable(text) == stored
    assert len(storable(text)) == len(text)


# ---- titles and keys -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("Hello", "Hello"),
        ("x" * 50, "x" * 50),
        ("x" * 51, "x" * 50),
        ("🦄" * 51, "🦄" * 50),
        ("  one\r\n\ttwo   three ", "one two three"),
        ("x" * 100_000, "x" * 50),
        (" \n" * 5_000 + "late", "late"),
        (" " * 300 + "x" * 51, "x" * 50),
    ],
)
def test_a_title_is_the_first_50_characters_on_one_line(content: str, title: str) -> None:
    assert title_from(content) == title


def test_a_title_is_made_of_the_beginning_alone() -> None:
    assert title_from(" " * 10_000 + "Why?" + " " * 10_000 + "Because.") == "Why?"
    assert title_of("\n" * 10_000 + '"Why?"' + "\n" * 10_000 + "Because.") == "Why?"


@pytest.mark.parametrize(
    ("key", "hint"), [("", ""), ("12345678901", ""), ("123456789012", "9012"), ("sk-" + "x" * 100 + "abcd", "abcd")]
)
def test_a_key_is_known_by_its_last_four_characters(key: str, hint: str) -> None:
    assert key_hint(key) == hint


# ---- model URLs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1",
        "http://localhost:11434/v1",
        "http://127.0.0.1",
        "http://[::1]:8080/v1/",
        "HTTPS://EXAMPLE.ORG",
        "https://example.org:65535/a/b%20c",
        "https://example.org/" + "x" * (2048 - 20),
    ],
)
def test_a_model_url(url: str) -> None:
    assert MODEL["model_url"].broken(url, "model_url") is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.openai.com/v1",
        "/v1",
        "//example.org",
        "https://",
        "https:///v1",
        "https:example.org",
        "ftp://example.org",
        "file:///etc/passwd",
        "demo:",
        "javascript://example.org",
        "https://user@example.org",
        "https://user:secret@example.org/v1",
        "https://@example.org",
        "https://example.org/v1#x",
        "https://example.org/v1#",
        "https://example.org:0",
        "https://example.org:65536",
        "https://example.org:x",
        "https://[::1",
        "https://[::zz]",
        "https://exa mple.org",
        " https://example.org",
        "https://example.org\n",
        "https://example.org\t/",
        "https://example.org\0",
        "https:\\\\example.org",
        "https://example.org\\@evil.test",
        "https://bücher.example",
        "https://example。org",
        "https://ⓔxample.org",
        "https://example.org/" + "x" * (2049 - 20),
    ],
)
def test_a_model_url_is_refused(url: str) -> None:
    assert MODEL["model_url"].broken(url, "model_url") == FieldError(
        "model_url", "must be an http(s) URL such as https://api.openai.com/v1"
    )


@pytest.mark.parametrize(
    "query", ["", "key=secret", "api-version=", "api-version=1&key=secret", "api-version=%31", "?"]
)
def test_a_query_is_refused_with_a_hint(query: str) -> None:
    error = MODEL["model_url"].broken(f"https://example.org/v1?{query}", "model_url")
    assert error is not None
    assert (error.field, "api-version" in error.message) == ("model_url", True)


def test_azures_query_is_none_that_is_refused() -> None:
    assert (
        MODEL["model_url"].broken(
            "https://x.openai.azure.com/openai/deployments/gpt?api-version=2024-10-21", "model_url"
        )
        is None
    )


@pytest.mark.parametrize(
    ("pasted", "url"),
    [
        ("https://example.org/v1", "https://example.org/v1"),
        (" https://example.org/v1 \n", "https://example.org/v1"),
        ("https://example.org/v1/chat/completions", "https://example.org/v1"),
        ("https://example.org/v1/chat/completions/", "https://example.org/v1"),
        ("https://example.org/v1//chat/completions", "https://example.org/v1"),
        ("https://example.org/v1/models", "https://example.org/v1"),
        ("https://example.org/v1/responses", "https://example.org/v1"),
        ("https://example.org/chat/completions?", "https://example.org"),
        ("https://example.org/chat", "https://example.org/chat"),
        ("https://example.org/mychat/completions", "https://example.org/mychat"),
        (
            "https://x.azure.com/openai/deployments/gpt/chat/completions?api-version=2024-10-21",
            "https://x.azure.com/openai/deployments/gpt?api-version=2024-10-21",
        ),
        ("https://example.org/v1?x=/chat/completions", "https://example.org/v1?x=/chat/completions"),
        (" " * 5000, " " * 5000),
        ("", ""),
    ],
)
def test_a_pasted_url_is_the_base_of_all_paths(pasted: str, url: str) -> None:
    assert normal_model_url(pasted) == url


@pytest.mark.parametrize("name", ["gpt-4o-mini", "qwen3:8b", "org/model name", "模型", "x" * 200])
def test_a_model_name(name: str) -> None:
    assert MODEL["model_name"].broken(name, "model_name") is None


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "gpt\n4", "gpt\t4", "gpt\u202e4", "gpt\u2028", "a\0"])
def test_a_model_name_is_refused(name: str) -> None:
    error = MODEL["model_name"].broken(name, "model_name")
    assert error is not None
    assert error.field == "model_name"


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("Hello", "Hello"),
        ("<think>Hm</think>\n\nHello", "Hello"),
        (" <think>Hm", ""),
        ("Hm</think>Hello", "Hello"),
        ("It writes <think> and </think>.", "It writes <think> and </think>."),
        ("It ends with `</think>`.", "It ends with `</think>`."),
    ],
)
def test_an_answer_without_the_reasoning_that_it_begins_with(said: str, answer: str) -> None:
    assert without_thinking(said) == answer
