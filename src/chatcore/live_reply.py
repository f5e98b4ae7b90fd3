"""A reply in the making, as its process holds it: one text, and the alarm of those who wait for more of it."""

import asyncio
from array import array
from bisect import bisect_right
from collections.abc import Awaitable, Iterator, Sequence
from itertools import accumulate, islice
from math import inf
from operator import sub

from chatcore.entities import FinishReason, Message, Status, Usage, WorkerId
from chatcore.ports import Delta, LogEntry, TextKind, Turn

MAX_PIECE = 10_000
"""Code points that a reader gets at once: never more than 64 KiB, even as JSON that escapes each of them."""

_MANY, _SHORT = 50_000, 100  # of so many pieces and more, none has less code points

_ENTRY = 16 * 1024  # code points in a row of the log
_MERGE = 64  # so many small pieces of text become one, so that a long reply stays small: each takes 100 bytes


class LiveReply:
    """Readers hold nothing but an offset into this text, so a slow one neither costs memory nor slows the writer."""

    def __init__(self, reply: Message, worker_id: WorkerId | None = None, turn: Turn | None = None) -> None:
        """`worker_id`: the worker in whose name it is written here. `turn`: on whose behalf, if that is known here."""
        self.reply = reply
        self.worker_id = worker_id
        self.turn = turn
        self.lost = False  # that worker was taken for dead: others end the reply
        self.refused = False  # the database takes no more of its text
        self.length: int = 0  # code points
        self.logged: int = 0  # so many of them are in the log: no end of the reply has less
        self.asked = 0  # bytes of text in its prompt
        self.usage: Usage | None = None
        self.finish_reason: FinishReason | None = None
        self.title: str | None = None  # what the conversation has been titled meanwhile
        self.writer: asyncio.Task[None] | None = None  # while it listens to the model
        self.verdict: Status | None = None  # what it was cut short with
        self.ending = False
        self.ended: Message | None = None
        self.ends: array[int] = array("I")  # where its numbered pieces end
        self._pieces: list[str] = []
        self._starts: list[int] = []
        self._answer = 0  # index of the first piece that belongs to the answer
        self._merged = 0  # pieces before this index have been merged
        self._loop: asyncio.AbstractEventLoop | None = None  # of those who wait
        self._waiting: dict[asyncio.Future[bool], float] = {}  # and the loop's time at which each has waited enough
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = inf  # the earliest of these times, or before it

    def add(self, delta: Delta, *, wake: bool = True) -> None:
        """Reasoning that comes after the answer has begun is dropped: the cursor counts it before the answer.

        `wake`: whether readers may have it at once."""
        self._grow(delta)
        self._cut()
        if delta.usage is not None:
            self.usage = delta.usage
        if delta.finish_reason is not None:
            self.finish_reason = delta.finish_reason
        if wake:
            self.wake()

    def _grow(self, delta: Delta) -> None:
        pieces = self._pieces
        if delta.reasoned and self._answer != len(pieces):
            self._cut(always=True)
            self._answer = len(pieces)
        if delta.reasoning and self._answer == len(pieces):
            self._starts.append(self.length)
            pieces.append(delta.reasoning)
            self.length += len(delta.reasoning)
            self._answer = len(pieces)
        if delta.text:
            if self._answer == len(pieces):
                self._cut(always=True)
            self._starts.append(self.length)
            pieces.append(delta.text)
            self.length += len(delta.text)
        if len(pieces) - self._merged > _MERGE:
            self._merge()

    def next(self, offset: int, end: int) -> tuple[TextKind, str]:
        """What a reader gets at `offset`, where there is text before `end`: of one kind, at most `MAX_PIECE`."""
        pieces, starts = self._pieces, self._starts
        if offset == starts[-1] and len(pieces[-1]) == end - offset <= MAX_PIECE:  # for a reader that keeps up
            return TextKind.ANSWER if self._answer < len(pieces) else TextKind.REASONING, pieces[-1]
        first = bisect_right(starts, offset) - 1
        kind, last = (TextKind.ANSWER, len(pieces)) if first >= self._answer else (TextKind.REASONING, self._answer)
        room = min(end - offset, MAX_PIECE)
        begin = offset - starts[first]
        some = [pieces[first][begin : begin + room]]
        for piece in islice(pieces, first + 1, last):
            room -= len(some[-1])
            if not room:
                break
            some.append(piece[:room])
        return kind, "".join(some)

    def extend(self, entry: LogEntry) -> bool:
        """Add what is new in an entry of the log. False: something is missing before it."""
        known = self.length - entry.start
        if known < 0:
            return False
        if text := entry.text[known:]:
            reasoning = entry.kind is TextKind.REASONING
            self._grow(Delta(reasoning=text, reasoned=True) if reasoning else Delta(text=text))
        ended = self.ends[-1] if self.ends else 0
        ends = islice(accumulate(entry.cuts, initial=entry.start), 1, None)
        self.ends.extend(end for end in ends if end > ended)
        self.logged = self.length
        return True

    # ---- numbered pieces ---------------------------------------------------------------------------------

    def _cut(self, *, always: bool = False) -> None:
        """A piece ends with what arrived, unless that is short and there are many of them."""
        ends, end = self.ends, self.length
        length = end - ends[-1] if ends else end
        if length > MAX_PIECE:
            ends.extend(range(end - length + MAX_PIECE, end, MAX_PIECE))
        if length and (always or len(ends) < _MANY or length >= _SHORT):
            ends.append(end)

    def cuts(self, start: int, end: int) -> Sequence[int]:
        """The lengths of the pieces that end after `start` and up to `end`; that of the first counts from `start`."""
        ends = self.ends[bisect_right(self.ends, start) : bisect_right(self.ends, end)]
        return tuple(map(sub, ends, (start, *ends)))

    def cuts_to(self, end: int) -> Sequence[int]:
        """The lengths of the pieces of its first `end` code points, though the last may go on."""
        lengths = self.cuts(0, end)
        rest = end - sum(lengths)
        return (*lengths, rest) if rest else lengths

    def end_of_piece(self, offset: int, end: int) -> int:
        """Where the piece at `offset` ends; `offset` itself if that is unknown, or after `end`."""
        ends, number = self.ends, bisect_right(self.ends, offset)
        return ends[number] if number < len(ends) and ends[number] <= end else offset

    def number_at(self, offset: int) -> int:
        """How many pieces have ended there."""
        return bisect_right(self.ends, offset)

    async def start_of(self, number: int) -> int:
        """The code points of the first so many pieces, once they are there; of all of them if the reply has fewer."""
        while number > len(self.ends) and self.ended is None:
            await self.changed(inf)
        number = min(number, len(self.ends))
        return self.ends[number - 1] if number else 0

    # ---- its text ----------------------------------------------------------------------------------------

    def since(self, offset: int) -> tuple[str, str]:
        """The reasoning and the answer from code point `offset` on."""
        if offset >= self.length:
            return "", ""
        first = bisect_right(self._starts, offset) - 1
        pieces = self._pieces[first:]
        pieces[0] = pieces[0][offset - self._starts[first] :]
        split = max(self._answer - first, 0)
        return "".join(pieces[:split]), "".join(pieces[split:])

    def before(self, offset: int) -> tuple[str, str]:
        """The reasoning and the answer up to code point `offset`."""
        reasoning, answer = self.since(0)
        return reasoning[:offset], answer[: max(0, offset - len(reasoning))]

    @property
    def is_unlogged(self) -> bool:
        """Whether there is text for the log."""
        return self.logged < self.length and not (self.ending or self.lost or self.refused)

    def unlogged(self) -> Iterator[LogEntry]:
        """Cut at the same places whenever it is called, until `logged` has grown: what was written, without an answer
        that says so, is written over. No piece that is open goes on after it."""
        self._cut(always=True)
        reasoning, answer = self.since(self.logged)
        for kind, offset, text in (
            (TextKind.REASONING, self.logged, reasoning),
            (TextKind.ANSWER, self.logged + len(reasoning), answer),
        ):
            for first in range(0, len(text), _ENTRY):
                part, start = text[first : first + _ENTRY], offset + first
                cuts = self.cuts(start, start + len(part))
                yield LogEntry(self.reply.user_id, self.reply.id, start, kind, part, cuts)

    def cut_short(self, verdict: Status) -> None:
        """Once it is ending, this changes nothing."""
        if self.verdict is None and not self.ending:
            self.verdict = verdict
            if self.writer is not None:
                self.writer.cancel()

    def titled(self, title: str) -> None:
        self.title = title
        self.wake()

    def end(self, ended: Message) -> None:
        """Readers get what was stored, whatever more has been said."""
        self.ended = ended
        self.length = self.logged = ended.length
        del self.ends[bisect_right(self.ends, ended.length) :]
        self._cut(always=True)
        self.wake()
        if self._alarm is not None:
            self._alarm.cancel()

    def end_as(self, ended: Message, cuts: Sequence[int]) -> None:
        """As `end`, for a message that was stored elsewhere and may have more text."""
        reasoning = ended.reasoning or ""
        if rest := reasoning[self.length :]:
            self._grow(Delta(reasoning=rest, reasoned=True))
        self._grow(Delta(text=ended.content[max(self.length - len(reasoning), 0) :]))
        self.ends = array("I", ends_of(ended, cuts))
        self.end(ended)

    def changed(self, timeout: float) -> Awaitable[bool]:
        """Waits until there is more text or the end; False after `timeout` seconds without either."""
        loop = self._loop = self._loop or asyncio.get_running_loop()  # which asks the system each time
        future: asyncio.Future[bool] = loop.create_future()
        self._waiting[future] = enough = loop.time() + timeout
        if enough < self._alarm_at:
            self._set_alarm(enough)
        return future

    def _merge(self) -> None:
        """The small pieces since the last merge become one, or two where the answer begins among them."""
        self._join(max(self._answer, self._merged), len(self._pieces))
        if self._answer > self._merged:
            self._answer -= self._join(self._merged, self._answer)
        self._merged = len(self._pieces)

    def _join(self, first: int, end: int) -> int:
        """By how many pieces fewer it is then."""
        if end - first < 2:
            return 0
        self._pieces[first:end] = ["".join(self._pieces[first:end])]
        del self._starts[first + 1 : end]
        return end - first - 1

    def wake(self) -> None:
        if waiting := self._waiting:
            self._waiting = {}
            for future in waiting:
                if not future.done():
                    future.set_result(True)

    def _set_alarm(self, time: float) -> None:
        """One timer for all who wait, which is looked after when it rings: one for each wait costs more than a wait."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_at(time, self._ring)
        self._alarm_at = time

    def _ring(self) -> None:
        self._alarm, self._alarm_at, now = None, inf, asyncio.get_running_loop().time()
        waiting, self._waiting = self._waiting, {}
        for future, enough in waiting.items():
            if future.done():
                continue  # whoever waited has gone
            if enough > now:
                self._waiting[future] = enough
            else:
                future.set_result(False)
        if self._waiting:
            self._set_alarm(min(self._waiting.values()))


def ends_of(reply: Message, cuts: Sequence[int]) -> Sequence[int]:
    """Where the pieces of a reply that has ended end. One whose cuts are not known has as few as can be."""
    return tuple(accumulate(cuts)) if sum(cuts) == reply.length else parts_of(reply, 0)


def parts_of(reply: Message, after: int) -> Sequence[int]:
    """Where a text has to be cut that is sent from code point `after` on."""
    answer, length = len(reply.reasoning or ""), reply.length
    ends = {*range(after, answer, MAX_PIECE), answer, *range(max(after, answer), length, MAX_PIECE), length}
    return sorted(end for end in ends if end > after)
