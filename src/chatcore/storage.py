"""What of a user's data counts against their quota, and how much.

A conversation has a flat price, its title within it; a message has one besides its texts, which count in UTF-8, the
sentence of a failure among them. What is asked for is refused where it would be too much; what a model has said is
stored, and counts, whatever it is.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from chatcore.entities import Message, UserId
from chatcore.texts import utf8_length

MAX_STORAGE_BYTES = 1024**3
CONVERSATION_BYTES = 1024
MESSAGE_BYTES = 256


def size_of(message: Message) -> int:
    """In bytes."""
    return MESSAGE_BYTES + text_size(message)


def text_size(message: Message) -> int:
    detail = message.error.detail if message.error else ""
    return sum(utf8_length(text) for text in (message.content, message.reasoning or "", detail))


@dataclass(frozen=True, slots=True)
class StorageChange:
    """`size` may be negative. `limited`: something in it was asked for."""

    owner: UserId
    size: int
    limited: bool


@dataclass(frozen=True, slots=True)
class StorageLedger:
    """By how much one unit of work changes what its owners have stored: settled with its commit, so that nothing is
    stored that was not counted."""

    _asked: Counter[UserId] = field(default_factory=Counter[UserId])
    _noted: Counter[UserId] = field(default_factory=Counter[UserId])

    def ask(self, owner: UserId, size: int) -> None:
        """Adds what may be too much."""
        self._asked[owner] += size

    def note(self, owner: UserId, size: int) -> None:
        """Adds what is stored in any case, or takes what is deleted."""
        self._noted[owner] += size

    def changes(self) -> Iterator[StorageChange]:
        for owner in sorted({*self._asked, *self._noted}):
            if size := self._asked[owner] + self._noted[owner]:
                yield StorageChange(owner, size, self._asked[owner] > 0)
