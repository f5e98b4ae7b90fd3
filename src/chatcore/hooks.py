"""Seams for embedding programs: override what you need of `Hooks`.

before_send → stored → prompt → delta … → ended → after_end
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from chatcore.entities import ConversationId, Image, Message, OwnerId, storable
from chatcore.errors import Refused, Unavailable
from chatcore.ports import Delta, HookWork, LLMGateway, ModelEndpoint, Prompt, Turn

if TYPE_CHECKING:
    from chatcore.use_cases.chat_values import ChatOptions, Sent

T = TypeVar("T")
HOOK_WITHIN = 5.0
"""Seconds for `stored` and `ended`, for which the conversation is locked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A message that is about to be sent. `user` and `tenant`: the program's own id; empty for an account.
    `conversation_id`: None for a new conversation. `content`: None where an earlier message is answered again; then
    only `options` can be changed. `metadata` and `images` are stored with the message."""

    owner: OwnerId
    user: str
    tenant: str
    conversation_id: ConversationId | None
    content: str | None
    options: "ChatOptions"
    metadata: Mapping[str, str]
    images: Sequence[Image] = ()


class Hooks:
    """All do nothing. None is called, and costs nothing, unless it is overridden.

    `stored` and `ended` run inside a transaction, with the conversation locked: keep them short, and change nothing but
    through `work`, whose `execute` runs the program's own statements. They may run again, for a transaction that was
    rolled back.
    """

    async def before_send(self, ask: Ask) -> Ask:
        """Change content, images, options or metadata, within their bounds. Raise `Refused` to store nothing."""
        return ask

    async def stored(self, work: HookWork, sent: "Sent") -> None:
        """Add to the transaction that acknowledges a message. What it raises undoes the send, which raises it."""

    async def prompt(self, turn: Turn, prompt: Prompt) -> Prompt:
        """Change the model's prompt: retrieval, redaction. No lock and no connection is held. Called for titles too
        (`turn.purpose`). `Refused` fails the reply with its code, any other error with `internal`; a title is left out.
        """
        return prompt

    async def delta(self, turn: Turn, delta: Delta) -> Delta | None:
        """Change or, with None, drop what the model says before it is stored or seen, titles too. Errors as in
        `prompt`; the text so far is kept."""
        return delta

    async def relay(self, turn: Turn, body: bytes) -> bytes:
        """Change the JSON of a call that passes through unstored, or raise `Refused`. `prompt` and `delta` do not see
        such calls: where they or `before_send` are overridden, calls are refused unless this is, too."""
        if self.overrides(Hooks.before_send) or self.overrides(Hooks.prompt) or self.overrides(Hooks.delta):
            raise Refused("Calls that pass through are not allowed here.")
        return body

    async def ended(self, work: HookWork, turn: Turn, reply: Message) -> None:
        """Add to the transaction that stores the end of a reply, once, in whichever process ends it: billing, outbox.

        It has 5 seconds. An error is logged and the end tried again; after three tries the end is stored without it."""

    async def after_end(self, turn: Turn, reply: Message) -> None:
        """Act after the end is committed, at most once: metrics. An error is logged."""

    def overrides(self, hook: Callable[..., object]) -> bool:
        """Return whether `hook`, such as `Hooks.delta`, is overridden."""
        name = hook.__name__
        return getattr(type(self), name) is not getattr(Hooks, name) or name in vars(self)


NO_HOOKS = Hooks()


def stream(
    hooks: Hooks,
    gateway: LLMGateway,
    endpoint: ModelEndpoint,
    prompt: Prompt,
    turn: Turn,
    *,
    asked: Callable[[Prompt], None] | None = None,
) -> AsyncGenerator[Delta, None]:
    """Return what the model says, with the hooks `prompt` and `delta` around it. `asked` gets the prompt that is
    sent."""
    prompt = replace(prompt, turn=turn)
    if hooks.overrides(Hooks.prompt) or hooks.overrides(Hooks.delta):
        return _hooked(hooks, gateway, endpoint, prompt, turn, asked)
    if asked is not None:
        asked(prompt)
    return gateway.stream(endpoint, prompt)


async def _hooked(
    hooks: Hooks,
    gateway: LLMGateway,
    endpoint: ModelEndpoint,
    prompt: Prompt,
    turn: Turn,
    asked: Callable[[Prompt], None] | None,
) -> AsyncGenerator[Delta, None]:
    prompt = await called(hooks.prompt(turn, prompt))
    if asked is not None:
        asked(prompt)
    moderated = hooks.overrides(Hooks.delta)
    async with aclosing(gateway.stream(endpoint, prompt)) as deltas:
        async for delta in deltas:
            if moderated and (delta.text or delta.reasoning):
                kept = await called(hooks.delta(turn, delta))
                delta = kept or Delta(usage=delta.usage, finish_reason=delta.finish_reason)
                delta = replace(delta, text=storable(delta.text), reasoning=storable(delta.reasoning))
            yield delta


async def in_time(hook: Awaitable[T]) -> T:
    """As `called`, for a hook inside a transaction, which holds locks: it has `HOOK_WITHIN` seconds. Raise
    `Unavailable`."""
    try:
        async with asyncio.timeout(HOOK_WITHIN):
            return await called(hook)
    except TimeoutError as error:
        raise Unavailable("The program took too long.") from error


async def called(hook: Awaitable[T]) -> T:
    """Return what a hook returns. Raise `RuntimeError` for a `CancelledError` of the hook's own, while nobody cancels
    the task."""
    try:
        return await hook
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise RuntimeError("a hook was cancelled") from error
