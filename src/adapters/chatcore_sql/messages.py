"""Messages and the replies among them."""

from collections.abc import Collection, Sequence, Set
from datetime import datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import Integer, String, and_, bindparam, cast, func, insert, literal_column, select, true, update
from sqlalchemy.exc import IntegrityError

from chatcore.entities import (
    Conversation,
    ConversationId,
    Failure,
    Message,
    MessageId,
    Role,
    Status,
    Usage,
    UserId,
    storable,
)
from chatcore.errors import IdempotencyKeyReused
from chatcore.ports import Found, Idempotency, MessageRepo, Node
from chatcore.storage import StorageLedger, size_of, text_size
from chatcore_sql.conversations import CONVERSATION, THIS_CONVERSATION, conversation_from
from chatcore_sql.failures import violates
from chatcore_sql.search import Search, has_text, pattern_of
from chatcore_sql.statements import Row, Statements
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
MESSAGE = (
    _m.id,
    _m.user_id,
    _m.conversation_id,
    _m.parent_id,
    _SIBLINGS,
    _m.role,
    _m.content,
    _m.reasoning,
    _m.status,
    _m.model,
    _m.prompt_tokens,
    _m.completion_tokens,
    _m.total_tokens,
    _m.error_code,
    _m.error_detail,
    _m.created_at,
)
_OF_CONVERSATION = (_m.user_id == bindparam("owner"), _m.conversation_id == bindparam("conversation"))
_NEWEST_FIRST = _m.id.desc()

_ADD = insert(messages)
_GET = select(*MESSAGE).where(*_OF_CONVERSATION, _m.id == bindparam("message"))
_SENT_WITH = select(*MESSAGE, _m.idempotency_digest).where(
    _m.user_id == bindparam("owner"),
    _m.idempotency_key == bindparam("key"),
    _m.conversation_id + 0 == bindparam("conversation"),  # or PostgreSQL walks the conversation in search of the key
)
_FORGET_KEY = (
    update(messages)
    .where(*_OF_CONVERSATION, _m.id == bindparam("message"))
    .values(idempotency_key=None, idempotency_digest=None)
)
_REPLY_TO = (
    select(*MESSAGE)
    .where(*_OF_CONVERSATION, _m.parent_id == bindparam("message"), _m.role == Role.ASSISTANT.value)
    .order_by(_m.id)
    .limit(1)
)
# Of a conversation with a good part of all messages, MySQL would rather walk the primary key in search of them.
_IN_ORDER = "FORCE INDEX (ix_messages_user_id_conversation_id_active_id)"
_LAST_REPLY = select(*MESSAGE).where(
    *_OF_CONVERSATION,
    _m.id
    == func.coalesce(
        select(conversations.c.writing_reply_id).where(*THIS_CONVERSATION).scalar_subquery(),
        select(_other.id)
        .with_hint(_OTHER, _IN_ORDER, dialect_name="mysql")
        .where(
            _other.user_id == bindparam("owner"),
            _other.conversation_id == bindparam("conversation"),
            _other.active == true(),
            _other.role == Role.ASSISTANT.value,
        )
        .order_by(_other.id.desc())
        .limit(1)
        .scalar_subquery(),
    ),
)
_TREE = (
    select(_m.id, _m.parent_id, _m.active).with_hint(messages, _IN_ORDER, dialect_name="mysql").where(*_OF_CONVERSATION)
)
_DEACTIVATE = (
    update(messages)
    .with_hint(_IN_ORDER, dialect_name="mysql")
    .where(*_OF_CONVERSATION, _m.active == true(), _m.id > bindparam("after"))
    .values(active=False)
)
_ACTIVATE = update(messages).where(*_OF_CONVERSATION, _m.id.in_(bindparam("path", expanding=True))).values(active=True)
_FINISH = update(messages).where(_m.user_id == bindparam("owner"), _m.id == bindparam("message"))

# The page is found in the index alone; only its messages' texts are read.
_PAGE = (
    select(_m.id)
    .with_hint(messages, _IN_ORDER, dialect_name="mysql")
    .where(*_OF_CONVERSATION, _m.active == true(), _m.id < bindparam("before"))
    .order_by(_NEWEST_FIRST)
    .limit(bindparam("limit", type_=Integer))
    .subquery("page")
)
_HISTORY = (
    select(*CONVERSATION, *MESSAGE)
    .select_from(conversations.outerjoin(_PAGE, true()).outerjoin(messages, _m.id == _PAGE.c.id))
    .where(*THIS_CONVERSATION)
)

# Of each half of the branches the index has the order; of both together a page is taken.
_BY_ID = (
    select(*MESSAGE)
    .with_hint(messages, _IN_ORDER, dialect_name="mysql")
    .where(*_OF_CONVERSATION, _m.active == bindparam("active"), _m.id > bindparam("after"))
    .order_by(_m.id)
    .limit(bindparam("limit", type_=Integer))
)
_SEARCH = Search(messages, _m.content, index="ix_messages_user_id_id")
_CONTAINING = select(*MESSAGE, *CONVERSATION).select_from(
    _SEARCH.found.join(messages, _m.id == _SEARCH.found.c.id).join(
        conversations, and_(conversations.c.user_id == _m.user_id, conversations.c.id == _m.conversation_id)
    )
)


_BEGUN_WITH = select(_m.conversation_id).where(
    _m.user_id == bindparam("owner"),
    _m.conversation_id.in_(bindparam("among", expanding=True)),
    _m.parent_id == 0,
    has_text(_m.content),
)


def message_from(row: Row) -> Message:
    id_, user_id, conversation_id, parent_id, siblings, role, content, reasoning, status, model, *rest = row
    prompt_tokens, completion_tokens, total_tokens, error_code, error_detail, created_at = rest
    return Message(
        id=id_,
        user_id=user_id,
        conversation_id=conversation_id,
        parent_id=parent_id or None,
        siblings=tuple(sorted(MessageId(int(sibling)) for sibling in siblings.split(","))),
        role=Role(role),
        content=content,
        reasoning=reasoning,
        status=Status(status),
        model=model,
        usage=None
        if total_tokens is None
        else Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, total_tokens=total_tokens),
        error=None if error_code is None else Failure(code=error_code, detail=error_detail),
        created_at=created_at,
    )


class SqlMessageRepo(MessageRepo):
    def __init__(self, statements: Statements, ledger: StorageLedger) -> None:
        self._statements = statements
        self._ledger = ledger

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
                content=content,
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
        self._ledger.ask(owner, size_of(content))
        return Message(
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

    async def get(self, owner: UserId, conversation_id: ConversationId, message_id: MessageId) -> Message | None:
        row = await self._statements.first(_GET, owner=owner, conversation=conversation_id, message=message_id)
        return message_from(row) if row else None

    async def sent_with(
        self, owner: UserId, conversation_id: ConversationId, key: str, *, since: datetime
    ) -> tuple[Message, Idempotency] | None:
        row = await self._statements.first(_SENT_WITH, owner=owner, conversation=conversation_id, key=key)
        if row is None:
            return None
        message = message_from(row[:-1])
        if message.created_at >= since:
            return message, Idempotency(key, row[-1])
        await self._statements.change(_FORGET_KEY, owner=owner, conversation=conversation_id, message=message.id)
        return None

    async def reply_to(self, owner: UserId, conversation_id: ConversationId, message_id: MessageId) -> Message | None:
        row = await self._statements.first(_REPLY_TO, owner=owner, conversation=conversation_id, message=message_id)
        return message_from(row) if row else None

    async def history(
        self, owner: UserId, conversation_id: ConversationId, *, limit: int, before: MessageId | None = None
    ) -> tuple[Conversation, Sequence[Message]] | None:
        rows = await self._statements.rows(
            _HISTORY,
            owner=owner,
            conversation=conversation_id,
            limit=limit,
            before=LARGEST_ID if before is None else before,
        )
        if not rows:
            return None
        width = len(CONVERSATION)
        page = [message_from(row[width:]) for row in rows if row[width] is not None]
        return conversation_from(rows[0][:width]), sorted(page, key=lambda message: message.id)

    async def by_id(
        self, owner: UserId, conversation_id: ConversationId, *, after: MessageId | None, limit: int
    ) -> Sequence[Message]:
        this = {"owner": owner, "conversation": conversation_id, "after": after or 0, "limit": limit}
        rows = [row for active in (True, False) for row in await self._statements.rows(_BY_ID, **this, active=active)]
        return [message_from(row) for row in sorted(rows, key=itemgetter(0))[:limit]]

    async def restore(self, message: Message, *, active: bool) -> MessageId:
        message_id: MessageId = await self._statements.insert(
            _ADD,
            user_id=message.user_id,
            conversation_id=message.conversation_id,
            parent_id=message.parent_id or 0,
            active=active,
            role=message.role.value,
            content=message.content,
            reasoning=message.reasoning,
            status=message.status.value,
            model=message.model,
            created_at=message.created_at,
            **_usage_columns(message.usage),
            **_error_columns(message.error),
        )
        self._ledger.ask(message.user_id, size_of(message.content, message.reasoning))
        return message_id

    async def containing(
        self, owner: UserId, text: str, *, before: MessageId | None, limit: int, within: int
    ) -> Found[tuple[Conversation, Message]]:
        rows, looked_to = await _SEARCH(
            self._statements, _CONTAINING, owner, text, before=before, limit=limit, within=within
        )
        width = len(MESSAGE)
        return Found([(conversation_from(row[width:]), message_from(row[:width])) for row in rows], looked_to)

    async def begun_with(self, owner: UserId, text: str, *, among: Collection[ConversationId]) -> Set[ConversationId]:
        if storable(text) != text:
            return frozenset()
        bound = {"owner": owner, "among": list(among), "pattern": pattern_of(text)}
        return {row[0] for row in await self._statements.rows(_BEGUN_WITH, **bound)}

    async def last_reply(self, owner: UserId, conversation_id: ConversationId) -> Message | None:
        row = await self._statements.first(_LAST_REPLY, owner=owner, conversation=conversation_id)
        return message_from(row) if row else None

    async def tree(self, owner: UserId, conversation_id: ConversationId) -> Sequence[Node]:
        rows = await self._statements.rows(_TREE, owner=owner, conversation=conversation_id)
        return [Node(id_, parent_id or None, active) for id_, parent_id, active in sorted(rows, key=itemgetter(0))]

    async def activate(
        self, owner: UserId, conversation_id: ConversationId, *, after: MessageId | None, path: Sequence[MessageId]
    ) -> None:
        this = {"owner": owner, "conversation": conversation_id}
        await self._statements.change(_DEACTIVATE, **this, after=after or 0)
        for start in range(0, len(path), _AT_ONCE):
            await self._statements.change(_ACTIVATE, **this, path=path[start : start + _AT_ONCE])

    async def finish(self, reply: Message) -> None:
        finished = await self._statements.change(
            _FINISH,
            owner=reply.user_id,
            message=reply.id,
            content=reply.content,
            reasoning=reply.reasoning,
            status=reply.status.value,
            **_usage_columns(reply.usage),
            **_error_columns(reply.error),
        )
        if finished:
            self._ledger.note(reply.user_id, text_size(reply.content, reply.reasoning))


def _usage_columns(usage: Usage | None) -> dict[str, Any]:
    return {
        "prompt_tokens": usage and usage.prompt_tokens,
        "completion_tokens": usage and usage.completion_tokens,
        "total_tokens": usage and usage.total_tokens,
    }


def _error_columns(error: Failure | None) -> dict[str, Any]:
    return {"error_code": error and error.code, "error_detail": error and error.detail}
