"""Replies in a new branch of a conversation: edit, regenerate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from chatcore.authority import Owner, acting, planning
from chatcore.bounds import Bounds, need
from chatcore.entities import Conversation, ConversationId, Image, Message, MessageId, Role, Scope
from chatcore.errors import NotFound, Raises
from chatcore.hooks import Ask
from chatcore.ports import NO_METADATA, Clock, UnitsOfWork
from chatcore.replies import Replies
from chatcore.shielding import retry_on_contention, shielded
from chatcore.use_cases.asking import ASKING, MESSAGE, Asking, check_options, check_said
from chatcore.use_cases.beginning import AskingWork, Beginning, existing
from chatcore.use_cases.chat_values import NO_OPTIONS, OPTIONS, ChatOptions, Sent
from chatcore.use_cases.planning import Planner


@dataclass(frozen=True, kw_only=True)
class EditMessage:
    """Send another message in the place of an earlier one, in a new branch, and start the model's reply. The earlier
    message and all that follows it stay; the two are siblings."""

    unit_of_work: UnitsOfWork[AskingWork]
    replies: Replies
    planner: Planner
    asking: Asking
    beginning: Beginning
    clock: Clock
    bounds: ClassVar[Bounds] = MESSAGE
    raises: ClassVar[Raises] = ASKING

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
        check_said(options, content, images, metadata=metadata)
        ask = await self.asking.ask(by, conversation_id, content, options, metadata, images)
        return await shielded(self._edit(by, conversation_id, message_id, ask))

    @retry_on_contention
    async def _edit(self, by: Owner, conversation_id: ConversationId, message_id: MessageId, ask: Ask) -> Sent:
        owner, worker_id = by.owner, await self.replies.claimant()
        async with planning(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            conversation = await existing(work, owner, conversation_id)
            self.asking.check_free(conversation)
            edited = await work.messages.get(owner, conversation_id, message_id)
            if edited is None or edited.role is not Role.USER:
                raise NotFound("There is no such message of a user.")
            path = await self.planner.path_to(work, conversation, edited.parent_id)
            plan = await self.planner.plan(work, ask, conversation, path)
        async with acting(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            conversation = await self.beginning.free(work, owner, conversation_id)
            await self.beginning.make_last(work, owner, conversation_id, edited.parent_id)
            return await self.beginning.say(work, conversation, plan, ask, worker_id, siblings=edited.siblings)


@dataclass(frozen=True, kw_only=True)
class RegenerateReply:
    """Start another reply to a message, in a new branch. The earlier reply and all that follows it stay; the two are
    siblings."""

    unit_of_work: UnitsOfWork[AskingWork]
    replies: Replies
    planner: Planner
    asking: Asking
    beginning: Beginning
    clock: Clock
    bounds: ClassVar[Bounds] = OPTIONS
    raises: ClassVar[Raises] = ASKING

    async def __call__(
        self,
        *,
        by: Owner,
        conversation_id: ConversationId,
        message_id: MessageId | None = None,
        options: ChatOptions = NO_OPTIONS,
    ) -> Sent:
        """`message_id`: the reply, or the message to reply to; None is the last reply of the active branch."""
        check_options(options)
        ask = await self.asking.ask(by, conversation_id, None, options)
        return await shielded(self._regenerate(by, conversation_id, message_id, ask))

    @retry_on_contention
    async def _regenerate(
        self, by: Owner, conversation_id: ConversationId, message_id: MessageId | None, ask: Ask
    ) -> Sent:
        owner, worker_id = by.owner, await self.replies.claimant()
        async with planning(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            conversation = await existing(work, owner, conversation_id)
            self.asking.check_free(conversation)
            message, replies = await self._question(work, conversation, message_id)
            path = await self.planner.path_to(work, conversation, message.id)
            # The message is sent whatever its length.
            plan = await self.planner.plan(work, ask, conversation, [*path[:-1], message])
        async with acting(self.unit_of_work, by, now=self.clock.now(), scope=Scope.CHAT) as work:
            conversation = await self.beginning.free(work, owner, conversation_id)
            await self.beginning.make_last(work, owner, conversation_id, message.id)
            return await self.beginning.answer(work, conversation, plan, ask, worker_id, siblings=replies)

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
