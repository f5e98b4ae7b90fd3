"""The transaction that stores a message and begins the reply to it."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

from chatcore.branches import path_to
from chatcore.entities import (
    Conversation,
    ConversationId,
    MessageId,
    OwnerId,
    Request,
    Role,
    WorkerId,
    title_from,
)
from chatcore.errors import ConversationBusy, NotFound
from chatcore.hooks import NO_HOOKS, Ask, Hooks, in_time
from chatcore.ports import (
    AuthorityWork,
    Clock,
    HookWork,
    Idempotency,
    ModelConfigRepo,
    Purpose,
    RequestRepo,
    Turn,
)
from chatcore.prompt import build_title_prompt
from chatcore.replies import Replies, ReplyJob
from chatcore.use_cases.asking import Asking
from chatcore.use_cases.chat_values import Sent
from chatcore.use_cases.planning import Plan, Planner

MISSING = "There is no such conversation."


class AskingWork(AuthorityWork, HookWork, Protocol):
    model_configs: ModelConfigRepo
    requests: RequestRepo


async def existing(work: AskingWork, owner: OwnerId, conversation_id: ConversationId) -> Conversation:
    """Raise `NotFound`."""
    conversation = await work.conversations.get(owner, conversation_id)
    if conversation is None:
        raise NotFound(MISSING)
    return conversation


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """Stores, claims and begins a reply in one short transaction, which holds the conversation's lock."""

    planner: Planner
    asking: Asking
    replies: Replies
    clock: Clock
    hooks: Hooks = NO_HOOKS

    async def locked(self, work: AskingWork, owner: OwnerId, conversation_id: ConversationId) -> Conversation:
        """Raise `NotFound`."""
        conversation = await work.conversations.lock(owner, conversation_id)
        if conversation is None:
            raise NotFound(MISSING)
        return conversation

    async def free(self, work: AskingWork, owner: OwnerId, conversation_id: ConversationId) -> Conversation:
        """Return it locked. Raise `NotFound`, `ConversationBusy`."""
        conversation = await self.locked(work, owner, conversation_id)
        if conversation.writing_reply_id is not None:
            raise ConversationBusy
        return conversation

    async def say(
        self,
        work: AskingWork,
        conversation: Conversation,
        plan: Plan,
        ask: Ask,
        worker_id: WorkerId,
        *,
        named: Idempotency | None = None,
        siblings: tuple[MessageId, ...] = (),
    ) -> Sent:
        """Add a message to the end of the active branch, and begin the reply. `siblings`: the existing ones."""
        plan = await self._before(work, conversation, plan)
        message = await work.messages.add(
            conversation.user_id,
            conversation.id,
            parent_id=plan.last,
            role=Role.USER,
            content=ask.content or "",
            writing=False,
            model=None,
            now=self.clock.now(),
            idempotency=named,
            metadata=ask.metadata,
            images=ask.images,
        )
        message = replace(message, siblings=tuple(sorted((*siblings, message.id))))
        images = {**plan.images, message.id: plan.attached}
        plan = replace(plan, history=[*plan.history, message], images=images)
        return await self.answer(work, conversation, plan, ask, worker_id)

    async def _before(self, work: AskingWork, conversation: Conversation, plan: Plan) -> Plan:
        """Add the earlier messages of the plan. Return it with them in its history."""
        history, images = list(plan.history), dict(plan.images)
        for earlier, parts in zip(plan.earlier, plan.attached_earlier, strict=True):
            message = await work.messages.add(
                conversation.user_id,
                conversation.id,
                parent_id=history[-1].id if history else None,
                role=earlier.role,
                content=earlier.content,
                writing=False,
                model=None,
                now=self.clock.now(),
                images=earlier.images,
            )
            history.append(message)
            images[message.id] = parts
        return replace(plan, history=history, images=images)

    async def answer(
        self,
        work: AskingWork,
        conversation: Conversation,
        plan: Plan,
        ask: Ask,
        worker_id: WorkerId,
        *,
        siblings: tuple[MessageId, ...] = (),
    ) -> Sent:
        """Begin the reply to the last message of the plan, which ends the active branch. Commit."""
        now, owner, message = self.clock.now(), conversation.user_id, plan.history[-1]
        reply = await work.messages.add(
            owner,
            conversation.id,
            parent_id=message.id,
            role=Role.ASSISTANT,
            content="",
            writing=True,
            model=plan.endpoint.model,
            now=now,
        )
        reply = replace(reply, siblings=tuple(sorted((*siblings, reply.id))))
        if plan.asked is not None:
            asked: dict[str, Any] = {"kind": plan.asked.kind, "body": plan.asked.body}
            request = Request(
                user_id=owner, conversation_id=conversation.id, reply_id=reply.id, created_at=now, **asked
            )
            await work.requests.add(request)
        if not conversation.title:
            await work.conversations.set_title(owner, conversation.id, title_from(message.content))
        if not await work.conversations.claim(owner, conversation.id, reply.id, worker_id, now=now):
            raise ConversationBusy
        untitled = self.planner.defaults.model_titles and message.parent_id is None and not conversation.titled_by_user
        job = ReplyJob(
            reply=reply,
            worker_id=worker_id,
            endpoint=plan.endpoint,
            prompt=self.planner.prompt_of(plan, ask.options),
            turn=Turn(
                purpose=Purpose.REPLY,
                owner=owner,
                user=ask.user,
                tenant=ask.tenant,
                conversation_id=conversation.id,
                message_id=message.id,
                reply_id=reply.id,
                metadata=message.metadata,
            ),
            title_prompt=build_title_prompt(message.content) if untitled and message.content else None,
        )
        self.asking.check_replies(owner)  # again: others may have begun meanwhile
        sent = Sent(message, reply)
        if self.hooks.overrides(Hooks.stored):
            await in_time(self.hooks.stored(work, sent))
        async with self.replies.writing(job, work):
            await work.commit()
        return sent

    async def make_last(
        self, work: AskingWork, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId | None
    ) -> None:
        """Make the active branch end with this message; None: make it empty."""
        fork, path = None, tuple[MessageId, ...]()
        if message_id is not None:
            fork = await work.messages.place(owner, conversation_id, message_id)
            if fork is None or not fork.active:
                fork, path = path_to(await work.messages.tree(owner, conversation_id), message_id)
        await work.messages.activate(owner, conversation_id, after=fork, path=path)
