"""Chat completions that are stored: a reply as chunks, and as a whole object."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from chatcore import Message, ReplyDelta, ReplyEnded, ReplyEvent, ReplyStarted, Silence, Status, TextKind
from chatcore.entities import FinishReason
from chatcore.wire import Json, Problem, failure
from chatcore_http.protocols.endings import failure_of
from chatcore_http.protocols.frames import DONE, HEARTBEAT, frame, quoted, written
from chatcore_http.protocols.openai.errors import error_event, error_object
from chatcore_http.protocols.openai.ids import completion_id

_FIELDS = {TextKind.REASONING: "reasoning_content", TextKind.ANSWER: "content"}


class CompletionChunks:
    """Encodes the events of one reply, read with `numbered=True` from the beginning."""

    def __init__(self, reply: Message, *, include_usage: bool = False, after: int = 0) -> None:
        """`reply`: in whatever state it was found. `include_usage`: the client asked for a chunk with the usage.
        `after`: how many chunks the client has already."""
        self._known = after
        self._include_usage = include_usage
        self._head = _head(reply, "chat.completion.chunk")
        more = ',"usage":null' if include_usage else ""
        self._before = written(self._head)[:-1] + ',"choices":[{"index":0,"delta":'
        self._after = ',"logprobs":null,"finish_reason":null}]' + more + "}"

    def encode(self, event: ReplyEvent) -> bytes:
        """Return the next event's frames."""
        match event:
            case ReplyDelta():
                return self._delta(f'{{"{_FIELDS[event.kind]}":{quoted(event.text)}}}')
            case ReplyStarted():
                return self._delta('{"role":"assistant","content":""}')
            case ReplyEnded():
                return b"".join(self._frame(written(data)) for data in self._ending(event.message)) + DONE
            case Silence():
                return HEARTBEAT
            case _:
                return b""

    def broken(self, problem: Problem) -> bytes:
        return error_event(problem)

    def _delta(self, delta: str) -> bytes:
        return self._frame(self._before + delta + self._after)

    def _frame(self, data: str) -> bytes:
        if self._known > 0:
            self._known -= 1
            return b""
        return frame(data)

    def _ending(self, reply: Message) -> Iterator[Json]:
        if error := _error_of(reply):
            yield {"error": error}
            return
        choice: Json = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": _finish_reason(reply)}
        yield {**self._head, "choices": [choice], **({"usage": None} if self._include_usage else {})}
        if self._include_usage:
            yield {**self._head, "choices": [], "usage": _usage_of(reply)}


def completion_object(reply: Message, asked: Mapping[str, Any]) -> Json:
    """Return the chat completion whose message is this reply. `asked`: the body of the request. `error`: why the reply
    failed, if it did; its text is there up to then."""
    reasoning = {"reasoning_content": reply.reasoning} if reply.reasoning else {}
    message = {"role": "assistant", "content": reply.content, "refusal": None, **reasoning}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(reply)}
    error = _error_of(reply)
    return {
        **_head(reply, "chat.completion"),
        "choices": [choice],
        "usage": _usage_of(reply),
        "metadata": asked.get("metadata") or {},
        **({"error": error} if error else {}),
    }


def problem_of(reply: Message) -> Problem | None:
    """Return why a reply failed or was interrupted; None for any other."""
    why = failure_of(reply)
    return None if why is None else failure(replace(reply, error=why))


def _head(reply: Message, kind: str) -> Json:
    return {
        "id": completion_id(reply.conversation_id, reply.id),
        "object": kind,
        "created": int(reply.created_at.timestamp()),
        "model": reply.model or "",
    }


def _finish_reason(reply: Message) -> str | None:
    """The protocol has no name for a reply that was cut short but the one for too few tokens."""
    match reply.status:
        case Status.WRITING:
            return None
        case Status.COMPLETE:
            return reply.finish_reason or FinishReason.STOP
        case Status.STOPPED:
            return FinishReason.STOP
        case _:
            return FinishReason.LENGTH


def _usage_of(reply: Message) -> Json | None:
    if reply.usage is None:
        return None
    counts = asdict(reply.usage)
    del counts["estimated"]
    return counts


def _error_of(reply: Message) -> Json | None:
    found = problem_of(reply)
    return None if found is None else error_object(found)
