"""Messages and the replies among them."""

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime
from operator import attrgetter, itemgetter
from typing import Any

from sqlalchemy.exc import IntegrityError

from chatcore.entities import Conversation, ConversationId, Image, Message, MessageId, OwnerId, Role, Status
from chatcore.errors import IdempotencyKeyReused
from chatcore.ports import NO_METADATA, PAGE_BYTES, Hit, Idempotency, Matches, MessageRef, MessageRepo, Node
from chatcore.storage import MESSAGE_BYTES, StorageLedger, size_of, text_size
from chatcore.texts import excerpt_of, fitting, utf8_length
from chatcore_sql import message_statements as sql
from chatcore_sql.conversations import CONVERSATION, CONVERSATIONS, conversation_from
from chatcore_sql.cuts import packed, unpacked
from chatcore_sql.failures import violates
from chatcore_sql.images import SqlImages
from chatcore_sql.message_statements import HEAD, NODE, message_from, with_siblings
from chatcore_sql.search import find
from chatcore_sql.statements import Row, Statements
from chatcore_sql.storage import SIZE_OF_MESSAGES
from chatcore_sql.tables import LARGEST_ID, UNKNOWN_DEPTH

_NEW = MessageId(0)
_AT_ONCE = 1000  # messages to activate with one statement


class SqlMessageRepo(MessageRepo):
    def __init__(self, statements: Statements, ledger: StorageLedger) -> None:
        self._statements = statements
        self._ledger = ledger
        self._images = SqlImages(statements, ledger)

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
            id=_NEW,
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
        try:
            message_id = await self._stored(
                message,
                idempotency_key=idempotency and idempotency.key,
                idempotency_digest=idempotency and idempotency.digest,
            )
        except IntegrityError as error:
            if violates(error, "conversation_id"):  # ends the name of the key's index, and the list of its columns
                raise IdempotencyKeyReused from None
            raise
        message = replace(message, id=message_id, siblings=(message_id,))
        await self._images.add(message, images)
        return message

    async def _stored(self, message: Message, **more: object) -> MessageId:
        """`more`: columns that are no fields."""
        message_id: MessageId = await self._statements.insert(
            sql.ADD,
            owner=message.user_id,
            conversation=message.conversation_id,
            parent=message.parent_id or 0,
            **sql.MAPPED.values(message),
            **_sizes(message),
            **more,
        )
        self._ledger.ask(message.user_id, size_of(message))
        return message_id

    async def get(self, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId) -> Message | None:
        row = await self._statements.first(sql.GET, owner=owner, conversation=conversation_id, message=message_id)
        return with_siblings(row) if row else None

    async def sent_with(
        self, owner: OwnerId, conversation_id: ConversationId, key: str, *, since: datetime
    ) -> tuple[Message, Idempotency] | None:
        row = await self._statements.first(sql.SENT_WITH, owner=owner, conversation=conversation_id, key=key)
        if row is None:
            return None
        message = with_siblings(row[:-1])
        return (message, Idempotency(key, row[-1])) if message.created_at >= since else None

    async def forget_key(self, owner: OwnerId, conversation_id: ConversationId, key: str, *, before: datetime) -> None:
        await self._statements.change(sql.FORGET_KEY, owner=owner, conversation=conversation_id, key=key, before=before)

    async def reply_to(self, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId) -> Message | None:
        row = await self._statements.first(sql.REPLY_TO, owner=owner, conversation=conversation_id, message=message_id)
        return with_siblings(row) if row else None

    async def place(self, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId) -> Node | None:
        row = await self._statements.first(sql.PLACE, owner=owner, conversation=conversation_id, message=message_id)
        return NODE.from_row(row) if row else None

    async def last(self, owner: OwnerId, conversation_id: ConversationId) -> MessageId | None:
        row = await self._statements.first(sql.LAST, owner=owner, conversation=conversation_id, limit=1)
        return MessageId(row[0]) if row else None

    async def history(
        self,
        owner: OwnerId,
        conversation_id: ConversationId,
        *,
        limit: int,
        before: MessageId | None = None,
        max_bytes: int = PAGE_BYTES,
    ) -> tuple[Conversation, Sequence[Message]] | None:
        page: dict[str, int] = {"limit": limit, "otherwise": UNKNOWN_DEPTH, "max_bytes": max_bytes}
        statement, place = (sql.HISTORY, {}) if before is None else (sql.HISTORY_BEFORE, {"before": before})
        rows = await self._statements.rows(statement, owner=owner, conversation=conversation_id, **page, **place)
        if not rows:
            return None
        width = len(CONVERSATION)
        shown = sorted((row[width:] for row in rows if row[width] is not None), key=itemgetter(0), reverse=True)
        return conversation_from(rows[0][:width]), [with_siblings(row[1:]) for row in shown]

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
        this = {"owner": owner, "conversation": conversation_id, "max_bytes": max_bytes}
        if among is None:
            whole, part = {"otherwise": UNKNOWN_DEPTH}, {"through": through, "otherwise": -1}
            statement, place = (sql.TOLD, whole) if through is None else (sql.TOLD_THROUGH, part)
            rows = await self._statements.rows(statement, **this, limit=limit, **place)
        elif among:
            rows = await self._statements.rows(sql.TOLD_AMONG, **this, limit=limit, these=among[-limit:])
        else:
            rows = list[Row]()
        this_one = (owner, conversation_id)
        told = [(depth, _head_from(head, *this_one, content, images)) for *head, depth, content, images in rows]
        return [message for _, message in sorted(told, key=lambda each: (each[0], each[1].id))]

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
        this = {"owner": owner, "conversation": conversation_id}
        place = {"after": after or 0, "otherwise": -1 if after is None else UNKNOWN_DEPTH, "limit": limit}
        known = [
            row
            for active in ((True,) if active_only else (True, False))
            for row in await self._statements.rows(sql.BY_DEPTH, **this, **place, active=active)
        ]
        page = [*fitting(sorted(known, key=itemgetter(0, 1))[:limit], max_bytes, itemgetter(2))]
        if not page:
            return []
        ids = [row[1] for row in page]
        rows = await self._statements.rows(sql.ALL_OF_THESE, **this, these=ids)
        found = {message.id: message for message in map(message_from, rows)}
        return [found[message_id] for message_id in ids if message_id in found]

    async def restore(self, message: Message, *, active: bool, images: Sequence[Image] = ()) -> MessageId:
        message_id = await self._stored(message, active=active)
        await self._images.add(replace(message, id=message_id), images)
        return message_id

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
        page = {"before": LARGEST_ID if before is None else before, "limit": within, "max_bytes": max_bytes}
        looked_at = sorted(
            await self._statements.rows(sql.SEARCHED, owner=owner, **page), key=itemgetter(0), reverse=True
        )
        rows = [row for row in looked_at if row[-1] is not None]
        found = await find(rows, text, limit=limit, complete=len(rows) == len(looked_at) < within)
        shown = await self._conversations(owner, {row[1] for row, _ in found.items})
        hits = [_hit_from(shown[row[1]], row, place) for row, place in found.items if row[1] in shown]
        return Matches(hits, found.looked_to)

    async def _conversations(self, owner: OwnerId, ids: Set[ConversationId]) -> dict[ConversationId, Conversation]:
        rows = (
            await self._statements.rows(CONVERSATIONS, owner=owner, conversations=sorted(ids)) if ids else list[Row]()
        )
        return {conversation.id: conversation for conversation in map(conversation_from, rows)}

    async def begun_with(self, owner: OwnerId, text: str, *, among: Collection[ConversationId]) -> Set[ConversationId]:
        rows = await self._statements.rows(sql.BEGUN_WITH, owner=owner, among=list(among)) if among else list[Row]()
        found = await find(rows, text, limit=len(rows) + 1, complete=True)
        return {row[0] for row, _ in found.items}

    async def last_reply(self, owner: OwnerId, conversation_id: ConversationId) -> Message | None:
        row = await self._statements.first(sql.LAST_REPLY, owner=owner, conversation=conversation_id)
        return with_siblings(row) if row else None

    async def tree(self, owner: OwnerId, conversation_id: ConversationId) -> Sequence[Node]:
        rows = await self._statements.rows(sql.TREE, owner=owner, conversation=conversation_id)
        return sorted(map(NODE.from_row, rows), key=attrgetter("depth", "created_at", "id"))

    async def activate(
        self, owner: OwnerId, conversation_id: ConversationId, *, after: Node | None, path: Sequence[MessageId]
    ) -> None:
        this = {"owner": owner, "conversation": conversation_id}
        place = {"below": after.depth, "after": after.id} if after else {"below": -1, "after": 0}
        await self._statements.change(sql.DEACTIVATE, **this, **place)
        for start in range(0, len(path), _AT_ONCE):
            await self._statements.change(sql.ACTIVATE, **this, path=path[start : start + _AT_ONCE])

    async def finish(self, reply: Message, cuts: Sequence[int] = (), *, now: datetime | None = None) -> None:
        finished = await self._statements.change(
            sql.FINISH,
            owner=reply.user_id,
            message=reply.id,
            **sql.END.values(reply),
            **_sizes(reply),
            cuts=packed(cuts),
            ended_at=now,
        )
        if finished:
            self._ledger.note(reply.user_id, text_size(reply))

    async def erase(self, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId) -> bool:
        this = {"owner": owner, "conversation": conversation_id, "message": message_id}
        row = await self._statements.lock(sql.LOCK, **this)
        if row is None or row[0] in (Status.WRITING, Status.DELETED):
            return False
        size = await self._statements.first(SIZE_OF_MESSAGES, owner=owner, these=[message_id])
        if row[1]:
            await self._images.delete(owner, conversation_id, message_id)
        self._ledger.note(owner, MESSAGE_BYTES - int(size[0] if size else MESSAGE_BYTES))
        return await self._statements.change(sql.ERASE, **this) == 1

    async def cuts(self, owner: OwnerId, conversation_id: ConversationId, reply_id: MessageId) -> Sequence[int]:
        this = {"owner": owner, "conversation": conversation_id, "message": reply_id}
        row = await self._statements.first(sql.CUTS, **this)
        return unpacked(row[0]) if row else ()

    async def image(
        self, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId, number: int
    ) -> Image | None:
        return await self._images.get(owner, conversation_id, message_id, number)

    async def images_of(
        self, owner: OwnerId, conversation_id: ConversationId, message_ids: Sequence[MessageId], *, max_bytes: int
    ) -> Mapping[MessageId, Sequence[Image]]:
        return await self._images.of(owner, conversation_id, message_ids, max_bytes)


def _head_from(row: Row, owner: OwnerId, conversation_id: ConversationId, content: str | None, images: int) -> Message:
    return HEAD.from_row(row, user_id=owner, conversation_id=conversation_id, content=content or "", images=images)


def _hit_from(conversation: Conversation, row: Row, place: int) -> Hit:
    id_, _, role, created_at, content = row
    return Hit(conversation, excerpt_of(content, place), MessageRef(id_, role, created_at))


def _sizes(message: Message) -> dict[str, Any]:
    return {
        "content_bytes": utf8_length(message.content),
        "reasoning_bytes": utf8_length(message.reasoning or ""),
    }
