"""The ids of OpenAI's objects: each has the numbers of what it names."""

import hashlib
import re
from typing import NamedTuple

from chatcore import ConversationId, MessageId

_ONE, _TWO = r"(\d{1,18})", r"(\d{1,18})_(\d{1,18})"


class ReplyName(NamedTuple):
    """A message and its conversation."""

    conversation_id: ConversationId
    message_id: MessageId


def response_id(conversation_id: ConversationId, reply_id: MessageId) -> str:
    return f"resp_{conversation_id}_{reply_id}"


def completion_id(conversation_id: ConversationId, reply_id: MessageId) -> str:
    return f"chatcmpl-{conversation_id}_{reply_id}"


def message_item_id(conversation_id: ConversationId, message_id: MessageId) -> str:
    return f"msg_{conversation_id}_{message_id}"


def reasoning_item_id(conversation_id: ConversationId, reply_id: MessageId) -> str:
    return f"rs_{conversation_id}_{reply_id}"


def shown_conversation_id(conversation_id: ConversationId) -> str:
    return f"conv_{conversation_id}"


def reply_of_response(name: str) -> ReplyName | None:
    """Return what `resp_…` names, or None for any other text."""
    return _pair("resp_", name)


def reply_of_completion(name: str) -> ReplyName | None:
    """Return what `chatcmpl-…` names, or None for any other text."""
    return _pair("chatcmpl-", name)


def message_of_item(name: str) -> ReplyName | None:
    """Return what `msg_…` names, or None for any other text."""
    return _pair("msg_", name)


def reply_of_reasoning(name: str) -> ReplyName | None:
    """Return what `rs_…` names, or None for any other text."""
    return _pair("rs_", name)


def conversation_of(name: str) -> ConversationId | None:
    """Return what `conv_…` names, or None for any other text."""
    found = re.fullmatch("conv_" + _ONE, name, re.ASCII)
    return found and ConversationId(int(found[1]))


def _pair(prefix: str, name: str) -> ReplyName | None:
    found = re.fullmatch(prefix + _TWO, name, re.ASCII)
    return found and ReplyName(ConversationId(int(found[1])), MessageId(int(found[2])))


def name_of_key(kind: str, idempotency_key: str | None) -> str | None:
    """Return the name of the conversation that a request with this key begins; None without one. A long key stands
    there by its hash: a name has at most 255 characters, as a key."""
    if idempotency_key is None or len(idempotency_key) > 255:
        return idempotency_key  # which is refused
    name = f"{kind} {idempotency_key}"
    return name if len(name) <= 255 else f"{kind} sha256:{hashlib.sha256(idempotency_key.encode()).hexdigest()}"
