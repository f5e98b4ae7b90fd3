"""Model configurations and conversations in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from chatcore.entities import (
    Conversation,
    ConversationId,
    Message,
    MessageId,
    ModelConfig,
    ModelConfigId,
    OwnerId,
    WorkerId,
)
from chatcore.errors import Contention, NotFound
from chatcore.ports import NO_METADATA, ConversationRepo, Matches, ModelConfigRepo
from chatcore.storage import conversation_size, images_size, request_size, size_of
from chatcore.texts import Needle
from chatcore_memory.state import State, Transaction, owned, search


class MemoryModelConfigs(ModelConfigRepo):
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def add(self, owner: OwnerId, *, model_url: str, model_name: str, now: datetime) -> ModelConfig:
        config = ModelConfig(
            id=ModelConfigId(self._transaction.new_id()),
            user_id=owner,
            model_url=model_url,
            model_name=model_name,
            sealed_key="",
            api_key_hint="",
            created_at=now,
            updated_at=now,
        )

        def insert(state: State) -> ModelConfig:
            if owner not in state.owners:
                raise NotFound
            state.model_configs[config.id] = config
            return config

        return await self._transaction.write(insert)

    async def list(self, owner: OwnerId, *, limit: int, offset: int) -> Sequence[ModelConfig]:
        return await self._transaction.read(lambda state: configs_of(state, owner)[offset : offset + limit])

    async def get(self, owner: OwnerId, config_id: ModelConfigId) -> ModelConfig | None:
        return await self._transaction.read(lambda state: owned(state.model_configs, owner, config_id))

    async def lock(self, owner: OwnerId, config_id: ModelConfigId) -> ModelConfig | None:
        """Whoever writes is alone."""
        return await self._transaction.write(lambda state: owned(state.model_configs, owner, config_id))

    async def newest(self, owner: OwnerId) -> ModelConfig | None:
        return await self._transaction.read(lambda state: next(iter(configs_of(state, owner)), None))

    async def save(self, config: ModelConfig) -> bool:
        def update(state: State) -> bool:
            stored = owned(state.model_configs, config.user_id, config.id)
            if stored is None:
                return False
            state.model_configs[config.id] = replace(config, created_at=stored.created_at)
            return True

        return await self._transaction.write(update)

    async def delete(self, owner: OwnerId, config_id: ModelConfigId) -> bool:
        def remove(state: State) -> bool:
            if owned(state.model_configs, owner, config_id) is None:
                return False
            del state.model_configs[config_id]
            for conversation in state.conversations.values():
                if conversation.config_id == config_id:
                    state.conversations[conversation.id] = replace(conversation, config_id=None)
            return True

        return await self._transaction.write(remove)


def configs_of(state: State, owner: OwnerId) -> Sequence[ModelConfig]:
    return [config for _, config in sorted(state.model_configs.items(), reverse=True) if config.user_id == owner]


class MemoryConversations(ConversationRepo):
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def add(
        self,
        owner: OwnerId,
        *,
        title: str,
        config_id: ModelConfigId | None,
        now: datetime,
        client_id: str | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> Conversation:
        conversation = Conversation(
            id=ConversationId(self._transaction.new_id()),
            user_id=owner,
            title=title,
            titled_by_user=title != "",
            config_id=config_id,
            client_id=client_id,
            metadata=metadata,
            created_at=now,
            updated_at=now,
        )

        def insert(state: State) -> Conversation:
            if owner not in state.owners:
                raise NotFound
            if client_id is not None and _named(state, owner, client_id):
                raise Contention
            if config_id is not None and owned(state.model_configs, owner, config_id) is None:
                raise NotFound
            state.conversations[conversation.id] = conversation
            self._transaction.ledger.ask(owner, conversation_size(conversation))
            return conversation

        return await self._transaction.write(insert)

    async def get(self, owner: OwnerId, conversation_id: ConversationId) -> Conversation | None:
        return await self._transaction.read(lambda state: owned(state.conversations, owner, conversation_id))

    async def named(self, owner: OwnerId, client_id: str) -> Conversation | None:
        return await self._transaction.read(lambda state: _named(state, owner, client_id))

    async def lock(self, owner: OwnerId, conversation_id: ConversationId) -> Conversation | None:
        """Writing units come one after the other, so that it is locked by whoever can ask."""
        return await self._transaction.write(lambda state: owned(state.conversations, owner, conversation_id))

    async def list(self, owner: OwnerId, *, limit: int, offset: int) -> Sequence[Conversation]:
        def select(state: State) -> Sequence[Conversation]:
            theirs = [conversation for conversation in state.conversations.values() if conversation.user_id == owner]
            theirs.sort(key=lambda conversation: (conversation.updated_at, conversation.id), reverse=True)
            return theirs[offset : offset + limit]

        return await self._transaction.read(select)

    async def list_below(
        self, owner: OwnerId, *, updated_at: datetime, before: ConversationId, limit: int
    ) -> Sequence[Conversation]:
        def select(state: State) -> Sequence[Conversation]:
            place = (updated_at, before)
            theirs = [
                each
                for each in state.conversations.values()
                if each.user_id == owner and (each.updated_at, each.id) < place
            ]
            theirs.sort(key=lambda conversation: (conversation.updated_at, conversation.id), reverse=True)
            return theirs[:limit]

        return await self._transaction.read(select)

    async def used_since(
        self, owner: OwnerId, since: datetime, *, limit: int
    ) -> Sequence[tuple[Conversation, datetime]]:
        def select(state: State) -> Sequence[tuple[Conversation, datetime]]:
            used = [
                each
                for each in state.conversations.values()
                if each.user_id == owner and each.created_at <= since < each.updated_at
            ]
            return [(each, self._last_used(state, each, since)) for each in used[:limit]]

        return await self._transaction.read(select)

    @staticmethod
    def _last_used(state: State, conversation: Conversation, since: datetime) -> datetime:
        theirs = [each for each in state.messages.values() if each.conversation_id == conversation.id]
        times = [each.created_at for each in theirs]
        times += [state.ended[each.id] for each in theirs if each.id in state.ended]
        before = state.used_before.get(conversation.id, conversation.created_at)
        return max([before, *(time for time in times if time <= since)])

    async def by_id(self, owner: OwnerId, *, after: ConversationId | None, limit: int) -> Sequence[Conversation]:
        def select(state: State) -> Sequence[Conversation]:
            theirs = (each for _, each in sorted(state.conversations.items()) if each.user_id == owner)
            return [each for each in theirs if after is None or each.id > after][:limit]

        return await self._transaction.read(select)

    async def restore(self, conversation: Conversation) -> Conversation:
        restored = replace(
            conversation,
            id=ConversationId(self._transaction.new_id()),
            config_id=None,
            writing_reply_id=None,
            client_id=None,
        )

        def insert(state: State) -> Conversation:
            if restored.user_id not in state.owners:
                raise NotFound
            state.conversations[restored.id] = restored
            state.used_before[restored.id] = restored.updated_at
            self._transaction.ledger.ask(restored.user_id, conversation_size(restored))
            return restored

        return await self._transaction.write(insert)

    async def titled(
        self, owner: OwnerId, text: str, *, before: ConversationId | None, limit: int, within: int
    ) -> Matches[Conversation]:
        needle = Needle(text)

        def select(state: State) -> Matches[Conversation]:
            theirs = (each for each in reversed(state.conversations.values()) if each.user_id == owner)
            older = [each for each in theirs if before is None or each.id < before]
            found = search(older[:within], lambda it: needle.place_in(it.title), limit=limit, of=len(older))
            return Matches([conversation for conversation, _ in found.items], found.looked_to)

        return await self._transaction.read(select)

    async def set_title(
        self, owner: OwnerId, conversation_id: ConversationId, title: str, *, by_user: bool = False
    ) -> bool:
        def update(state: State) -> bool:
            conversation = owned(state.conversations, owner, conversation_id)
            if conversation is None or (conversation.titled_by_user and not by_user):
                return False
            state.conversations[conversation_id] = replace(conversation, title=title, titled_by_user=by_user)
            return True

        return await self._transaction.write(update)

    async def set_metadata(
        self, owner: OwnerId, conversation_id: ConversationId, metadata: Mapping[str, str]
    ) -> Conversation | None:
        def update(state: State) -> Conversation | None:
            conversation = owned(state.conversations, owner, conversation_id)
            if conversation is None:
                return None
            changed = state.conversations[conversation_id] = replace(conversation, metadata=metadata)
            self._transaction.ledger.ask(owner, conversation_size(changed) - conversation_size(conversation))
            return changed

        return await self._transaction.write(update)

    async def touch(self, owner: OwnerId, conversation_id: ConversationId, *, now: datetime) -> None:
        def update(state: State) -> None:
            if conversation := owned(state.conversations, owner, conversation_id):
                state.conversations[conversation_id] = replace(conversation, updated_at=now)

        await self._transaction.write(update)

    async def delete(self, owner: OwnerId, conversation_id: ConversationId, *, limit: int, now: datetime) -> int:
        def remove(state: State) -> int:
            closing = owned(state.conversations, owner, conversation_id)
            if closing is None and owned(state.closing, owner, conversation_id) is None:
                return 0
            if closing is not None:
                state.closing[conversation_id] = state.conversations.pop(conversation_id)
            messages = [each for each in state.messages.values() if each.conversation_id == conversation_id][:limit]
            forget(state, messages)
            self._transaction.ledger.note(owner, -sum(map(size_of, messages)))
            if len(messages) == limit:
                return limit
            size = conversation_size(state.closing.pop(conversation_id))
            asked = [each for each in state.requests.values() if each.conversation_id == conversation_id]
            for request in asked:
                del state.requests[request.reply_id]
            shown = [place for place in state.images if place[1] == conversation_id]
            size += sum(images_size(state.images.pop(place)) for place in shown)
            self._transaction.ledger.note(owner, -size - sum(map(request_size, asked)))
            return len(messages) + 1

        return await self._transaction.write(remove)

    async def claim(
        self,
        owner: OwnerId,
        conversation_id: ConversationId,
        reply_id: MessageId,
        worker_id: WorkerId,
        *,
        now: datetime,
    ) -> bool:
        def update(state: State) -> bool:
            claimed = pass_claim(state, owner, conversation_id, held_by=None, to=reply_id, now=now)
            if claimed:
                state.writers[reply_id] = worker_id
            return claimed

        return await self._transaction.write(update)

    async def release(
        self, owner: OwnerId, conversation_id: ConversationId, reply_id: MessageId, *, now: datetime
    ) -> bool:
        def update(state: State) -> bool:
            released = pass_claim(state, owner, conversation_id, held_by=reply_id, to=None, now=now)
            if released:
                del state.writers[reply_id]
                state.stops.discard(reply_id)
            return released

        return await self._transaction.write(update)

    async def request_stop(self, owner: OwnerId, conversation_id: ConversationId, reply_id: MessageId) -> bool:
        def update(state: State) -> bool:
            conversation = owned(state.conversations, owner, conversation_id)
            if conversation is None or conversation.writing_reply_id != reply_id:
                return False
            state.stops.add(reply_id)
            return True

        return await self._transaction.write(update)


def _named(state: State, owner: OwnerId, client_id: str) -> Conversation | None:
    theirs = (each for each in state.conversations.values() if each.user_id == owner)
    return next((each for each in theirs if each.client_id == client_id), None)


def forget(state: State, messages: Sequence[Message]) -> None:
    gone = {message.id for message in messages}
    state.messages = {key: message for key, message in state.messages.items() if key not in gone}
    state.depths = {key: depth for key, depth in state.depths.items() if key not in gone}
    state.idempotency = {key: named for key, named in state.idempotency.items() if key not in gone}
    state.reply_log = {key: entry for key, entry in state.reply_log.items() if entry.reply_id not in gone}
    state.writers = {key: worker for key, worker in state.writers.items() if key not in gone}


def pass_claim(
    state: State,
    owner: OwnerId,
    conversation_id: ConversationId,
    *,
    held_by: MessageId | None,
    to: MessageId | None,
    now: datetime,
) -> bool:
    conversation = owned(state.conversations, owner, conversation_id)
    if conversation is None or conversation.writing_reply_id != held_by:
        return False
    state.conversations[conversation_id] = replace(conversation, writing_reply_id=to, updated_at=now)
    return True
