"""What a model's answer says, read from its bytes. No input or output here: the gateway feeds it."""

import json
from typing import Any

import msgspec

from chatcore.entities import Usage, storable
from chatcore.errors import ModelError, ModelProtocolError, ModelUnavailable
from chatcore.ports import Delta
from chatcore_openai.failures import failure_of_error
from chatcore_openai.sse import EventSplitter, WholeBody

CUT = "The model endpoint closed the connection before the reply's end."
_MAX_COUNT = 2**31 - 1
_MAX_EVENT = 1024 * 1024  # bytes; to read one takes the event loop 10 ms
_MAX_ODD = 256 * 1024, 10_000  # bytes and brackets of an event that is read by the slower way


class _Said(msgspec.Struct, gc=False):
    """`reasoning_content` is DeepSeek's and vLLM's word for it, `reasoning` is OpenRouter's and Ollama's."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct, gc=False):
    """`message` instead of `delta`: the server has not streamed."""

    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None


class _Choices(msgspec.Struct, gc=False, array_like=True):
    """The first of them; a million others are not even made."""

    first: _Choice | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int | None = None


class _Error(msgspec.Struct):
    code: str | int | None = None
    type: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    """No part of it is of a type that a large event could fill with objects."""

    choices: _Choices | None = None
    usage: _Usage | None = None
    error: _Error | str | None = None
    object: str | None = None


class _OddChunk(msgspec.Struct):
    """One whose usage or error is of another form."""

    choices: _Choices | None = None
    usage: Any = None
    error: Any = None
    object: str | None = None


_decoder = msgspec.json.Decoder(_Chunk)


class ReplyReader:
    """Turns the bytes of one answer into deltas: one for each piece of bytes, however many events are in it.

    `finished`: the model has said its last word (a `finish_reason` or `[DONE]`), so that a connection that is lost now
    takes nothing away. `done`: nothing more will come. `failure` may be set by every call; the delta that is returned
    with it was said before it.

    Reasoning that comes after the answer has begun is dropped: a reply is its reasoning and then its answer. An event
    that is not JSON of the expected form fails the reply, since a text with a hole in it is worse than a short one.
    """

    __slots__ = (
        "_answer",
        "_began",
        "_events",
        "_left",
        "_max_bytes",
        "_reasoning",
        "_usage",
        "done",
        "failure",
        "finished",
    )

    def __init__(self, *, max_bytes: int, max_events: int = 1_000_000, streamed: bool = True) -> None:
        """`max_bytes` bounds the text, in UTF-8, and also each single event, which is never above 1 MiB; `max_events`
        those events that say more, or less, than the next words of the answer."""
        self.finished = False
        self.done = False
        self.failure: ModelError | None = None
        self._events = (EventSplitter if streamed else WholeBody)(min(max_bytes, _MAX_EVENT))
        self._left = max_events
        self._max_bytes = max_bytes
        self._began = False
        self._usage: Any = None
        self._reasoning = _Text()
        self._answer = _Text()

    def feed(self, data: bytes) -> Delta | None:
        """What `data` adds to the reply, if anything."""
        try:
            events = self._events.feed(data)
        except ModelError as failure:
            self._fail(failure)
            return None
        if self._answer.size and len(events) == 1 and not self.done and (text := self._plain(events[0])):
            return Delta(text=text)
        self._left -= len(events)
        if self._left < 0:
            self._fail(ModelProtocolError("The model endpoint sent too many events that say nothing."))
        reasoning, answer = self._read(events)
        return Delta(reasoning, answer) if reasoning or answer else None

    def end(self) -> Delta | None:
        """What is left when no more bytes will come, with the usage."""
        reasoning, answer = self._read(self._events.rest(), cut=True)
        reasoning += self._reasoning.rest()
        answer += self._answer.rest()
        if not self.finished and self.failure is None:
            self._fail(ModelUnavailable(CUT) if self._began else ModelProtocolError())
        usage = _usage_of(self._usage)
        return Delta(reasoning, answer, usage) if reasoning or answer or usage else None

    def _plain(self, data: bytes) -> str | None:
        """The text of an event that says nothing else, as nearly all do once the answer has begun: `_read`, whose
        every other event this is, takes twice the time."""
        try:
            chunk = _decoder.decode(data)
        except (ValueError, RecursionError):
            return None
        if chunk.error or chunk.object == "error" or chunk.usage or not (chunk.choices and chunk.choices.first):
            return None
        choice = chunk.choices.first
        if choice.finish_reason or choice.message or not (choice.delta and choice.delta.content):
            return None
        text, answer = choice.delta.content, self._answer
        size = answer.size + len(text)
        if not text.isascii() or "\0" in text or answer.held or size + self._reasoning.size > self._max_bytes:
            return self._fitted("", text)[1]
        answer.size = size
        return text

    def _read(self, events: list[bytes], *, cut: bool = False) -> tuple[str, str]:
        reasoning = answer = ""
        answering = self._answer.size > 0
        for data in events:
            if self.done:
                break
            if (choice := self._choice_of(data, cut=cut)) is not None:
                said = choice.delta or choice.message
                if said is not None:
                    if not answering:
                        reasoning += said.reasoning_content or said.reasoning or ""
                    if said.content:
                        answer += said.content
                        answering = True
                if choice.finish_reason or choice.message is not None:
                    self.finished = True
        return self._fitted(reasoning, answer)

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

    def _choice_of(self, data: bytes, *, cut: bool) -> _Choice | None:
        """The first choice of an event; notes all else that it says."""
        chunk: _Chunk | _OddChunk | None
        try:
            chunk = _decoder.decode(data)
        except (ValueError, RecursionError):
            chunk = self._odd(data, cut=cut)
        if chunk is None:
            return None
        if chunk.error or chunk.object == "error":
            error = chunk.error
            self._fail(failure_of_error(msgspec.structs.asdict(error) if isinstance(error, _Error) else error))
            return None
        if chunk.usage is not None:
            self._usage = chunk.usage
        if chunk.choices is None:
            return None
        self._began = True
        return chunk.choices.first

    def _odd(self, data: bytes, *, cut: bool) -> _OddChunk | None:
        """An event that is not as most are. One that may be `cut` need not make sense.

        msgspec refuses what is not UTF-8 and half characters; the standard library can be talked into both."""
        if not (stripped := data.strip()):
            return None
        if stripped == b"[DONE]":
            self.finished = self.done = True
            return None
        try:
            return msgspec.convert(_loads(data), _OddChunk)
        except (ValueError, RecursionError):
            if not cut:
                self._fail(ModelProtocolError("The model endpoint sent an event that is no part of a chat completion."))
            return None

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


def _loads(data: bytes) -> Any:
    """Raise `ValueError` for what is no JSON, or more than can be read in a moment."""
    if len(data) > _MAX_ODD[0] or data.count(b"{") + data.count(b"[") > _MAX_ODD[1]:
        raise ValueError
    return json.loads(data.decode(errors="replace"))


def _usage_of(counts: Any) -> Usage | None:
    """Nothing if the endpoint does not count, or not as it should: that is no reason to fail a reply."""
    if counts is None:
        return None
    try:
        usage = counts if isinstance(counts, _Usage) else msgspec.convert(counts, _Usage)
    except msgspec.ValidationError:
        return None
    total = usage.prompt_tokens + usage.completion_tokens if usage.total_tokens is None else usage.total_tokens
    if not all(0 <= count <= _MAX_COUNT for count in (usage.prompt_tokens, usage.completion_tokens, total)):
        return None
    return Usage(prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens, total_tokens=total)
