"""Model configurations, conversations, their messages and the reply log in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol, TypeVar

from chatcore.entities import (
    Conversation,
    ConversationId,
    Message,
    MessageId,
    ModelConfig,
    ModelConfigId,
    Role,
    Status,
    UserId,
)
from chatcore.errors import NotFound
from chatcore.ports import (
    ConversationRepo,
    LogEntry,
    MessageRepo,
    ModelConfigRepo,
    ReplyLog,
    UnfinishedReplies,
)
from chatcore_memory.state import State, Transaction


class Owned(Protocol):
    @property
    def user_id(self) -> UserId: ...


Key = TypeVar("Key")
Thing = TypeVar("Thing", bound=Owned)


def owned(table: Mapping[Key, Thing], owner: UserId, key: Key) -> Thing | None:
    thing = table.get(key)
    return thing if thing and thing.user_id == owner else None


class MemoryModelConfigs(ModelConfigRepo):
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def add(self, owner: UserId, *, model_url: str, model_name: str, now: datetime) -> ModelConfig:
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
            state.model_configs[config.id] = config
            return config

        return await self._transaction.write(insert)

    async def list(self, owner: UserId) -> Sequence[ModelConfig]:
        return await self._transaction.read(lambda state: configs_of(state, owner))

    async def get(self, owner: UserId, config_id: ModelConfigId) -> ModelConfig | None:
        return await self._transaction.read(lambda state: owned(state.model_configs, owner, config_id))

    async def newest(self, owner: UserId) -> ModelConfig | None:
        return await self._transaction.read(lambda state: next(iter(configs_of(state, owner)), None))

    async def save(self, config: ModelConfig) -> bool:
        def update(state: State) -> bool:
            stored = owned(state.model_configs, config.user_id, config.id)
            if stored is None:
                return False
            state.model_configs[config.id] = replace(config, created_at=stored.created_at)
            return True

        return await self._transaction.write(update)

    async def delete(self, owner: UserId, config_id: ModelConfigId) -> bool:
        def remove(state: State) -> bool:
            if owned(state.model_configs, owner, config_id) is None:
                return False
            del state.model_configs[config_id]
            for conversation in state.conversations.values():
                if conversation.config_id == config_id:
                    state.conversations[conversation.id] = replace(conversation, config_id=None)
            return True

        return await self._transaction.write(remove)


def configs_of(state: State, owner: UserId) -> Sequence[ModelConfig]:
    return [config for _, config in sorted(state.model_configs.items(), reverse=True) if config.user_id == owner]


class MemoryConversations(ConversationRepo):
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def add(self, owner: UserId, *, title: str, config_id: ModelConfigId | None, now: datetime) -> Conversation:
        conversation = Conversation(
            id=ConversationId(self._transaction.new_id()),
            user_id=owner,
            title=title,
            config_id=config_id,
            created_at=now,
            updated_at=now,
        )

        def insert(state: State) -> Conversation:
            if config_id is not None and owned(state.model_configs, owner, config_id) is None:
                raise NotFound
            state.conversations[conversation.id] = conversation
            return conversation

        return await self._transaction.write(insert)

    async def get(self, owner: UserId, conversation_id: ConversationId) -> Conversation | None:
        return await self._transaction.read(lambda state: owned(state.conversations, owner, conversation_id))

    async def lock(self, owner: UserId, conversation_id: ConversationId) -> Conversation | None:
        """Writing units come one after the other, so that it is locked by whoever can ask."""
        return await self._transaction.write(lambda state: owned(state.conversations, owner, conversation_id))

    async def list(self, owner: UserId, *, limit: int, offset: int) -> Sequence[Conversation]:
        def select(state: State) -> Sequence[Conversation]:
            theirs = [conversation for conversation in state.conversations.values() if conversation.user_id == owner]
            theirs.sort(key=lambda conversation: (conversation.updated_at, conversation.id), reverse=True)
            return theirs[offset : offset + limit]

        return await self._transaction.read(select)

    async def set_title(self, owner: UserId, conversation_id: ConversationId, title: str) -> bool:
        def update(state: State) -> bool:
            conversation = owned(state.conversations, owner, conversation_id)
            if conversation is None:
                return False
            state.conversations[conversation_id] = replace(conversation, title=title)
            return True

        return await self._transaction.write(update)

    async def delete(self, owner: UserId, conversation_id: ConversationId) -> bool:
        def remove(state: State) -> bool:
            if owned(state.conversations, owner, conversation_id) is None:
                return False
            del state.conversations[conversation_id]
            gone = {message.id for message in messages_of(state, owner, conversation_id)}
            state.messages = {key: message for key, message in state.messages.items() if key not in gone}
            state.reply_log = {key: entry for key, entry in state.reply_log.items() if entry.reply_id not in gone}
            return True

        return await self._transaction.write(remove)

    async def claim(
        self, owner: UserId, conversation_id: ConversationId, reply_id: MessageId, *, now: datetime
    ) -> bool:
        return await self._pass_claim(owner, conversation_id, held_by=None, to=reply_id, now=now)

    async def release(
        self, owner: UserId, conversation_id: ConversationId, reply_id: MessageId, *, now: datetime
    ) -> bool:
        return await self._pass_claim(owner, conversation_id, held_by=reply_id, to=None, now=now)

    async def _pass_claim(
        self,
        owner: UserId,
        conversation_id: ConversationId,
        *,
        held_by: MessageId | None,
        to: MessageId | None,
        now: datetime,
    ) -> bool:
        def update(state: State) -> bool:
            conversation = owned(state.conversations, owner, conversation_id)
            if conversation is None or conversation.writing_reply_id != held_by:
                return False
            state.conversations[conversation_id] = replace(conversation, writing_reply_id=to, updated_at=now)
            return True

        return await self._transaction.write(update)


class MemoryMessages(MessageRepo):
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def add(
        self,
        owner: UserId,
        conversation_id: ConversationId,
        *,
        parent_id: MessageId | None,
        role: Role,
        content: str,
        writing: bool,
        model: str | None,
        now: datetime,
    ) -> Message:
        message = Message(
            id=MessageId(self._transaction.new_id()),
            user_id=owner,
            conversation_id=conversation_id,
            parent_id=parent_id,
            role=role,
            content=content,
            status=Status.WRITING if writing else Status.COMPLETE,
            model=model,
            created_at=now,
        )

        def insert(state: State) -> Message:
            if owned(state.conversations, owner, conversation_id) is None:
                raise NotFound
            state.messages[message.id] = message
            return message

        return await self._transaction.write(insert)

    async def get(self, owner: UserId, conversation_id: ConversationId, message_id: MessageId) -> Message | None:
        def select(state: State) -> Message | None:
            message = owned(state.messages, owner, message_id)
            return message if message and message.conversation_id == conversation_id else None

        return await self._transaction.read(select)

    async def history(
        self, owner: UserId, conversation_id: ConversationId, *, limit: int, before: MessageId | None = None
    ) -> tuple[Conversation, Sequence[Message]] | None:
        def select(state: State) -> tuple[Conversation, Sequence[Message]] | None:
            conversation = owned(state.conversations, owner, conversation_id)
            if conversation is None:
                return None
            messages = messages_of(state, owner, conversation_id)
            return conversation, [message for message in messages if before is None or message.id < before][-limit:]

        return await self._transaction.read(select)

    async def last_reply(self, owner: UserId, conversation_id: ConversationId) -> Message | None:
        def select(state: State) -> Message | None:
            messages = reversed(messages_of(state, owner, conversation_id))
            return next((message for message in messages if message.role is Role.ASSISTANT), None)

        return await self._transaction.read(select)

    async def finish(self, reply: Message) -> None:
        def update(state: State) -> None:
            if stored := owned(state.messages, reply.user_id, reply.id):
                state.messages[reply.id] = replace(
                    stored,
                    content=reply.content,
                    reasoning=reply.reasoning,
                    status=reply.status,
                    usage=reply.usage,
                    error=reply.error,
                )

        await self._transaction.write(update)


def messages_of(state: State, owner: UserId, conversation_id: ConversationId) -> Sequence[Message]:
    """Oldest first: ids are given in the order of adding, and a dictionary keeps that order."""
    return [
        message
        for message in state.messages.values()
        if message.user_id == owner and message.conversation_id == conversation_id
    ]


class MemoryReplyLog(ReplyLog):
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def append(self, entries: Sequence[LogEntry]) -> None:
        def insert(state: State) -> None:
            state.reply_log.update({(entry.reply_id, entry.offset): entry for entry in entries})

        await self._transaction.write(insert)

    async def read(self, owner: UserId, reply_id: MessageId) -> Sequence[LogEntry]:
        return await self._transaction.read(lambda state: log_of(state, owner, reply_id))

    async def delete(self, owner: UserId, reply_id: MessageId) -> None:
        def remove(state: State) -> None:
            for entry in log_of(state, owner, reply_id):
                del state.reply_log[entry.reply_id, entry.offset]

        await self._transaction.write(remove)


def log_of(state: State, owner: UserId, reply_id: MessageId) -> Sequence[LogEntry]:
    entries = [entry for entry in state.reply_log.values() if (entry.user_id, entry.reply_id) == (owner, reply_id)]
    return sorted(entries, key=lambda entry: entry.offset)


class MemoryUnfinished(UnfinishedReplies):
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def list(self) -> Sequence[Message]:
        def select(state: State) -> Sequence[Message]:
            claims = (conversation.writing_reply_id for conversation in state.conversations.values())
            return [state.messages[reply_id] for reply_id in claims if reply_id is not None]

        return await self._transaction.read(select)
