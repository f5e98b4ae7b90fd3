"""The prompt: the part of a conversation that is sent to the model."""

from asyncio import sleep
from binascii import b2a_base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType

from chatcore.entities import SPOKEN, Image, Message, MessageId, Role, without_thinking
from chatcore.ports import ImagePart, Part, Prompt, PromptMessage, TextPart


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLimits:
    """The maximum number of messages, of their code points, and of the bytes of their images, besides the system
    prompt."""

    max_messages: int = 100
    max_chars: int = 48_000
    max_image_bytes: int = 20 * 1024 * 1024

    @property
    def max_bytes(self) -> int:
        """Return the bytes in UTF-8 that may fit."""
        return 4 * self.max_chars


NO_IMAGES: Mapping[MessageId, Sequence[ImagePart]] = MappingProxyType({})
LEFT_OUT = "[image]"
"""In the place of an image for which a prompt has no room."""

TITLE_REQUEST = (
    "Name the subject of the user's message in at most six words, in its language. Answer with nothing else."
)
_SLICE = 768 * 1024  # bytes that are encoded at once, a multiple of 3
_TITLE_FROM = 2000  # characters of the message


def build_title_prompt(content: str) -> Prompt:
    """Return a prompt for a short title of a conversation that begins with this message."""
    messages = (PromptMessage(Role.SYSTEM, TITLE_REQUEST), PromptMessage(Role.USER, content[:_TITLE_FROM]))
    return Prompt(messages=messages, max_tokens=32)


async def image_parts(images: Iterable[Image]) -> Sequence[ImagePart]:
    """Return images as data URLs. Other tasks have their turn meanwhile."""
    return [ImagePart(await _data_url(image), image.detail) for image in images]


async def _data_url(image: Image) -> str:
    parts = [f"data:{image.media_type};base64,"]
    for start in range(0, len(image.data), _SLICE):
        parts.append(b2a_base64(image.data[start : start + _SLICE], newline=False).decode())
        await sleep(0)
    return "".join(parts)


def build_prompt(
    history: Sequence[Message],
    *,
    system: str,
    limits: PromptLimits,
    images: Mapping[MessageId, Sequence[ImagePart]] = NO_IMAGES,
) -> tuple[PromptMessage, ...]:
    """Return the system prompt (unless empty) and the end of the conversation that fits, oldest first.

    `history` is oldest first and ends with the user's message, which is sent whatever its length. Failed, unfinished
    and empty replies are left out; no message is split; the prompt does not begin with an answer to a question that was
    cut off. A system message of the history keeps its place. `images`: those of messages that fit; the other images are
    mentioned.

    Consecutive messages of one role become one: some models refuse conversations whose roles do not alternate, and an
    unanswered question would break them for ever.
    """
    kept = list(_newest_that_fit(history, limits))[::-1]
    if kept and kept[0].parent_id is not None:
        kept = list(_without_first_answers(kept))
    said = [(message.role, [*_parts(message, images.get(message.id, ()))]) for message in kept]
    return tuple(_joined([(Role.SYSTEM, [TextPart(system)]), *said] if system else said))


def _joined(said: Sequence[tuple[Role, Sequence[Part]]]) -> Iterator[PromptMessage]:
    for role, turn in groupby(said, key=itemgetter(0)):
        parts = [part for _, said_then in turn for part in said_then]
        texts = [part.text for part in parts if isinstance(part, TextPart)]
        yield PromptMessage(role, "\n\n".join(texts) if len(texts) == len(parts) else parts)


def _parts(message: Message, images: Sequence[ImagePart]) -> Iterator[Part]:
    missing = [LEFT_OUT] * (message.images - len(images))
    if text := "\n".join(filter(None, (_content(message), *missing))):
        yield TextPart(text)
    yield from images


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
        if message.status not in SPOKEN or not (_content(message) or message.images):
            continue
        count += 1
        chars += len(message.content)
        if count > 1 and (count > limits.max_messages or chars > limits.max_chars):
            return
        yield message
