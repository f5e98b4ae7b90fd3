"""Replies of a model: send, edit, regenerate, follow, stop."""

import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import ClassVar, Protocol

from chatcore.authority import ANYTIME, CHANGING, Owner, acting, planning
from chatcore.bounds import IMAGES, METADATA, Bounds, Range, Text, check, need
from chatcore.endings import LoggedWork, with_logged_text
from chatcore.entities import (
    Conversation,
    ConversationId,
    Image,
    Message,
    MessageId,
    OwnerId,
    Role,
    Scope,
    Status,
    WorkerId,
    title_from,
)
from chatcore.errors import (
    ConversationBusy,
    FieldError,
    IdempotencyKeyReused,
    NotFound,
    Raises,
    RateLimited,
    ValidationFailed,
)
from chatcore.events import ReplyEvent
from chatcore.hooks import Ask
from chatcore.ports import NO_METADATA, AuthorityWork, Clock, ConversationRepo, Idempotency, UnitsOfWork
from chatcore.replies import Replies
from chatcore.shielding import retry_on_contention, shielded
from chatcore.storage import json_size
from chatcore.use_cases.asking import (
    CONTENT,
    MISSING,
    OPTIONS,
    SAID,
    Asked,
    AskingWork,
    AskModel,
    ChatOptions,
    Earlier,
    Plan,
    Sent,
)

NO_OPTIONS = ChatOptions()
MAX_REQUEST = 256 * 1024
"""Bytes of JSON that are stored of a request in another protocol."""
EARLIER = 500
"""Messages that may be stored before one that is sent."""
AFTER = Range(0, 2**53)
"""Code points: JavaScript counts no further, and no reply has more."""
_REMEMBERED = timedelta(hours=24)
_PLANS = 3  # that may be overtaken by others' messages in the same conversation


@dataclass(frozen=True, slots=True)
class _Where:
    """Where a message is sent, and what goes with it: see `SendMessage`."""

    conversation_id: ConversationId | None
    client_id: str | None
    after: MessageId | None
    named: Idempotency | None
    earlier: Sequence[Earlier]
    asked: Asked | None


@dataclass(frozen=True, kw_only=True)
class SendMessage(AskModel):
    """Send a message and start the model's reply. The reply continues if the client disconnects.

    The model is the request's, else the conversation's, else the user's newest configuration, else the server's.
    Without a conversation one is created in the same transaction, titled with the first 50 characters of the message.

    The same `Idempotency-Key` and body within 24 hours give the same message and reply, and nothing is sent twice. The
    same key with another body is refused.
    """

    bounds: ClassVar[Bounds] = Bounds(
        content=SAID,
        images=IMAGES,
        metadata=METADATA,
        idempotency_key=Text(1, 255),
        client_id=Text(1, 255),
        **OPTIONS,
    )
    raises: ClassVar[Raises] = (*AskModel.raises, IdempotencyKeyReused)

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
        after: MessageId | None = None,
        earlier: Sequence[Earlier] = (),
        asked: Asked | None = None,
    ) -> Sent:
        """An `idempotency_key` needs a conversation. A refused send stores nothing, not even a conversation. With
        `images` the content may be empty.

        `client_id`: the client's own name for the conversation, which is created when the name is first used. `after`:
        the message to continue, which begins a branch unless it is the last one. `earlier`: up to 500 messages to store
        before it. Raise `Unavailable` also while `Replies` shut down.
        """
        need(content=content, metadata=metadata)
        given = {"metadata": metadata, "idempotency_key": idempotency_key, "client_id": client_id}
        self._check_said(options, content, images, **given)
        _check_earlier(earlier)
        _check_asked(asked)
        if idempotency_key is not None and conversation_id is None and client_id is None:
            check(FieldError("idempotency_key", "needs a conversation to be unique in"))
        named = None
        if idempotency_key is not None:
            named = Idempotency(idempotency_key, _digest(content, options, metadata, images))
        ask = await self._asked(by, conversation_id, content, options, metadata, images)
        to = _Where(conversation_id, client_id, after, named, earlier, asked)
        return await shielded(self._send(by, to, ask))

    @retry_on_contention
    async def _send(self, by: Owner, to: "_Where", ask: Ask) -> Sent:
        worker_id = await self.replies.claimant()
        for _ in range(_PLANS):
            async with planning(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
                conversation = await self._existing(work, by.owner, to)
                if conversation is None:
                    self._check_replies(by.owner)
                    plan = await self._plan(work, ask)
                else:
                    if to.named is not None and (sent := await self._sent_before(work, conversation, to.named)):
                        return sent
                    self._check_free(conversation)
                    history = await self._history(work, conversation, to.after)
                    if history and history[-1].status is Status.WRITING:
                        continue  # begun since the conversation was read, perhaps under the same key
                    plan = await self._plan(work, ask, conversation, history)
            plan = replace(plan, earlier=to.earlier, asked=to.asked)
            if conversation is None:
                return await self._begin_with(by, to, plan, ask, worker_id)
            if sent := await self._begin(by, conversation.id, to, plan, ask, worker_id):
                return sent
        raise ConversationBusy

    async def _existing(self, work: AskingWork, owner: OwnerId, to: "_Where") -> Conversation | None:
        """Return None for a conversation that is to be created. Raise `NotFound`."""
        if to.conversation_id is not None:
            return await self._conversation(work, owner, to.conversation_id)
        return await work.conversations.named(owner, to.client_id) if to.client_id is not None else None

    async def _history(
        self, work: AskingWork, conversation: Conversation, after: MessageId | None
    ) -> Sequence[Message]:
        if after is None:
            return await self._told(work, conversation)
        if await work.messages.place(conversation.user_id, conversation.id, after) is None:
            raise NotFound("There is no such message to continue.")
        return await self._path_to(work, conversation, after)

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
            return await self._say(work, conversation, plan, ask, worker_id, named=to.named)

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
            conversation = await self._lock(work, owner, conversation_id)
            if named is not None and (sent := await self._sent_before(work, conversation, named)):
                return sent
            if conversation.writing_reply_id is not None:
                raise ConversationBusy
            if await work.messages.last(owner, conversation_id) != plan.last:
                if to.after is None:
                    return None
                await self._make_last(work, owner, conversation_id, to.after)
                tree = await work.messages.tree(owner, conversation_id)
                siblings = tuple(node.id for node in tree if node.parent_id == to.after)
            if named is not None:
                forgotten = self.clock.now() - _REMEMBERED
                await work.messages.forget_key(owner, conversation_id, named.key, before=forgotten)
            siblings = () if to.earlier else siblings
            return await self._say(work, conversation, plan, ask, worker_id, named=named, siblings=siblings)

    async def _sent_before(self, work: AskingWork, conversation: Conversation, named: Idempotency) -> Sent | None:
        owner, conversation_id, since = conversation.user_id, conversation.id, self.clock.now() - _REMEMBERED
        found = await work.messages.sent_with(owner, conversation_id, named.key, since=since)
        if found is None:
            return None
        message, before = found
        if before.digest != named.digest:
            raise IdempotencyKeyReused
        reply = await work.messages.reply_to(owner, conversation_id, message.id)
        return Sent(message, reply) if reply else None


@dataclass(frozen=True, kw_only=True)
class EditMessage(AskModel):
    """Send another message in the place of an earlier one, in a new branch, and start the model's reply. The earlier
    message and all that follows it stay; the two are siblings."""

    async def __call__(
        self,
        *,
        by: Owner,
        conversation_id: ConversationId,
        message_id: MessageId,
        content: str,
        images: Sequence[Image] = (),
        options: ChatOptions = NO_OPTIONS,
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> Sent:
        """As `SendMessage`. Raise `NotFound` for a message that is not a user's."""
        need(content=content, metadata=metadata)
        self._check_said(options, content, images, metadata=metadata)
        ask = await self._asked(by, conversation_id, content, options, metadata, images)
        return await shielded(self._edit(by, conversation_id, message_id, ask))

    @retry_on_contention
    async def _edit(self, by: Owner, conversation_id: ConversationId, message_id: MessageId, ask: Ask) -> Sent:
        owner, worker_id = by.owner, await self.replies.claimant()
        async with planning(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            conversation = await self._conversation(work, owner, conversation_id)
            self._check_free(conversation)
            edited = await work.messages.get(owner, conversation_id, message_id)
            if edited is None or edited.role is not Role.USER:
                raise NotFound("There is no such message of a user.")
            path = await self._path_to(work, conversation, edited.parent_id)
            plan = await self._plan(work, ask, conversation, path)
        async with acting(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            conversation = await self._lock(work, owner, conversation_id)
            if conversation.writing_reply_id is not None:
                raise ConversationBusy
            await self._make_last(work, owner, conversation_id, edited.parent_id)
            return await self._say(work, conversation, plan, ask, worker_id, siblings=edited.siblings)


@dataclass(frozen=True, kw_only=True)
class RegenerateReply(AskModel):
    """Start another reply to a message, in a new branch. The earlier reply and all that follows it stay; the two are
    siblings."""

    bounds: ClassVar[Bounds] = OPTIONS

    async def __call__(
        self,
        *,
        by: Owner,
        conversation_id: ConversationId,
        message_id: MessageId | None = None,
        options: ChatOptions = NO_OPTIONS,
    ) -> Sent:
        """`message_id`: the reply, or the message to reply to; None is the last reply of the active branch."""
        self._check(options)
        ask = await self._asked(by, conversation_id, None, options)
        return await shielded(self._regenerate(by, conversation_id, message_id, ask))

    @retry_on_contention
    async def _regenerate(
        self, by: Owner, conversation_id: ConversationId, message_id: MessageId | None, ask: Ask
    ) -> Sent:
        owner, worker_id = by.owner, await self.replies.claimant()
        async with planning(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            conversation = await self._conversation(work, owner, conversation_id)
            self._check_free(conversation)
            message, replies = await self._question(work, conversation, message_id)
            path = await self._path_to(work, conversation, message.id)
            # The message is sent whatever its length.
            plan = await self._plan(work, ask, conversation, [*path[:-1], message])
        async with acting(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            conversation = await self._lock(work, owner, conversation_id)
            if conversation.writing_reply_id is not None:
                raise ConversationBusy
            await self._make_last(work, owner, conversation_id, message.id)
            return await self._answer(work, conversation, plan, ask, worker_id, siblings=replies)

    async def _question(
        self, work: AskingWork, conversation: Conversation, message_id: MessageId | None
    ) -> tuple[Message, tuple[MessageId, ...]]:
        """Return the message to reply to, and the ids of the messages that follow it."""
        owner, conversation_id = conversation.user_id, conversation.id
        if message_id is None:
            named = await work.messages.last_reply(owner, conversation_id)
        else:
            named = await work.messages.get(owner, conversation_id, message_id)
        question, reply = named, None
        if named is not None and named.role is Role.ASSISTANT:
            question = await work.messages.get(owner, conversation_id, named.parent_id) if named.parent_id else None
            reply = named
        if question is None or question.role is not Role.USER:
            raise NotFound("There is no reply to be written again.")
        return question, reply.siblings if reply else await self._after(work, question)

    async def _after(self, work: AskingWork, message: Message) -> tuple[MessageId, ...]:
        """Return the ids of the messages that follow one: replies, or messages that were added."""
        reply = await work.messages.reply_to(message.user_id, message.conversation_id, message.id)
        if reply is not None:
            return reply.siblings
        tree = await work.messages.tree(message.user_id, message.conversation_id)
        return tuple(node.id for node in tree if node.parent_id == message.id)


@dataclass(frozen=True, kw_only=True)
class FollowReply:
    """Stream a reply from an offset on, in progress or ended."""

    replies: Replies
    bounds: ClassVar[Bounds] = Bounds(after=AFTER)
    raises: ClassVar[Raises] = (*ANYTIME, ValidationFailed, NotFound, RateLimited)

    def __call__(
        self,
        *,
        owner: OwnerId,
        conversation_id: ConversationId,
        reply_id: MessageId | None = None,
        after: int = 0,
        again: bool = False,
        numbered: bool = False,
    ) -> AsyncGenerator[ReplyEvent, None]:
        """As `Replies.follow`."""
        self.bounds.check(after=after)
        return self.replies.follow(
            owner=owner,
            conversation_id=conversation_id,
            reply_id=reply_id,
            after=after,
            again=again,
            numbered=numbered,
        )


class StoppingWork(AuthorityWork, LoggedWork, Protocol):
    conversations: ConversationRepo


@dataclass(frozen=True, kw_only=True)
class StopReply:
    """Stop the reply in progress, and keep its text. Without one, return the last reply unchanged."""

    unit_of_work: UnitsOfWork[StoppingWork]
    replies: Replies
    clock: Clock
    raises: ClassVar[Raises] = (*CHANGING, NotFound)

    async def __call__(self, *, by: Owner, conversation_id: ConversationId) -> Message:
        last = await self._last(by, conversation_id)
        if last.status is Status.WRITING:
            await self._order(by, last)
        stopped = await self.replies.stop(last)
        if stopped is not None:
            return stopped
        async with self.unit_of_work(read_only=True) as work:
            return await with_logged_text(work, last)

    @retry_on_contention
    async def _last(self, by: Owner, conversation_id: ConversationId) -> Message:
        async with planning(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            if await work.conversations.get(by.owner, conversation_id) is None:
                raise NotFound(MISSING)
            last = await work.messages.last_reply(by.owner, conversation_id)
            if last is None:
                raise NotFound("No reply was ever written in this conversation.")
        return last

    @retry_on_contention
    async def _order(self, by: Owner, reply: Message) -> None:
        """Request the stop on this authority; carrying it out needs none."""
        async with acting(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            await work.conversations.request_stop(by.owner, reply.conversation_id, reply.id)
            await work.commit()


def _check_asked(asked: Asked | None) -> None:
    size = 0 if asked is None else json_size(asked.body)
    check(FieldError("asked", f"must be at most {MAX_REQUEST} bytes") if size > MAX_REQUEST else None)


def _check_earlier(earlier: Sequence[Earlier]) -> None:
    check(FieldError("earlier", f"must be at most {EARLIER} messages") if len(earlier) > EARLIER else None)
    check(*(CONTENT.broken(each.content, "earlier") for each in earlier))


def _digest(
    content: str,
    options: ChatOptions,
    metadata: Mapping[str, str] = NO_METADATA,
    images: Sequence[Image] = (),
) -> bytes:
    """The same as an older server makes that does not know the newest options, if they are not used."""
    given = asdict(options)
    first = tuple(given.pop(name) for name in ("config_id", "system", "temperature", "max_tokens"))
    later = tuple((name, value) for name, value in sorted(given.items()) if value)
    later += (("metadata", sorted(metadata.items())),) if metadata else ()
    shown = [(image.media_type, image.detail, hashlib.sha256(image.data).digest()) for image in images]
    later += (("images", shown),) if shown else ()
    return hashlib.sha256(repr((content, *first, *later)).encode()).digest()
