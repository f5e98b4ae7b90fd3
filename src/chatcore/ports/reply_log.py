"""What replies in progress have said so far."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from chatcore.entities import MessageId, OwnerId


class TextKind(StrEnum):
    REASONING = "reasoning"
    ANSWER = "answer"


@dataclass(slots=True)  # and not frozen, which makes it three times as dear to make: there are thousands a second
class LogEntry:
    """Some text of a reply that is being written. `start`: how many code points of the reply precede it. `cuts`: the
    lengths of the pieces that end in it, each 1 to 10,000 code points; the last may go on in the next entry."""

    user_id: OwnerId
    reply_id: MessageId
    start: int
    kind: TextKind
    text: str
    cuts: Sequence[int] = ()

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class LogCursor:
    """How many code points of a reply somebody has."""

    user_id: OwnerId
    reply_id: MessageId
    offset: int


class ReplyLog(Protocol):
    """What replies being written have said so far, as rows that may be cut and merged at will."""

    @abstractmethod
    async def append(self, entries: Sequence[LogEntry]) -> None:
        """Store all of them in one statement. An entry at an offset that is stored already takes its place: the answer
        to an earlier commit may have been lost."""

    @abstractmethod
    async def read(self, owner: OwnerId, reply_id: MessageId) -> Sequence[LogEntry]:
        """By offset, without gaps, from 0; empty if nothing has reached the log."""

    @abstractmethod
    async def since(self, cursors: Sequence[LogCursor], *, within: int) -> Sequence[LogEntry]:
        """The entries that begin at each reply's offset or after it, by less than `within` code points, by reply and
        offset: one query for them all."""

    @abstractmethod
    async def delete(self, owner: OwnerId, reply_id: MessageId) -> None: ...
