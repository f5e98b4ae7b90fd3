"""What a reply needs, looked up before anything is locked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

from chatcore.branches import ancestors
from chatcore.entities import Conversation, Message, MessageId, ModelConfigId, OwnerId
from chatcore.errors import ModelNotConfigured, NotFound
from chatcore.hooks import Ask
from chatcore.ports import Cipher, ImagePart, MessageRepo, ModelConfigRepo, ModelEndpoint, Prompt
from chatcore.prompt import NO_IMAGES, build_prompt, image_parts
from chatcore.storage import images_size
from chatcore.use_cases.chat_values import Asked, ChatDefaults, ChatOptions, Earlier
from chatcore.use_cases.model_configs import endpoint_of


@dataclass(frozen=True, slots=True)
class Plan:
    """What a reply needs, looked up before anything is locked. `history` ends with `last`, the message to continue; its
    older texts are empty where they do not fit into the prompt; `images`: those of its messages that fit. `earlier` and
    `asked` are stored with the message. `attached`: its images; `attached_earlier`: those of `earlier` that fit, in the
    same order."""

    endpoint: ModelEndpoint
    history: Sequence[Message] = ()
    images: Mapping[MessageId, Sequence[ImagePart]] = field(default_factory=dict[MessageId, Sequence[ImagePart]])
    attached: Sequence[ImagePart] = ()
    earlier: Sequence[Earlier] = ()
    attached_earlier: Sequence[Sequence[ImagePart]] = ()
    asked: Asked | None = None

    @property
    def last(self) -> MessageId | None:
        return self.history[-1].id if self.history else None


class PlanningWork(Protocol):
    messages: MessageRepo
    model_configs: ModelConfigRepo


@dataclass(frozen=True, kw_only=True)
class Planner:
    """Reads what a reply needs."""

    cipher: Cipher
    defaults: ChatDefaults

    async def plan(
        self,
        work: PlanningWork,
        ask: Ask,
        conversation: Conversation | None = None,
        history: Sequence[Message] = (),
        earlier: Sequence[Earlier] = (),
    ) -> Plan:
        """`history`: the messages that the reply continues; `earlier`: those to store after them. The newest images
        have the room."""
        its_model = None if conversation is None else conversation.config_id
        endpoint = await self._endpoint(work, ask.owner, ask.options, its_model)
        room = self.defaults.limits.max_image_bytes - images_size(ask.images)
        sizes = accumulate(images_size(each.images) for each in reversed(earlier))
        fits = [size <= room for size in sizes][::-1]
        before = [await image_parts(each.images if fit else ()) for each, fit in zip(earlier, fits, strict=True)]
        room -= sum(images_size(each.images) for each in earlier)
        images = await self._images(work, [message for message in reversed(history) if message.images], room)
        return Plan(endpoint, history, images, await image_parts(ask.images), earlier, before)

    async def _images(
        self, work: PlanningWork, messages: Sequence[Message], max_bytes: int
    ) -> Mapping[MessageId, Sequence[ImagePart]]:
        """Return those of the first of these messages that fit."""
        if not messages:
            return NO_IMAGES
        newest, ids = messages[0], [message.id for message in messages]
        found = await work.messages.images_of(newest.user_id, newest.conversation_id, ids, max_bytes=max_bytes)
        return {message_id: await image_parts(images) for message_id, images in found.items()}

    async def path_to(
        self, work: PlanningWork, conversation: Conversation, last: MessageId | None
    ) -> Sequence[Message]:
        """Return the messages down to `last`, which never change."""
        if last is None:
            return ()
        if told := await self.told(work, conversation, through=last):
            return told
        tree = await work.messages.tree(conversation.user_id, conversation.id)
        return await self.told(work, conversation, among=ancestors(tree, last))

    async def told(
        self,
        work: PlanningWork,
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

    async def _endpoint(
        self, work: PlanningWork, owner: OwnerId, options: ChatOptions, otherwise: ModelConfigId | None = None
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

    def prompt_of(self, plan: Plan, options: ChatOptions) -> Prompt:
        defaults = self.defaults
        system = defaults.system_prompt if options.system is None else options.system
        return Prompt(
            messages=build_prompt(plan.history, system=system, limits=defaults.limits, images=plan.images),
            temperature=defaults.temperature if options.temperature is None else options.temperature,
            max_tokens=defaults.max_tokens if options.max_tokens is None else options.max_tokens,
            more=options.more,
        )
