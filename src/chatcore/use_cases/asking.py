"""What sending, editing and regenerating ask before anything is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from chatcore.authority import CHANGING, Owner
from chatcore.bounds import IMAGES, JSON, METADATA, Bounds, check
from chatcore.entities import Conversation, ConversationId, Image, OwnerId, Scope
from chatcore.errors import (
    ConversationBusy,
    ModelNotConfigured,
    NotFound,
    Raises,
    RateLimited,
    StorageFull,
    ValidationFailed,
)
from chatcore.hooks import NO_HOOKS, Ask, Hooks
from chatcore.ports import NO_METADATA
from chatcore.rate_limits import UNLIMITED, RateLimits
from chatcore.replies import Replies
from chatcore.use_cases.chat_values import OPTIONS, SAID, ChatOptions

MESSAGE = Bounds(content=SAID, images=IMAGES, metadata=METADATA, **OPTIONS)
"""The bounds of a message with its options."""
ASKING: Raises = (
    *CHANGING,
    ValidationFailed,
    NotFound,
    ConversationBusy,
    ModelNotConfigured,
    RateLimited,
    StorageFull,
)
"""Errors of every use case that begins a reply."""


def check_options(options: ChatOptions, bounds: Bounds = OPTIONS, **given: object) -> None:
    """Raise `ValidationFailed`. `given`: what else the bounds are for."""
    chosen = {"system": options.system, "temperature": options.temperature, "max_tokens": options.max_tokens}
    check(JSON.broken(options.more, "more"))
    bounds.check(**given, **chosen)


def check_said(
    options: ChatOptions, content: str | None, images: Sequence[Image], bounds: Bounds = MESSAGE, **given: object
) -> None:
    """Raise `ValidationFailed`. A message that has images may be without a text."""
    check_options(options, bounds, content=content or (None if images else content), images=images, **given)


@dataclass(frozen=True, kw_only=True)
class Asking:
    """Counts what is asked of a model, and asks the embedding program."""

    replies: Replies
    limits: RateLimits = UNLIMITED
    hooks: Hooks = NO_HOOKS

    async def ask(
        self,
        by: Owner,
        conversation_id: ConversationId | None,
        content: str | None,
        options: ChatOptions,
        metadata: Mapping[str, str] = NO_METADATA,
        images: Sequence[Image] = (),
    ) -> Ask:
        """Count the attempt, and ask the embedding program. What it changes keeps the rules, too."""
        by.require(Scope.CHAT)
        await self.limits.try_send(by.owner)
        user, tenant = by.name
        ask = Ask(
            owner=by.owner,
            user=user,
            tenant=tenant,
            conversation_id=conversation_id,
            content=content,
            options=options,
            metadata=dict(metadata),
            images=images,
        )
        if self.hooks.overrides(Hooks.before_send):
            changed = await self.hooks.before_send(ask)
            ask = replace(ask, options=changed.options)
            if content is not None:
                ask = replace(ask, content=changed.content or "", images=changed.images, metadata=changed.metadata)
                check_said(ask.options, ask.content, ask.images, metadata=ask.metadata)
            else:
                check_options(ask.options)
        return ask

    def check_free(self, conversation: Conversation) -> None:
        """Refuse early. Raise `ConversationBusy`, `RateLimited`."""
        if conversation.writing_reply_id is not None:
            raise ConversationBusy
        self.check_replies(conversation.user_id)

    def check_replies(self, owner: OwnerId) -> None:
        self.limits.check_replies(owner, self.replies.written_for(owner) + 1)
