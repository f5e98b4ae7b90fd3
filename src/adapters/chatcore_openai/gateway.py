"""The port's side of it: one call, one stream of deltas."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Self

from chatcore.entities import FinishReason, OwnerId, origin_of
from chatcore.errors import ModelError, ModelTimeout
from chatcore.ports import Delta, LLMGateway, ModelEndpoint, ModelRelay, OpenAnswer, Prompt
from chatcore_openai.chunks import Fault
from chatcore_openai.egress import Egress
from chatcore_openai.failures import Refusal, host_of, words_for_log
from chatcore_openai.listing import models_in
from chatcore_openai.names import Names, asking_for
from chatcore_openai.relay import Passing, Refused, failure_of
from chatcore_openai.reply import ReplyReader
from chatcore_openai.sse import SLICE, WholeBody, parts_of

if TYPE_CHECKING:
    import ssl

    from chatcore_openai.client import ChatClient
    from chatcore_openai.transport import Body

_log = logging.getLogger("chatcore.models")
_LIST_WITHIN = 20  # seconds
_MAX_LISTING = 1024 * 1024  # bytes
_END_WITHIN = 0.1  # seconds from [DONE] to the response's end
_AFTER_LAST_WORD = 1.5  # seconds from the last word to [DONE]
_RAW = 16  # times as many raw bytes as bytes of text
_EVENT = 64  # raw bytes for each event that says nothing


class OpenAIGateway(LLMGateway, ModelRelay):
    """Streams replies from any endpoint that speaks OpenAI's chat completions. An async context manager.

    Times are in seconds: `connect_timeout` to reach the endpoint, `idle_timeout` between any two words of its answer,
    `total_timeout` for the whole reply. `max_bytes` bounds what the model says, in UTF-8; `max_raw_bytes` all that its
    endpoint sends, which is 16 times as much unless given, and events that say nothing to one for 64 of these bytes.

    An endpoint that is not trusted has to have a public address, or one that `allow` names as `scheme://network:port`
    (such as `http://127.0.0.0/8:11434`); everything else raises `ModelURLRefused` before anything is sent.

    One delta holds what arrived together, however many events that were. Reasoning that comes after the first text
    of the answer is dropped. A server that does not stream, but answers with one JSON completion, gives one delta.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = 10,
        idle_timeout: float = 60,
        total_timeout: float = 600,
        max_bytes: int = 4 * 1024 * 1024,
        max_raw_bytes: int | None = None,
        allow: Sequence[str] = (),
    ) -> None:
        """Raise `ValueError` for an `allow` of another form."""
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._total_timeout = total_timeout
        self._max_bytes = max_bytes
        self._max_raw_bytes = max_raw_bytes or _RAW * max_bytes
        self._egress = Egress(allow)
        self._names = Names()
        self._clients: tuple[ChatClient, ChatClient] | None = None  # for users' endpoints, and for trusted ones
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients or ():
            await client.aclose()

    async def warm(self) -> None:
        """Import the HTTP libraries, in a thread. Without it the first call waits for that, about a second."""
        await self._opened()

    async def stream(self, endpoint: ModelEndpoint, prompt: Prompt) -> AsyncGenerator[Delta, None]:
        body = await self._answer(endpoint, prompt)
        if body is None:
            yield Delta(finish_reason=FinishReason.LENGTH)
            return
        now = asyncio.get_running_loop().time
        async with aclosing(body):
            reader = ReplyReader(max_bytes=self._max_bytes, max_events=self._max_raw_bytes // _EVENT)
            cut: ModelError | None = None
            while cut is None and not reader.done:
                try:
                    piece = await body.more()
                except body.trouble as error:
                    piece, cut = body.cut(error)
                if not piece:
                    break
                for part in (piece,) if len(piece) <= SLICE else parts_of(piece):
                    if delta := reader.feed(part):
                        body.since = inf
                        yield delta
                        body.since = now()
                    if part is not piece:
                        await asyncio.sleep(0)  # however full the buffer is, others have their turn
                if reader.finished:
                    body.hurry(_AFTER_LAST_WORD)
            told = reader.failure
            if delta := reader.end():
                yield delta
            _note(reader.fault, endpoint, prompt)
            _raise_first(told, None if reader.finished else cut, reader.failure)
            await _to_the_end(body)

    async def _answer(self, endpoint: ModelEndpoint, prompt: Prompt) -> "Body | None":
        """None: the model has used up all its tokens and said nothing."""
        client = (await self._opened())[endpoint.trusted]
        try:
            return await client.ask(endpoint, prompt)
        except Refusal as refusal:
            _note(refusal.fault, endpoint, prompt, refusal.status)
            if refusal.ran_out_of_tokens:
                return None
            raise refusal.failure_for(prompt) from None

    async def models(self, endpoint: ModelEndpoint) -> Sequence[str]:
        client = (await self._opened())[endpoint.trusted]
        listing = WholeBody(_MAX_LISTING)
        try:
            async with asyncio.timeout(_LIST_WITHIN), aclosing(await client.list_models(endpoint)) as body:
                while piece := await body.read():
                    listing.feed(piece)
        except TimeoutError:
            raise ModelTimeout from None
        except Refusal as refusal:
            _note(refusal.fault, endpoint, status=refusal.status)
            raise refusal.failure from None
        return models_in(b"".join(listing.rest()))

    async def relay(self, endpoint: ModelEndpoint, path: str, body: bytes) -> OpenAnswer:
        client = (await self._opened())[endpoint.trusted]
        try:
            status, answer = await client.relay(endpoint, path, body)
        except Refusal as refusal:
            _log.warning("%s refused a call: status=%s id=%s", host_of(endpoint), refusal.status, refusal.request_id)
            if failure := failure_of(refusal, endpoint):
                raise failure from None
            return Refused(refusal)
        try:
            return Passing(answer, status=status)
        except ModelError:
            await answer.aclose()
            raise

    async def may_call(self, url: str, *, owner: OwnerId) -> bool:
        scheme, host, port = origin_of(url)
        try:
            with asking_for(owner):
                found = await self._names.addresses_of(host)
        except (OSError, ValueError):
            return True
        return all(self._egress.permits(scheme, address.text, port) for address in found)

    async def _opened(self) -> "tuple[ChatClient, ChatClient]":
        async with self._opening:
            if self._clients is None:
                tls = await asyncio.to_thread(_import_client)
                self._clients = self._open(tls, self._egress), self._open(tls, None)
            return self._clients

    def _open(self, tls: "ssl.SSLContext", egress: Egress | None) -> "ChatClient":
        from chatcore_openai.client import ChatClient

        return ChatClient(
            connect_timeout=self._connect_timeout,
            idle_timeout=self._idle_timeout,
            total_timeout=self._total_timeout,
            tls=tls,
            egress=egress,
            names=self._names,
            max_raw_bytes=self._max_raw_bytes,
        )


def _import_client() -> "ssl.SSLContext":
    from chatcore_openai.client import tls_context

    return tls_context()


def _note(
    fault: Fault | None, endpoint: ModelEndpoint, prompt: Prompt | None = None, status: int | None = None
) -> None:
    """Log what an endpoint said of a failure: for a person, who needs its words, and not for the user."""
    if fault is not None:
        words = words_for_log(fault.message or "", endpoint, prompt)
        code = words_for_log(str(fault.code), endpoint)
        _log.warning("%s failed: status=%s code=%s %s", host_of(endpoint), status, code, words)


def _raise_first(*failures: ModelError | None) -> None:
    for failure in failures:
        if failure is not None:
            raise failure


async def _to_the_end(body: "Body") -> None:
    """A connection is used again only if its response was read to the end, which as a rule comes with [DONE]."""
    with suppress(TimeoutError, ModelError):
        async with asyncio.timeout(_END_WITHIN):
            await body.read()
