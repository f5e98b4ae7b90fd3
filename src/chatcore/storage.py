"""The sizes of a user's data, which count against the storage limit.

A conversation counts a flat size, its title included, and its metadata; a message counts a flat size, its texts in
UTF-8 (content, reasoning, the detail of an error, and its metadata), and the bytes of its images; a file counts a flat
size and its bytes. Metadata, and what a client's protocol asked for, count as JSON. Requests over the limit are
refused; a model's text is always stored, and counts.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from chatcore.entities import Conversation, File, Image, Message, OwnerId, Request
from chatcore.texts import utf8_length

MAX_STORAGE_BYTES = 1024**3
CONVERSATION_BYTES = 1024
MESSAGE_BYTES = 256
FILE_BYTES = 1024


def size_of(message: Message) -> int:
    """In bytes."""
    return MESSAGE_BYTES + text_size(message)


def text_size(message: Message) -> int:
    detail = message.error.detail if message.error else ""
    metadata = json_size(message.metadata) if message.metadata else 0
    return metadata + sum(map(utf8_length, (message.content, message.reasoning or "", detail)))


def json_size(value: Mapping[str, Any]) -> int:
    """Return the bytes of the JSON that is stored."""
    return utf8_length(json.dumps(dict(value), ensure_ascii=False))


def conversation_size(conversation: Conversation) -> int:
    return CONVERSATION_BYTES + (json_size(conversation.metadata) if conversation.metadata else 0)


def images_size(images: Iterable[Image]) -> int:
    return sum(len(image.data) for image in images)


def request_size(request: Request) -> int:
    return json_size(request.body)


def file_size(file: File) -> int:
    return FILE_BYTES + file.size


@dataclass(frozen=True, slots=True)
class StorageChange:
    """`size` may be negative. `limited`: a request caused part of it."""

    owner: OwnerId
    size: int
    limited: bool


@dataclass(frozen=True, slots=True)
class StorageLedger:
    """The change of its owners' storage by one unit of work, settled with its commit, so that all that is stored is
    counted."""

    _asked: Counter[OwnerId] = field(default_factory=Counter[OwnerId])
    _noted: Counter[OwnerId] = field(default_factory=Counter[OwnerId])

    def ask(self, owner: OwnerId, size: int) -> None:
        """Add what may be over the limit."""
        self._asked[owner] += size

    def note(self, owner: OwnerId, size: int) -> None:
        """Add what is always stored, or subtract what is deleted."""
        self._noted[owner] += size

    def changes(self) -> Iterator[StorageChange]:
        for owner in sorted({*self._asked, *self._noted}):
            if size := self._asked[owner] + self._noted[owner]:
                yield StorageChange(owner, size, self._asked[owner] > 0)
