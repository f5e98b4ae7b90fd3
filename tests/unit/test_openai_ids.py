"""The ids of OpenAI's objects."""

import pytest

from chatcore import ConversationId, MessageId
from chatcore_http.protocols.openai import ids

NAMES = [
    (ids.response_id, ids.reply_of_response),
    (ids.completion_id, ids.reply_of_completion),
    (ids.message_item_id, ids.message_of_item),
    (ids.reasoning_item_id, ids.reply_of_reasoning),
]


@pytest.mark.parametrize(("name", "parse"), NAMES)
def test_what_an_id_names(name: object, parse: object) -> None:
    assert callable(name)
    assert callable(parse)
    assert parse(name(ConversationId(5), MessageId(7))) == (5, 7)
    for wrong in ("", "5_7", "resp_5", "resp_5_7_", "resp_5_x", "resp_²_7", "chatcmpl-5_7\n", "msg_5_" + "1" * 19):
        assert parse(wrong) is None


def test_the_id_of_a_conversation() -> None:
    assert ids.conversation_of(ids.shown_conversation_id(ConversationId(5))) == 5
    for wrong in ("conv_", "conv_x", "5", "conv_5\n", "conv_" + "1" * 19, "conv_٣"):
        assert ids.conversation_of(wrong) is None
