"""The prompt: the part of a conversation that is sent to the model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from chatcore.entities import SPOKEN, Message, Role, without_thinking
from chatcore.ports import Prompt, PromptMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLimits:
    """The maximum number of messages, and of their code points, besides the system prompt."""

    max_messages: int = 100
    max_chars: int = 48_000

    @property
    def max_bytes(self) -> int:
        """Return the bytes in UTF-8 that may fit."""
        return 4 * self.max_chars


TITLE_REQUEST = (
    "Name the subject of the user's message in at most six words, in its language. Answer with nothing else."
)
_TITLE_FROM = 2000  # characters of the message


def build_title_prompt(content: str) -> Prompt:
    """Return a prompt for a short title of a conversation that begins with this message."""
    messages = (PromptMessage(Role.SYSTEM, TITLE_REQUEST), PromptMessage(Role.USER, content[:_TITLE_FROM]))
    return Prompt(messages=messages, max_tokens=32)


def build_prompt(history: Sequence[Message], *, system: str, limits: PromptLimits) -> tuple[PromptMessage, ...]:
    """Return the system prompt (unless empty) and the end of the conversation that fits, oldest first.

    `history` is oldest first and ends with the user's message, which is sent whatever its length. Failed, unfinished
    and empty replies are left out; no message is split; the prompt does not begin with an answer to a question that was
    cut off. A system message of the history keeps its place.

    Consecutive messages of one role become one: some models refuse conversations whose roles do not alternate, and an
    unanswered question would break them for ever.
    """
    kept = list(_newest_that_fit(history, limits))[::-1]
    if kept and kept[0].parent_id is not None:
        kept = list(_without_first_answers(kept))
    said = [(message.role, _content(message)) for message in kept]
    return tuple(_joined([(Role.SYSTEM, system), *said] if system else said))


def _joined(said: Sequence[tuple[Role, str]]) -> Iterator[PromptMessage]:
    for role, turn in groupby(said, key=itemgetter(0)):
        yield PromptMessage(role, "\n\n".join(content for _, content in turn))


def _content(message: Message) -> str:
    return without_thinking(message.content) if message.role is Role.ASSISTANT else message.content


def _without_first_answers(messages: Sequence[Message]) -> Iterator[Message]:
    asked = False
    for message in messages:
        asked = asked or message.role is Role.USER
        if asked or message.role is not Role.ASSISTANT:
            yield message


def _newest_that_fit(history: Sequence[Message], limits: PromptLimits) -> Iterator[Message]:
    count = chars = 0
    for message in reversed(history):
        if message.status not in SPOKEN or not _content(message):
            continue
        count += 1
        chars += len(message.content)
        if count > 1 and (count > limits.max_messages or chars > limits.max_chars):
            return
        yield message
