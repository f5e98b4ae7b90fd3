"""Messages and the replies among them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, bindparam, insert, select, true, update

from chatcore.entities import Conversation, ConversationId, Failure, Message, MessageId, Role, Status, Usage, UserId
from chatcore.ports import MessageRepo, UnfinishedReplies
from chatcore_sql.conversations import CONVERSATION, THIS_CONVERSATION, conversation_from
from chatcore_sql.statements import Row, Statements
from chatcore_sql.tables import LARGEST_ID, conversations, messages

_m = messages.c
_MESSAGE = (
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
    _m.error_code,
    _m.error_detail,
    _m.created_at,
)
_OF_CONVERSATION = (_m.user_id == bindparam("owner"), _m.conversation_id == bindparam("conversation"))
_NEWEST_FIRST = _m.id.desc()

_ADD = insert(messages)
_GET = select(*_MESSAGE).where(*_OF_CONVERSATION, _m.id == bindparam("message"))
_LAST_REPLY = (
    select(*_MESSAGE).where(*_OF_CONVERSATION, _m.role == Role.ASSISTANT.value).order_by(_NEWEST_FIRST).limit(1)
)
_FINISH = update(messages).where(_m.user_id == bindparam("owner"), _m.id == bindparam("message"))

# The page is found in the index alone; only its messages' texts are read.
_PAGE = (
    select(_m.id)
    .where(*_OF_CONVERSATION, _m.id < bindparam("before"))
    .order_by(_NEWEST_FIRST)
    .limit(bindparam("limit", type_=Integer))
    .subquery("page")
)
_HISTORY = (
    select(*CONVERSATION, *_MESSAGE)
    .select_from(conversations.outerjoin(_PAGE, true()).outerjoin(messages, _m.id == _PAGE.c.id))
    .where(*THIS_CONVERSATION)
)
_UNFINISHED = (
    select(*_MESSAGE)
    .select_from(conversations.join(messages, conversations.c.writing_reply_id == _m.id))
    .where(conversations.c.writing_reply_id.is_not(None))
)


def _message_from(row: Row) -> Message:
    id_, user_id, conversation_id, parent_id, role, content, reasoning, status, model, *rest = row
    prompt_tokens, completion_tokens, total_tokens, error_code, error_detail, created_at = rest
    return Message(
        id=id_,
        user_id=user_id,
        conversation_id=conversation_id,
        parent_id=parent_id,
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
    def __init__(self, statements: Statements) -> None:
        self._statements = statements

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
        status = Status.WRITING if writing else Status.COMPLETE
        message_id = await self._statements.insert(
            _ADD,
            user_id=owner,
            conversation_id=conversation_id,
            parent_id=parent_id,
            role=role.value,
            content=content,
            status=status.value,
            model=model,
            created_at=now,
        )
        return Message(
            id=message_id,
            user_id=owner,
            conversation_id=conversation_id,
            parent_id=parent_id,
            role=role,
            content=content,
            status=status,
            model=model,
            created_at=now,
        )

    async def get(self, owner: UserId, conversation_id: ConversationId, message_id: MessageId) -> Message | None:
        row = await self._statements.first(_GET, owner=owner, conversation=conversation_id, message=message_id)
        return _message_from(row) if row else None

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
        page = [_message_from(row[width:]) for row in rows if row[width] is not None]
        return conversation_from(rows[0][:width]), sorted(page, key=lambda message: message.id)

    async def last_reply(self, owner: UserId, conversation_id: ConversationId) -> Message | None:
        row = await self._statements.first(_LAST_REPLY, owner=owner, conversation=conversation_id)
        return _message_from(row) if row else None

    async def finish(self, reply: Message) -> None:
        await self._statements.change(
            _FINISH,
            owner=reply.user_id,
            message=reply.id,
            content=reply.content,
            reasoning=reply.reasoning,
            status=reply.status.value,
            **_usage_columns(reply.usage),
            **_error_columns(reply.error),
        )


class SqlUnfinishedReplies(UnfinishedReplies):
    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def list(self) -> Sequence[Message]:
        return [_message_from(row) for row in await self._statements.rows(_UNFINISHED)]


def _usage_columns(usage: Usage | None) -> dict[str, Any]:
    return {
        "prompt_tokens": usage and usage.prompt_tokens,
        "completion_tokens": usage and usage.completion_tokens,
        "total_tokens": usage and usage.total_tokens,
    }


def _error_columns(error: Failure | None) -> dict[str, Any]:
    return {"error_code": error and error.code, "error_detail": error and error.detail}
