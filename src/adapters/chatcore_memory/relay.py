"""A model endpoint to which calls pass, and that answers as a test tells it to."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from chatcore.errors import ModelError
from chatcore.ports import ModelEndpoint, ModelRelay, OpenAnswer
from chatcore_memory.model import Stall

RelayStep: TypeAlias = bytes | Stall | ModelError
"""A piece of the body, silence, or its end in failure."""


@dataclass(slots=True, eq=False)
class RelayCall(OpenAnswer):
    """One call. `ending`: None while its answer is open, `finished` with all steps said, else `closed`."""

    endpoint: ModelEndpoint
    path: str
    body: bytes
    steps: tuple[RelayStep, ...]
    status: int = 200
    content_type: str = "text/event-stream"
    request_id: str = "scripted"
    retry_after: float | None = None
    received: int = 0
    last: bytes = b""
    ending: Literal["finished", "closed"] | None = None

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        for step in self.steps:
            if isinstance(step, ModelError):
                raise step
            if isinstance(step, Stall):
                await step.hold()
            else:
                self.received += len(step)
                self.last = step
                yield step
        self.ending = "finished"

    async def aclose(self) -> None:
        self.ending = self.ending or "closed"


class ScriptedRelay(ModelRelay):
    """Answers every call with `answer`, piece by piece; `calls` tells what it was asked. A call fails at once if the
    answer begins with a failure. `status` other than 200: how it refuses its owner's calls."""

    def __init__(self, *answer: RelayStep, status: int = 200, content_type: str = "text/event-stream") -> None:
        self.calls: list[RelayCall] = []
        self._answer = answer
        self._status = status
        self._content_type = content_type

    async def relay(self, endpoint: ModelEndpoint, path: str, body: bytes) -> OpenAnswer:
        call = RelayCall(endpoint, path, body, self._answer, self._status, self._content_type)
        self.calls.append(call)
        if self._answer and isinstance(self._answer[0], ModelError):
            raise self._answer[0]
        return call
