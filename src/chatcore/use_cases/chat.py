"""Talking to a model: send, follow, stop."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from chatcore.entities import (
    MAX_CONTENT,
    Conversation,
    ConversationId,
    Message,
    MessageId,
    ModelConfig,
    ModelConfigId,
    Role,
    UserId,
    check,
    range_rule,
    text_rule,
    title_from,
)
from chatcore.errors import ConversationBusy, FieldError, ModelNotConfigured, NotFound
from chatcore.events import ReplyEvent
from chatcore.ports import Cipher, Clock, ModelEndpoint, Prompt, UnitOfWork, UnitOfWorkFactory
from chatcore.prompt import PromptLimits, build_prompt
from chatcore.replies import Replies, ReplyJob, with_logged_text
from chatcore.shielding import settled

_MISSING = "There is no such conversation."


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatDefaults:
    """What holds where a request says nothing. `model`: the server's own endpoint, if it has one."""

    model: ModelEndpoint | None = None
    system_prompt: str = ""
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
    """

    unit_of_work: UnitOfWorkFactory
    replies: Replies
    cipher: Cipher
    defaults: ChatDefaults
    clock: Clock

    async def __call__(
        self, *, owner: UserId, conversation_id: ConversationId, content: str, options: ChatOptions = ChatOptions()
    ) -> Sent:
        """`content`: 1 to 200,000 characters. Raises `ValidationFailed`, `NotFound`, `ConversationBusy`,
        `ModelNotConfigured`, and `Unavailable` while shutting down; nothing is stored then."""
        check(
            text_rule(content, "content", minimum=1, maximum=MAX_CONTENT),
            text_rule(options.system or "", "system", maximum=48_000),
            range_rule(options.temperature, "temperature", minimum=0, maximum=2),
            range_rule(options.max_tokens, "max_tokens", minimum=1, maximum=1_000_000),
        )
        return await settled(self._send(owner, conversation_id, content, options))

    async def _send(self, owner: UserId, conversation_id: ConversationId, content: str, options: ChatOptions) -> Sent:
        now = self.clock.now()
        async with self.unit_of_work() as work:
            conversation = await work.conversations.lock(owner, conversation_id)
            if conversation is None:
                raise NotFound(_MISSING)
            if conversation.writing_reply_id is not None:
                raise ConversationBusy
            endpoint = await self._endpoint(work, conversation, options.config_id)
            history = await self._history(work, conversation)
            message = await work.messages.add(
                owner,
                conversation_id,
                parent_id=history[-1].id if history else None,
                role=Role.USER,
                content=content,
                writing=False,
                model=None,
                now=now,
            )
            reply = await work.messages.add(
                owner,
                conversation_id,
                parent_id=message.id,
                role=Role.ASSISTANT,
                content="",
                writing=True,
                model=endpoint.model,
                now=now,
            )
            if not conversation.title:
                await work.conversations.set_title(owner, conversation_id, title_from(content))
            if not await work.conversations.claim(owner, conversation_id, reply.id, now=now):
                raise ConversationBusy
            job = ReplyJob(reply=reply, endpoint=endpoint, prompt=self._prompt([*history, message], options))
            async with self.replies.writing(job):
                await work.commit()
        return Sent(message, reply)

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
            return opened(config, self.cipher)
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


def opened(config: ModelConfig, cipher: Cipher) -> ModelEndpoint:
    """The endpoint with its key in the open, for one call. Raises `ModelNotConfigured` if the key does not open."""
    try:
        api_key = cipher.open(config.sealed_key, owner=config.user_id, config_id=config.id) if config.sealed_key else ""
    except ValueError:
        raise ModelNotConfigured("The stored API key cannot be opened any more. Send it again.") from None
    return ModelEndpoint(url=config.model_url, model=config.model_name, api_key=api_key)
