"""Conversations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BindParameter,
    Boolean,
    Integer,
    bindparam,
    case,
    delete,
    false,
    func,
    insert,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.exc import IntegrityError

from chatcore.entities import Conversation, ConversationId, MessageId, ModelConfigId, OwnerId, WorkerId, storable
from chatcore.errors import Contention
from chatcore.ports import NO_METADATA, ConversationRepo, Matches
from chatcore.storage import StorageLedger, conversation_size
from chatcore_sql.dialects.mysql import BY_KEY, by_index
from chatcore_sql.failures import violates
from chatcore_sql.mapped import Mapped
from chatcore_sql.pages import LIMIT, newest_first, oldest_first
from chatcore_sql.search import find
from chatcore_sql.statements import Statements
from chatcore_sql.storage import SIZE_OF_CONVERSATION, SIZE_OF_MESSAGES
from chatcore_sql.tables import LARGEST_ID, Id, Moment, conversations, messages, reply_log

_NEW = ConversationId(0)
_c = conversations.c
_MAPPED = Mapped(Conversation, conversations)
CONVERSATION = _MAPPED.columns
conversation_from: Callable[..., Conversation] = _MAPPED.from_row
_THIS_OR_CLOSED = (_c.user_id == bindparam("owner"), _c.id == bindparam("conversation"))
THIS_CONVERSATION = (*_THIS_OR_CLOSED, _c.closed_at.is_(None))

_ADD = insert(conversations)
_GET = select(*CONVERSATION).where(*THIS_CONVERSATION)
_BY_NAME = select(*CONVERSATION).where(
    _c.user_id == bindparam("owner"), _c.client_id == bindparam("client_id"), _c.closed_at.is_(None)
)
_LOCK = _GET.with_for_update()
_OPEN = select(*CONVERSATION).where(_c.user_id == bindparam("owner"), _c.closed_at.is_(None))
_LIST = _OPEN.order_by(_c.updated_at.desc(), _c.id.desc()).limit(LIMIT).offset(bindparam("offset", type_=Integer))
_LIST_BELOW = (
    _OPEN.where(
        _c.updated_at <= bindparam("updated_at", type_=Moment),
        or_(_c.updated_at < bindparam("updated_at", type_=Moment), _c.id < bindparam("before", type_=Id)),
    )
    .order_by(_c.updated_at.desc(), _c.id.desc())
    .limit(LIMIT)
)
# Of a conversation with a good part of all messages, MySQL would rather walk the primary key in search of them.
IN_ORDER = by_index("ix_messages_user_id_conversation_id_active_depth_id")
_m = messages.c


_SINCE = bindparam("since", type_=Moment)
_TIME = case((_m.ended_at <= _SINCE, _m.ended_at), else_=_m.created_at)
_UNTIL_THEN = (
    select(_TIME)
    .with_hint(messages, **IN_ORDER)
    .where(_m.user_id == _c.user_id, _m.conversation_id == _c.id, _m.created_at <= _SINCE)
    .correlate(conversations)
)
# Of the active branch no more is read than was said since, from the last message up; other branches are in no order.
_LAST_ASIDE = _UNTIL_THEN.where(_m.active == false()).with_only_columns(func.max(_TIME))
_LAST_UNTIL_THEN = _UNTIL_THEN.where(_m.active == true()).order_by(_m.depth.desc(), _m.id.desc()).limit(1)
_USED_SINCE = (
    select(*CONVERSATION, _c.used_before, _LAST_UNTIL_THEN.scalar_subquery(), _LAST_ASIDE.scalar_subquery())
    .with_hint(conversations, **by_index("ix_conversations_user_id_updated_at_id"))
    .where(
        _c.user_id == bindparam("owner"),
        _c.closed_at.is_(None),
        _c.updated_at > _SINCE,
        _c.created_at <= _SINCE,
    )
    .order_by(_c.updated_at.desc(), _c.id.desc())
    .limit(LIMIT)
)
_THESE: BindParameter[int] = bindparam("these", expanding=True)
_OWN_BY_ID = (
    select(*CONVERSATION)
    .where(_c.closed_at.is_(None))
    .with_hint(conversations, **by_index("uq_conversations_user_id_id"))
)
_BY_ID = oldest_first(_OWN_BY_ID, {_c.user_id: bindparam("owner")}, _c.id).limit(LIMIT)
_NEWEST = newest_first(_OWN_BY_ID.add_columns(_c.title), {_c.user_id: bindparam("owner")}, _c.id).limit(LIMIT)
CONVERSATIONS = _OPEN.where(_c.id.in_(bindparam("conversations", expanding=True)))
# By the primary key alone: where MySQL locks an index entry first that somebody with the row's lock has to change,
# the two wait for each other.
_UPDATE = update(conversations).where(*THIS_CONVERSATION).with_hint(**BY_KEY)
_PROPOSE_TITLE = _UPDATE.where(_c.titled_by_user.is_(false()))
_CLAIM = _UPDATE.where(_c.writing_reply_id.is_(None))
_OF_REPLY = _UPDATE.where(_c.writing_reply_id == bindparam("reply"))
_RELEASE = _OF_REPLY.values(writing_reply_id=None, writing_worker_id=None, stop_requested=False)
_REQUEST_STOP = _OF_REPLY.values(stop_requested=True)
_DELETE = delete(conversations).where(*_THIS_OR_CLOSED)
# First looked for, then deleted by key: a range that is deleted locks what lies beside it.
_SOME_MESSAGES = (
    select(_m.id)
    .with_hint(messages, **IN_ORDER)
    .where(
        _m.user_id == bindparam("owner"),
        _m.conversation_id == bindparam("conversation"),
        _m.active == bindparam("active", type_=Boolean),
    )
    .order_by(_m.depth.desc(), _m.id.desc())
    .limit(LIMIT)
)
_DELETE_MESSAGES = delete(messages).where(_m.user_id == bindparam("owner"), _m.id.in_(_THESE))
_DELETE_LOG = delete(reply_log).where(reply_log.c.user_id == bindparam("owner"), reply_log.c.reply_id.in_(_THESE))


class SqlConversationRepo(ConversationRepo):
    def __init__(self, statements: Statements, ledger: StorageLedger) -> None:
        self._statements = statements
        self._ledger = ledger

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
            id=_NEW,
            user_id=owner,
            title=title,
            titled_by_user=title != "",
            config_id=config_id,
            client_id=client_id,
            metadata=metadata,
            created_at=now,
            updated_at=now,
        )
        try:
            return await self._stored(conversation)
        except IntegrityError as error:
            if violates(error, "client_id"):
                raise Contention from None  # the database's message has the name in it
            raise

    async def _stored(self, conversation: Conversation, **more: object) -> Conversation:
        """`more`: columns that are no fields."""
        conversation_id = await self._statements.insert(_ADD, **_MAPPED.values(conversation), **more)
        self._ledger.ask(conversation.user_id, conversation_size(conversation))
        return replace(conversation, id=conversation_id)

    async def get(self, owner: OwnerId, conversation_id: ConversationId) -> Conversation | None:
        row = await self._statements.first(_GET, owner=owner, conversation=conversation_id)
        return conversation_from(row) if row else None

    async def named(self, owner: OwnerId, client_id: str) -> Conversation | None:
        if storable(client_id) != client_id:
            return None
        row = await self._statements.first(_BY_NAME, owner=owner, client_id=client_id)
        return conversation_from(row) if row else None

    async def lock(self, owner: OwnerId, conversation_id: ConversationId) -> Conversation | None:
        row = await self._statements.lock(_LOCK, owner=owner, conversation=conversation_id)
        return conversation_from(row) if row else None

    async def list(self, owner: OwnerId, *, limit: int, offset: int) -> Sequence[Conversation]:
        rows = await self._statements.rows(_LIST, owner=owner, limit=limit, offset=offset)
        return [conversation_from(row) for row in rows]

    async def list_below(
        self, owner: OwnerId, *, updated_at: datetime, before: ConversationId, limit: int
    ) -> Sequence[Conversation]:
        rows = await self._statements.rows(_LIST_BELOW, owner=owner, updated_at=updated_at, before=before, limit=limit)
        return [conversation_from(row) for row in rows]

    async def used_since(
        self, owner: OwnerId, since: datetime, *, limit: int
    ) -> Sequence[tuple[Conversation, datetime]]:
        rows = await self._statements.rows(_USED_SINCE, owner=owner, since=since, limit=limit)
        used: list[tuple[Conversation, datetime]] = []
        for *columns, before, last, last_aside in rows:
            each = conversation_from(columns)
            times = (last, last_aside, before or each.created_at)
            used.append((each, max(time for time in times if time is not None)))
        return used

    async def by_id(self, owner: OwnerId, *, after: ConversationId | None, limit: int) -> Sequence[Conversation]:
        rows = await self._statements.rows(_BY_ID, owner=owner, after=after or 0, limit=limit)
        return [conversation_from(row) for row in rows]

    async def restore(self, conversation: Conversation) -> Conversation:
        restored = replace(conversation, config_id=None, writing_reply_id=None, client_id=None)
        return await self._stored(restored, used_before=conversation.updated_at)

    async def titled(
        self, owner: OwnerId, text: str, *, before: ConversationId | None, limit: int, within: int
    ) -> Matches[Conversation]:
        page = {"before": LARGEST_ID if before is None else before, "limit": within}
        rows = await self._statements.rows(_NEWEST, owner=owner, **page)
        found = await find(rows, text, limit=limit, complete=len(rows) < within)
        return Matches([conversation_from(row[:-1]) for row, _ in found.items], found.looked_to)

    async def set_title(
        self, owner: OwnerId, conversation_id: ConversationId, title: str, *, by_user: bool = False
    ) -> bool:
        titled = await self._statements.change(
            _UPDATE if by_user else _PROPOSE_TITLE,
            owner=owner,
            conversation=conversation_id,
            title=title,
            titled_by_user=by_user,
        )
        return titled == 1

    async def set_metadata(
        self, owner: OwnerId, conversation_id: ConversationId, metadata: Mapping[str, str]
    ) -> Conversation | None:
        known = await self.lock(owner, conversation_id)
        if known is None:
            return None
        changed = replace(known, metadata=metadata)
        self._ledger.ask(owner, conversation_size(changed) - conversation_size(known))
        await self._statements.change(_UPDATE, owner=owner, conversation=conversation_id, metadata=metadata)
        return changed

    async def touch(self, owner: OwnerId, conversation_id: ConversationId, *, now: datetime) -> None:
        await self._statements.change(_UPDATE, owner=owner, conversation=conversation_id, updated_at=now)

    async def delete(self, owner: OwnerId, conversation_id: ConversationId, *, limit: int, now: datetime) -> int:
        this: dict[str, Any] = {"owner": owner, "conversation": conversation_id}
        found: list[MessageId] = []
        for active in (True, False):
            page = {"limit": limit - len(found), "active": active}
            found += [row[0] for row in await self._statements.rows(_SOME_MESSAGES, **this, **page)]
        if found:
            size = await self._statements.first(SIZE_OF_MESSAGES, owner=owner, these=found)
            self._ledger.note(owner, -int(size[0] if size else 0))
            await self._statements.change(_DELETE_LOG, owner=owner, these=found)
            await self._statements.change(_DELETE_MESSAGES, owner=owner, these=sorted(found))
        if len(found) == limit:
            await self._statements.change(_UPDATE, **this, closed_at=now, client_id=None)
            return limit
        size = await self._statements.first(SIZE_OF_CONVERSATION, **this)
        if not await self._statements.change(_DELETE, **this):
            return len(found)
        self._ledger.note(owner, -int(size[0] if size else 0))
        return len(found) + 1

    async def claim(
        self,
        owner: OwnerId,
        conversation_id: ConversationId,
        reply_id: MessageId,
        worker_id: WorkerId,
        *,
        now: datetime,
    ) -> bool:
        claimed = await self._statements.change(
            _CLAIM,
            owner=owner,
            conversation=conversation_id,
            writing_reply_id=reply_id,
            writing_worker_id=worker_id,
            updated_at=now,
        )
        return claimed == 1

    async def release(
        self, owner: OwnerId, conversation_id: ConversationId, reply_id: MessageId, *, now: datetime
    ) -> bool:
        released = await self._statements.change(
            _RELEASE, owner=owner, conversation=conversation_id, reply=reply_id, updated_at=now
        )
        return released == 1

    async def request_stop(self, owner: OwnerId, conversation_id: ConversationId, reply_id: MessageId) -> bool:
        asked = await self._statements.change(_REQUEST_STOP, owner=owner, conversation=conversation_id, reply=reply_id)
        return asked == 1
