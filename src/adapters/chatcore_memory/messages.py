"""Messages, and the log of replies that are being written, in memory."""

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime
from itertools import accumulate, takewhile
from operator import attrgetter

from chatcore.entities import SPOKEN, Conversation, ConversationId, Image, Message, MessageId, OwnerId, Role, Status
from chatcore.errors import IdempotencyKeyReused, NotFound
from chatcore.ports import (
    NO_METADATA,
    PAGE_BYTES,
    Hit,
    Idempotency,
    LogCursor,
    LogEntry,
    Matches,
    MessageRef,
    MessageRepo,
    Node,
    ReplyLog,
)
from chatcore.storage import images_size, size_of, text_size
from chatcore.texts import Needle, bytes_of, excerpt_of, fitting, newest_that_fit, utf8_length
from chatcore_memory.state import State, Transaction, owned, search


class MemoryMessages(MessageRepo):
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def add(
        self,
        owner: OwnerId,
        conversation_id: ConversationId,
        *,
        parent_id: MessageId | None,
        role: Role,
        content: str,
        writing: bool,
        model: str | None,
        now: datetime,
        idempotency: Idempotency | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
        images: Sequence[Image] = (),
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
            metadata=metadata,
            images=len(images),
            created_at=now,
        )

        def insert(state: State) -> Message:
            if owned(state.conversations, owner, conversation_id) is None:
                raise NotFound
            if idempotency is not None:
                if named_message(state, owner, conversation_id, idempotency.key):
                    raise IdempotencyKeyReused
                state.idempotency[message.id] = idempotency
            put(state, message)
            if images:
                state.images[owner, conversation_id, message.id] = tuple(images)
            self._transaction.ledger.ask(owner, size_of(message) + images_size(images))
            return replace(message, siblings=(message.id,))

        return await self._transaction.write(insert)

    async def get(self, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId) -> Message | None:
        def select(state: State) -> Message | None:
            message = owned(state.messages, owner, message_id)
            return with_siblings(state, message) if message and message.conversation_id == conversation_id else None

        return await self._transaction.read(select)

    async def sent_with(
        self, owner: OwnerId, conversation_id: ConversationId, key: str, *, since: datetime
    ) -> tuple[Message, Idempotency] | None:
        found = await self._transaction.read(lambda state: named_message(state, owner, conversation_id, key))
        return found if found and found[0].created_at >= since else None

    async def forget_key(self, owner: OwnerId, conversation_id: ConversationId, key: str, *, before: datetime) -> None:
        def forget(state: State) -> None:
            named = named_message(state, owner, conversation_id, key)
            if named and named[0].created_at < before:
                del state.idempotency[named[0].id]

        await self._transaction.write(forget)

    async def reply_to(self, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId) -> Message | None:
        def select(state: State) -> Message | None:
            theirs = (each for each in messages_of(state, owner, conversation_id) if each.parent_id == message_id)
            replies = (each for each in theirs if each.role is Role.ASSISTANT)
            first = min(replies, key=attrgetter("created_at", "id"), default=None)
            return first and with_siblings(state, first)

        return await self._transaction.read(select)

    async def place(self, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId) -> Node | None:
        def select(state: State) -> Node | None:
            message = owned(state.messages, owner, message_id)
            return node_of(state, message) if message and message.conversation_id == conversation_id else None

        return await self._transaction.read(select)

    async def last(self, owner: OwnerId, conversation_id: ConversationId) -> MessageId | None:
        def select(state: State) -> MessageId | None:
            return next((each.id for each in reversed(branch_of(state, owner, conversation_id))), None)

        return await self._transaction.read(select)

    async def history(
        self,
        owner: OwnerId,
        conversation_id: ConversationId,
        *,
        limit: int,
        before: MessageId | None = None,
        max_bytes: int = PAGE_BYTES,
    ) -> tuple[Conversation, Sequence[Message]] | None:
        def select(state: State) -> tuple[Conversation, Sequence[Message]] | None:
            conversation = owned(state.conversations, owner, conversation_id)
            if conversation is None:
                return None
            page = branch_of(state, owner, conversation_id)
            if before in state.messages:
                page = [*takewhile(lambda each: each.id != before, page)] if before not in state.inactive else []
            return conversation, [
                with_siblings(state, message) for message in newest_that_fit(page[-limit:], max_bytes)
            ]

        return await self._transaction.read(select)

    async def told(
        self,
        owner: OwnerId,
        conversation_id: ConversationId,
        *,
        limit: int,
        max_bytes: int,
        through: MessageId | None = None,
        among: Sequence[MessageId] | None = None,
    ) -> Sequence[Message]:
        def select(state: State) -> Sequence[Message]:
            if among is None:
                messages = branch_of(state, owner, conversation_id)
                if through is not None:
                    end = next((place for place, each in enumerate(messages, 1) if each.id == through), 0)
                    messages = messages[:end]
            else:
                messages = [each for each in messages_of(state, owner, conversation_id) if each.id in among]
            heads, left = list[Message](), max_bytes
            for message in reversed(messages[-limit:]):
                spoken = message.status in SPOKEN
                left -= utf8_length(message.content) if spoken else 0
                head = replace(message, reasoning=None)
                heads.append(head if spoken and left >= 0 else replace(head, content="", images=0))
            return heads[::-1]

        return await self._transaction.read(select)

    async def by_depth(
        self,
        owner: OwnerId,
        conversation_id: ConversationId,
        *,
        after: MessageId | None,
        limit: int,
        max_bytes: int = PAGE_BYTES,
        active_only: bool = False,
    ) -> Sequence[Message]:
        def select(state: State) -> Sequence[Message]:
            messages = (branch_of if active_only else messages_of)(state, owner, conversation_id)
            begin = next((place for place, each in enumerate(messages, 1) if each.id == after), 0)
            return [*fitting(messages[begin : begin + limit], max_bytes, bytes_of)]

        return await self._transaction.read(select)

    async def restore(self, message: Message, *, active: bool, images: Sequence[Image] = ()) -> MessageId:
        restored = replace(message, id=MessageId(self._transaction.new_id()), siblings=())

        def insert(state: State) -> MessageId:
            if owned(state.conversations, restored.user_id, restored.conversation_id) is None:
                raise NotFound
            put(state, restored)
            if images:
                state.images[restored.user_id, restored.conversation_id, restored.id] = tuple(images)
            self._transaction.ledger.ask(restored.user_id, size_of(restored) + images_size(images))
            if not active:
                state.inactive.add(restored.id)
            return restored.id

        return await self._transaction.write(insert)

    async def containing(
        self,
        owner: OwnerId,
        text: str,
        *,
        before: MessageId | None,
        limit: int,
        within: int,
        max_bytes: int = PAGE_BYTES,
    ) -> Matches[Hit]:
        needle = Needle(text)

        def select(state: State) -> Matches[Hit]:
            theirs = (each for _, each in sorted(state.messages.items(), reverse=True) if each.user_id == owner)
            older = [each for each in theirs if before is None or each.id < before]
            read = [*fitting(older[:within], max_bytes, lambda message: utf8_length(message.content))]
            found = search(read, lambda message: needle.place_in(message.content), limit=limit, of=len(older))
            shown = [
                (message, place) for message, place in found.items if message.conversation_id in state.conversations
            ]
            return Matches([hit_in(state, message, place) for message, place in shown], found.looked_to)

        return await self._transaction.read(select)

    async def begun_with(self, owner: OwnerId, text: str, *, among: Collection[ConversationId]) -> Set[ConversationId]:
        needle = Needle(text)

        def select(state: State) -> Set[ConversationId]:
            theirs = (each for each in state.messages.values() if each.user_id == owner)
            first = [each for each in theirs if each.conversation_id in among and each.parent_id is None]
            short = [each for each in first if utf8_length(each.content) <= 16_384][:200]
            return {each.conversation_id for each in short if needle.place_in(each.content) is not None}

        return await self._transaction.read(select)

    async def last_reply(self, owner: OwnerId, conversation_id: ConversationId) -> Message | None:
        def select(state: State) -> Message | None:
            conversation = owned(state.conversations, owner, conversation_id)
            writing = conversation and conversation.writing_reply_id
            for message in reversed(messages_of(state, owner, conversation_id)):
                if message.id == writing or (writing is None and is_active_reply(state, message)):
                    return with_siblings(state, message)
            return None

        return await self._transaction.read(select)

    async def tree(self, owner: OwnerId, conversation_id: ConversationId) -> Sequence[Node]:
        def select(state: State) -> Sequence[Node]:
            messages = messages_of(state, owner, conversation_id)
            return sorted((node_of(state, each) for each in messages), key=attrgetter("depth", "created_at", "id"))

        return await self._transaction.read(select)

    async def activate(
        self, owner: OwnerId, conversation_id: ConversationId, *, after: Node | None, path: Sequence[MessageId]
    ) -> None:
        def update(state: State) -> None:
            theirs = [message.id for message in messages_of(state, owner, conversation_id)]
            state.inactive |= {*theirs[theirs.index(after.id) + 1 if after and after.id in theirs else 0 :]}
            state.inactive -= {*theirs}.intersection(path)

        await self._transaction.write(update)

    async def finish(self, reply: Message, cuts: Sequence[int] = (), *, now: datetime | None = None) -> None:
        def update(state: State) -> None:
            if stored := owned(state.messages, reply.user_id, reply.id):
                state.messages[reply.id] = replace(
                    stored,
                    content=reply.content,
                    reasoning=reply.reasoning,
                    status=reply.status,
                    usage=reply.usage,
                    finish_reason=reply.finish_reason,
                    error=reply.error,
                    ended_at=now,
                )
                state.cuts[reply.id] = tuple(cuts)
                if now is not None:
                    state.ended[reply.id] = now
                self._transaction.ledger.note(reply.user_id, text_size(reply))

        await self._transaction.write(update)

    async def erase(self, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId) -> bool:
        def update(state: State) -> bool:
            message = owned(state.messages, owner, message_id)
            if message is None or message.conversation_id != conversation_id:
                return False
            if message.status in (Status.WRITING, Status.DELETED):
                return False
            erased = replace(
                message, content="", reasoning=None, status=Status.DELETED, error=None, metadata={}, images=0
            )
            state.messages[message_id] = erased
            state.cuts.pop(message_id, None)
            images = state.images.pop((owner, conversation_id, message_id), ())
            self._transaction.ledger.note(owner, size_of(erased) - size_of(message) - images_size(images))
            return True

        return await self._transaction.write(update)

    async def cuts(self, owner: OwnerId, conversation_id: ConversationId, reply_id: MessageId) -> Sequence[int]:
        def select(state: State) -> Sequence[int]:
            reply = owned(state.messages, owner, reply_id)
            return state.cuts.get(reply_id, ()) if reply and reply.conversation_id == conversation_id else ()

        return await self._transaction.read(select)

    async def image(
        self, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId, number: int
    ) -> Image | None:
        def select(state: State) -> Image | None:
            images = state.images.get((owner, conversation_id, message_id), ())
            return images[number] if 0 <= number < len(images) else None

        return await self._transaction.read(select)

    async def images_of(
        self, owner: OwnerId, conversation_id: ConversationId, message_ids: Sequence[MessageId], *, max_bytes: int
    ) -> Mapping[MessageId, Sequence[Image]]:
        def select(state: State) -> Mapping[MessageId, Sequence[Image]]:
            found = [state.images.get((owner, conversation_id, message_id), ()) for message_id in message_ids]
            totals = accumulate(map(images_size, found))
            return {
                message_id: images
                for message_id, images, total in zip(message_ids, found, totals, strict=True)
                if images and total <= max_bytes
            }

        return await self._transaction.read(select)


def put(state: State, message: Message) -> None:
    state.messages[message.id] = message
    state.depths[message.id] = 0 if message.parent_id is None else state.depths.get(message.parent_id, -1) + 1


def node_of(state: State, message: Message) -> Node:
    active, depth = message.id not in state.inactive, state.depths[message.id]
    return Node(message.id, message.parent_id, depth, active, message.created_at)


def messages_of(state: State, owner: OwnerId, conversation_id: ConversationId) -> Sequence[Message]:
    """By depth."""
    theirs = (each for each in state.messages.values() if each.user_id == owner)
    return sorted(
        (each for each in theirs if each.conversation_id == conversation_id),
        key=lambda each: (state.depths[each.id], each.id),
    )


def branch_of(state: State, owner: OwnerId, conversation_id: ConversationId) -> Sequence[Message]:
    """The active one, from the top."""
    return [each for each in messages_of(state, owner, conversation_id) if each.id not in state.inactive]


def hit_in(state: State, message: Message, place: int) -> Hit:
    shown = MessageRef(message.id, message.role, message.created_at)
    return Hit(state.conversations[message.conversation_id], excerpt_of(message.content, place), shown)


def with_siblings(state: State, message: Message) -> Message:
    place = (message.conversation_id, message.parent_id)
    siblings = (each.id for each in state.messages.values() if (each.conversation_id, each.parent_id) == place)
    return replace(message, siblings=tuple(sorted(siblings)))


def is_active_reply(state: State, message: Message) -> bool:
    return message.role is Role.ASSISTANT and message.id not in state.inactive


def named_message(
    state: State, owner: OwnerId, conversation_id: ConversationId, key: str
) -> tuple[Message, Idempotency] | None:
    """The one that was added with this idempotency key."""
    for message in messages_of(state, owner, conversation_id):
        named = state.idempotency.get(message.id)
        if named and named.key == key:
            return with_siblings(state, message), named
    return None


class MemoryReplyLog(ReplyLog):
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def append(self, entries: Sequence[LogEntry]) -> None:
        def insert(state: State) -> None:
            state.reply_log.update({(entry.reply_id, entry.start): entry for entry in entries})

        await self._transaction.write(insert)

    async def read(self, owner: OwnerId, reply_id: MessageId) -> Sequence[LogEntry]:
        return await self._transaction.read(lambda state: log_of(state, owner, reply_id))

    async def since(self, cursors: Sequence[LogCursor], *, within: int) -> Sequence[LogEntry]:
        def select(state: State) -> Sequence[LogEntry]:
            return [
                entry
                for cursor in sorted(set(cursors), key=lambda cursor: cursor.reply_id)
                for entry in log_of(state, cursor.user_id, cursor.reply_id)
                if cursor.offset <= entry.start < cursor.offset + within
            ]

        return await self._transaction.read(select)

    async def delete(self, owner: OwnerId, reply_id: MessageId) -> None:
        def remove(state: State) -> None:
            for entry in log_of(state, owner, reply_id):
                del state.reply_log[entry.reply_id, entry.start]

        await self._transaction.write(remove)


def log_of(state: State, owner: OwnerId, reply_id: MessageId) -> Sequence[LogEntry]:
    entries = [entry for entry in state.reply_log.values() if (entry.user_id, entry.reply_id) == (owner, reply_id)]
    return sorted(entries, key=lambda entry: entry.start)
