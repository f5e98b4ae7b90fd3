"""A gateway for another protocol: Anthropic's Messages API, as a stream of Server-Sent Events."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout

from chatcore import Delta, LLMGateway, ModelEndpoint, Prompt, Role, Usage
from chatcore.entities import FinishReason, storable
from chatcore.errors import ModelError, ModelProtocolError, ModelRateLimited, ModelUnauthorized, ModelUnavailable

FAILURES: Mapping[int, type[ModelError]] = {401: ModelUnauthorized, 403: ModelUnauthorized, 429: ModelRateLimited}
REASONS = {"max_tokens": FinishReason.LENGTH, "refusal": FinishReason.CONTENT_FILTER}


class AnthropicGateway(LLMGateway):
    """For the operator's own endpoint alone: what users may call needs the guard that `OpenAIGateway` has."""

    async def __aenter__(self) -> Self:
        self._http = ClientSession(timeout=ClientTimeout(total=600, sock_read=60), auto_decompress=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def stream(self, endpoint: ModelEndpoint, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        headers = {"x-api-key": endpoint.api_key, "anthropic-version": "2023-06-01"}
        asked, said = 0, 0
        try:
            async with self._http.post(
                f"{endpoint.url}/messages", json=_body(endpoint, prompt), headers=headers, allow_redirects=False
            ) as answer:
                if answer.status != 200:
                    raise FAILURES.get(answer.status, ModelUnavailable)
                async for event in _events(answer):
                    match event:
                        case {"type": "message_start", "message": {"usage": {"input_tokens": int(asked)}}}:
                            pass
                        case {"type": "content_block_delta", "delta": {"type": "text_delta", "text": str(text)}}:
                            yield Delta(text=storable(text))
                        case {"type": "content_block_delta", "delta": {"thinking": str(text)}}:
                            yield Delta(reasoning=storable(text), reasoned=True)
                        case {"type": "message_delta", "delta": delta, "usage": {"output_tokens": int(said)}}:
                            reason = REASONS.get(delta.get("stop_reason"), FinishReason.STOP)
                            usage = Usage(prompt_tokens=asked, completion_tokens=said, total_tokens=asked + said)
                            yield Delta(usage=usage, finish_reason=reason)
                        case {"type": "message_stop"}:
                            return
                        case {"type": "error"}:
                            raise ModelUnavailable
                        case _:
                            pass
        except (ClientError, TimeoutError):
            raise ModelUnavailable from None
        raise ModelProtocolError  # it ended in the middle

    async def models(self, endpoint: ModelEndpoint) -> Sequence[str]:
        return [endpoint.model]

    async def may_call(self, url: str, *, owner: int) -> bool:
        return False


def _body(endpoint: ModelEndpoint, prompt: Prompt) -> dict[str, Any]:
    system = "\n\n".join(message.text for message in prompt.messages if message.role == Role.SYSTEM)
    talk = [{"role": it.role, "content": it.text} for it in prompt.messages if it.role != Role.SYSTEM]
    body = {"model": endpoint.model, "messages": talk, "max_tokens": prompt.max_tokens or 4096, "stream": True}
    return body | ({"system": system} if system else {})


async def _events(answer: ClientResponse) -> AsyncGenerator[Any, None]:
    async for line in answer.content:
        if line.startswith(b"data:"):
            try:
                yield json.loads(line[5:])
            except ValueError:
                raise ModelProtocolError from None
