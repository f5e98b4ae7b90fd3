"""Replies on record: their events, as a reader with `numbered=True` has them, without the server that wrote them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from chatcore import (
    ConversationId,
    Message,
    MessageId,
    OwnerId,
    ReplyDelta,
    ReplyEnded,
    ReplyEvent,
    ReplyStarted,
    Role,
    Status,
    TextKind,
    Usage,
)
from chatcore.entities import Failure, FinishReason

WRITING = Message(
    id=MessageId(7),
    user_id=OwnerId(3),
    conversation_id=ConversationId(5),
    parent_id=MessageId(6),
    role=Role.ASSISTANT,
    content="",
    status=Status.WRITING,
    model="some-model",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)
ENDED_AT = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
USAGE = Usage(prompt_tokens=11, completion_tokens=4, total_tokens=15)
FAILURE = Failure(code="model_unavailable", detail="The model endpoint cannot be reached or is failing.")


@dataclass(frozen=True)
class Recorded:
    """What the model said, in pieces, and how it ended."""

    reasoning: Sequence[str] = ()
    answer: Sequence[str] = ("Hel", "lo")
    status: Status = Status.COMPLETE
    finish_reason: FinishReason | None = FinishReason.STOP
    usage: Usage | None = USAGE

    @property
    def ended(self) -> Message:
        return replace(
            WRITING,
            reasoning="".join(self.reasoning) or None,
            content="".join(self.answer),
            status=self.status,
            finish_reason=self.finish_reason if self.status is Status.COMPLETE else None,
            usage=self.usage,
            error=FAILURE if self.status is Status.FAILED else None,
            ended_at=ENDED_AT,
        )

    def events(self) -> Iterator[ReplyEvent]:
        reply, offset, number = self.ended, 0, 0
        yield ReplyStarted(reply.id, 0, reply.conversation_id, reply.parent_id, reply.model)
        for kind, texts in ((TextKind.REASONING, self.reasoning), (TextKind.ANSWER, self.answer)):
            for text in texts:
                offset, number = offset + len(text), number + 1
                yield ReplyDelta(reply.id, offset, kind, text, number)
        yield ReplyEnded(reply.id, offset, reply)


ENDINGS = {
    "complete": Recorded(),
    "reasoned": Recorded(reasoning=["Hm", "m. "]),
    "long": Recorded(finish_reason=FinishReason.LENGTH),
    "filtered": Recorded(finish_reason=FinishReason.CONTENT_FILTER),
    "without a reason": Recorded(finish_reason=None, usage=None),
    "stopped": Recorded(status=Status.STOPPED),
    "stopped while it reasoned": Recorded(reasoning=["Hm"], answer=(), status=Status.STOPPED),
    "stopped before its first word": Recorded(answer=(), status=Status.STOPPED, usage=None),
    "failed": Recorded(status=Status.FAILED),
    "failed before its first word": Recorded(answer=(), status=Status.FAILED, usage=None),
    "interrupted": Recorded(reasoning=["Hm"], status=Status.INTERRUPTED, usage=None),
}
