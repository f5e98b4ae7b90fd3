"""Events as bytes: what a stream says many times a second is what the schema says."""

import msgspec
import pytest

from chatcore import ReplyDelta, Silence
from chatcore.entities import MessageId
from chatcore.ports import TextKind
from chatcore.wire import event_data, sse


@pytest.mark.parametrize("kind", TextKind)
@pytest.mark.parametrize(
    "text", ["word ", '"\\', "🐴🦄 \u2028\u2029\x85", "\r\n\r\ndata: no event\n\n", "\0\x1b\x7f", "%b%d{}"]
)
def test_a_delta_is_written_as_its_schema_says(kind: TextKind, text: str) -> None:
    event = ReplyDelta(MessageId(2**53), 12_345, kind, text)
    name, id_, data, *end = sse(event).split(b"\n")
    shown = event_data(event)
    assert name == b"event: " + shown["type"].encode()
    assert id_ == b"id: %d:12345" % 2**53
    assert data == b"data: " + msgspec.json.encode(shown)
    assert end == [b"", b""]


def test_silence_is_a_comment() -> None:
    assert sse(Silence(MessageId(1), 5)) == b": still there\n\n"
