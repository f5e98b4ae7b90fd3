"""AG-UI 1.0: the events of a run, and what a client asks for. Everything that is open is closed before the end, or the
client's verifier refuses the stream; null fields are left out."""

from collections.abc import Iterator
from typing import Any

import msgspec

from chatcore import Message, ReplyDelta, ReplyEnded, ReplyEvent, ReplyStarted, Silence, Status, TextKind
from chatcore.data_urls import add_image
from chatcore.entities import Image, Usage
from chatcore.errors import FieldError, ValidationFailed
from chatcore.wire import Json, Problem, encoded
from chatcore_http.protocols.endings import failure_of
from chatcore_http.protocols.frames import HEARTBEAT, frame, quoted, written
from chatcore_http.protocols.questions import Question
from chatcore_http.protocols.spans import Closed, Opened, Part, Spans
from chatcore_http.protocols.told import Told

PROTOCOL_VERSION = "1.0"
_MESSAGES = {TextKind.REASONING: "REASONING_MESSAGE", TextKind.ANSWER: "TEXT_MESSAGE"}
_ROLES = {TextKind.REASONING: "reasoning", TextKind.ANSWER: "assistant"}
_NO_TOOLS = {
    "type": "CUSTOM",
    "name": "chatcore.tools_not_called",
    "value": {"message": "The tools of this run do not reach the model, which calls none."},
}

# ---- a reply ---------------------------------------------------------------------------------------------


class RunEvents:
    """Encodes the events of one reply, read with `numbered=True` from the beginning. `tools`: whether the run offered
    some."""

    def __init__(self, *, thread_id: str, run_id: str, tools: bool = False) -> None:
        self._run: Json = {"threadId": thread_id, "runId": run_id}
        self._tools = tools
        self._spans = Spans()

    def encode(self, event: ReplyEvent) -> bytes:
        """Return the next event's frames."""
        if isinstance(event, Silence):
            return HEARTBEAT
        return b"".join(frame(data) for part in self._spans.of(event) for data in self._events(part, event.reply_id))

    def broken(self, problem: Problem) -> bytes:
        """Return the frame that ends a stream whose reply goes on."""
        return frame(written({"type": "RUN_ERROR", "message": problem.detail, "code": problem.code}))

    def _events(self, part: Part, reply_id: int) -> Iterator[str]:
        match part:
            case ReplyDelta():
                name = message_id(reply_id, part.kind)
                type_ = f"{_MESSAGES[part.kind]}_CONTENT"
                yield f'{{"type":"{type_}","messageId":"{name}","delta":{quoted(part.text)}}}'
            case ReplyStarted():
                yield written({"type": "RUN_STARTED", **self._run, "protocolVersion": PROTOCOL_VERSION})
                if self._tools:
                    yield written(_NO_TOOLS)
            case Opened():
                yield from map(written, _opening(part.kind, message_id(reply_id, part.kind)))
            case Closed():
                yield from map(written, _closing(part.kind, message_id(reply_id, part.kind)))
            case ReplyEnded():
                yield written(self._ending(part.message))
            case Silence():
                pass

    def _ending(self, reply: Message) -> Json:
        usage = {"usage": [_usage_of(reply.usage, reply.model)]} if reply.usage else {}
        if failure := failure_of(reply):
            return {"type": "RUN_ERROR", "message": failure.detail, "code": failure.code, **usage}
        outcome = "cancelled" if reply.status is Status.STOPPED else "success"
        return {"type": "RUN_FINISHED", **self._run, "outcome": {"type": outcome}, **usage}


def _opening(kind: TextKind, name: str) -> Iterator[Json]:
    if kind is TextKind.REASONING:
        yield {"type": "REASONING_START", "messageId": name}
    yield {"type": f"{_MESSAGES[kind]}_START", "messageId": name, "role": _ROLES[kind]}


def _closing(kind: TextKind, name: str) -> Iterator[Json]:
    yield {"type": f"{_MESSAGES[kind]}_END", "messageId": name}
    if kind is TextKind.REASONING:
        yield {"type": "REASONING_END", "messageId": name}


def _usage_of(usage: Usage, model: str | None) -> Json:
    named = {"model": model} if model else {}
    counts = (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    return {**named, **dict(zip(("inputTokens", "outputTokens", "totalTokens"), counts, strict=True))}


def message_id(reply_id: int, kind: TextKind) -> str:
    """Return the client's id of the answer or of the reasoning, which are two messages there."""
    return f"msg_{reply_id}" if kind is TextKind.ANSWER else f"rs_{reply_id}"


# ---- a request -------------------------------------------------------------------------------------------


class RunMessage(msgspec.Struct, frozen=True):
    """Of all that a client's message has."""

    id: str
    role: str
    content: Any = None


class Run(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """`RunAgentInput`. `thread_id`: the client's name for the conversation."""

    thread_id: str
    run_id: str
    protocol_version: str | None = None
    messages: list[RunMessage]
    tools: list[Any] | None = None
    resume: list[Any] | None = None


async def question_of(run: Run) -> Question:
    """Return the last message, which must be the user's. Raise `ValidationFailed`, also for what is not supported."""
    _check((run.protocol_version or PROTOCOL_VERSION).partition(".")[0] == "1", "protocolVersion", "must be 1.0")
    _check(not run.resume, "resume", "is not supported: no run waits for an answer")
    last = run.messages[-1] if run.messages else None
    if last is None or last.role != "user":
        raise ValidationFailed([FieldError("messages", "must end with a message of the user")])
    if last.content is None or isinstance(last.content, str):
        return Question(last.id, last.content or "")
    texts, images = list[str](), list[Image]()
    for number, part in enumerate(_parts_of(last.content, f"messages[{len(run.messages) - 1}].content")):
        name = f"messages[{len(run.messages) - 1}].content[{number}]"
        match part:
            case {"type": "text", "text": str(text)}:
                texts.append(text)
            case {"type": "image", "source": {"type": "url", "value": str(url)}}:
                await add_image(images, url, name=f"{name}.source")
            case {"type": "image", "source": {"type": "data", "value": str(value), "mimeType": str(media_type)}}:
                await add_image(images, f"data:{media_type};base64,{value}", name=f"{name}.source")
            case {"type": "binary", "data": str(value), "mimeType": str(media_type)}:  # before AG-UI 1.0
                await add_image(images, f"data:{media_type};base64,{value}", name=f"{name}.data")
            case {"type": "binary", "url": str(url)}:
                await add_image(images, url, name=f"{name}.url")
            case _:
                raise ValidationFailed([FieldError(name, "must be text, or an image with its data")])
    return Question(last.id, "\n".join(texts), images)


def _parts_of(content: Any, name: str) -> list[dict[str, Any]]:
    try:
        return msgspec.convert(content, list[dict[str, Any]])
    except msgspec.ValidationError:
        raise ValidationFailed([FieldError(name, "must be text, or a list of parts")]) from None


def _check(kept: bool, field: str, message: str) -> None:
    if not kept:
        raise ValidationFailed([FieldError(field, message)])


def told(problem: Problem) -> Told:
    """Return an error with the fields of `RUN_ERROR`."""
    return Told(problem.status, encoded({"message": problem.detail, "code": problem.code}))
