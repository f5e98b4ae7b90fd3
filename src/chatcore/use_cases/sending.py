"""Sending a message."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import ClassVar

from chatcore.authority import Owner, acting, planning
from chatcore.bounds import JSON, Bounds, Text, check, need
from chatcore.entities import (
    Conversation,
    ConversationId,
    Image,
    Message,
    MessageId,
    OwnerId,
    Scope,
    Status,
    WorkerId,
    title_from,
)
from chatcore.errors import ConversationBusy, FieldError, IdempotencyKeyReused, NotFound, Raises
from chatcore.hooks import Ask
from chatcore.ports import NO_METADATA, Clock, Idempotency, UnitsOfWork
from chatcore.replies import Replies
from chatcore.shielding import retry_on_contention, shielded
from chatcore.storage import json_size
from chatcore.use_cases.asking import ASKING, MESSAGE, Asking, check_said
from chatcore.use_cases.beginning import AskingWork, Beginning, existing
from chatcore.use_cases.chat_values import (
    NO_OPTIONS,
    Asked,
    ChatOptions,
    Earlier,
    Sent,
    rules_broken_by,
    too_many_images,
)
from chatcore.use_cases.planning import Plan, Planner

MAX_REQUEST = 256 * 1024
"""Bytes of JSON that are stored of a request in another protocol."""
EARLIER = 500
"""Messages that may be stored before one that is sent."""
EARLIER_TEXT = 4_000_000
"""Code points that they may have together."""
TOO_MUCH_EARLIER = f"must have at most {EARLIER_TEXT:,} characters together"
_REMEMBERED = timedelta(hours=24)
_PLANS = 3  # that may be overtaken by others' messages in the same conversation


@dataclass(frozen=True, slots=True)
class _Where:
    """Where a message is sent, and what goes with it: see `SendMessage`."""

    conversation_id: ConversationId | None
    client_id: str | None
    begins: bool
    after: MessageId | None
    named: Idempotency | None
    earlier: Sequence[Earlier]
    asked: Asked | None


@dataclass(frozen=True, kw_only=True)
class SendMessage:
    """Send a message and start the model's reply. The reply continues if the client disconnects.

    The model is the request's, else the conversation's, else the user's newest configuration, else the server's.
    Without a conversation one is created in the same transaction, titled with the first 50 characters of the message.

    The same `Idempotency-Key` and body within 24 hours give the same message and reply, and nothing is sent twice. The
    same key with another body is refused.
    """

    unit_of_work: UnitsOfWork[AskingWork]
    replies: Replies
    planner: Planner
    asking: Asking
    beginning: Beginning
    clock: Clock
    bounds: ClassVar[Bounds] = Bounds(idempotency_key=Text(1, 255), client_id=Text(1, 255), **MESSAGE)
    raises: ClassVar[Raises] = (*ASKING, IdempotencyKeyReused)

    async def __call__(
        self,
        *,
        by: Owner,
        conversation_id: ConversationId | None,
        content: str,
        images: Sequence[Image] = (),
        options: ChatOptions = NO_OPTIONS,
        metadata: Mapping[str, str] = NO_METADATA,
        idempotency_key: str | None = None,
        client_id: str | None = None,
        begins: bool = False,
        after: MessageId | None = None,
        earlier: Sequence[Earlier] = (),
        asked: Asked | None = None,
    ) -> Sent:
        """An `idempotency_key` needs a conversation. A refused send stores nothing, not even a conversation. With
        `images` the content may be empty.

        `client_id`: the client's own name for the conversation, which is created when the name is first used. `begins`:
        the message must create it; if another message did, raise `IdempotencyKeyReused`. `after`: the message to
        continue, which begins a branch unless it is the last one. `earlier`: up to 500 messages of 4,000,000 characters
        to store before it; all images have at most 20 MiB. Raise `Unavailable` also while `Replies` shut down.
        """
        need(content=content, metadata=metadata)
        given = {"metadata": metadata, "idempotency_key": idempotency_key, "client_id": client_id}
        check_said(options, content, images, self.bounds, **given)
        _check_earlier(earlier, images)
        _check_asked(asked)
        if idempotency_key is not None and conversation_id is None and client_id is None:
            check(FieldError("idempotency_key", "needs a conversation to be unique in"))
        named = None
        if idempotency_key is not None:
            named = Idempotency(idempotency_key, _digest(content, options, metadata, images, earlier, after))
        ask = await self.asking.ask(by, conversation_id, content, options, metadata, images)
        to = _Where(conversation_id, client_id, begins, after, named, earlier, asked)
        return await shielded(self._send(by, to, ask))

    @retry_on_contention
    async def _send(self, by: Owner, to: "_Where", ask: Ask) -> Sent:
        worker_id = await self.replies.claimant()
        for _ in range(_PLANS):
            async with planning(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
                conversation = await self._existing(work, by.owner, to)
                if conversation is None:
                    self.asking.check_replies(by.owner)
                    plan = await self.planner.plan(work, ask, earlier=to.earlier)
                else:
                    if to.named is not None and (sent := await self._sent_before(work, conversation, to.named)):
                        return sent
                    if to.begins:
                        raise IdempotencyKeyReused
                    self.asking.check_free(conversation)
                    history = await self._history(work, conversation, to.after)
                    if history and history[-1].status is Status.WRITING:
                        continue  # begun since the conversation was read, perhaps under the same key
                    plan = await self.planner.plan(work, ask, conversation, history, to.earlier)
            plan = replace(plan, asked=to.asked)
            if conversation is None:
                return await self._begin_with(by, to, plan, ask, worker_id)
            if sent := await self._begin(by, conversation.id, to, plan, ask, worker_id):
                return sent
        raise ConversationBusy

    async def _existing(self, work: AskingWork, owner: OwnerId, to: "_Where") -> Conversation | None:
        """Return None for a conversation that is to be created. Raise `NotFound`."""
        if to.conversation_id is not None:
            return await existing(work, owner, to.conversation_id)
        return await work.conversations.named(owner, to.client_id) if to.client_id is not None else None

    async def _history(
        self, work: AskingWork, conversation: Conversation, after: MessageId | None
    ) -> Sequence[Message]:
        if after is None:
            return await self.planner.told(work, conversation)
        if await work.messages.place(conversation.user_id, conversation.id, after) is None:
            raise NotFound("There is no such message to continue.")
        return await self.planner.path_to(work, conversation, after)

    async def _begin_with(self, by: Owner, to: "_Where", plan: Plan, ask: Ask, worker_id: WorkerId) -> Sent:
        """In a new conversation."""
        async with acting(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            conversation = await work.conversations.add(
                by.owner,
                title=title_from(ask.content or ""),
                config_id=None,
                now=self.clock.now(),
                client_id=to.client_id,
            )
            return await self.beginning.say(work, conversation, plan, ask, worker_id, named=to.named)

    async def _begin(
        self,
        by: Owner,
        conversation_id: ConversationId,
        to: "_Where",
        plan: Plan,
        ask: Ask,
        worker_id: WorkerId,
    ) -> Sent | None:
        """Return None if the branch no longer ends where the plan continues it."""
        owner, named, siblings = by.owner, to.named, tuple[MessageId, ...]()
        async with acting(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            conversation = await self.beginning.locked(work, owner, conversation_id)
            if named is not None and (sent := await self._sent_before(work, conversation, named)):
                return sent
            if conversation.writing_reply_id is not None:
                raise ConversationBusy
            if await work.messages.last(owner, conversation_id) != plan.last:
                if to.after is None:
                    return None
                await self.beginning.make_last(work, owner, conversation_id, to.after)
                tree = await work.messages.tree(owner, conversation_id)
                siblings = tuple(node.id for node in tree if node.parent_id == to.after)
            if named is not None:
                forgotten = self.clock.now() - _REMEMBERED
                await work.messages.forget_key(owner, conversation_id, named.key, before=forgotten)
            siblings = () if to.earlier else siblings
            return await self.beginning.say(work, conversation, plan, ask, worker_id, named=named, siblings=siblings)

    async def _sent_before(self, work: AskingWork, conversation: Conversation, named: Idempotency) -> Sent | None:
        owner, conversation_id, since = conversation.user_id, conversation.id, self.clock.now() - _REMEMBERED
        found = await work.messages.sent_with(owner, conversation_id, named.key, since=since)
        if found is None:
            return None
        message, before = found
        if before.digest != named.digest:
            raise IdempotencyKeyReused
        reply = await work.messages.reply_to(owner, conversation_id, message.id)
        if reply is None:
            return None
        if Status.DELETED in (message.status, reply.status):
            raise NotFound("The reply to this message was deleted. Use a new idempotency key to send it again.")
        return Sent(message, reply)


def _check_asked(asked: Asked | None) -> None:
    check(None if asked is None else JSON.broken(asked.body, "asked"))
    size = 0 if asked is None else json_size(asked.body)
    check(FieldError("asked", f"must be at most {MAX_REQUEST} bytes") if size > MAX_REQUEST else None)


def _check_earlier(earlier: Sequence[Earlier], images: Sequence[Image]) -> None:
    check(FieldError("earlier", f"must be at most {EARLIER} messages") if len(earlier) > EARLIER else None)
    size = sum(len(each.content) for each in earlier)
    check(FieldError("earlier", TOO_MUCH_EARLIER) if size > EARLIER_TEXT else None)
    check(*(broken for each in earlier for broken in rules_broken_by(each, content="earlier", images="earlier")))
    check(too_many_images((images, *(each.images for each in earlier)), "images"))


def _digest(
    content: str,
    options: ChatOptions,
    metadata: Mapping[str, str] = NO_METADATA,
    images: Sequence[Image] = (),
    earlier: Sequence[Earlier] = (),
    after: MessageId | None = None,
) -> bytes:
    """The same as an older server makes that does not know the newest options, if they are not used."""
    given = {field.name: getattr(options, field.name) for field in fields(options)}
    first = tuple(given.pop(name) for name in ("config_id", "system", "temperature", "max_tokens"))
    later = tuple((name, value) for name, value in sorted(given.items()) if value)
    later += (("metadata", sorted(metadata.items())),) if metadata else ()
    later += (("images", _shown(images)),) if images else ()
    before = [(str(each.role), each.content, _shown(each.images)) for each in earlier]
    later += (("earlier", before),) if before else ()
    later += (("after", after),) if after else ()
    return hashlib.sha256(repr((content, *first, *later)).encode()).digest()


def _shown(images: Sequence[Image]) -> Sequence[object]:
    return [(image.media_type, image.detail, hashlib.sha256(image.data).digest()) for image in images]
