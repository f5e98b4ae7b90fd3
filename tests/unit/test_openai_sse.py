"""Server-sent events are found in the bytes, wherever the network cut them."""

import pytest

from chatcore.errors import ModelProtocolError
from chatcore_openai.sse import EventSplitter, WholeBody

LIMIT = 1_000_000


def split(*pieces: bytes) -> list[bytes]:
    splitter = EventSplitter(LIMIT)
    return [event for piece in pieces for event in splitter.feed(piece)] + splitter.rest()


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"", []),
        (b"\n\n\n", []),
        (b"data: one\n\ndata: two\n\n", [b"one", b"two"]),
        (b"data: one\n\n\n\n\ndata: two\n\n", [b"one", b"two"]),
        (b"data: one\r\n\r\ndata: two\r\n\r\n", [b"one", b"two"]),
        (b"data: one\r\rdata: two\r\r", [b"one", b"two"]),
        (b"data: one\r\n\ndata: two\n\r\n\r", [b"one", b"two"]),
        (b"data:one\n\ndata:  two \n\n", [b"one", b" two "]),
        (b"data: one\ndata: two\ndata:\ndata\n\n", [b"one\ntwo\n\n"]),
        (b"\xef\xbb\xbfdata: one\n\n", [b"one"]),
        (b"\xef\xbb\xbf: hello\n\ndata: one\n\n", [b"one"]),
        (b"data: one\n\n\xef\xbb\xbfdata: two\n\n", [b"one"]),
        (b": comment\n\n:\n\ndata: one\n\n", [b"one"]),
        (b": comment\nevent: message\nid: 7\nretry: 5\ndata: one\n\n", [b"one"]),
        (b"database: no\ndat: no\n data: no\ndata: one\n\n", [b"one"]),
        (b"event: ping\n\ndata: one\n\n", [b"one"]),
        (b"data: one\n\ndata: two", [b"one", b"two"]),
        (b"data: one\n\ndata: two\n", [b"one", b"two"]),
        (b"data: one\n\ndata: two\r", [b"one", b"two"]),
        ("data: a\u2028b\u2029c\x85d\x0be\x0cf 🦄\n\n".encode(), ["a\u2028b\u2029c\x85d\x0be\x0cf 🦄".encode()]),
        (b"data: data: no event\n\n", [b"data: no event"]),
    ],
)
def test_every_cut_gives_the_same_events(stream: bytes, events: list[bytes]) -> None:
    assert split(stream) == events
    for cut in range(len(stream) + 1):
        assert split(stream[:cut], stream[cut:]) == events, cut
    assert split(*(stream[index : index + 1] for index in range(len(stream)))) == events


def test_an_event_is_given_as_soon_as_it_is_complete() -> None:
    splitter = EventSplitter(LIMIT)
    assert splitter.feed(b"data: one\n\ndata: tw") == [b"one"]
    assert splitter.feed(b"o\r\n\r") == [b"two"]
    assert splitter.feed(b"\ndata: three\n") == []
    assert splitter.feed(b"\n") == [b"three"]
    assert splitter.rest() == []


def test_a_thousand_events_at_once() -> None:
    assert EventSplitter(LIMIT).feed(b"data: x\n\n" * 1000) == [b"x"] * 1000


def test_an_event_without_end_is_refused() -> None:
    splitter = EventSplitter(1000)
    assert splitter.feed(b"data: " + b"x" * 994) == []
    with pytest.raises(ModelProtocolError):
        splitter.feed(b"x")


def test_a_whole_body_is_one_event() -> None:
    body = WholeBody(1000)
    assert body.feed(b'{"a": ') == body.feed(b"1}\n\n") == []
    assert body.rest() == [b'{"a": 1}\n\n']
    with pytest.raises(ModelProtocolError):
        body.feed(b"x" * 1000)
