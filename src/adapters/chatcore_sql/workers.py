"""The processes that write replies, and what they are writing."""

from collections.abc import Collection, Sequence, Set
from datetime import UTC, datetime, timedelta

from sqlalchemy import BigInteger, and_, bindparam, delete, insert, select, true, update

from chatcore.entities import Message, MessageId, OwnerId, Status, WorkerId
from chatcore.ports import Heartbeat, UnfinishedReplies, Workers
from chatcore_sql.functions import Now
from chatcore_sql.message_statements import MESSAGE_ALONE, message_from
from chatcore_sql.statements import Statements
from chatcore_sql.tables import conversations, messages, workers

_c = conversations.c
_m = messages.c
_w = workers.c
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_THIS = _w.id == bindparam("worker")
_RENEWED_BEFORE = _w.renewed_at < Now() - bindparam("silence", type_=BigInteger)

_JOIN = insert(workers).values(renewed_at=Now())
_RENEW = update(workers).where(_THIS).values(renewed_at=Now())
_PULSE = (
    select(_w.renewed_at, _c.writing_reply_id)
    .select_from(workers.outerjoin(conversations, and_(_c.writing_worker_id == _w.id, _c.stop_requested == true())))
    .where(_THIS)
)
_ALIVE = select(_w.id).where(_THIS).with_for_update(read=True)
_JOINED_AT = select(_w.renewed_at).where(_THIS)
_SILENT = select(_w.id).where(_RENEWED_BEFORE)
_BURY = delete(workers).where(_THIS, _RENEWED_BEFORE)

_WRITTEN = select(*MESSAGE_ALONE).select_from(conversations.join(messages, _c.writing_reply_id == _m.id))
_ORPHANS = (
    select(*MESSAGE_ALONE)
    .select_from(
        conversations.join(messages, _c.writing_reply_id == _m.id).outerjoin(workers, _c.writing_worker_id == _w.id)
    )
    .where(_c.writing_worker_id.is_not(None), _w.id.is_(None))
    .limit(bindparam("limit", type_=BigInteger))
)
_STILL = select(_m.id).where(_m.id.in_(bindparam("replies", expanding=True)), _m.status == Status.WRITING)
_OF = _WRITTEN.where(_c.user_id == bindparam("owner"), _c.writing_reply_id.is_not(None))


class SqlWorkers(Workers):
    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def join(self) -> tuple[WorkerId, datetime]:
        worker_id = await self._statements.insert(_JOIN)
        row = await self._statements.lock(_JOINED_AT, worker=worker_id)
        assert row is not None  # noqa: S101 - inserted by this transaction
        return WorkerId(worker_id), _moment(row[0])

    async def renew(self, worker_id: WorkerId) -> Heartbeat | None:
        if await self._statements.change(_RENEW, worker=worker_id) != 1:
            return None
        rows = await self._statements.rows(_PULSE, worker=worker_id)
        return Heartbeat(_moment(rows[0][0]), frozenset(MessageId(row[1]) for row in rows if row[1] is not None))

    async def is_alive(self, worker_id: WorkerId) -> bool:
        return await self._statements.lock(_ALIVE, worker=worker_id) is not None

    async def silent(self, *, longer_than: timedelta) -> Sequence[WorkerId]:
        rows = await self._statements.rows(_SILENT, silence=longer_than // _MICROSECOND)
        return [WorkerId(row[0]) for row in rows]

    async def expire(self, worker_id: WorkerId, *, longer_than: timedelta) -> None:
        await self._statements.change(_BURY, worker=worker_id, silence=longer_than // _MICROSECOND)


class SqlUnfinishedReplies(UnfinishedReplies):
    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    async def orphans(self, *, limit: int) -> Sequence[Message]:
        return [message_from(row) for row in await self._statements.rows(_ORPHANS, limit=limit)]

    async def still(self, reply_ids: Collection[MessageId]) -> Set[MessageId]:
        if not reply_ids:
            return frozenset()
        rows = await self._statements.rows(_STILL, replies=list(reply_ids))
        return frozenset(MessageId(row[0]) for row in rows)

    async def of(self, owner: OwnerId) -> Sequence[Message]:
        return [message_from(row) for row in await self._statements.rows(_OF, owner=owner)]


def _moment(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND
