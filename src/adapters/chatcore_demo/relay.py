"""The demo model as an endpoint of OpenAI's chat completions."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from chatcore.errors import ModelRefused
from chatcore.ports import ModelEndpoint, ModelRelay, OpenAnswer, PromptMessage, TextPart
from chatcore_demo.model import DEMO_ENDPOINT, answer, words

_ID = "chatcmpl-demo"
_NOTHING_ELSE = "The demo model answers chat completions alone."


class DemoRelay(ModelRelay):
    """Answers for `DEMO_ENDPOINT` itself, word by word with `pause` seconds between them. Every other endpoint is the
    business of `then`."""

    def __init__(self, then: ModelRelay, *, pause: float = 0.03) -> None:
        self._then = then
        self._pause = pause

    async def relay(self, endpoint: ModelEndpoint, path: str, body: bytes) -> OpenAnswer:
        """As the port; raises `ModelRefused` for what the demo model does not understand."""
        if endpoint.url != DEMO_ENDPOINT.url:
            return await self._then.relay(endpoint, path, body)
        if path != "/chat/completions":
            raise ModelRefused(_NOTHING_ELSE)
        try:
            asked = json.loads(body)
            said = words(answer([_message(each) for each in asked["messages"]]))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise ModelRefused("`messages` must be a list of messages.") from None
        return _Streamed(said, self._pause) if asked.get("stream") is True else _Whole(said, self._pause)


def _message(given: Mapping[str, Any]) -> PromptMessage:
    content = given.get("content") or ""
    if isinstance(content, str):
        return PromptMessage(str(given["role"]), content)
    return PromptMessage(str(given["role"]), [TextPart(str(part.get("text", ""))) for part in content])


class _Said(OpenAnswer):
    status = 200
    request_id = ""
    retry_after = None

    def __init__(self, said: list[str], pause: float) -> None:
        self.received = 0
        self.last = b""
        self._said = said
        self._pause = pause
        self._head = {"id": _ID, "created": int(time.time()), "model": DEMO_ENDPOINT.model}

    async def aclose(self) -> None:
        """Nothing is open."""

    def _noted(self, piece: bytes) -> bytes:
        self.received += len(piece)
        self.last = piece
        return piece


class _Whole(_Said):
    content_type = "application/json"

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        await asyncio.sleep(self._pause * len(self._said))
        message = {"role": "assistant", "content": "".join(self._said)}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        count = len(self._said)
        usage = {"prompt_tokens": 0, "completion_tokens": count, "total_tokens": count}
        completion = {**self._head, "object": "chat.completion", "choices": [choice], "usage": usage}
        yield self._noted(json.dumps(completion).encode())


class _Streamed(_Said):
    content_type = "text/event-stream"

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        yield self._event({"role": "assistant", "content": ""})
        for word in self._said:
            await asyncio.sleep(self._pause)
            yield self._event({"content": word})
        yield self._event({}, "stop")
        yield self._noted(b"data: [DONE]\n\n")

    def _event(self, delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk = {**self._head, "object": "chat.completion.chunk", "choices": [choice]}
        return self._noted(f"data: {json.dumps(chunk)}\n\n".encode())
