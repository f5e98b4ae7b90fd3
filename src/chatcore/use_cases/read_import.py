"""Reading a conversation from an export, within bounds of memory."""

from asyncio import to_thread
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from tempfile import TemporaryFile
from typing import IO, cast

from chatcore.bounds import IMAGES, Bounds, Range, Text
from chatcore.entities import (
    MAX_TITLE,
    Conversation,
    Image,
    Message,
    MessageId,
    Role,
    Status,
)
from chatcore.errors import FieldError

MAX_MESSAGES = 10_000
"""Messages of an imported conversation, which one transaction stores."""
MAX_BYTES = 16 * 1024 * 1024
"""Text of an imported conversation in UTF-8, which is in memory until it is stored."""
MAX_MESSAGE_BYTES = 7 * 1024 * 1024
"""Text of a message in UTF-8, as much as a reply can have."""
MAX_IMAGE_BYTES = 256 * 1024 * 1024
"""Images of an imported conversation, which are in a file until they are stored."""

_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class OwnConversation:
    """A conversation, and the last message of its active branch, None without messages. `left_out`: parts of another
    product's that are not imported, and how often. `children`: the ids of the messages that follow each message, or
    None, in order; empty unless requested."""

    conversation: Conversation
    current: MessageId | None
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    children: Mapping[MessageId | None, Sequence[MessageId]] = field(
        default_factory=dict[MessageId | None, Sequence[MessageId]]
    )


@dataclass(frozen=True, slots=True)
class OwnImage:
    """An image of a message. Images are numbered from 0."""

    message_id: MessageId
    number: int
    image: Image


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a conversation was not stored, with its title and line as far as known."""

    line: int | None
    reason: str
    title: str | None = None


class ReadConversation:
    """A conversation as far as it is read, up to the first refused line. Texts are held in UTF-8: one emoji makes a
    Python string four times as large."""

    def __init__(self, line: int | None, own: OwnConversation | None) -> None:
        self.line = line
        self.own = own
        self._held = list[_Held]()
        self.refusal: Refusal | None = None
        self._parents = dict[MessageId, MessageId | None]()
        self._images = _HeldImages()
        self.size: int = len((own.conversation.title if own else "").encode(errors="replace"))

    def check_conversation(self) -> None:
        assert self.own is not None  # noqa: S101 - it is what was read
        self._refuse_broken(self.line, _conversation_rules(self.own.conversation))

    async def add(self, line: int | None, part: Message | OwnImage) -> None:
        if self.refusal is not None:
            return
        self._refuse_broken(line, [*self._rules(part)])
        if self.refusal is None:
            if isinstance(part, OwnImage):
                await self._images.add(part)
            else:
                self._hold(line, _Held.of(part))

    async def images_of(self, message_id: MessageId) -> Sequence[Image]:
        return await self._images.of(message_id)

    def close(self) -> None:
        """Delete the file of images."""
        self._images.close()

    def _hold(self, line: int | None, held: "_Held") -> None:
        self.size += held.size
        if held.size > MAX_MESSAGE_BYTES:
            self.refuse(line, f"content: must be, with the reasoning, at most {MAX_MESSAGE_BYTES} bytes")
        if len(self._held) == MAX_MESSAGES or self.size > MAX_BYTES:
            self.refuse(line, f"a conversation has at most {MAX_MESSAGES} messages with {MAX_BYTES} bytes")
        self._parents[held.message.id] = held.message.parent_id
        self._held.append(held)

    @property
    def count(self) -> int:
        return len(self._held)

    @property
    def used_at(self) -> datetime:
        """Return the time of the last message, or the conversation's own if that is later."""
        assert self.own is not None  # noqa: S101 - only what belongs to a conversation is stored
        return max([self.own.conversation.updated_at, *(held.message.created_at for held in self._held)])

    @property
    def left_out(self) -> Mapping[str, int]:
        """Return what is not stored, such as images of which an export has no more than the number."""
        assert self.own is not None  # noqa: S101 - only what belongs to a conversation is stored
        images = sum(max(held.message.images, self._images.sent[held.message.id]) for held in self._held)
        images -= self._images.count
        return {**self.own.left_out, "image": images} if images else self.own.left_out

    def messages(self) -> Iterator[Message]:
        return (held.unpacked() for held in self._held)

    def refuse(self, line: int | None, why: str) -> None:
        if self.refusal is None:
            title = None if self.own is None else self.own.conversation.title[:MAX_TITLE]
            self.refusal = Refusal(line, why, title)
            self._held.clear()

    def active(self) -> Set[MessageId]:
        """Return the path from the branch's last message, or else from the newest one, to the top."""
        assert self.own is not None  # noqa: S101 - only what belongs to a conversation is stored
        found, at = set[MessageId](), self.own.current
        if at not in self._parents:
            at = self._held[-1].message.id if self._held else None
        while at is not None:
            found.add(at)
            at = self._parents[at]
        return found

    def _refuse_broken(self, line: int | None, rules: Sequence[FieldError | None]) -> None:
        if broken := [f"{error.field}: {error.message}" for error in rules if error is not None]:
            self.refuse(line, "; ".join(broken))

    def _rules(self, part: Message | OwnImage) -> Iterator[FieldError | None]:
        if isinstance(part, OwnImage):
            yield from self._image_rules(part)
        else:
            yield from self._place_rules(part)
            yield from _message_rules(part)

    def _place_rules(self, message: Message) -> Iterator[FieldError | None]:
        if self.own is None or message.conversation_id != self.own.conversation.id:
            yield FieldError("conversation_id", "is not that of the conversation before it")
        if message.id in self._parents:
            yield FieldError("id", "is that of a message before it")
        if message.parent_id is not None and message.parent_id not in self._parents:
            yield FieldError("parent_id", "is of no message before it in this conversation")

    def _image_rules(self, own: OwnImage) -> Iterator[FieldError | None]:
        if own.message_id not in self._parents:
            yield FieldError("message_id", "is of no message before it in this conversation")
        if self._images.sent[own.message_id] == IMAGES.most:
            yield FieldError("message_id", f"is that of {IMAGES.most} images before it")
        yield IMAGES.broken([own.image], "image")


@dataclass(frozen=True, slots=True)
class _Held:
    """A message whose texts are held beside it."""

    message: Message
    content: bytes
    reasoning: bytes | None

    @classmethod
    def of(cls, message: Message) -> "_Held":
        reasoning = None if message.reasoning is None else message.reasoning.encode()
        return cls(replace(message, content="", reasoning=None), message.content.encode(), reasoning)

    @property
    def size(self) -> int:
        detail = self.message.error.detail if self.message.error else ""
        return len(self.content) + len(self.reasoning or b"") + 4 * len(detail)  # as many as Python may need

    def unpacked(self) -> Message:
        reasoning = None if self.reasoning is None else self.reasoning.decode()
        return replace(self.message, content=self.content.decode(), reasoning=reasoning, images=0)


class _HeldImages:
    """The images of a conversation, in a file without a name. What does not fit is counted."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._size = 0
        self._places = defaultdict[MessageId, list[tuple[Image, int, int]]](list)
        self.sent = Counter[MessageId]()

    @property
    def count(self) -> int:
        """Return how many fit."""
        return sum(map(len, self._places.values()))

    async def add(self, own: OwnImage) -> None:
        self.sent[own.message_id] += 1
        size = len(own.image.data)
        if self._size + size <= MAX_IMAGE_BYTES:
            self._file = self._file or cast("IO[bytes]", await to_thread(TemporaryFile))
            await to_thread(self._file.write, own.image.data)
            self._places[own.message_id].append((replace(own.image, data=b""), self._size, size))
            self._size += size

    async def of(self, message_id: MessageId) -> Sequence[Image]:
        return [await to_thread(self._read, *place) for place in self._places.get(message_id, ())]

    def _read(self, image: Image, start: int, size: int) -> Image:
        assert self._file is not None  # noqa: S101 - it has a place there
        self._file.seek(start)
        return replace(image, data=self._file.read(size))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


_CONVERSATION = Bounds(title=Text(0, MAX_TITLE))
_MESSAGE = Bounds(content=Text(0, MAX_MESSAGE_BYTES), reasoning=Text(0, MAX_MESSAGE_BYTES), model=Text(0, 200))
_TOKENS = Range(0, 2**31 - 1)
_IMAGES = Range(0, IMAGES.most)
_CODE, _DETAIL = Text(1, 64), Text(0, 2000)


def _conversation_rules(conversation: Conversation) -> Sequence[FieldError | None]:
    return (
        *_CONVERSATION.broken(title=conversation.title),
        _time_rule(conversation.created_at, "created_at"),
        _time_rule(conversation.updated_at, "updated_at"),
    )


def _message_rules(message: Message) -> Iterator[FieldError | None]:
    yield from _MESSAGE.broken(content=message.content, reasoning=message.reasoning, model=message.model)
    yield _time_rule(message.created_at, "created_at")
    yield _IMAGES.broken(message.images, "images")
    for name, tokens in asdict(message.usage).items() if message.usage else ():
        yield _TOKENS.broken(tokens, f"usage.{name}")
    if message.error is not None:
        yield _CODE.broken(message.error.code, "error.code")
        yield _DETAIL.broken(message.error.detail, "error.detail")
    if message.finish_reason is not None and message.role is not Role.ASSISTANT:
        yield FieldError("finish_reason", "is what an assistant's message may have, and no other")
    if (message.status is Status.FAILED) != (message.error is not None):
        yield FieldError("error", "is what a failed reply has, and no other message")
    if message.role is not Role.ASSISTANT and message.status is not Status.COMPLETE:
        yield FieldError("status", "must be complete, but of an assistant's message")


def _time_rule(time: datetime, name: str) -> FieldError | None:
    return None if _EARLIEST <= time < _LATEST else FieldError(name, "must lie between the years 1970 and 3000")
