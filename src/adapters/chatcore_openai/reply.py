"""What a model's answer says, read from its bytes. No input or output here: the gateway feeds it."""

from chatcore.entities import FinishReason, Usage, storable
from chatcore.errors import ModelError, ModelProtocolError, ModelUnavailable
from chatcore.ports import Delta
from chatcore_openai.chunks import Choice, Chunk, Counts, Fault, decode, decode_odd, finish_of
from chatcore_openai.failures import failure_of_fault
from chatcore_openai.sse import EventSplitter, WholeBody, splitter_for
from chatcore_openai.thinking import Split, ThinkTags

CUT = "The model endpoint closed the connection before the reply's end."
_MAX_COUNT = 2**31 - 1
_MAX_EVENT = 1024 * 1024  # bytes; to read one takes the event loop 10 ms
_MAX_BLANK = 64 * 1024  # bytes before an answer begins


class ReplyReader:
    """Turns the bytes of one answer into deltas: one for each piece of bytes, however many events are in it.

    `finished`: the model has said its last word (a `finish_reason` or `[DONE]`), so that a connection that is lost now
    takes nothing away. `done`: nothing more will come. `failure` may be set by every call; the delta that is returned
    with it was said before it. `fault` is what the endpoint said of it, if it did.

    Reasoning that comes after the answer has begun is dropped: a reply is its reasoning and then its answer. An event
    whose text cannot be read fails the reply, since a text with a hole in it is worse than a short one.
    """

    __slots__ = (
        "_answer",
        "_began",
        "_begin",
        "_events",
        "_finish",
        "_left",
        "_max_bytes",
        "_reasoning",
        "_tags",
        "_usage",
        "done",
        "failure",
        "fault",
        "finished",
    )

    def __init__(self, *, max_bytes: int, max_events: int = 1_000_000) -> None:
        """`max_bytes` bounds the text, in UTF-8, and also each single event, which is never above 1 MiB; `max_events`
        those events that say more, or less, than the next words of the answer."""
        self.finished: bool = False
        self.done: bool = False
        self.failure: ModelError | None = None
        self.fault: Fault | None = None
        self._events: EventSplitter | WholeBody | None = None
        self._begin = b""
        self._left = max_events
        self._max_bytes = max_bytes
        self._began = False
        self._usage: Counts | None = None
        self._finish: FinishReason | None = None
        self._tags = ThinkTags()
        self._reasoning = _Text()
        self._answer = _Text()

    def feed(self, data: bytes) -> Delta | None:
        """What `data` adds to the reply, if anything."""
        try:
            events = (self._events or self._begun(data)).feed(data)
        except ModelError as failure:
            self._fail(failure)
            return None
        if self._answer.size and len(events) == 1 and not self.done and (text := self._plain(events[0])):
            return Delta(text=text)
        self._left -= len(events)
        if self._left < 0:
            self._fail(ModelProtocolError("The model endpoint sent too many events that say nothing."))
        return self._delta(*self._read(events))

    def end(self) -> Delta | None:
        """What is left when no more bytes will come, with the usage and the finish reason."""
        events = self._events.rest() if self._events else []
        reasoning, split = self._read(events, cut=not isinstance(self._events, WholeBody))
        said = self._delta(reasoning, split) or Delta()
        self._add_rest(said)
        if not self.finished and self.failure is None:
            self._fail(ModelUnavailable(CUT) if self._began else ModelProtocolError())
        said.usage, said.finish_reason = _usage_of(self._usage), self._finish
        return None if said == Delta() else said

    def _begun(self, data: bytes) -> EventSplitter | WholeBody:
        """What reads the answer. Of an answer that is blank so far, a reader that finds nothing."""
        limit = min(self._max_bytes, _MAX_EVENT)
        begin = self._begin + data
        if (found := splitter_for(begin, limit)) is None:
            self._begin = begin[-_MAX_BLANK:]
            return EventSplitter(limit)
        self._events = found
        if self._begin:
            found.feed(self._begin)
        return found

    def _plain(self, data: bytes) -> str | None:
        """The text of an event that says nothing else, as nearly all do once the answer has begun: `_read`, whose
        every other event this is, takes twice the time."""
        try:
            chunk = decode(data)
        except (ValueError, RecursionError):
            return None
        if chunk.error or chunk.object == "error" or chunk.usage or not (chunk.choices and chunk.choices.first):
            return None
        choice = chunk.choices.first
        if choice.finish_reason or choice.error or not (choice.delta and choice.delta.content):
            return None
        text, answer = choice.delta.content, self._answer
        if "<" in text or self._tags.held or choice.delta.refusal:
            return None
        self._tags.said = text
        size = answer.size + len(text)
        if not text.isascii() or "\0" in text or answer.held or size + self._reasoning.size > self._max_bytes:
            return self._fitted("", text)[1]
        answer.size = size
        return text

    def _read(self, events: list[bytes], *, cut: bool = False) -> tuple[str, Split]:
        """What the events say: the reasoning, and the answer, which may have reasoning in it."""
        reasoning = answer = ""
        answering = self._answer.size > 0
        for data in events:
            if self.done:
                break
            if (choice := self._choice_of(data, cut=cut)) is None:
                continue
            if (said := choice.said) is not None:
                if not answering:
                    reasoning += said.reasoning_content or said.reasoning or ""
                if text := (said.content or "") + (said.refusal or ""):
                    answer += text
                    answering = True
            self._note_end(choice)
        if reasoning:
            self._tags.end()
        return reasoning, self._tags.split(answer) if answer else Split()

    def _delta(self, reasoning: str, split: Split) -> Delta | None:
        if reasoned := split.all_reasoned and self._answer.size > 0:
            self._reasoning.size += self._answer.size
            self._answer.size = 0
        reasoning, answer = self._fitted(reasoning + split.reasoning, split.answer)
        return Delta(reasoning, answer, reasoned=reasoned) if reasoning or answer or reasoned else None

    def _add_rest(self, said: Delta) -> None:
        """What was held back as the beginning of a tag or the half of a character."""
        rest = self._tags.rest()
        reasoning, answer = self._fitted(rest.reasoning, rest.answer)
        said.reasoning += reasoning + self._reasoning.rest()
        said.text += answer + self._answer.rest()

    def _fitted(self, reasoning: str, answer: str) -> tuple[str, str]:
        if reasoning:
            reasoning = self._reasoning.fit(reasoning)
        if answer:
            reasoning += self._reasoning.rest()
            answer = self._answer.fit(answer)
        if self._reasoning.size + self._answer.size <= self._max_bytes:
            return reasoning, answer
        self._fail(ModelProtocolError("The model's reply is too long."))
        return "", ""

    def _choice_of(self, data: bytes, *, cut: bool) -> Choice | None:
        """The first choice of an event; notes all else that it says."""
        try:
            chunk = decode(data)
        except (ValueError, RecursionError):
            if (odd := self._odd(data, cut=cut)) is None:
                return None
            chunk = odd
        if (fault := chunk.fault) is not None:
            self._break_down(fault)
        if chunk.usage is not None:
            self._usage = chunk.usage
        if chunk.choices is None:
            return None
        self._began = True
        return chunk.choices.first

    def _note_end(self, choice: Choice) -> None:
        """A whole answer needs no word for its end; a part of a stream does, also if all so far is beside it."""
        ended, reason = finish_of(choice.finish_reason)
        self.finished |= ended or (choice.message is not None and isinstance(self._events, WholeBody))
        if self.failure is None:
            self._finish = reason or self._finish
            if reason is FinishReason.ERROR:
                self._break_down(Fault())

    def _odd(self, data: bytes, *, cut: bool) -> Chunk | None:
        """An event that is not as most are. One that may be `cut` need not make sense."""
        if not (stripped := data.strip()):
            return None
        if stripped == b"[DONE]":
            self.finished = self.done = True
            return None
        try:
            return decode_odd(data)
        except (ValueError, RecursionError):
            if not cut:
                self._fail(ModelProtocolError("The model endpoint sent an event that is no part of a chat completion."))
            return None

    def _break_down(self, fault: Fault) -> None:
        self.fault = fault
        if self._began:
            self._finish = FinishReason.ERROR
        self._fail(failure_of_fault(fault))

    def _fail(self, failure: ModelError) -> None:
        self.failure = failure
        self.done = True


class _Text:
    """Makes text fit to store. A character whose two halves, as JSON escapes, came in two events becomes whole.

    `size`: bytes in UTF-8 so far. `held`: the first half of a character.
    """

    __slots__ = ("held", "size")

    def __init__(self) -> None:
        self.size = 0
        self.held = ""

    def fit(self, text: str) -> str:
        if self.held:
            text, self.held = self.held + text, ""
        try:
            self.size += len(text) if text.isascii() else len(text.encode())
        except UnicodeEncodeError:
            return self._mended(text)
        return text.replace("\0", "\ufffd") if "\0" in text else text

    def rest(self) -> str:
        held, self.held = self.held, ""
        return storable(held) if held else ""

    def _mended(self, text: str) -> str:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        if "\ud800" <= text[-1] <= "\udbff":
            self.held = text[-1]
            text = text[:-1]
        text = storable(text)
        self.size += len(text.encode())
        return text


def _usage_of(counts: Counts | None) -> Usage | None:
    """Nothing if the endpoint does not count, or not as it should: that is no reason to fail a reply."""
    if counts is None:
        return None
    prompt, completion, total = counts.prompt_tokens or 0, counts.completion_tokens or 0, counts.total_tokens
    total = prompt + completion if total is None else total
    if not all(0 <= count <= _MAX_COUNT for count in (prompt, completion, total)):
        return None
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=total)
