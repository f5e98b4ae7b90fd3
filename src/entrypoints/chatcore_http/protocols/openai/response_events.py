"""The numbered events of Responses. They depend on nothing but the reply and its request: whichever worker sends them,
and whenever, they are the same bytes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from secrets import token_hex
from typing import Any, NamedTuple

from chatcore import Message, ReplyDelta, ReplyEnded, ReplyEvent, ReplyStarted, Silence, Status, TextKind
from chatcore.wire import Json, Problem
from chatcore_http.protocols.frames import DONE, HEARTBEAT, quoted, written
from chatcore_http.protocols.openai.errors import error_object
from chatcore_http.protocols.openai.response_objects import (
    item_status,
    message_item,
    reasoning_item,
    reasoning_part,
    response_object,
    response_status,
    text_part,
)
from chatcore_http.protocols.spans import Closed, Opened, Part, Spans

_TERMINAL = {"completed": "completed", "failed": "failed", "incomplete": "incomplete", "cancelled": "incomplete"}
_TEXT = {TextKind.REASONING: "response.reasoning_text", TextKind.ANSWER: "response.output_text"}
_MORE: Mapping[TextKind, Json] = {TextKind.REASONING: {}, TextKind.ANSWER: {"logprobs": []}}
_PART: Mapping[TextKind, Callable[[str], Json]] = {TextKind.REASONING: reasoning_part, TextKind.ANSWER: text_part}
_ITEM: Mapping[TextKind, Callable[[Message, str, str], Json]] = {
    TextKind.REASONING: reasoning_item,
    TextKind.ANSWER: message_item,
}


def response_error(problem: Problem, number: int) -> bytes:
    """Return the event of an error that ends a stream. OpenAI's clients read the error at the top, Open Responses and
    the AI SDK in `error`."""
    error = error_object(problem)
    data = {"type": "error", "sequence_number": number, "error": error}
    data |= {name: error[name] for name in ("code", "message", "param")}
    return f"event: error\ndata: {written(data)}\n\n".encode()


class _Told(NamedTuple):
    """A whole text, and the same as JSON. Four of the last events have it, of megabytes: it is written once, and takes
    the place of a mark."""

    text: str
    quoted: str


_MARK: Mapping[TextKind, str] = {kind: token_hex(16) for kind in TextKind}


class ResponseEvents:
    """Encodes the events of one reply, read with `numbered=True` from the beginning."""

    def __init__(self, reply: Message, asked: Mapping[str, Any], *, after: int = -1) -> None:
        """`reply`: in whatever state it was found. `asked`: the body of the request. `after`: the number of the last
        event that the client has."""
        blank = replace(reply, content="", reasoning=None, status=Status.WRITING, usage=None, finish_reason=None)
        self._begun = replace(blank, error=None, ended_at=None)
        self._asked = asked
        self._after = after
        self._number = -1
        self._spans = Spans()
        self._index = -1  # of the output item
        self._texts: list[str] = []
        self._delta = ""  # of the open span: its delta up to the text
        self._told: dict[TextKind, _Told] = {}

    def encode(self, event: ReplyEvent) -> bytes:
        """Return the frames of the next event that follow the client's last one."""
        return b"".join(frame for part in self._spans.of(event) for frame in self._frames(part))

    def broken(self, problem: Problem) -> bytes:
        """Return the event of an error of the connection alone: it has the number of the last event, after which the
        client can resume."""
        return response_error(problem, max(self._number, self._after))

    def _frames(self, part: Part) -> Iterator[bytes]:
        match part:
            case ReplyDelta():
                yield self._text(part)
            case ReplyStarted():
                yield self._lifecycle("created", self._begun)
                yield self._lifecycle("in_progress", self._begun)
            case Opened():
                yield from self._open(part.kind)
            case Closed():
                yield from self._close(part.kind, "completed" if part.ended is None else item_status(part.ended))
            case ReplyEnded():
                yield self._lifecycle(_TERMINAL[response_status(part.message)], part.message)
                yield DONE
            case Silence():
                yield HEARTBEAT

    def _lifecycle(self, name: str, reply: Message) -> bytes:
        return self._frame(f"response.{name}", response=response_object(self._marked(reply), self._asked))

    def _marked(self, reply: Message) -> Message:
        """Return the reply with marks for its texts, if those are the ones that were told."""
        content, reasoning = self._told.get(TextKind.ANSWER), self._told.get(TextKind.REASONING)
        if content and content.text == reply.content:
            reply = replace(reply, content=_MARK[TextKind.ANSWER])
        if reasoning and reasoning.text == reply.reasoning:
            reply = replace(reply, reasoning=_MARK[TextKind.REASONING])
        return reply

    def _open(self, kind: TextKind) -> Iterator[bytes]:
        self._index += 1
        self._texts = []
        item = _ITEM[kind](self._begun, "", "in_progress")
        yield self._frame("response.output_item.added", output_index=self._index, item=item)
        yield self._frame("response.content_part.added", **self._place(kind), part=_PART[kind](""))
        self._delta = written(self._place(kind))[1:-1]

    def _text(self, delta: ReplyDelta) -> bytes:
        self._texts.append(delta.text)
        self._number += 1
        if self._number <= self._after:
            return b""
        name, more = f"{_TEXT[delta.kind]}.delta", ',"logprobs":[]' if delta.kind is TextKind.ANSWER else ""
        data = f'{{"type":"{name}","sequence_number":{self._number},{self._delta},"delta":{quoted(delta.text)}{more}}}'
        return f"event: {name}\ndata: {data}\n\n".encode()

    def _close(self, kind: TextKind, status: str) -> Iterator[bytes]:
        told, self._texts = "".join(self._texts), []
        self._told[kind], text = _Told(told, quoted(told)), _MARK[kind]
        yield self._frame(f"{_TEXT[kind]}.done", **self._place(kind), text=text, **_MORE[kind])
        yield self._frame("response.content_part.done", **self._place(kind), part=_PART[kind](text))
        item = _ITEM[kind](self._begun, text, status)
        yield self._frame("response.output_item.done", output_index=self._index, item=item)

    def _place(self, kind: TextKind) -> Json:
        item = _ITEM[kind](self._begun, "", "")
        return {"item_id": item["id"], "output_index": self._index, "content_index": 0}

    def _frame(self, name: str, **more: object) -> bytes:
        self._number += 1
        if self._number <= self._after:
            return b""
        data = written({"type": name, "sequence_number": self._number, **more})
        for kind, told in self._told.items():
            data = data.replace(f'"{_MARK[kind]}"', told.quoted, 1)
        return f"event: {name}\ndata: {data}\n\n".encode()
