"""What sending, editing and regenerating share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

from chatcore.authority import CHANGING, Owner
from chatcore.bounds import IMAGES, METADATA, Bounds, Range, Said, Text
from chatcore.branches import ancestors, path_to
from chatcore.entities import (
    Conversation,
    ConversationId,
    Image,
    Message,
    MessageId,
    ModelConfigId,
    OwnerId,
    Request,
    Role,
    Scope,
    WorkerId,
    title_from,
)
from chatcore.errors import (
    ConversationBusy,
    ModelNotConfigured,
    NotFound,
    Raises,
    RateLimited,
    StorageFull,
    ValidationFailed,
)
from chatcore.events import Cursor
from chatcore.hooks import NO_HOOKS, Ask, Hooks, in_time
from chatcore.ports import (
    NO_METADATA,
    AuthorityWork,
    Cipher,
    Clock,
    HookWork,
    Idempotency,
    ImagePart,
    ModelConfigRepo,
    ModelEndpoint,
    Prompt,
    Purpose,
    RequestRepo,
    Turn,
    UnitsOfWork,
)
from chatcore.prompt import NO_IMAGES, PromptLimits, build_prompt, build_title_prompt, image_parts
from chatcore.rate_limits import UNLIMITED, RateLimits
from chatcore.replies import Replies, ReplyJob
from chatcore.storage import images_size
from chatcore.use_cases.model_configs import endpoint_of

MISSING = "There is no such conversation."


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatDefaults:
    """Defaults for requests. `model`: the server's own endpoint, if it has one.

    `model_titles`: ask the model for a new conversation's title, beside the first reply.
    """

    model: ModelEndpoint | None = None
    system_prompt: str = ""
    model_titles: bool = False
    temperature: float | None = None
    max_tokens: int | None = None
    limits: PromptLimits = field(default_factory=PromptLimits)


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """Options of one request, within `OPTIONS`. `config_id`: one of the owner's configurations. `server_model`: the
    server's own model, whatever configurations there are. `more`: other fields of the model's request in the endpoint's
    own form, such as `top_p` or `stop`."""

    config_id: ModelConfigId | None = None
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    server_model: bool = False
    more: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)


@dataclass(frozen=True, slots=True)
class Earlier:
    """A message that a client has from elsewhere, stored before the one that it sends."""

    role: Role
    content: str
    images: Sequence[Image] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """How a client of another protocol asks, stored beside the reply (`chatcore.entities.Request`)."""

    kind: str
    body: Mapping[str, Any]


OPTIONS = Bounds(system=Text(0, 48_000), temperature=Range(0, 2), max_tokens=Range(1, 1_000_000))
CONTENT = Text(1, 200_000)
SAID = Said(1, 200_000)


@dataclass(frozen=True, slots=True)
class Sent:
    """The stored message, and the reply to it, in progress."""

    message: Message
    reply: Message

    @property
    def conversation_id(self) -> ConversationId:
        return self.reply.conversation_id

    @property
    def beginning(self) -> Cursor:
        """The place before the reply's first text: `me.reply(sent.conversation_id, after=sent.beginning)`."""
        return Cursor(self.reply.id, 0)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a reply needs, looked up before anything is locked. `history` ends with `last`, the message to continue; its
    older texts are empty where they do not fit into the prompt; `images`: those of its messages that fit. `earlier`,
    `attached` and `asked` are stored with the message."""

    endpoint: ModelEndpoint
    history: Sequence[Message] = ()
    images: Mapping[MessageId, Sequence[ImagePart]] = field(default_factory=dict[MessageId, Sequence[ImagePart]])
    attached: Sequence[ImagePart] = ()
    earlier: Sequence[Earlier] = ()
    asked: Asked | None = None

    @property
    def last(self) -> MessageId | None:
        return self.history[-1].id if self.history else None


class AskingWork(AuthorityWork, HookWork, Protocol):
    model_configs: ModelConfigRepo
    requests: RequestRepo


@dataclass(frozen=True, kw_only=True)
class AskModel:
    """Plan a reply; then store, claim and begin it in one short transaction, which holds the conversation's lock."""

    unit_of_work: UnitsOfWork[AskingWork]
    replies: Replies
    cipher: Cipher
    defaults: ChatDefaults
    clock: Clock
    limits: RateLimits = UNLIMITED
    hooks: Hooks = NO_HOOKS
    bounds: ClassVar[Bounds] = Bounds(content=SAID, images=IMAGES, metadata=METADATA, **OPTIONS)
    raises: ClassVar[Raises] = (
        *CHANGING,
        ValidationFailed,
        NotFound,
        ConversationBusy,
        ModelNotConfigured,
        RateLimited,
        StorageFull,
    )

    async def _asked(
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
                self._check_said(ask.options, ask.content, ask.images, metadata=ask.metadata)
            else:
                self._check(ask.options)
        return ask

    def _check_said(self, options: ChatOptions, content: str | None, images: Sequence[Image], **given: object) -> None:
        """A message that has images may be without a text."""
        self._check(options, content=content or (None if images else content), images=images, **given)

    def _check(self, options: ChatOptions, **given: object) -> None:
        chosen = {"system": options.system, "temperature": options.temperature, "max_tokens": options.max_tokens}
        self.bounds.check(**given, **chosen)

    async def _conversation(self, work: AskingWork, owner: OwnerId, conversation_id: ConversationId) -> Conversation:
        conversation = await work.conversations.get(owner, conversation_id)
        if conversation is None:
            raise NotFound(MISSING)
        return conversation

    async def _lock(self, work: AskingWork, owner: OwnerId, conversation_id: ConversationId) -> Conversation:
        conversation = await work.conversations.lock(owner, conversation_id)
        if conversation is None:
            raise NotFound(MISSING)
        return conversation

    def _check_free(self, conversation: Conversation) -> None:
        """Refuse early. Raise `ConversationBusy`, `RateLimited`."""
        if conversation.writing_reply_id is not None:
            raise ConversationBusy
        self._check_replies(conversation.user_id)

    def _check_replies(self, owner: OwnerId) -> None:
        self.limits.check_replies(owner, self.replies.written_for(owner) + 1)

    async def _plan(
        self, work: AskingWork, ask: Ask, conversation: Conversation | None = None, history: Sequence[Message] = ()
    ) -> Plan:
        """`history`: the messages that the reply continues."""
        its_model = None if conversation is None else conversation.config_id
        endpoint = await self._endpoint(work, ask.owner, ask.options, its_model)
        room = self.defaults.limits.max_image_bytes - images_size(ask.images)
        images = await self._images(work, [message for message in reversed(history) if message.images], room)
        return Plan(endpoint, history, images, await image_parts(ask.images))

    async def _images(
        self, work: AskingWork, messages: Sequence[Message], max_bytes: int
    ) -> Mapping[MessageId, Sequence[ImagePart]]:
        """Return those of the first of these messages that fit."""
        if not messages:
            return NO_IMAGES
        newest, ids = messages[0], [message.id for message in messages]
        found = await work.messages.images_of(newest.user_id, newest.conversation_id, ids, max_bytes=max_bytes)
        return {message_id: await image_parts(images) for message_id, images in found.items()}

    async def _path_to(self, work: AskingWork, conversation: Conversation, last: MessageId | None) -> Sequence[Message]:
        """Return the messages down to `last`, which never change."""
        if last is None:
            return ()
        if told := await self._told(work, conversation, through=last):
            return told
        tree = await work.messages.tree(conversation.user_id, conversation.id)
        return await self._told(work, conversation, among=ancestors(tree, last))

    async def _told(
        self,
        work: AskingWork,
        conversation: Conversation,
        *,
        through: MessageId | None = None,
        among: Sequence[MessageId] | None = None,
    ) -> Sequence[Message]:
        """Return as much of the active branch, or of a path, as a prompt may need."""
        limits = self.defaults.limits
        return await work.messages.told(
            conversation.user_id,
            conversation.id,
            limit=limits.max_messages,
            max_bytes=limits.max_bytes,
            through=through,
            among=among,
        )

    async def _say(
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
        plan = replace(plan, history=[*plan.history, *await self._before(work, conversation, plan)])
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
        return await self._answer(work, conversation, plan, ask, worker_id)

    async def _before(self, work: AskingWork, conversation: Conversation, plan: Plan) -> Sequence[Message]:
        """Add the earlier messages of the plan."""
        added, last = list[Message](), plan.last
        for earlier in plan.earlier:
            message = await work.messages.add(
                conversation.user_id,
                conversation.id,
                parent_id=last,
                role=earlier.role,
                content=earlier.content,
                writing=False,
                model=None,
                now=self.clock.now(),
                images=earlier.images,
            )
            added.append(message)
            last = message.id
        return added

    async def _answer(
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
        untitled = self.defaults.model_titles and message.parent_id is None and not conversation.titled_by_user
        job = ReplyJob(
            reply=reply,
            worker_id=worker_id,
            endpoint=plan.endpoint,
            prompt=self._prompt(plan, ask.options),
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
        self._check_replies(owner)  # again: others may have begun meanwhile
        sent = Sent(message, reply)
        if self.hooks.overrides(Hooks.stored):
            await in_time(self.hooks.stored(work, sent))
        async with self.replies.writing(job, work):
            await work.commit()
        return sent

    async def _make_last(
        self, work: AskingWork, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId | None
    ) -> None:
        """Make the active branch end with this message; None: make it empty."""
        fork, path = None, tuple[MessageId, ...]()
        if message_id is not None:
            fork = await work.messages.place(owner, conversation_id, message_id)
            if fork is None or not fork.active:
                fork, path = path_to(await work.messages.tree(owner, conversation_id), message_id)
        await work.messages.activate(owner, conversation_id, after=fork, path=path)

    async def _endpoint(
        self, work: AskingWork, owner: OwnerId, options: ChatOptions, otherwise: ModelConfigId | None = None
    ) -> ModelEndpoint:
        chosen = options.config_id or otherwise
        if options.server_model:
            config = None
        elif chosen is not None:
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

    def _prompt(self, plan: Plan, options: ChatOptions) -> Prompt:
        defaults = self.defaults
        system = defaults.system_prompt if options.system is None else options.system
        return Prompt(
            messages=build_prompt(plan.history, system=system, limits=defaults.limits, images=plan.images),
            temperature=defaults.temperature if options.temperature is None else options.temperature,
            max_tokens=defaults.max_tokens if options.max_tokens is None else options.max_tokens,
            more=options.more,
        )
