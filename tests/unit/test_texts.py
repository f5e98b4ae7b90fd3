"""Long texts within bounds."""

import time

import pytest

from chatcore.texts import EXCERPT, Needle, excerpt_of, fitting, utf8_length

LONG = 200_000

SLOW = {
    "an end that differs": "a" * 199 + "b",
    "a beginning that differs": "b" + "a" * 199,
    "a middle that differs": "a" * 100 + "b" + "a" * 99,
    "an end but one that differs": "a" * 198 + "ba",
}


@pytest.mark.parametrize("q", SLOW.values(), ids=SLOW)
@pytest.mark.parametrize("length", [2000, 25_000, LONG])
def test_what_is_looked_for_makes_no_difference_to_how_long_it_takes(q: str, length: int) -> None:
    """12 MB, for which a database's LIKE takes minutes."""
    needle, text = Needle(q), "a" * length
    begun = time.process_time()
    assert [needle.place_in(text) for _ in range(60 * LONG // length)] == [None] * (60 * LONG // length)
    assert time.process_time() - begun < 3


@pytest.mark.parametrize(
    ("text", "q", "place"),
    [
        ("unicorn", "UNI", 0),
        ("a Unicorn", "unicorn", 2),
        ("", "x", None),
        ("x", "xx", None),
        ("Straße", "SSE", 4),
        ("ßßßx", "X", 3),
        ("İx", "x", 1),
        ("a.c", "a.", 0),
        ("abc", "a.", None),
        ("\n\n🦄", "🦄", 2),
    ],
)
def test_a_text_is_found_as_it_stands_in_capitals_or_not(text: str, q: str, place: int | None) -> None:
    assert Needle(q).place_in(text) == place


@pytest.mark.parametrize("place", [0, 65_530, 65_535, 65_536, 65_537, 131_071, 150_000])
@pytest.mark.parametrize("filler", ["x", "ß", "🦄"])
def test_it_is_found_wherever_in_a_long_text_it_stands(place: int, filler: str) -> None:
    text = filler * place + "Needle" + filler * 1000
    assert Needle("nEEDLE").place_in(text) == place


@pytest.mark.parametrize("place", [0, 5, 100, 994])
def test_an_excerpt_shows_the_place(place: int) -> None:
    text = "x" * place + "needle" + "x" * (994 - place)
    excerpt = excerpt_of(text, place)
    assert len(excerpt.text) == EXCERPT
    assert text[excerpt.start : excerpt.start + EXCERPT] == excerpt.text
    assert excerpt.text[excerpt.hit :].startswith("needle")


def test_a_short_text_is_its_own_excerpt() -> None:
    assert excerpt_of("a needle", 2).text == "a needle"


@pytest.mark.parametrize(
    ("sizes", "bound", "kept"),
    [([], 5, []), ([9], 5, [9]), ([2, 3, 1], 5, [2, 3]), ([2, 4, 1], 5, [2]), ([9, 0, 1], 9, [9, 0]), ([0, 9], 5, [0])],
)
def test_what_fits_are_the_first_but_at_least_one(sizes: list[int], bound: int, kept: list[int]) -> None:
    assert [*fitting(sizes, bound, lambda size: size)] == kept


@pytest.mark.parametrize("text", ["", "ascii", "é漢🦄", "\ud800"])
def test_a_length_in_bytes(text: str) -> None:
    assert utf8_length(text) == len(text.encode(errors="surrogatepass"))
