"""Messages and the replies among them."""

from collections.abc import Collection, Sequence, Set
from datetime import datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Select,
    String,
    Subquery,
    and_,
    bindparam,
    case,
    cast,
    func,
    insert,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.exc import IntegrityError

from chatcore.entities import (
    SPOKEN,
    Conversation,
    ConversationId,
    Failure,
    FinishReason,
    Message,
    MessageId,
    OwnerId,
    Role,
    Status,
    Usage,
)
from chatcore.errors import IdempotencyKeyReused
from chatcore.ports import PAGE_BYTES, Hit, Idempotency, Matches, MessageRef, MessageRepo, Node
from chatcore.storage import StorageLedger, size_of, text_size
from chatcore.texts import excerpt_of, fitting, utf8_length
from chatcore_sql.conversations import CONVERSATION, CONVERSATIONS, IN_ORDER, THIS_CONVERSATION, conversation_from
from chatcore_sql.cuts import packed, unpacked
from chatcore_sql.dialects.mysql import by_index
from chatcore_sql.failures import violates
from chatcore_sql.functions import LowestFirst
from chatcore_sql.pages import LIMIT, Values, newest_first, oldest_first, sized
from chatcore_sql.search import find
from chatcore_sql.statements import Row, Statements
from chatcore_sql.storage import CONTENT_SIZE, TEXT_SIZE
from chatcore_sql.tables import LARGEST_ID, conversations, messages

_AT_ONCE = 1000  # messages to activate with one statement

_m = messages.c
_OTHER = messages.alias("other")
_other = _OTHER.c
_COMMA: Any = literal_column("','", String())  # a value would be put into the text anew each time
_SIBLINGS = (
    select(func.aggregate_strings(cast(_other.id, String(20)), _COMMA))
    .where(
        _other.user_id == _m.user_id,
        _other.parent_id == _m.parent_id,
        _other.conversation_id == _m.conversation_id,
    )
    .scalar_subquery()
    .correlate(messages)
)
MESSAGE_ALONE = (
    _m.id,
    _m.user_id,
    _m.conversation_id,
    _m.parent_id,
    _m.role,
    _m.content,
    _m.reasoning,
    _m.status,
    _m.model,
    _m.prompt_tokens,
    _m.completion_tokens,
    _m.total_tokens,
    _m.finish_reason,
    _m.error_code,
    _m.error_detail,
    _m.created_at,
)
MESSAGE = (*MESSAGE_ALONE, _SIBLINGS)
_OF_CONVERSATION = (_m.user_id == bindparam("owner"), _m.conversation_id == bindparam("conversation"))

_ADD = insert(messages)
_GET = select(*MESSAGE).where(*_OF_CONVERSATION, _m.id == bindparam("message"))
_NAMED = (
    _m.user_id == bindparam("owner"),
    _m.idempotency_key == bindparam("key"),
    _m.conversation_id + 0 == bindparam("conversation"),  # or PostgreSQL walks the conversation in search of the key
)
_SENT_WITH = select(*MESSAGE, _m.idempotency_digest).where(*_NAMED)
_FORGET_KEY = (
    update(messages)
    .where(*_NAMED, _m.created_at < bindparam("before"))
    .values(idempotency_key=None, idempotency_digest=None)
)
_REPLY_TO = (
    select(*MESSAGE)
    .where(*_OF_CONVERSATION, _m.parent_id == bindparam("message"), _m.role == Role.ASSISTANT.value)
    .order_by(LowestFirst(_m.id))
    .limit(1)
)
_LAST_REPLY = select(*MESSAGE).where(
    *_OF_CONVERSATION,
    _m.id
    == func.coalesce(
        select(conversations.c.writing_reply_id).where(*THIS_CONVERSATION).scalar_subquery(),
        newest_first(
            select(_other.id).with_hint(_OTHER, **IN_ORDER).where(_other.role == Role.ASSISTANT.value),
            {
                _other.user_id: bindparam("owner"),
                _other.conversation_id: bindparam("conversation"),
                _other.active: true(),
            },
            _other.id,
        )
        .limit(1)
        .scalar_subquery(),
    ),
)
_TREE = select(_m.id, _m.parent_id, _m.active).with_hint(messages, **IN_ORDER).where(*_OF_CONVERSATION)
_DEACTIVATE = (
    update(messages)
    .with_hint(**IN_ORDER)
    .where(*_OF_CONVERSATION, _m.active == true(), _m.id > bindparam("after"))
    .values(active=False)
)
_ACTIVATE = update(messages).where(*_OF_CONVERSATION, _m.id.in_(bindparam("path", expanding=True))).values(active=True)
_CUTS = select(_m.cuts).where(*_OF_CONVERSATION, _m.id == bindparam("message"))
_FINISH = update(messages).where(_m.user_id == bindparam("owner"), _m.id == bindparam("message"))

_ACTIVE: Values = {_m.user_id: bindparam("owner"), _m.conversation_id: bindparam("conversation"), _m.active: true()}


def _branch(*columns: ColumnElement[Any]) -> Select[*tuple[Any, ...]]:
    """The newest of the active branch."""
    hinted = select(*columns).with_hint(messages, **IN_ORDER)
    return newest_first(hinted, _ACTIVE, _m.id).limit(LIMIT)


_LAST = _branch(_m.id)

# How long the texts are is known beside them; only those that fit are read.
_PAGE, _PAGE_FITS = sized(_branch(_m.id, TEXT_SIZE.label("size")).subquery("page"))
_HISTORY = (
    select(*CONVERSATION, *MESSAGE)
    .select_from(conversations.outerjoin(_PAGE, and_(true(), _PAGE_FITS)).outerjoin(messages, _m.id == _PAGE.c.id))
    .where(*THIS_CONVERSATION)
)

_THESE = (
    _m.user_id == bindparam("owner"),
    _m.conversation_id + 0 == bindparam("conversation"),  # or SQLite walks the conversation in search of the ids
    _m.id.in_(bindparam("these", expanding=True)),
)

_HEAD = (_m.id, _m.parent_id, _m.role, _m.status, _m.created_at, CONTENT_SIZE.label("size"))


def _told(heads: Subquery) -> Select[*tuple[Any, ...]]:
    total = func.sum(case((_spoken(heads), heads.c.size), else_=0)).over(order_by=heads.c.id.desc())
    told = select(*heads.c, total.label("total")).subquery("told")
    fits = and_(_spoken(told), told.c.total <= bindparam("max_bytes", type_=BigInteger))
    columns = (told.c.id, told.c.parent_id, told.c.role, told.c.status, told.c.created_at, _m.content)
    return select(*columns).select_from(told.outerjoin(messages, and_(_m.id == told.c.id, fits)))


def _spoken(heads: Subquery) -> ColumnElement[bool]:
    return and_(*(heads.c.status != status.value for status in Status if status not in SPOKEN))


_TOLD = _told(_branch(*_HEAD).subquery("heads"))
_TOLD_AMONG = _told(select(*_HEAD).where(*_THESE).limit(LIMIT).subquery("heads"))

# Of each half of the branches the index has the order; of both together a page is taken.
_BY_ID = oldest_first(
    select(_m.id, TEXT_SIZE.label("size")).with_hint(messages, **IN_ORDER),
    {**_ACTIVE, _m.active: bindparam("active", type_=Boolean)},
    _m.id,
).limit(LIMIT)
_ALL_OF_THESE = select(*MESSAGE_ALONE).where(*_THESE)

_OWN = newest_first(
    select(_m.id, CONTENT_SIZE.label("size")).with_hint(messages, **by_index("ix_messages_user_id_id")),
    {_m.user_id: bindparam("owner")},
    _m.id,
)
_TEXTS, _TEXTS_FIT = sized(_OWN.limit(LIMIT).subquery("page"))
_SEARCHED = select(_TEXTS.c.id, _m.conversation_id, _m.role, _m.created_at, _m.content).select_from(
    _TEXTS.outerjoin(messages, and_(_m.id == _TEXTS.c.id, _TEXTS_FIT))
)
_BEGUN_WITH = (
    select(_m.conversation_id, _m.content)
    .where(
        _m.user_id == bindparam("owner"),
        _m.conversation_id.in_(bindparam("among", expanding=True)),
        _m.parent_id == 0,
        CONTENT_SIZE <= 16_384,
    )
    .limit(200)
)


def message_from(row: Row) -> Message:
    """From the columns `MESSAGE` or `MESSAGE_ALONE`."""
    id_, user_id, conversation_id, parent_id, role, content, reasoning, status, model, *rest = row
    prompt_tokens, completion_tokens, total_tokens, finish_reason, *rest = rest
    error_code, error_detail, created_at, *siblings = rest
    return Message(
        id=id_,
        user_id=user_id,
        conversation_id=conversation_id,
        parent_id=parent_id or None,
        siblings=tuple(sorted(MessageId(int(sibling)) for each in siblings for sibling in each.split(","))),
        role=Role(role),
        content=content,
        reasoning=reasoning,
        status=Status(status),
        model=model,
        usage=None
        if total_tokens is None
        else Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, total_tokens=total_tokens),
        finish_reason=None if finish_reason is None else FinishReason(finish_reason),
        error=None if error_code is None else Failure(code=error_code, detail=error_detail),
        created_at=created_at,
    )


class SqlMessageRepo(MessageRepo):
    def __init__(self, statements: Statements, ledger: StorageLedger) -> None:
        self._statements = statements
        self._ledger = ledger

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
    ) -> Message:
        status = Status.WRITING if writing else Status.COMPLETE
        try:
            message_id = await self._statements.insert(
                _ADD,
                user_id=owner,
                conversation_id=conversation_id,
                parent_id=parent_id or 0,
                role=role.value,
                **_text_columns(content, None),
                status=status.value,
                model=model,
                idempotency_key=idempotency and idempotency.key,
                idempotency_digest=idempotency and idempotency.digest,
                created_at=now,
            )
        except IntegrityError as error:
            if violates(error, "conversation_id"):  # ends the name of the key's index, and the list of its columns
                raise IdempotencyKeyReused from None
            raise
        message = Message(
            id=message_id,
            user_id=owner,
            conversation_id=conversation_id,
            parent_id=parent_id,
            siblings=(message_id,),
            role=role,
            content=content,
            status=status,
            model=model,
            created_at=now,
        )
        self._ledger.ask(owner, size_of(message))
        return message

    async def get(self, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId) -> Message | None:
        row = await self._statements.first(_GET, owner=owner, conversation=conversation_id, message=message_id)
        return message_from(row) if row else None

    async def sent_with(
        self, owner: OwnerId, conversation_id: ConversationId, key: str, *, since: datetime
    ) -> tuple[Message, Idempotency] | None:
        row = await self._statements.first(_SENT_WITH, owner=owner, conversation=conversation_id, key=key)
        if row is None:
            return None
        message = message_from(row[:-1])
        return (message, Idempotency(key, row[-1])) if message.created_at >= since else None

    async def forget_key(self, owner: OwnerId, conversation_id: ConversationId, key: str, *, before: datetime) -> None:
        await self._statements.change(_FORGET_KEY, owner=owner, conversation=conversation_id, key=key, before=before)

    async def reply_to(self, owner: OwnerId, conversation_id: ConversationId, message_id: MessageId) -> Message | None:
        row = await self._statements.first(_REPLY_TO, owner=owner, conversation=conversation_id, message=message_id)
        return message_from(row) if row else None

    async def last(
        self, owner: OwnerId, conversation_id: ConversationId, *, before: MessageId | None = None
    ) -> MessageId | None:
        this = {"owner": owner, "conversation": conversation_id, "before": LARGEST_ID if before is None else before}
        row = await self._statements.first(_LAST, **this, limit=1)
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
        rows = await self._statements.rows(
            _HISTORY,
            owner=owner,
            conversation=conversation_id,
            limit=limit,
            before=LARGEST_ID if before is None else before,
            max_bytes=max_bytes,
        )
        if not rows:
            return None
        width = len(CONVERSATION)
        page = [message_from(row[width:]) for row in rows if row[width] is not None]
        return conversation_from(rows[0][:width]), sorted(page, key=lambda message: message.id)

    async def told(
        self,
        owner: OwnerId,
        conversation_id: ConversationId,
        *,
        limit: int,
        max_bytes: int,
        before: MessageId | None = None,
        among: Sequence[MessageId] | None = None,
    ) -> Sequence[Message]:
        this = {"owner": owner, "conversation": conversation_id, "max_bytes": max_bytes}
        if among is None:
            rows = await self._statements.rows(
                _TOLD, **this, limit=limit, before=LARGEST_ID if before is None else before
            )
        elif among:
            rows = await self._statements.rows(_TOLD_AMONG, **this, limit=limit, these=among[-limit:])
        else:
            rows = list[Row]()
        return [_head_from(row, owner, conversation_id) for row in sorted(rows, key=itemgetter(0))]

    async def by_id(
        self,
        owner: OwnerId,
        conversation_id: ConversationId,
        *,
        after: MessageId | None,
        limit: int,
        max_bytes: int = PAGE_BYTES,
    ) -> Sequence[Message]:
        this = {"owner": owner, "conversation": conversation_id}
        place = {"after": after or 0, "limit": limit}
        known = [
            row
            for active in (True, False)
            for row in await self._statements.rows(_BY_ID, **this, **place, active=active)
        ]
        page = [*fitting(sorted(known, key=itemgetter(0))[:limit], max_bytes, itemgetter(1))]
        if not page:
            return []
        rows = await self._statements.rows(_ALL_OF_THESE, **this, these=[row[0] for row in page])
        return [message_from(row) for row in sorted(rows, key=itemgetter(0))]

    async def restore(self, message: Message, *, active: bool) -> MessageId:
        message_id: MessageId = await self._statements.insert(
            _ADD,
            user_id=message.user_id,
            conversation_id=message.conversation_id,
            parent_id=message.parent_id or 0,
            active=active,
            role=message.role.value,
            **_text_columns(message.content, message.reasoning),
            status=message.status.value,
            model=message.model,
            finish_reason=message.finish_reason,
            created_at=message.created_at,
            **_usage_columns(message.usage),
            **_error_columns(message.error),
        )
        self._ledger.ask(message.user_id, size_of(message))
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
        looked_at = sorted(await self._statements.rows(_SEARCHED, owner=owner, **page), key=itemgetter(0), reverse=True)
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
        rows = await self._statements.rows(_BEGUN_WITH, owner=owner, among=list(among)) if among else list[Row]()
        found = await find(rows, text, limit=len(rows) + 1, complete=True)
        return {row[0] for row, _ in found.items}

    async def last_reply(self, owner: OwnerId, conversation_id: ConversationId) -> Message | None:
        row = await self._statements.first(_LAST_REPLY, owner=owner, conversation=conversation_id, before=LARGEST_ID)
        return message_from(row) if row else None

    async def tree(self, owner: OwnerId, conversation_id: ConversationId) -> Sequence[Node]:
        rows = await self._statements.rows(_TREE, owner=owner, conversation=conversation_id)
        return [Node(id_, parent_id or None, active) for id_, parent_id, active in sorted(rows, key=itemgetter(0))]

    async def activate(
        self, owner: OwnerId, conversation_id: ConversationId, *, after: MessageId | None, path: Sequence[MessageId]
    ) -> None:
        this = {"owner": owner, "conversation": conversation_id}
        await self._statements.change(_DEACTIVATE, **this, after=after or 0)
        for start in range(0, len(path), _AT_ONCE):
            await self._statements.change(_ACTIVATE, **this, path=path[start : start + _AT_ONCE])

    async def finish(self, reply: Message, cuts: Sequence[int] = (), *, now: datetime | None = None) -> None:
        finished = await self._statements.change(
            _FINISH,
            owner=reply.user_id,
            message=reply.id,
            **_text_columns(reply.content, reply.reasoning),
            status=reply.status.value,
            finish_reason=reply.finish_reason,
            **_usage_columns(reply.usage),
            **_error_columns(reply.error),
            cuts=packed(cuts),
            ended_at=now,
        )
        if finished:
            self._ledger.note(reply.user_id, text_size(reply))

    async def cuts(self, owner: OwnerId, conversation_id: ConversationId, reply_id: MessageId) -> Sequence[int]:
        this = {"owner": owner, "conversation": conversation_id, "message": reply_id}
        row = await self._statements.first(_CUTS, **this)
        return unpacked(row[0]) if row else ()


def _head_from(row: Row, owner: OwnerId, conversation_id: ConversationId) -> Message:
    id_, parent_id, role, status, created_at, content = row
    return Message(
        id=id_,
        user_id=owner,
        conversation_id=conversation_id,
        parent_id=parent_id or None,
        role=Role(role),
        content=content or "",
        status=Status(status),
        created_at=created_at,
    )


def _hit_from(conversation: Conversation, row: Row, place: int) -> Hit:
    id_, _, role, created_at, content = row
    return Hit(conversation, excerpt_of(content, place), MessageRef(id_, Role(role), created_at))


def _text_columns(content: str, reasoning: str | None) -> dict[str, Any]:
    return {
        "content": content,
        "content_bytes": utf8_length(content),
        "reasoning": reasoning,
        "reasoning_bytes": utf8_length(reasoning or ""),
    }


def _usage_columns(usage: Usage | None) -> dict[str, Any]:
    return {
        "prompt_tokens": usage and usage.prompt_tokens,
        "completion_tokens": usage and usage.completion_tokens,
        "total_tokens": usage and usage.total_tokens,
    }


def _error_columns(error: Failure | None) -> dict[str, Any]:
    return {"error_code": error and error.code, "error_detail": error and error.detail}
