"""Talking to a model: send, follow, stop."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import astuple, dataclass, field
from datetime import datetime, timedelta

from chatcore.entities import (
    MAX_CONTENT,
    Conversation,
    ConversationId,
    Message,
    MessageId,
    ModelConfigId,
    Role,
    UserId,
    check,
    range_rule,
    text_rule,
    title_from,
)
from chatcore.errors import ConversationBusy, FieldError, IdempotencyKeyReused, ModelNotConfigured, NotFound
from chatcore.events import ReplyEvent
from chatcore.ports import Cipher, Clock, Idempotency, ModelEndpoint, Prompt, UnitOfWork, UnitOfWorkFactory
from chatcore.prompt import PromptLimits, build_prompt, build_title_prompt
from chatcore.replies import Replies, ReplyJob, with_logged_text
from chatcore.shielding import settled
from chatcore.use_cases.model_configs import endpoint_of

_MISSING = "There is no such conversation."
_REMEMBERED = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatDefaults:
    """What holds where a request says nothing. `model`: the server's own endpoint, if it has one.

    `model_titles`: a new conversation's title is asked of the model, beside the first reply.
    """

    model: ModelEndpoint | None = None
    system_prompt: str = ""
    model_titles: bool = False
    temperature: float | None = None
    max_tokens: int | None = None
    limits: PromptLimits = field(default_factory=PromptLimits)


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What one request may choose: `config_id` one of the owner's configurations, `system` at most 48,000
    characters, `temperature` 0 to 2, `max_tokens` 1 to 1,000,000."""

    config_id: ModelConfigId | None = None
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """The stored message and the reply to it, which is being written."""

    message: Message
    reply: Message


@dataclass(frozen=True, kw_only=True)
class SendMessage:
    """The owner: says something and has a model reply.

    When it returns, the message is stored and the reply is being written, whoever stays to read it. The model is
    the request's, else the conversation's, else the newest that the owner configured, else the server's.

    Sending again with the same `idempotency_key` within 24 hours gives the same message and reply, and nothing is
    sent twice; with other content or options it is refused.
    """

    unit_of_work: UnitOfWorkFactory
    replies: Replies
    cipher: Cipher
    defaults: ChatDefaults
    clock: Clock

    async def __call__(
        self,
        *,
        owner: UserId,
        conversation_id: ConversationId,
        content: str,
        options: ChatOptions = ChatOptions(),
        idempotency_key: str | None = None,
    ) -> Sent:
        """`content`: 1 to 200,000 characters, `idempotency_key`: 1 to 255. Raises `ValidationFailed`, `NotFound`,
        `IdempotencyKeyReused`, `ConversationBusy`, `ModelNotConfigured`, and `Unavailable` while shutting down;
        nothing is stored then."""
        check(
            text_rule(content, "content", minimum=1, maximum=MAX_CONTENT),
            text_rule(options.system or "", "system", maximum=48_000),
            range_rule(options.temperature, "temperature", minimum=0, maximum=2),
            range_rule(options.max_tokens, "max_tokens", minimum=1, maximum=1_000_000),
            None if idempotency_key is None else text_rule(idempotency_key, "Idempotency-Key", minimum=1, maximum=255),
        )
        named = None if idempotency_key is None else Idempotency(idempotency_key, _digest(content, options))
        return await settled(self._send(_Request(owner, conversation_id, content, options, named)))

    async def _send(self, request: "_Request") -> Sent:
        now, options = self.clock.now(), request.options
        async with self.unit_of_work() as work:
            conversation = await work.conversations.lock(request.owner, request.conversation_id)
            if conversation is None:
                raise NotFound(_MISSING)
            if sent := await self._sent_before(work, request, now):
                return sent
            if conversation.writing_reply_id is not None:
                raise ConversationBusy
            endpoint = await self._endpoint(work, conversation, options.config_id)
            history = await self._history(work, conversation)
            sent = await self._store(work, request, history[-1].id if history else None, endpoint.model, now)
            if not conversation.title:
                await work.conversations.set_title(request.owner, conversation.id, title_from(request.content))
            if not await work.conversations.claim(request.owner, conversation.id, sent.reply.id, now=now):
                raise ConversationBusy
            untitled = self.defaults.model_titles and not history and not conversation.titled_by_user
            job = ReplyJob(
                reply=sent.reply,
                endpoint=endpoint,
                prompt=self._prompt([*history, sent.message], options),
                title_prompt=build_title_prompt(request.content) if untitled else None,
            )
            async with self.replies.writing(job):
                await work.commit()
        return sent

    async def _store(
        self, work: UnitOfWork, request: "_Request", parent_id: MessageId | None, model: str, now: datetime
    ) -> Sent:
        message = await work.messages.add(
            request.owner,
            request.conversation_id,
            parent_id=parent_id,
            role=Role.USER,
            content=request.content,
            writing=False,
            model=None,
            now=now,
            idempotency=request.idempotency,
        )
        reply = await work.messages.add(
            request.owner,
            request.conversation_id,
            parent_id=message.id,
            role=Role.ASSISTANT,
            content="",
            writing=True,
            model=model,
            now=now,
        )
        return Sent(message, reply)

    async def _sent_before(self, work: UnitOfWork, request: "_Request", now: datetime) -> Sent | None:
        if request.idempotency is None:
            return None
        owner, conversation_id, key = request.owner, request.conversation_id, request.idempotency.key
        found = await work.messages.sent_with(owner, conversation_id, key, since=now - _REMEMBERED)
        if found is None:
            return None
        message, before = found
        if before.digest != request.idempotency.digest:
            raise IdempotencyKeyReused
        reply = await work.messages.reply_to(owner, conversation_id, message.id)
        return Sent(message, reply) if reply else None

    async def _endpoint(
        self, work: UnitOfWork, conversation: Conversation, config_id: ModelConfigId | None
    ) -> ModelEndpoint:
        owner, chosen = conversation.user_id, config_id or conversation.config_id
        if chosen is not None:
            config = await work.model_configs.get(owner, chosen)
            if config is None:
                raise NotFound("There is no such model configuration.")
        else:
            config = await work.model_configs.newest(owner)
        if config is not None:
            return endpoint_of(config, self.cipher)
        if self.defaults.model is None:
            raise ModelNotConfigured
        return self.defaults.model

    async def _history(self, work: UnitOfWork, conversation: Conversation) -> list[Message]:
        found = await work.messages.history(
            conversation.user_id, conversation.id, limit=self.defaults.limits.max_messages
        )
        return list(found[1]) if found else []

    def _prompt(self, history: list[Message], options: ChatOptions) -> Prompt:
        defaults = self.defaults
        system = defaults.system_prompt if options.system is None else options.system
        return Prompt(
            messages=build_prompt(history, system=system, limits=defaults.limits),
            temperature=defaults.temperature if options.temperature is None else options.temperature,
            max_tokens=defaults.max_tokens if options.max_tokens is None else options.max_tokens,
        )


@dataclass(frozen=True, kw_only=True)
class FollowReply:
    """The owner: reads a reply from any offset on, while it is being written and for ever after."""

    replies: Replies

    def __call__(
        self, *, owner: UserId, conversation_id: ConversationId, reply_id: MessageId | None = None, after: int = 0
    ) -> AsyncIterator[ReplyEvent]:
        """As `Replies.follow`. `after` is at least 0. Raises `ValidationFailed`."""
        check(None if after >= 0 else FieldError("after", "must be at least 0"))
        return self.replies.follow(owner=owner, conversation_id=conversation_id, reply_id=reply_id, after=after)


@dataclass(frozen=True, kw_only=True)
class StopReply:
    """The owner: stops the reply that is being written; what it had said is kept. If none is, the last one is
    returned unchanged."""

    unit_of_work: UnitOfWorkFactory
    replies: Replies

    async def __call__(self, *, owner: UserId, conversation_id: ConversationId) -> Message:
        """Raises `NotFound` also where there never was a reply."""
        async with self.unit_of_work(read_only=True) as work:
            if await work.conversations.get(owner, conversation_id) is None:
                raise NotFound(_MISSING)
            last = await work.messages.last_reply(owner, conversation_id)
        if last is None:
            raise NotFound("No reply was ever written in this conversation.")
        stopped = await self.replies.stop(last.id)
        if stopped is not None:
            return stopped
        async with self.unit_of_work(read_only=True) as work:
            return await with_logged_text(work, last)


def _digest(content: str, options: ChatOptions) -> bytes:
    return hashlib.sha256(repr((content, *astuple(options))).encode()).digest()


@dataclass(frozen=True, slots=True)
class _Request:
    owner: UserId
    conversation_id: ConversationId
    content: str
    options: ChatOptions
    idempotency: Idempotency | None
