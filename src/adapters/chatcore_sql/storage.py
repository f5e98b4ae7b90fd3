"""How much each user has stored, in bytes: one row each, changed last in a transaction, since all of a user's wait for
it."""

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, FromClause, Select, bindparam, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from chatcore.errors import Contention, StorageFull
from chatcore.storage import CONVERSATION_BYTES, FILE_BYTES, MESSAGE_BYTES, StorageChange, StorageLedger
from chatcore_sql.dialects.mysql import by_index
from chatcore_sql.functions import octet_length
from chatcore_sql.statements import Statements
from chatcore_sql.tables import conversations, files, message_images, messages, owners, requests, user_storage

_s = user_storage.c
_m = messages.c
_c = conversations.c
_i = message_images.c

# A process of an earlier version, which is still running, does not say how long its texts are.
CONTENT_SIZE = func.coalesce(_m.content_bytes, octet_length(_m.content))
TEXT_SIZE = CONTENT_SIZE + func.coalesce(_m.reasoning_bytes, octet_length(_m.reasoning), 0)


def _sum_of(found: FromClause) -> Select[Any]:
    """Of the messages of a table or a part of it."""
    size = (
        MESSAGE_BYTES + TEXT_SIZE + sum(func.coalesce(octet_length(each), 0) for each in (_m.error_detail, _m.metadata))
    )
    return select(func.coalesce(func.sum(size), 0)).select_from(found)


SIZE_OF_MESSAGES = _sum_of(messages).where(
    _m.user_id == bindparam("owner"), _m.id.in_(bindparam("these", expanding=True))
)

_asked = select(func.coalesce(func.sum(octet_length(requests.c.body)), 0)).select_from(requests)
_metadata = func.coalesce(octet_length(_c.metadata), 0)
_requests = _asked.with_hint(requests, **by_index("ix_requests_user_id_conversation_id")).where(
    requests.c.user_id == bindparam("owner"), requests.c.conversation_id == _c.id
)
_pictured = select(func.coalesce(func.sum(_i.size), 0)).select_from(message_images)
_images = _pictured.with_hint(message_images, **by_index("ix_message_images_user_id_conversation_id")).where(
    _i.user_id == bindparam("owner"), _i.conversation_id == _c.id
)
SIZE_OF_CONVERSATION = select(
    CONVERSATION_BYTES + _metadata + _requests.scalar_subquery() + _images.scalar_subquery()
).where(_c.user_id == bindparam("owner"), _c.id == bindparam("conversation"))

_size: ColumnElement[int] = bindparam("size", type_=BigInteger)
_TAKE = update(user_storage).where(_s.user_id == bindparam("user")).values(stored_bytes=_s.stored_bytes + _size)
_TAKE_WITHIN = _TAKE.where(_s.stored_bytes + _size <= bindparam("at_most", type_=BigInteger))
_STORED = select(_s.stored_bytes).where(_s.user_id == bindparam("user"))
_begun = (
    select(func.coalesce(func.sum(CONVERSATION_BYTES + _metadata), 0))
    .select_from(conversations)
    .where(conversations.c.user_id == owners.c.id)
    .scalar_subquery()
)
_said = _sum_of(messages).where(_m.user_id == owners.c.id).scalar_subquery()
_requested = _asked.where(requests.c.user_id == owners.c.id).scalar_subquery()
_shown = _pictured.where(_i.user_id == owners.c.id).scalar_subquery()
_filed = (
    select(func.coalesce(func.sum(FILE_BYTES + files.c.size), 0))
    .select_from(files)
    .where(files.c.user_id == owners.c.id)
    .scalar_subquery()
)
_COUNT = insert(user_storage).from_select(
    ["user_id", "stored_bytes"],
    select(owners.c.id, _begun + _said + _requested + _shown + _filed).where(owners.c.id == bindparam("user")),
)


async def stored_bytes(statements: Statements, user: int) -> int | None:
    """None: it was never counted."""
    row = await statements.first(_STORED, user=user)
    return None if row is None else int(row[0])


async def settle(statements: Statements, ledger: StorageLedger, at_most: int) -> None:
    """Raise `StorageFull`, `Contention`."""
    for change in ledger.changes():
        values: dict[str, object] = {"user": change.owner, "size": change.size}
        if change.limited:
            taken = await statements.change(_TAKE_WITHIN, **values, at_most=at_most)
        else:
            taken = await statements.change(_TAKE, **values)
        if not taken:
            await _count(statements, change, at_most)


async def _count(statements: Statements, change: StorageChange, at_most: int) -> None:
    """For an owner who was never counted: all there is, with what this unit adds."""
    if await stored_bytes(statements, change.owner) is not None:
        raise StorageFull
    try:
        await statements.insert_all(_COUNT, [{"user": change.owner}])
    except IntegrityError:
        raise Contention from None  # another unit has just done so, without what this one adds
    if change.limited and (await stored_bytes(statements, change.owner) or 0) > at_most:
        raise StorageFull
